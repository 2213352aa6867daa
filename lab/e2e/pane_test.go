package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nigh/lab/node"
)

// paneDeadline bounds each wait for a screen, unless a test sets another. What is waited for takes a second on a calm machine.
const paneDeadline = 60 * time.Second

// pane is the terminal UI of an agent in a terminal of tmux: what a person sees there is a grid of characters and not what
// was written to it.
type pane struct {
	t       *testing.T
	name    string
	w, h    int
	socket  string
	wait    time.Duration // bounds each wait for a screen
	changed chan struct{} // has one when something was drawn since it was looked at

	mu    sync.Mutex
	drawn strings.Builder // what was ever drawn, escapes and all; guarded by mu
}

// paneSettings are those of the tmux server, which every pane has of its own.
const paneSettings = "set -g status off\nset -g default-terminal tmux-256color\nset -g remain-on-exit on\nset -g escape-time 0\n"

// openPane shows the terminal UI of an agent in a terminal of w columns and h lines, with dir as the working folder.
func openPane(t *testing.T, a *node.Agent, name string, w, h int, dir string, env ...string) *pane {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("needs the program tmux: apt-get install tmux")
	}
	at := t.TempDir()
	p := &pane{t: t, name: name, w: w, h: h, wait: paneDeadline, socket: filepath.Join(at, "tmux"), changed: make(chan struct{}, 1)}
	settings, pipe := filepath.Join(at, "tmux.conf"), filepath.Join(at, "drawn")
	if err := os.WriteFile(settings, []byte(paneSettings), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { // ends when the file is closed
		defer close(read)
		for buf := make([]byte, 1<<16); ; {
			n, err := drawn.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.drawn.Write(buf[:n])
			p.mu.Unlock()
			select {
			case p.changed <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		_ = drawn.Close()
		<-read
	})
	server := a.Command(context.Background(), "tmux", "-D", "-u", "-S", p.socket, "-f", settings)
	server.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := p.tmux("kill-server"); err != nil {
			_ = server.Process.Kill()
		}
		_ = server.Wait()
	})
	p.serving()
	args := []string{"new-session", "-d", "-s", "s", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h), "-c", dir}
	for _, e := range append([]string{"NIGH_SOCKET=" + a.Socket, "HOME=" + a.Dir, "LC_ALL=C.UTF-8", "TERM=xterm-256color"}, env...) {
		args = append(args, "-e", e)
	}
	p.do(append(args, "env", "-u", "TMUX", "-u", "TERM_PROGRAM", "-u", "NO_COLOR", a.Binary)...)
	p.do("pipe-pane", "-t", "s", "cat > '"+pipe+"'")
	return p
}

// serving waits until the server takes commands: its socket appears when it is bound.
func (p *pane) serving() {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(p.t, p.wait); ; {
		said, err := p.tmux("start-server")
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("tmux does not start: %v: %s", err, said)
		}
	}
}

func (p *pane) tmux(args ...string) (string, error) {
	cmd := exec.Command("tmux", append([]string{"-N", "-u", "-S", p.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// do runs a command of tmux that has to succeed.
func (p *pane) do(args ...string) string {
	p.t.Helper()
	out, err := p.tmux(args...)
	if err != nil {
		p.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return out
}

// press sends keys by tmux's names.
func (p *pane) press(keys ...string) {
	p.t.Helper()
	p.do(append([]string{"send-keys", "-t", "s", "--"}, keys...)...)
}

// types sends text as it is.
func (p *pane) types(text string) {
	p.t.Helper()
	p.do("send-keys", "-t", "s", "-l", "--", text)
}

// resize makes the terminal another size.
func (p *pane) resize(w, h int) {
	p.t.Helper()
	p.w, p.h = w, h
	p.do("resize-window", "-t", "s", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h))
}

// text is what is on the screen.
func (p *pane) text() string {
	p.t.Helper()
	return p.do("capture-pane", "-p", "-t", "s")
}

// shows waits until the pattern is on the screen, and returns its last group.
func (p *pane) shows(pattern string) string {
	p.t.Helper()
	return p.until(pattern, "")
}

// until waits until the pattern is on the screen, and presses the key again and again until then, unless that is "". (A
// question that nobody asked for takes keys only after a moment of quiet.)
func (p *pane) until(pattern, key string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(p.t, p.wait); ; {
		text := p.text()
		if m := re.FindStringSubmatch(text); m != nil && p.whole(text) {
			return m[len(m)-1]
		}
		select {
		case <-p.changed:
		case <-tick.C:
			if key != "" {
				p.press(key)
			}
		case <-ctx.Done():
			p.t.Fatalf("%s does not show %q but\n%s", p.name, pattern, text)
		}
	}
}

// whole reports whether a frame fills the terminal: its last line has the keys. Between two frames and just after a resize it
// does not.
func (p *pane) whole(text string) bool {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return len(lines) == p.h && strings.TrimSpace(lines[len(lines)-1]) != ""
}

// ends waits until the program has ended, and returns its exit status: a moment later, or "" when tmux never knows it, which was seen of 3.3a.
func (p *pane) ends() string {
	p.t.Helper()
	tries := 0
	for ctx := within(p.t, p.wait); ; {
		dead, status, _ := strings.Cut(strings.TrimSpace(p.do("display-message", "-p", "-t", "s", "#{pane_dead} #{pane_dead_status}#{pane_dead_signal}")), " ")
		if dead == "1" && (status != "" || tries > 50) {
			return status
		} else if dead == "1" {
			tries++
		}
		tick := time.NewTimer(20 * time.Millisecond)
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("%s does not end:\n%s", p.name, p.text())
		}
		tick.Stop()
	}
}
