package tui

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// hostile are texts that a device may send.
var hostile = []string{
	"", " ", "\x1b[2J\x1b[H", "a\x1b]52;c;AAAA\x07b", "\x1b]8;;http://x\x1b\\y", "\u202eevil\u202c", "a\u200bb\u2066c", "\x9b31m", "line\nbreak\ttab\rcr",
	"猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫猫", "👩‍👩‍👧‍👦 family ❤️ 👍🏽 🇫🇮🇫", "e" + strings.Repeat("\u0301", 40), "\u0301first", "\xff\xfe\x80",
	"ﷺﷺﷺ", "नमस्ते क्षत्रिय", "한국어 \u1112\u1161\u11ab", "\u0600\u0601abc", "العربية עברית", "name that ends in an ellipsis…",
	strings.Repeat("x", 255), strings.Repeat("ü", 127), strings.Repeat("/very/long", 500), "..", "-", "%s%d%!", "\u2800\u3164\ufeff",
}

type dice struct{ *rand.Rand }

func (d dice) text() string {
	s := hostile[d.IntN(len(hostile))]
	if d.IntN(3) == 0 {
		s += hostile[d.IntN(len(hostile))]
	}
	return s
}

func (d dice) of(values ...string) string {
	if d.IntN(12) == 0 {
		return d.text()
	}
	return values[d.IntN(len(values))]
}

func (d dice) number() int64 {
	return []int64{0, 1, -1, 999, 1000, 1 << 20, 999_999_999, 1 << 40, math.MaxInt64, math.MinInt64}[d.IntN(10)]
}

func (d dice) float() float64 {
	return []float64{0, -1, 0.4, 1, 59, 61, 3601, 1e6, 1e18, math.Inf(1), math.NaN()}[d.IntN(11)]
}

func (d dice) texts(n int) []string {
	var s []string
	for range d.IntN(n + 1) {
		s = append(s, d.text())
	}
	return s
}

func (d dice) peer() control.Peer {
	p := control.Peer{ID: d.of("", idAna, idPi, deviceID(fmt.Sprintf("AB%02d", d.IntN(50)))), Short: d.text(), Name: d.text(), Trust: d.of("new", "trusted", "blocked"),
		State: d.of("ready", "visible", "connecting", "away"), Age: d.float(), AutoAccept: d.IntN(2) == 0, Error: d.text(), Hint: d.text()}
	for range d.IntN(4) {
		p.Paths = append(p.Paths, control.Path{Kind: d.of("direct", "lan", "manual"), Ifname: d.text(), Address: d.text(), RTT: d.float(), Signal: int(int32(d.number())), Active: d.IntN(2) == 0})
	}
	return p
}

func (d dice) transfer() control.Transfer {
	return control.Transfer{ID: d.of("a", "b", "c", "d", "e", fmt.Sprint(d.IntN(100))), Direction: d.of("send", "receive"), Peer: d.of(idAna, idPi), PeerName: d.text(),
		Name: d.text(), Files: int(int32(d.number())), Dirs: d.IntN(3), Skipped: d.IntN(3), BytesTotal: d.number(), BytesDone: d.number(), BytesMoved: d.number(),
		Rate: d.float(), ETA: d.float(), State: d.of("waiting", "queued", "running", "paused", "verifying", "done", "refused", "failed"), Error: d.text(), Hint: d.text(),
		Sources: d.IntN(4), Path: d.text(), PathKind: d.text(), Names: d.texts(70), Dotfiles: d.IntN(2) == 0, Executables: d.IntN(2) == 0, Age: d.float(), Elapsed: d.float(),
		Ended: d.of("", "2026-11-21T10:00:00Z", "1970-01-01T00:00:00Z")}
}

func (d dice) question(n int) control.InboxItem {
	q := control.InboxItem{ID: fmt.Sprintf("q%d", n), Kind: d.of("transfer", "group", "pair"), Peer: d.of("", idAna), PeerName: d.text(), Trust: d.of("new", "trusted"),
		Expires: d.float(), Method: d.of("pbc", "show_pin", "enter_pin"), PIN: d.of("", "12345670"), Address: d.text(),
		Code: d.of("", "482913"), Own: d.IntN(2) == 0, Answered: d.IntN(3) == 0}
	if d.IntN(8) > 0 {
		t := d.transfer()
		q.Transfer = &t
	}
	return q
}

