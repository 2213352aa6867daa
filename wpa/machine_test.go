package wpa

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// row is one row of the table in the package documentation.
type row struct{ machine, state, event, then string }

// table reads the rows out of doc.go.
func table(t *testing.T) []row {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	line := regexp.MustCompile(`(?m)^//\t(supplicant|discovery|formation|group) +(\S+) +(.*?)  +(.*)$`)
	for _, m := range line.FindAllStringSubmatch(string(doc), -1) {
		rows = append(rows, row{m[1], m[2], m[3], m[4]})
	}
	if len(rows) < 50 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	return rows
}

var sentinels = map[string]error{
	"ErrPeerGone": ErrPeerGone, "ErrBusy": ErrBusy, "ErrRejected": ErrRejected, "ErrMethod": ErrMethod, "ErrChannel": ErrChannel,
	"ErrTimeout": ErrTimeout, "context.Canceled": context.Canceled, "ErrFormation": ErrFormation, "ErrWrongPIN": ErrWrongPIN,
	"ErrOverlap": ErrOverlap, "ErrKilledByNetworkManager": ErrKilledByNetworkManager, "ErrSupplicantGone": ErrSupplicantGone,
}

// TestTable runs every row of the table in the package documentation.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table(t) {
		key := r.machine + " " + r.state + ": " + r.event
		s, ok := scenarios[key]
		if !ok {
			t.Errorf("no scenario for %q", key)
			continue
		}
		seen[key] = true
		t.Run(strings.ReplaceAll(key, " ", "_"), func(t *testing.T) {
			inWorld(t, s.cfg, s.fake, func(w *world) {
				if s.before != nil {
					s.before(w)
				}
				if got := w.where(r.machine); got != r.state {
					t.Fatalf("before: %s, want %s", got, r.state)
				}
				s.event(w)
				w.check(r)
			})
		})
	}
	for key := range scenarios {
		if !seen[key] {
			t.Errorf("the table has no row for scenario %q", key)
		}
	}
}

// check compares the state with a row's last column.
func (w *world) check(r row) {
	w.t.Helper()
	then, detail, _ := strings.Cut(r.then, ": ")
	got := w.where(r.machine)
	if got != then {
		w.t.Errorf("after: %s, want %s", got, then)
	}
	switch {
	case then == "Gone":
		gone := []Reason{}
		for _, e := range w.events() {
			if g, ok := e.(GroupGone); ok {
				gone = append(gone, g.Reason)
			}
		}
		if fmt.Sprint(gone) != "["+detail+"]" {
			w.t.Errorf("group is gone for %q, want %q", gone, detail)
		}
	case detail == "group":
		if !w.last.done || w.last.err != nil || w.last.group.SSID != "DIRECT-xy" {
			w.t.Errorf("formation gave %+v", w.last)
		}
	case detail != "":
		if !w.last.done || !errors.Is(w.last.err, sentinels[detail]) {
			w.t.Errorf("formation gave %v, want %s", w.last.err, detail)
		}
	}
}

// hold makes a restarting supplicant stay in Starting until release.
func (w *world) hold() {
	w.fake.mu.Lock()
	w.fake.held = make(chan struct{})
	w.fake.mu.Unlock()
	w.restart()
}

func (w *world) release() {
	w.fake.mu.Lock()
	close(w.fake.held)
	w.fake.held = nil
	w.fake.mu.Unlock()
	w.wait()
}

// TestPutBack checks that what Run changed is as it was when it has returned.
func TestPutBack(t *testing.T) {
	var f *fake
	inWorld(t, Config{DeviceName: "ours", Intent: 9}, func(g *fake) { f = g }, func(w *world) { w.client() })
	if got := f.called("Disconnect"); len(got) != 1 || got[0] != "Disconnect "+string(fakeGroup) {
		t.Errorf("calls are %q", got)
	}
	last := func(prefix string) string {
		calls := f.called(prefix)
		if len(calls) == 0 {
			return "none"
		}
		return calls[len(calls)-1]
	}
	for prefix, want := range map[string]string{
		"SetConfig {DeviceName":          "SetConfig {DeviceName before}",
		"SetConfig {GOIntent":            "SetConfig {GOIntent 3}",
		"SetConfig {PersistentReconnect": "SetConfig {PersistentReconnect false}",
		"SetConfigMethods":               "SetConfigMethods nfc",
	} {
		if got := last(prefix); got != want {
			t.Errorf("last call is %q, want %q", got, want)
		}
	}
}

// TestVisible checks that a visible device listens while it has no group, and stops when Run ends.
func TestVisible(t *testing.T) {
	var f *fake
	last := func() string {
		calls := f.called("ExtendedListen")
		return calls[len(calls)-1]
	}
	const on, off = "ExtendedListen 500ms 550ms", "ExtendedListen 0s 0s"
	inWorld(t, Config{Visible: true}, func(g *fake) { f = g }, func(w *world) {
		if got := last(); got != on {
			t.Errorf("at first: %s", got)
		}
		w.client()
		if got := last(); got != off {
			t.Errorf("in a group: %s", got)
		}
		w.finished(false)
		if got := last(); got != on {
			t.Errorf("after the group: %s", got)
		}
		w.restart()
		if got := f.called("ExtendedListen"); len(got) != 4 || got[3] != on {
			t.Errorf("after a restart: %q", got)
		}
	})
	if got := last(); got != off {
		t.Errorf("after Run: %s", got)
	}
}

