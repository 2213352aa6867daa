package tui

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"nigh/agent/control"
)

// childEnv makes the test binary be the program on the other end of a terminal; socketEnv
// is the socket of its agent, when it is not to have one within.
const childEnv, socketEnv = "NIGH_TUI_CHILD", "NIGH_TUI_SOCKET"

// child runs the UI on the process's own terminal, as the program nigh does.
func child() int {
	o := Options{Client: &fakeAgent{state: sampleState()}}
	if socket := os.Getenv(socketEnv); socket != "" {
		o.Client = &control.Client{Socket: socket}
	}
	// Of which SIGHUP counts also when whoever runs the tests has it ignored.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := Run(ctx, o)
	if err != nil {
		text, hint := sentences(err)
		fmt.Fprintln(os.Stderr, text, hint)
		return 2
	}
	return 0
}

// terminal is a real pseudo-terminal with the UI on it. Nobody answers what the
// program asks the terminal.
type terminal struct {
	t    *testing.T
	pty  *os.File
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	more chan struct{}
	done chan struct{} // closed when the program's side is closed
}

func open(t *testing.T, w, h uint16, env ...string) *terminal {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append([]string{childEnv + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TERM=xterm-256color", "LANG=C.UTF-8"}, env...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: h, Cols: w})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, pty: f, cmd: cmd, more: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(x.done)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			x.mu.Lock()
			x.out.Write(buf[:n])
			x.mu.Unlock()
			select {
			case x.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		f.Close()
		<-x.done
	})
	return x
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// waitFor waits until the output after from has text, and returns where it ends.
func (x *terminal) waitFor(from int, text string) int {
	x.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		out := x.text()
		if i := strings.Index(out[from:], text); i >= 0 {
			return from + i + len(text)
		}
		select {
		case <-x.more:
		case <-deadline:
			x.t.Fatalf("no %q in the output after byte %d:\n%q", text, from, out[from:])
		}
	}
}

func (x *terminal) press(s string) {
	x.t.Helper()
	if _, err := x.pty.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// exit waits for the program and returns its exit code.
func (x *terminal) exit() int {
	x.t.Helper()
	err := make(chan error, 1)
	go func() { err <- x.cmd.Wait() }()
	select {
	case <-err:
	case <-time.After(20 * time.Second):
		x.t.Fatalf("the program does not end:\n%q", x.text())
	}
	<-x.done
	return x.cmd.ProcessState.ExitCode()
}

// modes are what a full-screen program switches on, and must switch off.
var modes = []string{"\x1b[?1049", "\x1b[?2004", "\x1b[?25"}

func (x *terminal) clean() {
	x.t.Helper()
	out := x.text()
	for _, m := range modes {
		on, off := "h", "l"
		if m == "\x1b[?25" {
			on, off = "l", "h" // the cursor is hidden and shown
		}
		if strings.LastIndex(out, m+off) < strings.LastIndex(out, m+on) {
			x.t.Errorf("mode %q is left on:\n%q", m, out[max(0, len(out)-300):])
		}
	}
}

// TestTerminalQuit also holds package noquery to its promise: the terminal is
// asked nothing. (A terminal that does not answer would cost five seconds.)
func TestTerminalQuit(t *testing.T) {
	x := open(t, 80, 24)
	x.waitFor(0, "Ana's laptop")
	x.press("q")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	x.clean()
	for _, query := range []string{"\x1b]11;?", "\x1b]10;?", "\x1b[6n", "\x1b[c"} {
		if strings.Contains(x.text(), query) {
			t.Errorf("the terminal was asked %q", query)
		}
	}
}

func TestTerminalInterrupt(t *testing.T) {
	x := open(t, 80, 24)
	x.waitFor(0, "Ana's laptop")
	x.press("?")
	x.waitFor(0, "Keys on Peers")
	x.press("\x03")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	x.clean()
}

// TestTerminalTerminated does it more than once, for what two that hear of the same signal may do to each other.
func TestTerminalTerminated(t *testing.T) {
	for i := range 12 {
		x := open(t, 80, 24)
		x.waitFor(0, "Ana's laptop")
		if err := x.cmd.Process.Signal([]os.Signal{syscall.SIGTERM, os.Interrupt}[i%2]); err != nil {
			t.Fatal(err)
		}
		if code := x.exit(); code != 0 {
			t.Errorf("exit code %d, after\n%s", code, x.text())
		}
		x.clean()
	}
}

func TestTerminalResize(t *testing.T) {
	x := open(t, 80, 24)
	at := x.waitFor(0, "Ana's laptop")
	if err := pty.Setsize(x.pty, &pty.Winsize{Rows: 10, Cols: 50}); err != nil {
		t.Fatal(err)
	}
	at = x.waitFor(at, "nigh needs 60x16, this is 50x10")
	if err := pty.Setsize(x.pty, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	x.waitFor(at, "living-room-pi")
	x.press("q")
	x.exit()
	x.clean()
}

func TestTerminalSuspend(t *testing.T) {
	x := open(t, 80, 24)
	at := x.waitFor(0, "Ana's laptop")
	x.press("\x1a")
	at = x.waitFor(at, "\x1b[?1049l")
	// It waits for SIGCONT a moment after it has given the terminal back. (The
	// kernel does not stop it here, where no shell could wake it up.)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-tick.C:
				x.cmd.Process.Signal(syscall.SIGCONT)
			case <-stop:
				tick.Stop()
				return
			}
		}
	}()
	at = x.waitFor(at, "\x1b[?1049h")
	close(stop)
	<-stopped
	x.waitFor(at, "Ana's laptop")
	x.press("q")
	x.exit()
	x.clean()
}

// TestTerminalConsole: the Linux console has no second screen, so the last frame
// is cleared.
func TestTerminalConsole(t *testing.T) {
	x := open(t, 80, 25, "TERM=linux")
	x.waitFor(0, "Ana's laptop")
	x.press("q")
	x.exit()
	x.clean()
	if !strings.HasSuffix(x.text(), "\x1b[H\x1b[2J") {
		t.Errorf("the console is not cleared at the end:\n%q", x.text()[max(0, len(x.text())-200):])
	}
}

func TestTerminalRefused(t *testing.T) {
	x := open(t, 80, 24, "TERM=dumb")
	if code := x.exit(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if want := "The terminal cannot place text on the screen (TERM is \"dumb\"). Run: nigh status, or: nigh help."; strings.TrimSpace(x.text()) != want {
		t.Errorf("said %q, want %q", x.text(), want)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = []string{childEnv + "=1", "TERM=xterm"}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "needs a terminal, and standard input is none") {
		t.Errorf("without a terminal: exit code %d, said %q", cmd.ProcessState.ExitCode(), out)
	}
}

// TestTerminalPlain: NO_COLOR set to anything means no colour, and a locale
// that is not UTF-8 means ASCII.
func TestTerminalPlain(t *testing.T) {
	x := open(t, 80, 24, "NO_COLOR=yes", "LANG=C")
	x.waitFor(0, "Ana's laptop")
	x.press("q")
	x.exit()
	out := x.text()
	for _, c := range []string{"\x1b[3", "\x1b[9", "\x1b[4"} {
		if i := strings.Index(out, c); i >= 0 && strings.ContainsRune("01234567", rune(out[i+3])) {
			t.Errorf("a colour is used: %q", out[i:i+8])
		}
	}
	if !isASCII(strings.NewReplacer("\x1b", "", "\r", "", "\n", "", "\a", "", "\b", "").Replace(out)) {
		t.Error("something else than ASCII is drawn")
	}
}