func (d dice) status() control.Status {
	s := control.Status{ID: idSelf, Short: d.text(), Name: d.text(), Agent: control.AgentInfo{Inbox: d.text(), Free: d.number()},
		Radio:   control.Radio{State: d.of("absent", "starting", "no_p2p", "ready", "off", "disabled"), Ifname: d.text(), Engine: d.of("system", "private"), Finding: d.IntN(2) == 0, Hint: d.text()},
		Notices: d.texts(2)}
	for range d.IntN(4) {
		s.Groups = append(s.Groups, control.Group{Ifname: d.text(), Role: d.of("GO", "client"), SSID: d.text(), Frequency: int(int32(d.number())), Clients: d.IntN(9),
			Address: d.text(), LinkLocal: d.text(), Members: d.texts(9), Uptime: d.number()})
	}
	for range d.IntN(30) {
		s.Links = append(s.Links, control.Link{Ifname: d.text(), Kind: d.text(), Up: d.IntN(2) == 0, Usable: d.IntN(2) == 0, Why: d.text(), Addresses: d.texts(5)})
	}
	return s
}

func (d dice) state() control.State {
	s := control.State{Status: d.status()}
	for range d.IntN(40) {
		s.Peers = append(s.Peers, d.peer())
	}
	for range d.IntN(40) {
		s.Transfers = append(s.Transfers, d.transfer())
	}
	for range d.IntN(40) {
		s.Messages = append(s.Messages, d.message())
	}
	s.Unread = control.Unread{Read: uint64(d.IntN(60)), Count: d.IntN(9)}
	for i := range d.IntN(3) {
		s.Inbox = append(s.Inbox, d.question(i))
	}
	return s
}

func (d dice) message() control.Message {
	m := control.Message{Seq: uint64(d.IntN(100)), ID: fmt.Sprintf("m%d", d.IntN(100)), Direction: d.of("send", "receive"), Text: strings.Join(d.texts(9), "\n"),
		State: d.of("received", "waiting", "delivered", "failed", "refused"), Time: d.of("", "2026-11-21T10:00:00Z", "1970-01-01T00:00:00Z")}
	if m.Direction == "receive" {
		m.Peer, m.PeerName = d.of(idAna, idPi), d.text()
		return m
	}
	for range 1 + d.IntN(3) {
		m.To = append(m.To, control.Recipient{Peer: d.of(idAna, idPi, idWork), PeerName: d.text(), State: d.of("waiting", "delivered", "refused", "failed"),
			Near: d.IntN(2) == 0, Error: d.text(), Hint: d.text()})
	}
	return m
}

func (d dice) event() control.Event {
	switch d.IntN(10) {
	case 6:
		m := d.message()
		return control.Event{Type: "message", Message: &m}
	case 7:
		return control.Event{Type: "message_gone", Key: fmt.Sprintf("m%d", d.IntN(100))}
	case 8:
		return control.Event{Type: "unread", Unread: &control.Unread{Read: uint64(d.IntN(100)), Count: d.IntN(9)}}
	case 0:
		s := d.status()
		return control.Event{Type: "status", Status: &s}
	case 1:
		p := d.peer()
		return control.Event{Type: "peer", Peer: &p}
	case 2:
		return control.Event{Type: "peer_gone", Key: d.peer().Key()}
	case 3:
		t := d.transfer()
		return control.Event{Type: "transfer", Transfer: &t}
	case 4:
		q := d.question(d.IntN(9))
		return control.Event{Type: "inbox", Inbox: &q}
	case 5:
		return control.Event{Type: "inbox_gone", Key: fmt.Sprintf("q%d", d.IntN(9))}
	}
	return control.Event{Type: "step", Step: &control.Step{What: "group", Name: d.of("find", "group", "pin"), State: d.of("ok", "running", "failed"), Text: d.text(), After: d.float()}}
}

