package tui

import (
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
)

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
				if n := u.rings.Load(); n != 1 {
					t.Fatalf("the bell rang %d times, want once", n)
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
		u.expect("filter: any", "1 waiting: i")
		u.expectNot("Incoming files")
		if n := u.rings.Load(); n != 1 {
			t.Fatalf("the bell rang %d times, want once", n)
		}
		u.press("esc", "i", "n")
		u.expectCalls("refuse i1")

		// With a form open it waits as well, and comes when the form is closed.
		u.press("5", "c")
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

// TestQuestionWaitsForRoom: a question that came before there was a window for it is shown when there is one.
func TestQuestionWaitsForRoom(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.resize(52, 12)
		u.offerNow(sampleOffer())
		u.expect("nigh needs 60x16")
		u.resize(80, 24)
		u.expect("Incoming files", "cover.jpg")
		if n := u.rings.Load(); n != 1 {
			t.Errorf("the bell rang %d times, want once", n)
		}
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

// TestQuestionAnsweredAtOnce: of two windows that answer the same question, the one that comes second says so, whatever was asked
// and answered.
func TestQuestionAnsweredAtOnce(t *testing.T) {
	gone := &control.Error{Code: control.CodeNotFound, Message: "nothing waits under i1", Hint: "nigh inbox lists what waits for an answer"}
	for name, asked := range map[string]control.InboxItem{"files": sampleOffer(), "group": sampleRequest()} {
		for key, call := range map[string]string{"y": "accept ", "n": "refuse "} {
			t.Run(name+" "+key, func(t *testing.T) {
				drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
					u.offerNow(asked)
					u.wait(settled)
					u.agent.fail = gone
					u.press(key)
					u.expect("The question was answered elsewhere, or its time is over.")
					u.expectNot("nothing waits", "Nothing waits")
					if len(u.agent.calls) != 1 || !strings.HasPrefix(u.agent.calls[0], call) {
						t.Errorf("calls to the agent: %q", u.agent.calls)
					}
				})
			})
		}
	}
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
		u.agent.emit(control.Event{Type: "inbox_gone", Key: "i2"})
		u.step("negotiate", "running", "")
		u.expect("Connecting to Pixel 8", "...     agree on the group owner")
		u.step("group", "ok", "client of DIRECT-xy")
		u.expect("ok      agree on the group owner")
		u.step("address", "ok", "192.168.49.23/24")
		u.expectNot("Connecting to")
		u.expect("Connected to Pixel 8.")

		i := sampleRequest()
		i.ID, i.Method = "i3", "enter_pin"
		u.offerNow(i)
		u.wait(time.Second)
		u.press("y")
		u.typed("123")
		u.press("enter")
		u.expect("A PIN has 4 or 8 digits.")
		u.typed("45670")
		u.press("enter")
		u.expectCalls("accept i3 {Into: PIN:12345670 Always:false}")
		u.step("group", "failed", "the PIN was wrong")
		u.expect("failed  form the group", "The PIN was wrong.")
		u.press("esc")

		// The PIN to be typed on the other side stays on the screen after y.
		i.ID, i.Method, i.PIN = "i4", "show_pin", "12345670"
		u.offerNow(i)
		u.wait(time.Second)
		u.press("y")
		u.expect("1 2 3 4   5 6 7 0")
		u.press("esc")
		u.expectNot("1 2 3 4")
		u.step("group", "failed", "nobody typed the PIN")
		u.expect("Wi-Fi Direct: Nobody typed the PIN.")
	})
}

func (u *ui) step(name, state, text string) {
	u.agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: name, State: state, Text: text}})
	u.settle()
}

func TestCreateGroup(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		agent.group = make(chan error) // of the bubble
		u.press("5", "c", " ", " ", "tab", " ", "enter")
		u.expectCalls("group create device= band=5 persistent=false method= pin=")
		u.expect("-       form the group")
		agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: "group", State: "ok", After: 0.84}})
		agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: "address", State: "running"}})
		u.settle()
		u.expect("ok      form the group           0.8 s", "...     get an address")
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
		u.press("5", "L")
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
		u.press("5")
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
		u.expect("The agent is not running.", "As of 00:00.", "living-room-pi", "r retry now")
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
		u.expect("The agent is not running.", "nigh agent")
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
