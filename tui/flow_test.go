package tui

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"nigh/agent/control"
	"nigh/tui/theme"
)

func TestSendWithPicker(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b.txt", "a.mov", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("12345"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "raw"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "raw", "c.raw"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	agent := &fakeAgent{state: sampleState(), made: []control.Transfer{{ID: "00a2"}}}
	drive(t, agent, func(u *ui) {
		u.a.dir = dir
		u.press("enter")
		u.expect("Send to Ana's laptop", "a.mov", "raw/", "Nothing chosen")
		u.expectNot(".hidden")
		u.press(".")
		u.expect(".hidden")
		u.press("/")
		u.typed("mov")
		u.expectNot("b.txt")
		u.press("enter", " ") // keep the filter, choose a.mov
		u.expect("[x] a.mov", "1 file, 5 B")
		u.press("esc") // clears the filter, keeps the dialog
		u.expect("Send to Ana's laptop", "b.txt")
		u.press("g", "j", "right") // ".." then "raw/"
		u.expect("c.raw", "1 file, 5 B")
		u.press("j", " ", "left")
		u.expect("a.mov", "2 files, 5 B")
		u.press("s")
		u.expectCalls(fmt.Sprintf("send [%s %s] to [%s]", filepath.Join(dir, "a.mov"), filepath.Join(dir, "raw", "c.raw"), idAna))
		u.expect("Offered to Ana's laptop.", "[2 Transfers", "> ↑ backup.tar.zst")
	})
}

func TestPickerTypedPath(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"holiday-1.mov", "holiday-2.mov"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("12345"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.a.dir, u.a.home = "/", dir
		u.press("enter", "~")
		u.expect("Type a path", "~/")
		u.typed("ho")
		u.press("tab")
		u.expect("~/holiday-", "Fits: holiday-1.mov")
		u.typed("2")
		u.press("tab", "enter")
		u.expect("> [ ] holiday-2.mov")
		u.press("e", "ctrl+u")
		u.typed("/no/such/folder")
		u.press("enter")
		u.expect("Cannot read /no/such/folder: no such file or directory.")
		u.press("enter")
		u.expectCalls(fmt.Sprintf("send [%s] to [%s]", filepath.Join(dir, "holiday-2.mov"), idAna))
	})
}

func TestSendAsksFirst(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.filter("pixel")
		u.press("enter")
		u.expect("Send to a new device?", "K8SQ-4TVE")
		u.press("enter") // the safe answer
		u.expectNot("Send to")
		u.press("enter", "y")
		u.expect("Send to Pixel 8")
		u.press("esc")

		u.filter("workshop")
		u.press("enter")
		u.expect("Send later?")
		u.press("n")

		u.filter("kiosk")
		u.press("enter")
		u.expect("kiosk-3 is blocked. Press u to unblock it first.")

		u.filter("neighbours")
		u.press("enter")
		u.expect("has not shown who it is yet")
		u.expectCalls()
	})
}

// filter shows only the rows with a text.
func (u *ui) filter(text string) {
	u.press("esc", "esc", "/")
	u.typed(text)
	u.press("enter")
}

func TestTrust(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("p")
		u.expect("Ana's laptop is trusted already.")
		u.filter("pixel")
		u.press("b", "y")
		u.expectCalls("trust block K8SQ-4TVE")
		u.filter("workshop")
		u.press("X", "n", "X", "y")
		u.expectCalls("trust remove PB4H-R9KW")
		u.filter("kiosk")
		u.press("u")
		u.expectCalls("trust remove GJ5C-MM3Y")
	})
}

func TestTransfersKeys(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("2", "x", "n")
		u.expectCalls()
		u.press("x", "y", "p")
		u.expectCalls("cancel 00a1", "pause 00a1")
		u.press("r")
		u.expect("Only a paused or failed transfer can be resumed; this one is running.")
		u.expectCalls()
		u.press("G", "r")
		u.expectCalls("resume 00b3")
		u.press("x")
		u.expect("It is over: there is nothing to cancel.")
		u.press("esc", "c")
		u.expectNot("setup.iso")
		u.expect("3 transfers hidden here")
		u.press("G", "k", "enter")
		u.expect("This transfer does not wait for your answer.")
	})
}

// TestSelectionStays moves rows about under the selection.
func TestSelectionStays(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("2", "j")
		u.expect("> ↑ backup.tar.zst")
		done := sampleTransfers()[0]
		done.State, done.Ended = "done", "1999-12-31T23:59:00Z"
		u.agent.emit(control.Event{Type: "transfer", Transfer: &done})
		u.settle()
		u.expect("> ↑ backup.tar.zst")
		u.resize(60, 16)
		u.resize(200, 50)
		u.expect("> ↑ backup.tar.zst")
		u.agent.emit(control.Event{Type: "transfer_gone", Key: "00a2"})
		u.settle()
		u.expect("> ↑ photos") // the row that took its place
	})
}

func TestStalled(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("2")
		u.expectNot("stalled")
		u.wait(12 * time.Second)
		u.expect("stalled 12 s")
		moved := sampleTransfers()[0]
		moved.BytesDone += 1 << 20
		u.agent.emit(control.Event{Type: "transfer", Transfer: &moved})
		u.settle()
		if n := strings.Count(u.text(), "stalled"); n != 1 {
			t.Fatalf("%d transfers are stalled, want the other one only:\n%s", n, u.text())
		}
	})
}

