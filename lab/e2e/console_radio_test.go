//go:build radio

package e2e_test

import (
	"errors"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
	"nigh/lab/vm"
	"nigh/tui/theme"
)

// console is the guest's first virtual terminal, which its display shows: what there is after a login on a Pi with a screen.
type console struct {
	t      *testing.T
	tty    *os.File
	w, h   int
	glyphs map[rune]int // of the font, by character
	font   []byte       // 32 bytes for each glyph, one for each row of pixels
}

// consoleWait bounds each wait for the console: the guest is emulated, and slow.
const consoleWait = 3 * time.Minute

// openConsole opens the console and reads its font.
func openConsole(t *testing.T) *console {
	t.Helper()
	tty, err := os.OpenFile("/dev/tty1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	c := &console{t: t, tty: tty, glyphs: map[rune]int{}, font: make([]byte, 32*512)}
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		t.Fatal(err)
	}
	c.w, c.h = int(size.Col), int(size.Row)
	font := struct {
		op, flags, width, height, count, _ uint32
		data                               *byte
	}{op: kdFontGet, width: 32, height: 32, count: 512, data: &c.font[0]}
	c.ioctl(kdFont, unsafe.Pointer(&font))
	if font.width != 8 || font.height != 16 {
		t.Fatalf("the font has %dx%d pixels", font.width, font.height)
	}
	pairs := make([]struct{ char, glyph uint16 }, 1<<12)
	table := struct {
		count uint16
		pairs unsafe.Pointer
	}{uint16(len(pairs)), unsafe.Pointer(&pairs[0])}
	c.ioctl(getUnicodeMap, unsafe.Pointer(&table))
	for _, p := range pairs[:table.count] {
		c.glyphs[rune(p.char)] = int(p.glyph)
	}
	return c
}

// Of console_codes(4) and linux/kd.h.
const (
	kdFont        = 0x4b72
	kdFontGet     = 1
	getUnicodeMap = 0x4b66
)

func (c *console) ioctl(request uintptr, argument unsafe.Pointer) {
	c.t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, c.tty.Fd(), request, uintptr(argument)); errno != 0 {
		c.t.Fatalf("ioctl %#x of the console: %v", request, errno)
	}
}

// press sends keys as the keyboard does.
func (c *console) press(keys string) {
	c.t.Helper()
	for i := range len(keys) {
		key := keys[i]
		c.ioctl(unix.TIOCSTI, unsafe.Pointer(&key))
	}
}

// cells are the characters of the console, line by line.
func (c *console) cells() [][]rune {
	c.t.Helper()
	raw, err := os.ReadFile("/dev/vcsu1")
	if err != nil || len(raw) != 4*c.w*c.h {
		c.t.Fatalf("%d bytes of a console of %d columns and %d lines: %v", len(raw), c.w, c.h, err)
	}
	lines := make([][]rune, c.h)
	for i, r := range unsafe.Slice((*rune)(unsafe.Pointer(&raw[0])), c.w*c.h) {
		lines[i/c.w] = append(lines[i/c.w], r)
	}
	return lines
}

func (c *console) text() string {
	c.t.Helper()
	var b strings.Builder
	for _, l := range c.cells() {
		b.WriteString(strings.TrimRight(string(l), " ") + "\n")
	}
	return b.String()
}

// until waits until ok is true of the text.
func (c *console) until(what string, ok func(text string) bool) {
	c.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(c.t, consoleWait); ; {
		text := c.text()
		if ok(text) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.t.Fatalf("the console does not show %s but\n%s", what, text)
		}
	}
}

func (c *console) shows(pattern string) {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	c.until(pattern, re.MatchString)
}