// TestRequests checks that one attempt of a peer makes one question.
func TestRequests(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		count := func() (n int) {
			for _, e := range w.events() {
				if _, ok := e.(RequestReceived); ok {
					n++
				}
			}
			return n
		}
		ask := dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton, Intent: 7}
		w.near(0)
		for range 5 {
			w.say(ask)
			w.pass(time.Second)
		}
		if n := count(); n != 1 {
			t.Fatalf("%d requests", n)
		}
		w.pass(requestLife)
		w.say(ask)
		if n := count(); n != 2 {
			t.Fatalf("%d requests after the first expired", n)
		}
		for i := range 1000 { // a hostile device with many addresses
			addr := slices.Clone(fakePeer)
			addr[3], addr[4] = byte(i>>8), byte(i)
			w.say(dbusapi.GONegotiationRequest{Peer: peerPath(addr), PasswordID: PasswordPushButton})
		}
		if n := count(); n > maxRequests+2 {
			t.Fatalf("%d requests", n)
		}
	})
}

// TestFlood checks that events that nobody takes do not add up, and that the order about one thing stays.
func TestFlood(t *testing.T) {
	o := newOutbox()
	o.push(PeerSeen{Peer{Address: fakePeer}})
	for i := range 10000 {
		o.push(PeerChanged{Peer{Address: fakePeer, SignalDBm: -i}})
		o.push(StateChanged{Status{Ifname: fmt.Sprint(i)}})
	}
	if len(o.queue) != 2 {
		t.Fatalf("%d events wait", len(o.queue))
	}
	if p, ok := o.queue[0].(PeerSeen); !ok || p.Peer.SignalDBm != -9999 {
		t.Errorf("first event is %+v", o.queue[0])
	}
	o.push(PeerLost{fakePeer})
	o.push(PeerSeen{Peer{Address: fakePeer}})
	o.push(PeerChanged{Peer{Address: fakePeer, SignalDBm: 1}})
	last := o.queue[len(o.queue)-1]
	if p, ok := last.(PeerSeen); !ok || p.Peer.SignalDBm != 1 {
		t.Errorf("last event is %+v", last)
	}
	for range 5000 {
		o.push(PeerLost{fakePeer})
	}
	if len(o.queue) > maxPending {
		t.Errorf("%d events wait", len(o.queue))
	}
}

// TestSecretsStayOut checks that printing a value by accident shows no secret.
func TestSecretsStayOut(t *testing.T) {
	const secret = "s3cr3t-12345670"
	for _, v := range []any{
		Group{Passphrase: secret}, Persistent{PSK: secret},
	} {
		if s := fmt.Sprintf("%v %s %+v", v, v, v); strings.Contains(s, secret) {
			t.Errorf("%T prints %s", v, s)
		}
	}
	var b strings.Builder
	log := testLogger(&b)
	log.Info("Values", "group", Group{Passphrase: secret}, "persistent", Persistent{PSK: secret},
		"method", EnterPIN(secret), "request", Request{PIN: secret})
	if strings.Contains(b.String(), secret) {
		t.Errorf("log has %s", b.String())
	}
}

// TestBadArguments checks what is refused before the radio is used.
func TestBadArguments(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		for name, m := range map[string]Method{
			"no PIN": EnterPIN(""), "letters": EnterPIN("1234567a"), "short": EnterPIN("123"), "button with PIN": {PIN: "12345670"},
		} {
			if _, err := w.Connect(w.t.Context(), fakePeer, m, ConnectOptions{}); !errors.Is(err, ErrBadMethod) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := w.Connect(w.t.Context(), nil, PBC(), ConnectOptions{}); !errors.Is(err, ErrConfig) {
			t.Errorf("no address: %v", err)
		}
		if err := w.Leave(w.t.Context(), "77"); !errors.Is(err, ErrNoGroup) {
			t.Errorf("unknown group: %v", err)
		}
		if got := w.fake.called("Connect"); len(got) != 0 {
			t.Errorf("calls are %q", got)
		}
	})
	for name, c := range map[string]Config{
		"intent": {Intent: 16}, "name": {DeviceName: strings.Repeat("x", 33)}, "vendor": {Vendor: [][]byte{{1}}},
	} {
		if _, err := Open(t.Context(), c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClosed checks that commands after Run do not hang.
func TestClosed(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.cancel()
		w.wait()
		if err := w.Find(w.t.Context(), time.Second); !errors.Is(err, ErrClosed) {
			t.Errorf("find: %v", err)
		}
		if _, err := w.StartGroup(w.t.Context(), GroupOptions{}); !errors.Is(err, ErrClosed) {
			t.Errorf("start group: %v", err)
		}
	})
}

// TestHints checks that every error has one thing to do about it.
func TestHints(t *testing.T) {
	for _, err := range sentinels {
		if !errors.Is(err, context.Canceled) && Hint(fmt.Errorf("wpa: x: %w", err)) == "" {
			t.Errorf("no hint for %v", err)
		}
	}
	if Hint(errors.New("other")) != "" {
		t.Error("a hint for anything")
	}
}
