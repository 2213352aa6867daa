package tui

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// allScenes are the screens and every dialog there is.
func allScenes() []scene { return slices.Concat(scenes, dialogScenes) }

// answering opens the question of an offer and presses keys on it.
func answering(keys ...string) func(u *ui) {
	return func(u *ui) {
		u.offerNow(sampleOffer())
		u.wait(500 * time.Millisecond)
		u.press(keys...)
	}
}

// onShare goes to the second share of this device.
func onShare(keys ...string) func(u *ui) {
	return func(u *ui) {
		u.agent.shares, u.agent.listing, u.agent.found = sharing().shares, sharing().listing, sharing().found
		u.press("4")
		u.wait(4 * time.Second)
		u.press("j")
		u.press(keys...)
	}
}

// onLogScreen goes to the log of an agent that found something.
func onLogScreen(keys ...string) func(u *ui) {
	return func(u *ui) {
		u.agent.checks = logging().checks
		lines := logging().log
		lines = append(lines, control.LogLine{Time: lines[0].Time, Level: "WARN", Message: "Forming the group failed",
			Attrs: `peer=K8SQ-4TVE interface=p2p-dev-wlan0 frequency=5180 stage=Negotiated err="the other side did not answer within 15 s, and was asked three times"`})
		for _, l := range lines {
			u.agent.emit(control.Event{Type: "log", Log: &l})
		}
		u.a.report = func(context.Context, string) error { return u.agent.called("report") }
		u.a.remedies = sampleRemedies(u.agent)
		u.press("6")
		u.wait(3 * time.Second)
		u.press(keys...)
		u.wait(500 * time.Millisecond)
	}
}

// sampleRemedies are one that only root may make, and one that this user may.
func sampleRemedies(f *fakeAgent) []Remedy {
	remedy := func(name, does string, allowed error) Remedy {
		return Remedy{Name: name, Does: does, Path: "/etc/" + name + "/nigh.conf", Text: strings.Repeat("# Written by nigh doctor.\nallow = true\n", 12), Allowed: func() error { return allowed },
			InForce: func() (bool, error) { return false, nil },
			Plan:    func(context.Context) ([]string, error) { return []string{name + "ctl reload"}, nil },
			Apply:   func(context.Context) error { return f.called("apply %s", name) }}
	}
	return []Remedy{remedy("networkmanager", "Keeps NetworkManager from removing groups.", errors.New("only root")), remedy("firewalld", "Lets other devices connect to nigh.", nil)}
}

// dialogScenes are the dialogs that a key opens.
var dialogScenes = []scene{
	{"quit", sampleState, func(u *ui) { u.a.embedded = true; u.press("q") }},
	{"forget", sampleState, func(u *ui) { u.press("X") }},
	{"block", sampleState, func(u *ui) { u.press("b") }},
	{"send-new", sampleState, func(u *ui) { u.filter("pixel"); u.press("enter") }},
	{"send-later", sampleState, func(u *ui) { u.filter("workshop"); u.press("enter") }},
	{"picker-path", sampleState, func(u *ui) { u.choosing("~") }},
	{"picker-filter", sampleState, func(u *ui) { u.choosing("/", "h", "o", "l") }},
	{"offer-elsewhere", sampleState, answering("s")},
	{"offer-list", sampleState, answering("l")},
	{"offer-always", sampleState, answering("a")},
	{"request-enter-pin", sampleState, func(u *ui) {
		i := sampleRequest()
		i.Method = "enter_pin"
		u.offerNow(i)
		u.wait(500 * time.Millisecond)
		u.press("y")
	}},
	{"pair-block", sampleState, func(u *ui) {
		u.offerNow(samplePairing())
		u.wait(500 * time.Millisecond)
		u.press("b")
	}},
	{"own-code", sampleState, func(u *ui) {
		u.agent.code = control.SetupCode{Code: "7Q4K-M2XD-PL9A-TT3C-V"}
		u.press("o")
	}},
	{"own-code-new", sampleState, func(u *ui) {
		u.agent.code = control.SetupCode{Code: "7Q4K-M2XD-PL9A-TT3C-V"}
		u.press("o", "n")
	}},
	{"share-add", sampleState, onShare("a")},
	{"share-for", sampleState, onShare("a", "ctrl+u", "/", "s", "r", "v", "enter")},
	{"share-for-wrong", sampleState, onShare("a", "ctrl+u", "/", "s", "r", "v", "enter", " ", "enter")},
	{"share-stop", sampleState, onShare("x")},
	{"share-search", sampleState, onShare("f")},
	{"share-get", sampleState, onShare("f", "h", "o", "l", "enter", "r")},
	{"leave", func() control.State {
		s := sampleState()
		s.Status.Groups = []control.Group{sampleGroup()}
		return s
	}, func(u *ui) { u.press("5", "L") }},
	{"take-back", talking, func(u *ui) { u.press("3", "g", "x") }},
	{"pair-paired", sampleState, func(u *ui) {
		u.offerNow(samplePairing())
		u.wait(500 * time.Millisecond)
		u.agent.outcome = nil
		u.a.update(pairOverMsg{d: u.a.top().d.(*pairDialog)})
		u.wait(500 * time.Millisecond)
	}},
	{"access", sampleState, func(u *ui) { u.press("a") }},
	{"details", sampleState, func(u *ui) { u.press("2", "d") }},
	{"share-who", sampleState, onShare("k", "w", "j")},
	{"share-edit", sampleState, onShare("e")},
	{"phone-large", sampleState, func(u *ui) { u.phone(); u.press("+") }},
	{"phone-text", sampleState, func(u *ui) { u.phone(); u.press("t", "v") }},
	{"log-wrapped", sampleState, onLogScreen("w")},
	{"log-fix", sampleState, onLogScreen("g", "f")},
	{"log-fix-root", sampleState, onLogScreen("g", "j", "f")},
	{"log-report", sampleState, onLogScreen("b")},
	{"filter", sampleState, func(u *ui) { u.press("/"); u.typed("pi") }},
}

// TestInterruptEverywhere: ctrl+c ends the program from every screen, dialog and text field; esc from none.
func TestInterruptEverywhere(t *testing.T) {
	for _, s := range allScenes() {
		t.Run(s.name, func(t *testing.T) {
			s.play(t, false, 80, 24, func(t *testing.T, u *ui) {
				for range 8 {
					u.press("esc")
				}
				if u.quit {
					t.Fatal("esc ends the program")
				}
			})
			s.play(t, false, 80, 24, func(t *testing.T, u *ui) {
				u.press("ctrl+c")
				if !u.quit {
					t.Fatalf("ctrl+c does not end the program:\n%s", u.text())
				}
			})
		})
	}
}

// TestPasteEverywhere: a megabyte that is pasted answers no question and does not go into a text field whole, wherever it comes.
func TestPasteEverywhere(t *testing.T) {
	paste := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(strings.Repeat("yn\r\nqXé\x1b", 130_000)), Paste: true}
	for _, s := range allScenes() {
		t.Run(s.name, func(t *testing.T) {
			s.play(t, false, 80, 24, func(t *testing.T, u *ui) {
				u.agent.mu.Lock()
				u.agent.calls = nil
				u.agent.mu.Unlock()
				open := len(u.a.stack)
				u.send(paste)
				u.settle()
				checkFrame(t, u.a)
				u.expectCalls()
				if u.quit || len(u.a.stack) != open {
					t.Fatalf("the paste was taken as keys:\n%s", u.text())
				}
			})
		})
	}
}
