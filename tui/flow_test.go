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

func TestOfferDialog(t *testing.T) {
	for _, c := range []struct {
		name  string
		keys  []string
		calls []string
	}{
		{"accept", []string{"y"}, []string{"accept i1 {Into: PIN: Always:false}"}},
		{"refuse", []string{"n"}, []string{"refuse i1"}},
		{"later", []string{"esc"}, nil},
		{"enter does nothing", []string{"enter", "enter"}, nil},
		{"always asks again and no is safe", []string{"a", "enter"}, nil},
		{"always", []string{"a", "y"}, []string{"accept i1 {Into: PIN: Always:true}"}},
		{"elsewhere", []string{"s", "ctrl+u", "/", "s", "r", "v", "enter"}, []string{"accept i1 {Into:/srv PIN: Always:false}"}},
		{"elsewhere at home", []string{"s", "ctrl+u", "~", "/", "x", "enter"}, []string{"accept i1 {Into:/home/pi/x PIN: Always:false}"}},
		{"elsewhere and back", []string{"s", "esc"}, nil},
		{"list", []string{"l", "esc", "y"}, []string{"accept i1 {Into: PIN: Always:false}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
				u.offerNow(sampleOffer())
				u.expect("Incoming files", "Ana's laptop", "3 files, 4.4 GB", "cover.jpg", "free 61 GB", "waits 4:37")
				if u.rings != 1 {
					t.Fatalf("the bell rang %d times, want once", u.rings)
				}
				u.wait(500 * time.Millisecond)
				u.press(c.keys...)
				u.expectCalls(c.calls...)
			})
		})
	}
}

func (u *ui) offerNow(i control.InboxItem) {
	u.agent.emit(control.Event{Type: "inbox", Inbox: &i})
	u.settle()
}

func TestGracePeriod(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("j")
		u.offerNow(sampleOffer())
		u.press("y", "n") // meant for the screen below
		u.expectCalls()
		u.wait(300 * time.Millisecond)
		u.press("y") // begins the quiet time anew
		u.wait(300 * time.Millisecond)
		u.press("n")
		u.expectCalls()
		u.wait(500 * time.Millisecond)
		u.press("y")
		u.expectCalls("accept i1 {Into: PIN: Always:false}")
	})
}

func TestNoDialogOverTextField(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("/")
		u.typed("an")
		u.offerNow(sampleOffer())
		u.typed("y")
		u.expect("filter: any", "1 waiting for you: i")
		u.expectNot("Incoming files")
		if u.rings != 1 {
			t.Fatalf("the bell rang %d times, want once", u.rings)
		}
		u.press("esc", "i", "n")
		u.expectCalls("refuse i1")

		// With a form open it waits as well, and comes when the form is closed.
		u.press("3", "c")
		i := sampleOffer()
		i.ID = "i9"
		u.agent.emit(control.Event{Type: "inbox_gone", Key: "i1"})
		u.offerNow(i)
		u.expect("Create a Wi-Fi Direct group")
		u.press("esc")
		u.expect("Incoming files")
		u.press("y")
		u.expectCalls()
	})
}

func TestQuestionAnsweredElsewhere(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.offerNow(sampleOffer())
		u.wait(time.Second)
		u.press("s") // a prompt above the question
		u.agent.emit(control.Event{Type: "inbox_gone", Key: "i1"})
		u.settle()
		u.expectNot("Incoming files", "Save elsewhere")
		u.expect("answered elsewhere")
		u.press("y")
		u.expectCalls()
	})
}

func TestQuestionExpiresOnScreen(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.offerNow(sampleRequest())
		u.expect("waits 0:48, then refuses")
		u.wait(10 * time.Second)
		u.expect("waits 0:38, then refuses")
	})
}

func TestGroupRequest(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.offerNow(sampleRequest())
		u.expect(`"Pixel 8" wants to connect.`, "It has not proved who it is")
		u.wait(time.Second)
		u.press("enter")
		u.expectCalls()
		u.press("y")
		u.expectCalls("accept i2 {Into: PIN: Always:false}")

		i := sampleRequest()
		i.ID, i.Method = "i3", "enter_pin"
		u.agent.emit(control.Event{Type: "inbox_gone", Key: "i2"})
		u.offerNow(i)
		u.wait(time.Second)
		u.press("y")
		u.typed("123")
		u.press("enter")
		u.expect("A PIN has 4 or 8 digits.")
		u.typed("45670")
		u.press("enter")
		u.expectCalls("accept i3 {Into: PIN:12345670 Always:false}")
	})
}

