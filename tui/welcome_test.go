package tui

import (
	"context"
	"testing"
	"time"

	"nigh/agent/control"
)

// settled is the time after which a dialog that opened by itself takes keys.
const settled = 500 * time.Millisecond

func TestFirstRun(t *testing.T) {
	drive(t, &fakeAgent{state: firstRun()}, func(u *ui) {
		left := ""
		u.a.service = func(context.Context) string { return "sudo nigh service install" }
		u.a.leaving = func(command string) { left = command }
		u.expect("Welcome to nigh", "> Name        pi5-kitchen", "Inbox       /home/ana/Downloads/nigh")
		u.press("x")
		u.expect("pi5-kitchen ") // what was typed before it opened is nothing for it
		u.wait(settled)
		u.press("backspace", "7", "down")
		u.expect("  Name        pi5-kitche7")
		u.press("ctrl+u")
		u.typed("~/in")
		u.press("enter")
		u.expectCalls("configure map[inbox:/home/pi/in name:pi5-kitche7] asked=true")
		u.expectNot("Welcome to nigh", "answered elsewhere")
		u.expect("Run nigh all the time?", "sudo nigh service install", "Looking for devices nearby...")
		u.wait(settled)
		u.press("y")
		if left != "sudo nigh service install" || !u.quit {
			t.Errorf("after y: the command is %q, quit %v", left, u.quit)
		}
	})
}

func TestFirstRunPutOff(t *testing.T) {
	agent := &fakeAgent{state: firstRun()}
	drive(t, agent, func(u *ui) {
		i := sampleOffer()
		agent.emit(control.Event{Type: "inbox", Inbox: &i})
		u.settle()
		u.expect("Welcome to nigh")
		u.wait(settled)
		u.press("esc")
		u.expectCalls("configure map[] asked=true")
		u.expect("Incoming files")
	})
	// As it was is no change; what the agent does not take stays on the screen.
	agent = &fakeAgent{state: firstRun(), fail: &control.Error{Code: control.CodeUsage, Message: "name is longer than 40 bytes", Hint: "take a shorter one"}}
	drive(t, agent, func(u *ui) {
		u.wait(settled)
		u.press("enter")
		u.expectCalls("configure map[] asked=true")
		u.expect("Welcome to nigh", "Name is longer than 40 bytes. Take a shorter one.")
		agent.fail = nil
		u.press("enter")
		u.expectNot("Welcome to nigh")
	})
}

// Of two terminal UIs the one that is answered first closes the other's question, and nobody is asked who was asked.
func TestFirstRunElsewhere(t *testing.T) {
	agent := &fakeAgent{state: firstRun()}
	drive(t, agent, func(u *ui) {
		s := sampleStatus()
		agent.emit(control.Event{Type: "status", Status: &s})
		u.settle()
		u.expectNot("Welcome to nigh")
		u.expect("answered elsewhere")
	})
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) { u.expectNot("Welcome to nigh") })
}

// The policy's name is said and not asked; a terminal that is too small is asked when it has grown.
func TestFirstRunNamedByPolicy(t *testing.T) {
	state := firstRun()
	state.Status.NameFixed = "/etc/nigh/policy.toml:1"
	drive(t, &fakeAgent{state: state}, func(u *ui) {
		u.resize(50, 10)
		u.resize(60, 16)
		u.expect(`The policy of this machine (/etc/nigh/policy.toml:1)`, `calls this device "pi5-kitchen".`, "> Inbox")
		u.expectNot("Name  ", "next line")
	})
}
