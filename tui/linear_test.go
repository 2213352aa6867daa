package tui

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// TestLinear: every scene without boxes and bars has no glyph of them, frames of the right size, and labels before values.
func TestLinear(t *testing.T) {
	drawing := strings.Map(func(r rune) rune {
		if strings.ContainsRune("↑↓←→·•«»", r) {
			return -1
		}
		return r
	}, theme.Allowed)
	for _, s := range allScenes() {
		t.Run(s.name, func(t *testing.T) {
			s.play(t, false, 80, 24, func(t *testing.T, u *ui) {
				u.a.th.Linear = true
				for _, size := range append(append([][2]int{}, sizes...), otherSizes...) {
					u.resize(size[0], size[1])
					checkFrame(t, u.a)
					if strings.ContainsAny(u.text(), drawing) && !strings.HasPrefix(s.name, "phone") {
						t.Errorf("at %v there are boxes:\n%s", size, u.text())
					}
				}
			})
		})
	}
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.a.th.Linear = true
		u.expect("> name Ana's laptop, state ready, trust trusted, path Direct + LAN, signal")
		u.press("2")
		u.expect("> file receive holiday-4k.mov, device Ana's laptop, state running 61% 38.4 M")
	})
}

func (u *ui) click(x, y int) {
	u.t.Helper()
	u.send(tea.MouseMsg{X: x, Y: y, Button: tea.MouseButtonLeft})
	u.settle()
	checkFrame(u.t, u.a)
}

func (u *ui) wheel(b tea.MouseButton, x, y int) {
	u.t.Helper()
	u.send(tea.MouseMsg{X: x, Y: y, Button: b})
	u.settle()
	checkFrame(u.t, u.a)
}

// TestMouse: a click on any row of any screen selects just that row, one on a tab goes there, the wheel moves, and neither
// answers a question.
func TestMouse(t *testing.T) {
	for _, s := range append(slices.Clone(scenes), dialogScenes[len(dialogScenes)-5]) {
		if s.state == nil || strings.Contains("offer request pair phone steps status", strings.Split(s.name, "-")[0]) {
			continue // dialogs
		}
		for _, size := range [][2]int{{60, 16}, {120, 40}} {
			s.play(t, false, size[0], size[1], func(t *testing.T, u *ui) {
				if u.a.top() != nil || u.a.capturing() || !u.a.st.known {
					return
				}
				u.text()
				l := u.a.screen().rows()
				drawn := len(l.drawn)
				if len(l.keys) > 0 && drawn == 0 && s.name != "messages-empty" && s.name != "shares-empty" {
					t.Fatalf("%s at %v: no row is known:\n%s", s.name, size, u.text())
				}
				for line := range drawn {
					u.text()
					if line >= len(l.drawn) || l.drawn[line] < 0 {
						continue
					}
					row := l.drawn[line]
					u.click(5, bodyAt+line)
					if l.at != row {
						t.Fatalf("%s at %v: a click on line %d selects row %d, not %d", s.name, size, line, l.at, row)
					}
					frame := strings.Split(u.text(), "\n")
					// Headings may move it.
					if at := slices.Index(l.drawn, row); at < 0 || []rune(frame[bodyAt+at])[1] != '>' {
						t.Fatalf("%s at %v: the row in line %d is not marked:\n%s", s.name, size, line, u.text())
					}
				}
			})
		}
	}
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		for _, name := range []string{"Transfers", "Messages", "Shares", "Network", "Log", "Peers"} {
			u.click(strings.Index(u.text(), name)-strings.Index(u.text(), "\n")-1, 1)
			if got := u.a.screen().title(); got != name {
				t.Errorf("a click on %s goes to %s", name, got)
			}
		}
		agent.calls = nil
		u.expect("> Ana's laptop")
		u.wheel(tea.MouseButtonWheelDown, 5, 5)
		u.expect("> living-room-pi")
		u.wheel(tea.MouseButtonWheelUp, 5, 5)
		u.expect("> Ana's laptop")
		u.offerNow(sampleOffer())
		u.wait(500 * time.Millisecond)
		for y := range 24 {
			for x := 0; x < 80; x += 3 {
				u.send(tea.MouseMsg{X: x, Y: y, Button: tea.MouseButtonLeft})
			}
		}
		u.settle()
		u.expect("Incoming files")
		u.expectCalls()
	})
}

