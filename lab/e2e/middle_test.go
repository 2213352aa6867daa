package e2e_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// relay passes what a device asks the stranger here on to another device, as the stranger there, and the answers back. Where
// an answer names the other device's key it says the one here: so each device sees a key that is the relay's own.
type relay struct {
	here, there *stranger
	to          netip.AddrPort
	echo        atomic.Bool // answers the proof of a setup code with itself, in place of asking

	mu    sync.Mutex
	lines map[*tls.Conn]*line // to the other device, by the connection that it answers on; guarded by mu
	heard []string            // what was asked; guarded by mu
}

func newRelay(t *testing.T, here, there *stranger, to netip.AddrPort) *relay {
	m := &relay{here: here, there: there, to: to, lines: map[*tls.Conn]*line{}}
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, l := range m.lines {
			l.close()
		}
	})
	return m
}

// asked takes what was asked so far.
func (m *relay) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.heard
	m.heard = nil
	return all
}

// up is the connection to the other device that belongs to the one of a request: what one pairing says stays on one.
func (m *relay) up(r *http.Request) (*line, error) {
	in := r.Context().Value(servedKey{}).(served).Conn
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = append(m.heard, path.Base(r.URL.Path))
	if l := m.lines[in]; l != nil {
		return l, nil
	}
	l, err := m.there.dial(r.Context(), netip.Addr{}, m.to)
	if err == nil {
		m.lines[in] = l
	}
	return l, err
}

func (m *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	up, err := m.up(r)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if m.echo.Load() && path.Base(r.URL.Path) == "code" {
		var said struct {
			Proof string `json:"proof"`
		}
		_ = json.Unmarshal(body, &said) // nonsense is echoed as well
		say(w, http.StatusOK, map[string]any{"name": "bob", "proof": said.Proof})
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://nigh"+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return
	}
	resp, err := up.client.Do(req)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(bytes.ReplaceAll(answer, []byte(up.peer.String()), []byte(m.here.id.String())))
}

// trustsNobody checks that an agent has nobody in its book as trusted.
func trustsNobody(t *testing.T, agents ...*node.Agent) {
	t.Helper()
	for _, a := range agents {
		var book []control.Trusted
		if err := a.JSON(t.Context(), &book, "trust", "list"); err != nil {
			t.Fatal(err)
		}
		for _, d := range book {
			if d.Trust == "trusted" {
				t.Errorf("%s trusts %s (%s)", a.Name, d.Name, d.Short)
			}
		}
	}
}