// TestErrorTextIsHostile: an error text with escapes is drawn without them.
func TestErrorTextIsHostile(t *testing.T) {
	agent := &fakeAgent{state: sampleState(), fail: errors.New("no\x1b]52;c;AAAA\x07 \u202eway")}
	drive(t, agent, func(u *ui) {
		u.press("s")
		u.expect("No?]52;c;AAAA? ?way.")
	})
}

// TestMessageNotice: a message that was received is told on one line; what went wrong stays before it.
func TestMessageNotice(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	came := func(direction, text string) control.Event {
		return control.Event{Type: "message", Message: &control.Message{Direction: direction, PeerName: "Ana", Text: text, State: "received"}}
	}
	drive(t, agent, func(u *ui) {
		u.agent.emit(came("send", "of mine"))
		u.settle()
		u.expectNot("of mine")
		u.agent.emit(came("receive", "dinner\x1b[2J is ready\nsecond line"))
		u.settle()
		u.expect("Message from Ana: dinner?[2J is ready ...")
		u.wait(5 * time.Second)
		u.expectNot("dinner")
		u.agent.fail = errors.New("it did not work")
		u.press("s")
		u.expect("It did not work.")
		u.agent.emit(came("receive", "another"))
		u.agent.emit(control.Event{Type: "message_gone", Key: "m1"})
		u.agent.emit(control.Event{Type: "unread", Unread: &control.Unread{Read: 1, Count: 2}})
		u.settle()
		u.expect("It did not work.")
		u.expectNot("No answer")
	})
}

func TestQuit(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("esc", "esc")
		if u.quit {
			t.Fatal("esc quits")
		}
		u.press("/", "q")
		if u.quit {
			t.Fatal("q in a text field quits")
		}
		u.press("ctrl+c")
		if !u.quit {
			t.Fatal("ctrl+c in a text field does not quit")
		}
	})
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.a.embedded = true
		u.press("q")
		u.expect("Quit?", "4 transfers")
		u.press("enter")
		if u.quit {
			t.Fatal("enter quits, though it is not the safe answer")
		}
		u.press("q", "y")
		if !u.quit {
			t.Fatal("y does not quit")
		}
	})
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("ctrl+z")
		if !u.suspend {
			t.Fatal("ctrl+z does not suspend")
		}
		u.press("q")
		if !u.quit {
			t.Fatal("q does not quit")
		}
	})
}

func TestPasteOutsideTextField(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		paste := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(strings.Repeat("qXby", 250_000)), Paste: true}
		u.send(paste)
		u.settle()
		u.expectCalls()
		if u.quit || u.a.top() != nil {
			t.Fatal("a paste was taken as keys")
		}
		u.press("/")
		u.send(paste)
		u.settle()
		if n := len(u.a.screen().rows().filter); n > 64 {
			t.Fatalf("the filter took %d bytes of a paste", n)
		}
		checkFrame(t, u.a)
		// Keys that came in one read are keys all the same.
		u.press("esc")
		u.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jj")})
		u.expect("> kiosk-3")
	})
}

func TestTooSmall(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.resize(52, 12)
		u.expect("nigh needs 60x16, this is 52x12")
		u.press("s", "enter")
		u.expectCalls()
		u.resize(80, 24)
		u.expect("> Ana's laptop")
	})
}

// TestASCII: with the ASCII set nothing else is drawn, not even of names.
func TestASCII(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	agent.state.Peers[0].Name = "Zoë's 猫"
	synctest.Test(t, func(t *testing.T) {
		u := newUI(t, agent, theme.New(true, false, theme.Unknown))
		defer u.end()
		u.resize(80, 24)
		u.run(u.a.Init())
		u.settle()
		u.expect("Zo?'s ?")
		if s := u.text(); !isASCII(strings.ReplaceAll(s, "\n", "")) {
			t.Fatalf("not ASCII:\n%s", s)
		}
	})
}

// TestColours: without colour the attributes stay, and no colour is used.
func TestColours(t *testing.T) {
	for _, colour := range []bool{true, false} {
		agent := &fakeAgent{state: sampleState()}
		synctest.Test(t, func(t *testing.T) {
			u := newUI(t, agent, theme.New(false, colour, theme.Dark))
			defer u.end()
			u.resize(80, 24)
			u.run(u.a.Init())
			u.settle()
			view := u.a.View()
			if !strings.Contains(view, "\x1b[7m") {
				t.Error("the selected row is not reversed")
			}
			if has := strings.Contains(view, "\x1b[32m") || strings.Contains(view, "\x1b[36m"); has != colour {
				t.Errorf("colours drawn: %v, want %v", has, colour)
			}
			if ansi.Strip(view) == view {
				t.Error("no attributes at all")
			}
		})
	}
}

// TestEscWithAnotherKey: a terminal sends alt as esc before the key, so that esc and a key that came in one read look like
// it. They are two keys, but for those that edit in a text field.
func TestEscWithAnotherKey(t *testing.T) {
	alt := func(r rune) tea.KeyMsg { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}, Alt: true} }
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("/")
		u.typed("ana la")
		u.send(alt('b'))
		u.typed("s ")
		u.expect("filter: ana s la")
		u.send(alt('2'))
		u.settle()
		u.expect("[2 Transfers")
		u.press("1")
		u.expect("Pixel 8") // the filter is cleared
		u.send(tea.KeyMsg{Type: tea.KeyEsc, Alt: true})
		u.send(tea.KeyMsg{Type: tea.KeyEnter, Alt: true})
		u.settle()
		u.expect("Send to Ana's laptop")
	})
}