// TestCopy: y copies what each screen shows.
func TestCopy(t *testing.T) {
	agent := sharing()
	agent.log = logging().log
	drive(t, agent, func(u *ui) {
		var got []string
		u.a.clipboard = func(_ context.Context, text string) error {
			got = append(got, text)
			return nil
		}
		u.press("y", "2", "y", "4")
		u.wait(4 * time.Second)
		u.press("g", "y", "5", "y")
		want := []string{idAna, u.a.st.transfers[0].Path, "/home/pi/drop", "192.168.1.40"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("copied %q, want %q", got, want)
		}
		u.expect("Given to the clipboard: the address 192.168.1.40")
		u.a.clipboard = nil
		u.press("y")
		u.expect("This terminal has no clipboard; the address is: 192.168.1.40")
	})
}

// TestClipboard: what is written to the terminal.
func TestClipboard(t *testing.T) {
	for _, tt := range []struct{ env, before, after string }{
		{"TERM=xterm", "\x1b]52;c;", "\a"},
		{"TERM=screen-256color", "\x1bP\x1b]52;c;", "\a\x1b\\"},
	} {
		var out strings.Builder
		name, value, _ := strings.Cut(tt.env, "=")
		clip := clipboardOf(Options{Output: &out, Env: func(n string) string {
			if n == name {
				return value
			}
			return ""
		}})
		text := "B3RD-9KFA \x1b]0;x\a ü"
		if err := clip(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		if want := tt.before + base64.StdEncoding.EncodeToString([]byte(text)) + tt.after; out.String() != want {
			t.Errorf("%s: wrote %q, want %q", tt.env, out.String(), want)
		}
	}
	if clipboardOf(Options{Env: func(string) string { return "linux" }}) != nil {
		t.Error("the console has no clipboard, and would draw the text")
	}
}

// TestClipboardOfTmux gives a text to a real tmux, as it is set up by itself.
func TestClipboardOfTmux(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("needs the program tmux: apt-get install tmux")
	}
	dir, err := os.MkdirTemp("", "nigh-tmux-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	if out, err := exec.Command("tmux", "-S", socket, "-f", "/dev/null", "new-session", "-d", "sleep 300").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() { _ = exec.Command("tmux", "-S", socket, "kill-server").Run() }()
	t.Setenv("TMUX", fmt.Sprintf("%s,1,0", socket))
	var out strings.Builder
	if err := clipboardOf(Options{Output: &out, Env: os.Getenv})(t.Context(), "the ID ü"); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command("tmux", "-S", socket, "show-buffer").Output()
	if err != nil || string(got) != "the ID ü" || out.Len() > 0 {
		t.Errorf("tmux has %q (%v), the terminal got %q", got, err, out.String())
	}
}

// TestOpenFolder: without a display the path is copied; with one the file manager opens it.
func TestOpenFolder(t *testing.T) {
	dir := t.TempDir()
	st := sampleState()
	tr := st.Transfers[0]
	tr.Path = filepath.Join(dir, "holiday-4k.mov")
	st.Transfers[0] = tr
	drive(t, &fakeAgent{state: st}, func(u *ui) {
		var got []string
		u.a.clipboard = func(_ context.Context, text string) error {
			got = append(got, "copied "+text)
			return nil
		}
		u.press("2", "g", "o")
		u.a.openFolder = func(dir string) error {
			got = append(got, "opened "+dir)
			return nil
		}
		u.press("o")
		if want := "copied " + dir + "\nopened " + dir; strings.Join(got, "\n") != want {
			t.Errorf("%q, want %q", got, want)
		}
		tr.Path = filepath.Join(dir, "gone", "x")
		u.agent.emit(control.Event{Type: "transfer", Transfer: &tr})
		u.settle()
		u.press("o")
		u.expect("The folder is not there now")
		u.press("d")
		u.expect("ID", tr.ID, "Resumes")
	})
}

// TestFix: a change is shown before it is made; where only root may make it the command is given.
func TestFix(t *testing.T) {
	agent := logging()
	drive(t, agent, func(u *ui) {
		onLogScreen("g", "f")(u)
		agent.calls = nil
		u.expect("Make this change?", "Only root may do this.", "doctor --fix networkmanager", "y copy the command")
		copied := ""
		u.a.clipboard = func(_ context.Context, text string) error { copied = text; return nil }
		u.press("y")
		if copied != "sudo nigh doctor --fix networkmanager" {
			t.Errorf("copied %q", copied)
		}
		u.press("j", "f")
		u.expect("It writes /etc/firewalld/nigh.conf:", "y make the change", "j/k scroll")
		u.press("y") // too early to be meant
		u.expectCalls()
		u.wait(500 * time.Millisecond)
		u.press("j", "j")
		u.press("enter")
		u.expectNot("Make this change?")
		u.expectCalls()
		u.press("f")
		u.wait(500 * time.Millisecond)
		u.press("y")
		u.expect("Done. To take it back: sudo ")
		u.expectCalls("apply firewalld", "doctor")
		u.press("G", "f")
		u.expect("Select a check that found something.")
		u.press("esc", "b")
		u.expect("Write a bug report", "nigh-bug-report.txt")
		u.press("enter")
		u.expect("Written to /home/pi/videos/nigh-bug-report.txt.")
		u.expectCalls("report")
	})
}

// TestChangeShare: who may see a share, its name and its hidden names.
func TestChangeShare(t *testing.T) {
	agent := sharing()
	drive(t, agent, func(u *ui) {
		u.press("4")
		u.wait(4 * time.Second)
		u.press("g", "w")
		u.expect("Who may see drop?", "[x] Ana's laptop", "1 device chosen")
		u.press("j", "j", " ")
		u.expect("[ ] all trusted devices", "2 devices chosen")
		u.press("enter")
		u.expectCalls("change share drop for B3RD-9KFA XW2P-77LM")
		u.expect("drop can now be seen by Ana's laptop, living-room-pi.")
		u.press("w", "j", " ", "enter")
		u.expect("Choose all trusted devices, or at least one.")
		u.expectCalls()
		u.press("k", "k", " ")
		u.expect("[x] all trusted devices", "[ ] Ana's laptop")
		u.press("enter")
		u.expectCalls("change share drop for")
		u.press("w", "esc", "e")
		u.expect("Change the share drop", "< left out")
		u.press("ctrl+u", "enter")
		u.expect("Type a name.")
		u.typed("inbox")
		u.press("tab", " ", "enter")
		u.expectCalls("change share drop name=inbox hidden=true")
		u.press("G", "w")
		u.expect("Only who may see a share of this device can be chosen.")
	})
}

// TestAccess: a device that may send without asking is asked about again.
func TestAccess(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("a")
		u.expect("What Ana's laptop may do", "< without asking")
		u.press(" ", "enter")
		u.expectCalls("trust set B3RD-9KFA auto=false")
		u.filter("pixel")
		u.press("a")
		u.expect("Pixel 8 is not trusted: every offer asks. Pair with it first: p.")
	})
}

// TestStill: with little motion the clock goes on in steps.
func TestStill(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.a.still = true
		u.wait(2 * time.Second) // what was under way
		before := u.a.now
		u.wait(7 * time.Second)
		if d := u.a.now.Sub(before); d > 0 {
			t.Errorf("the clock went on by %v", d)
		}
		u.wait(5 * time.Second)
		if d := u.a.now.Sub(before); d < 9*time.Second {
			t.Errorf("the clock stands, after %v", d)
		}
	})
}