// TestManInTheMiddle puts mallory between two devices that have no other way to each other, and has her announce to each the
// other's name.
//
// First she plays the whole protocol with both, with keys of her own (two real agents, driven by her): the codes on the two
// screens differ, and the users, who compare, say no. Then she relays every message between them, which is found without
// anybody's comparing: the commitment is bound to the connection, and so is the proof of a setup code, even the right one.
// Nothing is trusted by anybody.
func TestManInTheMiddle(t *testing.T) {
	n := lab.NewNet(t)
	here, there := n.Bridge("here"), n.Bridge("there")
	// Mallory has a machine on each side: two agents on one would be on both, and ada would see both of hers.
	ha, hb, hereToo, thereToo := n.Host("ada"), n.Host("bob"), n.Host("mallory"), n.Host("malice")
	here.Join(ha, "eth0", "10.0.1.1/24")
	here.Join(hereToo, "eth0", "10.0.1.66/24")
	there.Join(thereToo, "eth0", "10.0.2.66/24")
	there.Join(hb, "eth0", "10.0.2.2/24")
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	short := func(a *node.Agent) string {
		t.Helper()
		status, err := a.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return status.Short
	}
	near := func(on *node.Agent, who, short string) {
		t.Helper()
		if err := on.Await(within(t, 30*time.Second), func(s control.State) bool {
			named := slices.DeleteFunc(slices.Clone(s.Peers), func(p control.Peer) bool { return p.Name != who })
			return len(named) == 1 && named[0].State == "visible" && named[0].Short == short
		}); err != nil {
			t.Fatal(err)
		}
	}

	asBob, asAda := start(t, hereToo, "bob"), start(t, thereToo, "ada")
	near(ada, "bob", short(asBob))
	near(bob, "ada", short(asAda))
	if err := asAda.Await(within(t, 30*time.Second), func(s control.State) bool {
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool { return p.Short == short(bob) && p.State == "visible" })
	}); err != nil {
		t.Fatal(err)
	}
	window := tui(t, ada, "ada's window")
	_, at := window.shows(0, `bob +new`, "")
	window.press("p")
	_, at = window.shows(at, `comparing a code on both`, "")
	window.press("\r")
	shown, at := window.shows(at, sixDigits, "")
	withAda := pairQuestion(t, asBob)
	second := began(t, asAda, "", "pair", short(bob))
	atBob, withBob := pairQuestion(t, bob), pairQuestion(t, asAda)
	shown = strings.ReplaceAll(shown, " ", "")
	if withAda.Code != shown || withBob.Code != atBob.Code || atBob.PeerName != "ada" {
		t.Fatalf("mallory is not in the middle: ada sees %s and she %s; bob sees %s from %s and she %s", shown, withAda.Code, atBob.Code, atBob.PeerName, withBob.Code)
	}
	if shown == atBob.Code { // once in a million
		t.Fatalf("both screens show %s", shown)
	}
	for _, yes := range []struct {
		on *node.Agent
		id string
	}{{asBob, withAda.ID}, {asAda, withBob.ID}} {
		if err := yes.on.Client().Accept(t.Context(), yes.id, control.AcceptRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	window.press("n")
	window.shows(at, `nothing is trusted`, "")
	if d := ask(t, bob, "", "refuse", atBob.ID); d.code != 0 {
		t.Errorf("refuse: %+v", d)
	}
	if d := <-second; d.code != 3 {
		t.Errorf("mallory's pairing with bob ends with %+v", d)
	}
	trustsNobody(t, ada, bob, asAda, asBob)
	for _, a := range []*node.Agent{asAda, asBob} {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	}

	port := func(a *node.Agent, addr string) netip.AddrPort {
		status, err := a.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(status.Agent.Port))
	}
	toAda, toBob := newStranger(t, hereToo), newStranger(t, thereToo)
	between := newRelay(t, toAda, toBob, port(bob, "10.0.2.2"))
	back := newRelay(t, toBob, toAda, port(ada, "10.0.1.1"))
	toAda.announce("bob", toAda.id.Short(), toAda.serve(netip.MustParseAddr("10.0.1.66"), between))
	toBob.announce("ada", toBob.id.Short(), toBob.serve(netip.MustParseAddr("10.0.2.66"), back))
	near(ada, "bob", toAda.id.Short())
	near(bob, "ada", toBob.id.Short())
	between.asked()

	code := strings.TrimSpace(ask(t, bob, "", "setup-code").out)
	for _, c := range []struct {
		what   string
		echo   bool
		stdin  string
		args   []string
		says   string
		passed string
	}{
		{"comparing codes", false, "", []string{"pair", "bob"}, "could not prove what it said", "reveal"},
		{"bob's setup code", false, code, []string{"pair", "bob", "--code", "-"}, "not the setup code", "code"},
		{"a proof sent back", true, code, []string{"pair", "bob", "--code", "-"}, "could not prove what it said", "code"},
	} {
		between.echo.Store(c.echo)
		d := ask(t, ada, c.stdin, c.args...)
		if d.code != 3 || !strings.Contains(d.errs, c.says) {
			t.Errorf("%s through the relay: %+v, want %q", c.what, d, c.says)
		}
		if asked := between.asked(); !slices.Contains(asked, c.passed) {
			t.Errorf("%s: the relay passed on %q, so this shows nothing", c.what, asked)
		}
		if err := bob.Await(within(t, 20*time.Second), func(s control.State) bool { return len(s.Inbox) == 0 }); err != nil {
			t.Error(err)
		}
	}
	trustsNobody(t, ada, bob)
	// The relay is one that works: bob counted the proof that came through it.
	var kept control.SetupCode
	if err := bob.JSON(t.Context(), &kept, "setup-code"); err != nil || kept.Wrong != 1 {
		t.Errorf("bob counted %d wrong codes, want 1 (%v)", kept.Wrong, err)
	}
}