// drawn checks that the display has the glyph of every character, and that the font has one for those of our own.
func (c *console) drawn(foreign string) {
	c.t.Helper()
	var lines [][]rune
	var shown image.Image
	for ctx := within(c.t, consoleWait); ; { // until it stood still meanwhile
		var err error
		before := c.text()
		if shown, err = vm.Picture(); err != nil {
			c.t.Fatal(err)
		}
		if lines = c.cells(); c.text() == before {
			break
		}
		if ctx.Err() != nil {
			c.t.Fatal("the console never stands still")
		}
	}
	for _, at := range []int{2, c.h - 3} { // a dialog may cover its middle
		if rule := string(lines[at]); !strings.HasPrefix(rule, theme.Common.Horizontal) || !strings.HasSuffix(rule, theme.Common.Horizontal) {
			c.t.Errorf("line %d is not a rule", at)
		}
	}
	if first, last := string(lines[0]), string(lines[c.h-1]); !strings.HasPrefix(first, " nigh  ada") || strings.TrimSpace(last) == "" {
		c.t.Error("the frame is not where it should be")
	}
	// Text cells of 8 or 9 pixels: the ninth is a gap, or the eighth again where lines are to join.
	pitch := shown.Bounds().Dx() / c.w
	for y, line := range lines {
		for x, r := range line {
			glyph, has := c.glyphs[r]
			switch {
			case has && (r < 0x7f || strings.ContainsRune(theme.Allowed, r) || strings.ContainsRune(foreign, r)):
			case has:
				c.t.Errorf("line %d, column %d: %q is not among the characters that the UI may draw", y, x, r)
			case !strings.ContainsRune(foreign, r):
				c.t.Errorf("line %d, column %d: the font has no %q", y, x, r)
				continue
			default:
				continue
			}
			if why := c.differs(shown, image.Pt(shown.Bounds().Min.X+x*pitch, shown.Bounds().Min.Y+y*16), glyph); why != "" {
				c.t.Errorf("line %d, column %d: %q is not what the display has: %s", y, x, r, why)
			}
		}
	}
	if c.t.Failed() {
		c.t.Fatalf("the console shows\n%s", c.text())
	}
}

// differs says how the picture of a cell differs from a glyph: it has one colour where the glyph has pixels, and another elsewhere.
func (c *console) differs(shown image.Image, at image.Point, glyph int) string {
	var colours [2][]string
	for y := range 16 {
		for x := range 8 {
			r, g, b, _ := shown.At(at.X+x, at.Y+y).RGBA()
			bit, colour := c.font[32*glyph+y]>>(7-x)&1, fmt.Sprintf("%02x%02x%02x", r>>8, g>>8, b>>8)
			if n := len(colours[bit]); n == 0 || colours[bit][n-1] != colour {
				colours[bit] = append(colours[bit], colour)
			}
		}
	}
	ink, paper := colours[1], colours[0]
	if len(ink) > 1 || len(paper) > 1 || len(ink) == 1 && len(paper) == 1 && ink[0] == paper[0] {
		return fmt.Sprintf("its pixels are %v, and between them %v", ink, paper)
	}
	return ""
}

// start runs nigh on the console. Its session stays the test's: the kernel hangs a terminal up when a session's leader ends.
func (c *console) start(a *node.Agent) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(a.Binary)
	cmd.Env = append(os.Environ(), "TERM=linux", "LC_ALL=C.UTF-8", "NIGH_SOCKET="+a.Socket, "HOME="+a.Dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.tty, c.tty, c.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd
}