func TestTrust(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("t")
		u.expect("Ana's laptop is trusted already.")
		u.filter("pixel")
		u.press("t")
		shown := strings.NewReplacer("│", "", " ", "", "\n", "").Replace(u.text())
		if !strings.Contains(shown, idPixel[:59]) || !strings.Contains(shown, idPixel[60:]) {
			t.Fatalf("the whole ID %s is not shown:\n%s", idPixel, u.text())
		}
		u.press("enter")
		u.expectCalls()
		u.press("t", "y")
		u.expectCalls("trust add K8SQ-4TVE")
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

func TestCreateGroup(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.group = make(chan error) // of the bubble
		u.press("3", "c", " ", " ", "tab", " ", "enter")
		u.expectCalls("group create device= band=5 persistent=false method= pin=")
		u.expect("-       form the group")
		agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: "group", State: "ok", After: 0.84}})
		agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: "address", State: "running"}})
		u.settle()
		u.expect("ok      form the group            0.8 s", "...     get an address")
		agent.group <- &control.Error{Code: control.CodeBusy, Message: "the radio refused the channel", Hint: "try another band"}
		u.settle()
		u.expect("failed  get an address", "The radio refused the channel.", "Try another band.")
		u.press("enter")
		u.expectCalls("group create device= band=5 persistent=false method= pin=")
		agent.group <- nil
		u.settle()
		u.expect("The group is up.")
		u.expectNot("Create a Wi-Fi Direct group")
		u.press("c", "enter", "esc")
		u.expectCalls("group create device= band= persistent=true method= pin=", "group given up")
	})
}

func TestConnect(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("c")
		u.expect("Ana's laptop is connected over Wi-Fi Direct already.")
		u.filter("living")
		u.press("c")
		u.expect("living-room-pi is not seen over Wi-Fi Direct. Press s to look for 30 s.")
		u.press("s")
		u.expectCalls("find 30")
		u.filter("neighbours")
		u.press("c", "enter")
		u.expectCalls("group join device=aa:0b:44:10:2f:02 band= persistent=false method=pbc pin=")
		u.filter("pixel")
		u.press("c", "left", "enter")
		u.expect("A PIN has 4 or 8 digits.")
		u.typed("1234j5670") // a letter is not a key of the form here
		u.press("enter")
		u.expect("A PIN has 4 or 8 digits.")
		u.press("ctrl+u")
		u.typed("1234-5670")
		u.press("enter")
		u.expectCalls("group join device=" + idPixel + " band= persistent=false method=enter_pin pin=12345670")
	})
}

func TestLeaveGroup(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	agent.state.Status.Groups = []control.Group{sampleGroup()}
	drive(t, agent, func(u *ui) {
		u.press("3", "L")
		u.expect("the group ends for 2 clients")
		u.press("enter")
		u.expectCalls()
		u.press("L", "y")
		u.expectCalls("leave p2p-wlan0-0")
		st := sampleStatus()
		agent.emit(control.Event{Type: "status", Status: &st})
		u.settle()
		u.press("L")
		u.expect("There is no group to leave.")
	})
}

func TestNoRadio(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	agent.state.Status.Radio = control.Radio{State: "off", Ifname: "wlan0", Hint: "run: rfkill unblock wifi"}
	drive(t, agent, func(u *ui) {
		u.press("3")
		u.expect("wlan0 switched off", "Run: rfkill unblock wifi.")
		u.press("c")
		u.expect("Wi-Fi Direct cannot be used: wlan0 switched off. Run: rfkill unblock wifi.")
	})
}

func TestAgentGoneAndBack(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.stop(control.NoAgent())
		u.settle()
		u.expect("The agent is not running.", "State as of 00:00.", "living-room-pi", "r retry now")
		u.press("s")
		u.expect("Nothing can be done while no agent answers.")
		u.expectCalls()
		u.press("esc", "j") // looking around goes on
		u.wait(20 * time.Second)
		u.expect("Trying again")
		agent.mu.Lock()
		agent.down = nil
		agent.state.Peers = agent.state.Peers[:2]
		agent.mu.Unlock()
		u.wait(5 * time.Second)
		u.expectNot("as of", "Pixel 8")
		u.expect("> living-room-pi")
		u.press("s")
		u.expectCalls("find 30")
	})
}

func TestAgentNotThereAtFirst(t *testing.T) {
	agent := &fakeAgent{down: control.NoAgent(), state: sampleState()}
	drive(t, agent, func(u *ui) {
		u.expect("The agent is not running.", "systemctl start nigh@")
		u.press("?")
		u.expect("While no agent answers", "try to reach the agent now")
		u.press("esc", "1", "j", "enter")
		agent.mu.Lock()
		agent.down = nil
		agent.mu.Unlock()
		u.press("r")
		u.expect("Ana's laptop")
	})
}

// TestGapInEvents asks for a new snapshot when a line is missing.
func TestGapInEvents(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.mu.Lock()
		agent.seq++
		agent.state.Peers = agent.state.Peers[:1]
		agent.mu.Unlock()
		agent.emit(control.Event{Type: "peer_gone", Key: idPi})
		agent.mu.Lock()
		close(agent.events)
		agent.mu.Unlock()
		u.settle()
		u.expect("The agent ended the event stream.")
		u.wait(time.Second)
		u.expect("Ana's laptop")
		u.expectNot("living-room-pi", "ended the event stream")
	})
}

func TestFailureStaysSuccessGoes(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		u.press("s")
		u.expect("Looking for Wi-Fi Direct devices for 30 s.")
		u.wait(5 * time.Second)
		u.expectNot("Looking for Wi-Fi Direct devices")
		agent.mu.Lock()
		agent.fail = &control.Error{Code: control.CodeBusy, Message: "the radio is busy", Hint: "try again in a minute"}
		agent.mu.Unlock()
		u.press("s")
		u.wait(time.Minute)
		u.expect("The radio is busy. Try again in a minute.")
		u.press("esc")
		u.expectNot("The radio is busy")
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