var anyKeys = []string{"enter", "esc", "tab", "shift+tab", "up", "down", "left", "right", "home", "end", "pgup", "pgdown", "backspace", "ctrl+u",
	"1", "2", "3", "4", "4", "5", "6", "f", "d", "enter", "pgup", "ctrl+j", "m", "j", "k", "g", "G", "/", "?", "i", "c", "t", "b", "w", "o", "+", "ctrl+f", "u", "X", "s", "x", "p", "r", "L", "y", "n", "a", "l", " ", ".", "e", "~", "é", "猫"}

// TestEveryFrameFits walks at random through states, sizes, events and keys, and
// checks each frame.
func TestEveryFrameFits(t *testing.T) {
	walks := 40
	if testing.Short() {
		walks = 8
	}
	for seed := range walks {
		synctest.Test(t, func(t *testing.T) {
			d := dice{rand.New(rand.NewPCG(uint64(seed), 7))}
			agent := &fakeAgent{state: d.state()}
			if d.IntN(10) == 0 {
				agent.down = &control.Error{Code: control.CodeNoAgent, Message: d.text(), Hint: d.text()}
			}
			u := newUI(t, agent, theme.New(d.IntN(3) == 0, d.IntN(3) > 0, theme.Background(d.IntN(3))))
			u.a.dir = "/"
			u.a.th.Linear = d.IntN(4) == 0
			u.a.remedies, u.a.report = sampleRemedies(agent), func(context.Context, string) error { return agent.called("report") }
			defer u.end()
			u.resize(80, 24)
			u.run(u.a.Init())
			u.settle()
			var trail []string
			for range 120 {
				what := ""
				switch d.IntN(6) {
				case 0:
					w, h := 60+d.IntN(100), 16+d.IntN(40)
					if d.IntN(5) == 0 {
						w, h = 1+d.IntN(70), 1+d.IntN(20)
					}
					what = fmt.Sprintf("size %dx%d", w, h)
					u.resize(w, h)
				case 1, 2:
					what = "event"
					agent.mu.Lock()
					live := agent.down == nil
					agent.mu.Unlock()
					if live {
						agent.emit(d.event())
						u.settle()
					}
				case 3:
					if d.IntN(3) == 0 {
						m := tea.MouseMsg{X: d.IntN(u.a.w + 1), Y: d.IntN(u.a.h + 1), Button: []tea.MouseButton{tea.MouseButtonLeft, tea.MouseButtonWheelUp, tea.MouseButtonWheelDown}[d.IntN(3)]}
						what = fmt.Sprintf("mouse %+v", m)
						u.send(m)
						u.settle()
						break
					}
					what = "wait"
					u.wait(time.Duration(d.IntN(1500)) * time.Millisecond)
				default:
					what = anyKeys[d.IntN(len(anyKeys))]
					u.send(keyMsg(what))
					u.settle()
				}
				trail = append(trail, what)
				if err := frameFault(u.a); err != nil {
					t.Fatalf("walk %d, after %q:\n%v\n%s", seed, trail, err, ansi.Strip(u.a.View()))
				}
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for _, s := range hostile {
		for _, ascii := range []bool{false, true} {
			got := printable(s, ascii)
			for _, r := range got {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r == 0x200b {
					t.Errorf("printable(%q) lets %U through", s, r)
				}
			}
			if ansi.StringWidth(got) != ansi.StringWidthWc(got) {
				t.Errorf("printable(%q) = %q has two widths", s, got)
			}
			if again := printable(got, ascii); again != got {
				t.Errorf("printable of %q is %q, not itself", got, again)
			}
		}
	}
	if got := printable("Ana's Läptöp 猫", false); got != "Ana's Läptöp 猫" {
		t.Errorf("a harmless name became %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s, false)
		if strings.ContainsAny(got, "\x1b\n\r\t\x00\x07\u009b") {
			t.Errorf("printable(%q) = %q", s, got)
		}
		line := fit("x "+got, 40)
		if w, wc := ansi.StringWidth(line), ansi.StringWidthWc(line); w != 40 || wc != 40 {
			t.Errorf("fit of %q is %d (%d) wide", got, w, wc)
		}
	})
}
