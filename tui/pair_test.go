package tui

import (
	"testing"
	"time"

	"nigh/agent/control"
)

// ownPairing is what Pair answers, and the inbox item that comes with it.
func (u *ui) ownPairing() control.InboxItem {
	i := samplePairing()
	i.Own = true
	u.agent.mu.Lock()
	u.agent.pairing = control.Pairing{ID: i.ID, Peer: i.Peer, Short: shortID(i.Peer), PeerName: i.PeerName, State: "comparing", Code: i.Code, Own: true, Expires: 60}
	u.agent.outcome = make(chan error)
	u.agent.mu.Unlock()
	return i
}

// end tells every face how the pairing ended.
func (u *ui) endPairing(err error) {
	u.agent.emit(control.Event{Type: "inbox_gone", Key: "pair-1"})
	u.settle()
	u.agent.outcome <- err
	u.settle()
}

func TestPairFromTheList(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		item := u.ownPairing()
		u.filter("pixel")
		u.press("p")
		u.expect("Pair with Pixel 8", "comparing a code on both")
		u.expectCalls()
		agent.begin = make(chan error)
		u.press("enter")
		u.expect("Connecting to Pixel 8")
		u.offerNow(item) // the event may come before the answer
		agent.begin <- nil
		u.settle()
		u.expect(`You want to pair with "Pixel 8" (K8SQ-4TVE).`, "4 8 2   9 1 3", "y codes match")
		u.press("y")
		u.expect("You said yes. Waiting for the answer on Pixel 8.", "4 8 2   9 1 3")
		u.press("y", "enter", "n") // none of them is a key while it waits
		u.endPairing(nil)
		u.expect("Paired with Pixel 8: the two trust each other.")
		u.expectNot("4 8 2")
		u.expectCalls("pair K8SQ-4TVE ", "accept pair-1 {Into: PIN: Always:false}")
		u.expect("Let it send without asking?", `Paired with "Pixel 8".`, "n ask each time")
		u.press("y") // meant for the dialog that was there
		u.wait(500 * time.Millisecond)
		u.press("enter") // the safe answer
		u.expectCalls()
		if len(u.a.stack) != 0 {
			t.Errorf("%d dialogs are open", len(u.a.stack))
		}
	})
}

// The safe answer is no: enter, esc and n all mean it.
func TestPairSafeAnswer(t *testing.T) {
	for _, key := range []string{"enter", "esc", "n"} {
		t.Run(key, func(t *testing.T) {
			drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
				u.offerNow(samplePairing())
				u.expect("Pair with a new device?", `"Pixel 8" (K8SQ-4TVE) wants to pair`, "closes in 48 s")
				u.press("y") // typed for the screen below
				u.expectCalls()
				u.wait(500 * time.Millisecond)
				u.press(key)
				u.expectCalls("refuse pair-1")
				u.expect("Not paired with Pixel 8; nothing is trusted.")
			})
		})
	}
}

func TestPairQuestionIsAnsweredYes(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.outcome = make(chan error)
		u.offerNow(samplePairing())
		if n := u.rings.Load(); n != 1 {
			t.Errorf("the bell rang %d times", n)
		}
		u.wait(10 * time.Second)
		u.expect("closes in 38 s")
		u.press("y")
		u.expectCalls("accept pair-1 {Into: PIN: Always:false}")
		u.press("esc") // takes the yes back
		u.expectCalls("refuse pair-1")
		u.expectNot("4 8 2")
	})
}

// Two faces show the same question: what one answers the other shows, and the outcome
// reaches both.
func TestPairAnsweredElsewhere(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.outcome = make(chan error)
		u.offerNow(samplePairing())
		u.wait(time.Second)
		answered := samplePairing()
		answered.Answered = true
		u.agent.emit(control.Event{Type: "inbox", Inbox: &answered})
		u.settle()
		u.expect("You said yes. Waiting for the answer on Pixel 8.")
		u.endPairing(nil)
		u.expect("Paired with Pixel 8", "Let it send without asking?")
		// What another face answers closes the question here too.
		p := samplePeers()[2]
		p.Trust, p.AutoAccept = "trusted", true
		u.agent.emit(control.Event{Type: "peer", Peer: &p})
		u.settle()
		u.expectNot("Let it send without asking?")
		// And a no of the other side is told with what to do.
		u.press("esc")
		i := samplePairing()
		i.ID = "pair-2"
		u.offerNow(i)
		u.agent.emit(control.Event{Type: "inbox_gone", Key: "pair-2"})
		u.settle()
		agent.outcome <- &control.Error{Code: control.CodeRefused, Message: "the other side said no; nothing is trusted", Hint: "compare the codes"}
		u.settle()
		u.expect("The other side said no; nothing is trusted.", "Compare the codes.")
		u.wait(time.Second)
		u.press("y", "enter")
		u.expect("said no")
		u.press("esc")
		u.expectNot("said no")
		u.expectCalls()
	})
}

