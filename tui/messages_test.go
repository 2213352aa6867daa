package tui

import (
	"errors"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// TestMessages writes, is answered, and sees what became of it.
// TestNobodyToWriteTo: with no device that is trusted there is no text field, and the keys mean what they mean elsewhere.
func TestNobodyToWriteTo(t *testing.T) {
	drive(t, &fakeAgent{state: control.State{Status: sampleStatus()}}, func(u *ui) {
		u.press("3", "enter")
		u.expect("There is nobody to write to yet. Pair with a device first: 1, then p.", "q quit")
		u.press("q")
		if !u.quit {
			t.Errorf("q is taken as text:\n%s", u.text())
		}
	})
}

// TestNoWayToOthers: without Wi-Fi Direct and without a link the empty screen does not say that it looks for devices.
func TestNoWayToOthers(t *testing.T) {
	s := control.State{Status: sampleStatus()}
	s.Status.Radio, s.Status.Links = control.Radio{State: "absent", Hint: "plug in an adapter"}, nil
	drive(t, &fakeAgent{state: s}, func(u *ui) {
		u.expect("No network here leads to other devices.", "not possible here", "no link is usable: 5 says why", "Plug in an adapter.", "on the same cable")
		u.expectNot("Looking for devices", "Android")
		u.press("5", "c")
		u.expect("Wi-Fi Direct is not possible here. Plug in an adapter.")
	})
}

func TestMessages(t *testing.T) {
	agent := &fakeAgent{state: talking()}
	drive(t, agent, func(u *ui) {
		u.expect("3 Messages 1")
		u.press("m")
		u.expect("[3 Messages 1]", "Ana's laptop", "got them, thanks", "2. cover.jpg", "lunch at noon", "delivered")
		u.expectCalls("messages before 11")
		// Letters that are keys elsewhere are text here.
		u.typed("q? 1x")
		u.press("ctrl+j")
		u.typed("two")
		u.press("backspace", "backspace", "backspace", "backspace")
		u.typed("!")
		u.press("ctrl+j")
		u.typed("fin")
		agent.fail = errors.New("the disk is full")
		u.press("enter")
		u.expect("The disk is full.", "fin")
		u.expectCalls(`message "q? 1x!\nfin" to [B3RD-9KFA] all=false`)
		agent.fail = nil
		u.press("enter")
		u.expectCalls(`message "q? 1x!\nfin" to [B3RD-9KFA] all=false`)
		u.expectNot("> fin", "disk is full")
		agent.emit(control.Event{Type: "message", Message: &control.Message{Seq: 18, ID: "m18", Direction: "send", State: "failed", Text: "one\ntwo", Time: "1999-12-31T22:41:00Z",
			To: []control.Recipient{{Peer: idAna, PeerName: "Ana's laptop", State: "failed", Error: "it takes no more"}}}})
		u.settle()
		u.expect("two", "failed: it takes no more")
		// What was begun stays when another talk is looked at.
		u.typed("later")
		u.press("esc", "j")
		u.expectNot("later")
		u.expect("disk is at 91 %")
		u.expectCalls("read 17")
		u.press("k")
		u.expect("> later")
		u.press("g", "enter")
		u.typed("hello")
		u.press("enter")
		u.expectCalls(`message "hello" to [] all=true`)
	})
}

// TestMessagesRead holds the mark back while a message was not looked at.
func TestMessagesRead(t *testing.T) {
	state := talking()
	state.Unread = control.Unread{Read: 12, Count: 2}
	agent := &fakeAgent{state: state}
	drive(t, agent, func(u *ui) {
		u.expect("3 Messages 2")
		u.press("3")
		u.expectCalls("messages before 11") // living-room-pi, whose word is the last
		u.expect("disk is at 91 %", "[3 Messages 1]", "1 new")
		u.press("j")
		u.expect("sending the 4K one now", "[3 Messages]")
		u.expectCalls("read 17")
		agent.emit(control.Event{Type: "unread", Unread: &control.Unread{Read: 17}})
		m := control.Message{Seq: 18, ID: "m18", Direction: "receive", Peer: idPi, PeerName: "living-room-pi", Text: "one\n\x1b[2Jtwo", State: "received", Time: "x"}
		agent.emit(control.Event{Type: "message", Message: &m})
		agent.emit(control.Event{Type: "unread", Unread: &control.Unread{Read: 17, Count: 1}})
		u.settle()
		u.expect("Message from living-room-pi: one ...", "[3 Messages 1]")
		u.press("g")
		u.expect("?[2Jtwo")
		u.expectCalls("read 18")
	})
}

// TestOlderMessages asks for what was said before when the talk is scrolled to its top.
func TestOlderMessages(t *testing.T) {
	agent := &fakeAgent{state: talking()}
	agent.page = control.MessagePage{Messages: []control.Message{
		{Seq: 9, ID: "m9", Direction: "receive", Peer: idAna, PeerName: "Ana's laptop", Text: "long ago", State: "received", Time: "1999-11-01T10:00:00Z"}}}
	drive(t, agent, func(u *ui) {
		u.press("m", "esc", "pgup", "pgup")
		u.expect("long ago", "1999-11-01")
		u.expectCalls("messages before 11")
		u.press("pgup", "pgup")
		u.expectCalls()
	})
}

// TestTakeBack takes back what waits, after a question.
func TestTakeBack(t *testing.T) {
	agent := &fakeAgent{state: talking()}
	drive(t, agent, func(u *ui) {
		u.press("3", "g", "x")
		u.expect("Take back what waits?", "1 message to All devices near")
		u.expect("workshop", "2 of 3 devices got it; waiting, away")
		agent.calls = nil
		u.press("y")
		u.expectCalls("cancel message m16")
		u.press("j", "x")
		u.expect("No message of this talk waits.")
	})
}

// TestPasteIntoAMessage takes lines as lines, and never more than a message holds.
func TestPasteIntoAMessage(t *testing.T) {
	agent := &fakeAgent{state: talking()}
	drive(t, agent, func(u *ui) {
		u.press("m")
		agent.calls = nil
		paste := func(text string) {
			u.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: true})
			u.settle()
			checkFrame(t, u.a)
		}
		paste("a\r\nb\rc")
		u.press("enter")
		u.expectCalls(`message "a\nb\nc" to [B3RD-9KFA] all=false`)
		paste(strings.Repeat("long ", 200_000))
		agent.fail = errors.New("not looked at")
		u.press("enter")
		for _, call := range agent.calls {
			if len(call) > control.MaxMessage+100 {
				t.Fatalf("a message of %d bytes was sent", len(call))
			}
		}
		u.expect("Not looked at.")
	})
}