// clean checks that the console is as a shell wants it: empty, the cursor at its beginning and to be seen, in plain colours, and
// with the keyboard as it was.
func (c *console) clean(before *unix.Termios) {
	c.t.Helper()
	c.until("an empty screen", func(text string) bool { return strings.TrimSpace(text) == "" })
	raw, err := os.ReadFile("/dev/vcsa1")
	if err != nil || len(raw) < 6 {
		c.t.Fatal(len(raw), err)
	}
	if x, y := raw[2], raw[3]; x != 0 || y != 0 {
		c.t.Errorf("the cursor is in line %d, column %d", y, x)
	}
	for i := 5; i < len(raw); i += 2 {
		if raw[i] != raw[5] || raw[i] != 0x07 {
			c.t.Errorf("cell %d has the colours %#x", i/2-2, raw[i])
			break
		}
	}
	after, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		c.t.Errorf("the terminal's settings are %+v, %v; before they were %+v", after, err, before)
	}
	// The cursor blinks: it is there in one picture of several.
	for ctx := within(c.t, 30*time.Second); ; {
		shown, err := vm.Picture()
		if err != nil {
			c.t.Fatal(err)
		}
		if c.differs(shown, shown.Bounds().Min, c.glyphs[' ']) != "" {
			return
		}
		if ctx.Err() != nil {
			c.t.Error("the cursor is not to be seen")
			return
		}
	}
}

// TestLinuxConsole shows the terminal UI on the kernel's own console, with the kernel's own font and an emulated display, whose
// picture is compared with the font pixel by pixel.
func TestLinuxConsole(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	agents := make([]*node.Agent, 2)
	// A name and a message with characters that the font lacks, those that join with others, and those of two columns.
	const foreign = "größe, 日本, e\u0301, ✓ 🦊"
	bin, err := filepath.Abs("../../bin/nigh") // the guest has no compiler: it was built before
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"ada", "größe 日本 e\u0301"} {
		h := n.Host([]string{"ada", "bob"}[i])
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		a, err := node.Start(t.Context(), node.Config{Binary: bin, Dir: t.TempDir(), Name: name, Command: h.Command, Args: []string{"--no-direct"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Kill() })
		agents[i] = a
	}
	ada, bob := agents[0], agents[1]
	befriend(t, ada, bob)
	if err := bob.Await(within(t, consoleWait), hasPeer("ada", "ready")); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, consoleWait), func(s control.State) bool { return len(s.Peers) == 1 && s.Peers[0].State == "ready" }); err != nil {
		t.Fatal(err)
	}
	c := openConsole(t)
	for _, r := range theme.Allowed {
		if _, has := c.glyphs[r]; !has {
			t.Errorf("the kernel's font has no %q", r)
		}
	}
	before, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c.tty, "\x1b[H\x1b[2J\x1b[7mnigh-lab login:\x1b[m root\n$ nigh\n")
	began := time.Now()
	cmd := c.start(ada)
	c.shows(`(?s)\[1 Peers\].*> gr.*ready`)
	t.Logf("shown after %.1f s", time.Since(began).Seconds())
	if _, errs, code := bob.Run(within(t, time.Minute), "msg", foreign, "--to", "ada"); code != 0 {
		t.Fatalf("msg: exit %d: %s", code, errs)
	}
	c.shows(`Messages 1`)
	file := filepath.Join(t.TempDir(), "plan – größe.txt")
	random(t, file, 5000)
	if _, errs, code := bob.Run(within(t, time.Minute), "send", file, "--to", "ada"); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	visit := func(key, pattern string) {
		t.Helper()
		c.press(key)
		c.shows(pattern)
		c.drawn(foreign + "–")
	}
	c.shows(`(?s)Incoming files.*plan`)
	c.drawn(foreign + "–")
	c.press("\x1b")
	visit("2", `\[2 Transfers`)
	visit("3", `(?s)\[3 Messages.*gr`)
	visit("4", `\[4 Shares`)
	visit("5", `\[5 Network`)
	visit("6", `\[6 Log`)
	visit("1", `\[1 Peers`)
	visit("o", `setup code`)
	visit("\x1b", `\[1 Peers`)
	visit("?", `Keys on Peers`)
	visit("\x1b", `\[1 Peers`)
	c.press("q")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	c.clean(before)

	cmd = c.start(ada)
	c.shows(`\[1 Peers\]`)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		if _, is := errors.AsType[*exec.ExitError](err); !is {
			t.Error(err)
		}
	}
	c.clean(before)
}