// Yes in this face when the other face was quicker is no error.
func TestPairSecondYes(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.outcome = make(chan error)
		u.offerNow(samplePairing())
		u.wait(time.Second)
		agent.mu.Lock()
		agent.fail = &control.Error{Code: control.CodeNotFound, Message: "nothing waits under pair-1"}
		agent.mu.Unlock()
		u.press("y")
		u.expectNot("Nothing waits")
		u.endPairing(nil)
		u.expect("Paired with Pixel 8")
	})
}

func TestPairWithSetupCode(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		u.filter("pixel")
		u.press("p", " ", "enter")
		u.expect("Type the code that nigh setup-code prints there.")
		u.typed("qn1") // letters are text here, not keys
		agent.fail = &control.Error{Code: control.CodeUsage, Message: "that is not a setup code", Hint: "x"}
		u.press("enter")
		u.expect("That is not a setup code.")
		u.press("ctrl+u")
		u.typed("CGRT-6U6B-SPIS-FLVL-4")
		agent.fail = &control.Error{Code: control.CodeRefused, Message: "that is not the setup code of this device", Hint: "a few wrong ones lock it"}
		u.press("enter")
		u.expect("That is not the setup code of this device.", "A few wrong ones lock it.")
		agent.fail = nil
		agent.pairing = control.Pairing{Peer: idPixel, State: "paired"}
		u.press("enter")
		u.expect("Paired with Pixel 8: the two trust each other.", "Let it send without asking?")
		u.expectCalls("pair K8SQ-4TVE qn1", "pair K8SQ-4TVE CGRT-6U6B-SPIS-FLVL-4", "pair K8SQ-4TVE CGRT-6U6B-SPIS-FLVL-4")
		u.wait(500 * time.Millisecond)
		u.press("y")
		u.expectCalls("trust set K8SQ-4TVE auto=true")
		u.expect("Pixel 8 may send without asking.")
	})
}

func TestPairGivenUpWhileConnecting(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.begin = make(chan error)
		u.filter("neighbours") // it has not shown who it is: its address stands for it
		u.press("p", "enter", "esc")
		u.expect("Given up; nothing is trusted.")
		u.expectCalls("pair aa:0b:44:10:2f:02 ", "pair given up")
		// What failed can be tried again.
		u.press("p", "enter")
		agent.begin <- &control.Error{Code: control.CodeAway, Message: "the device is not near", Hint: "bring it closer"}
		u.settle()
		u.expect("The device is not near.", "enter try again")
		u.press("enter")
		agent.begin <- &control.Error{Code: control.CodeBusy, Message: "one of the devices is pairing already"}
		u.settle()
		u.expect("One of the devices is pairing already.")
		u.press("esc")
		u.filter("kiosk")
		u.press("p")
		u.expect("kiosk-3 is blocked. Press u to unblock it first.")
	})
}

func TestPairBlocksTheDevice(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.offerNow(samplePairing())
		u.wait(time.Second)
		u.press("b", "n")
		u.expect("4 8 2   9 1 3")
		u.expectCalls()
		u.press("b", "y")
		u.agent.mu.Lock()
		calls := len(u.agent.calls)
		u.agent.mu.Unlock()
		if calls != 2 {
			t.Errorf("%d calls, want the block and the no", calls)
		}
		u.expectNot("4 8 2")
	})
}

// A question about pairing never opens over a text field.
func TestNoPairDialogOverTextField(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.press("/")
		u.offerNow(samplePairing())
		u.typed("y")
		u.expect("filter: y", "1 waiting: i")
		u.expectNot("4 8 2")
		u.press("esc", "i")
		u.expect("4 8 2   9 1 3")
		u.expectCalls()
	})
}
