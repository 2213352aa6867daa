package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// packages are Debian's names for the programs in tools.
var (
	tools    = []string{"Xvfb", "xterm", "/usr/bin/import", "xdotool"}
	packages = []string{"xvfb", "xterm", "imagemagick", "xdotool", "fonts-dejavu-core"}
)

// ground is a pair of terminal colours.
type ground struct{ name, fg, bg string }

var grounds = []ground{{"dark", "#d0d0d0", "#101010"}, {"light", "#000000", "#ffffff"}}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "show" {
		if err := show(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "shots:", err)
			// The window stays for a moment, so that the sentence is in the picture.
			time.Sleep(10 * time.Second)
			os.Exit(1)
		}
		return
	}
	out := flag.String("o", "shots", "`folder` for the pictures")
	only := flag.String("only", "", "take only pictures whose scene matches the `regexp`")
	ground := flag.String("ground", "", "take only pictures on this `background`: dark or light")
	sizes := flag.String("size", "80x24,60x16,120x40", "terminal `sizes`, COLUMNSxLINES, with commas between")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, *only, *ground, *sizes); err != nil {
		fmt.Fprintln(os.Stderr, "shots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, only, on, sizes string) error {
	want, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	for _, size := range strings.Split(sizes, ",") {
		if !regexp.MustCompile(`^\d{2,3}x\d{2,3}$`).MatchString(size) {
			return fmt.Errorf("the size %q is not COLUMNSxLINES", size)
		}
	}
	if err := install(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	// The whole run is bounded: a terminal that never shows anything must not hang a build.
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	sockets, err := os.MkdirTemp("", "nigh-shots-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(sockets) }()
	x, err := startX(ctx)
	if err != nil {
		return err
	}
	defer x.stop()
	n := 0
	for _, size := range strings.Split(sizes, ",") {
		for _, s := range scenes {
			for _, g := range grounds {
				if !want.MatchString(s.name) || on != "" && on != g.name {
					continue
				}
				name := s.name + "-" + g.name + ".png"
				if size != "80x24" {
					name = s.name + "-" + size + "-" + g.name + ".png"
				}
				path := filepath.Join(out, name)
				socket := filepath.Join(sockets, fmt.Sprintf("%d.sock", n))
				err := x.shoot(ctx, s, g, size, socket, path)
				if err != nil && ctx.Err() == nil {
					// On a busy machine a key may come before the window takes it.
					err = x.shoot(ctx, s, g, size, socket+"2", path)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				fmt.Println(path)
				n++
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("no scene matches %q on %q", only, on)
	}
	return nil
}

// install gets the packages when a program is missing.
func install(ctx context.Context) error {
	missing := false
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	cmd := exec.CommandContext(ctx, ".ci/packages", packages...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the pictures need the Debian packages %s", strings.Join(packages, " "))
	}
	return nil
}

// process is a program that was started, with what is needed to end it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a program in a process group of its own.
func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended does not matter
	}()
	return p, nil
}

// stop ends the process and waits until it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// xserver is a virtual X server.
type xserver struct {
	*process
	display string
}

// startX starts a server on a free display, which it names itself.
func startX(ctx context.Context) (*xserver, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "Xvfb", "-displayfd", "3", "-screen", "0", "1800x1200x24", "-nolisten", "tcp", "-noreset",
		"-r") // no key repeats: on a busy machine its release may come late
	cmd.ExtraFiles = []*os.File{w}
	p, err := start(cmd)
	w.Close()
	if err != nil {
		return nil, err
	}
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.stop()
		return nil, err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, errors.New("no X server: Xvfb does not start")
	}
	return &xserver{p, ":" + strings.TrimSpace(line)}, nil
}

// tool runs one of the small X programs and returns what it prints.
func (x *xserver) tool(ctx context.Context, name string, arg ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, arg...)
	cmd.Env = append(os.Environ(), "DISPLAY="+x.display)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(name), err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

// shoot takes one picture: a terminal with the scene, its keys, a still frame.
func (x *xserver) shoot(ctx context.Context, s scene, g ground, size, socket, path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "xterm", "-fa", "DejaVu Sans Mono", "-fs", "11", "-geometry", size+"+0+0",
		"-fg", g.fg, "-bg", g.bg, "-b", "6", "-bw", "0", "+sb", "-e", self, "show", s.name)
	cmd.Env = append(os.Environ(), "DISPLAY="+x.display, "LC_ALL=C.UTF-8", "NO_COLOR=", "TZ=UTC", "NIGH_SOCKET="+socket)
	term, err := start(cmd)
	if err != nil {
		return err
	}
	defer term.stop()
	id, err := x.tool(ctx, "xdotool", "search", "--sync", "--onlyvisible", "--class", "xterm")
	if err != nil {
		return err
	}
	window := strings.TrimSpace(string(id))
	picture, err := x.still(ctx, term, window, nil)
	if err != nil {
		return err
	}
	for _, k := range s.keys {
		// Without a window manager the window under the pointer has the keys.
		if _, err := x.tool(ctx, "xdotool", "mousemove", "100", "100", "key", k); err != nil {
			return err
		}
		if picture, err = x.still(ctx, term, window, picture); err != nil {
			return err
		}
	}
	return os.WriteFile(path, picture, 0o644)
}

// still takes pictures until two in a row are equal and differ from before.
func (x *xserver) still(ctx context.Context, term *process, window string, before []byte) ([]byte, error) {
	var last []byte
	same := 0
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-term.done:
			return nil, errors.New("the terminal closed")
		case <-time.After(150 * time.Millisecond):
		}
		// The stand-in for ImageMagick on some machines has another place in the path.
		picture, err := x.tool(ctx, "/usr/bin/import", "-window", window, "-strip", "-define", "png:exclude-chunks=date,time", "png:-")
		if err != nil {
			return nil, err
		}
		// An empty terminal compresses to almost nothing.
		const empty = 3000
		if len(picture) > empty && bytes.Equal(picture, last) && !bytes.Equal(picture, before) {
			if same++; same == 2 {
				return picture, nil
			}
		} else {
			same = 0
		}
		last = picture
	}
	return nil, errors.New("the terminal does not come to rest")
}
