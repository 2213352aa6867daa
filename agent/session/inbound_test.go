package session

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

func TestGreetingTellsNameAndPort(t *testing.T) {
	type greeted struct {
		Peer
		Greeting
	}
	heard := make(chan greeted, 8)
	a := newDevice(t, "127.0.0.1:0", func(c *Config) { c.Greeted = func(p Peer, g Greeting) { heard <- greeted{p, g} } })
	name := "Größe & [写真]"
	hidden := false
	b := newDevice(t, "127.0.0.1:0", func(c *Config) {
		c.Name = func(Peer) string { return name }
		c.Hidden = func(Peer) bool { return hidden }
	})
	if _, _, err := b.Greet(t.Context(), a.addr()); err != nil {
		t.Fatal(err)
	}
	if g := <-heard; g.ID != b.id || g.Greeting != (Greeting{Name: name, Port: b.Port()}) {
		t.Errorf("heard %+v", g)
	}
	name = ""
	if _, _, err := b.Greet(t.Context(), a.addr()); err != nil {
		t.Fatal(err)
	}
	if g := <-heard; g.Name != "" || g.Port != b.Port() {
		t.Errorf("without a name: %+v", g)
	}
	hidden = true
	if _, _, err := b.Greet(t.Context(), a.addr()); err != nil {
		t.Fatal(err)
	}
	if g := <-heard; g.ID != b.id || g.Greeting != (Greeting{}) {
		t.Errorf("hidden: %+v", g)
	}
}

func TestGreetingsAreHostile(t *testing.T) {
	for text, want := range map[string]Greeting{
		"":                            {},
		"name=%1b%5b2J%00x&port=7421": {Name: "\\x1b[2J\\x00x", Port: 7421},
		"port=70000":                  {},
		"port=-1&name=a":              {Name: "a"},
		"%zz":                         {},
		"name=" + strings.Repeat("x", maxGreeting): {},
	} {
		got := readGreeting(text)
		if strings.ContainsRune(got.Name, 0x1b) || strings.ContainsRune(got.Name, 0) {
			t.Errorf("%q is read as %q", text, got.Name)
		}
		if want.Name == "" || want.Name == "a" {
			if got != want {
				t.Errorf("%q is read as %+v", text, got)
			}
		} else if got.Port != want.Port {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add("name=a&port=1")
	f.Add("%zz;&=%00")
	f.Fuzz(func(t *testing.T, text string) {
		g := readGreeting(text)
		if len(g.Name) > 4*maxHelloName*4 {
			t.Errorf("a name of %d bytes", len(g.Name))
		}
	})
}

// TestInboundChecksAreBounded is what keeps a device from having others dial for it.
func TestInboundChecksAreBounded(t *testing.T) {
	a, b := friends(t)
	ask := func(from *device, to identity.DeviceID, body string) (int, error) {
		answer, err := post(t.Context(), from.Control(to), "/v1/inbound", []byte(body))
		if err != nil {
			return 0, err
		}
		_ = answer.Body.Close()
		return answer.StatusCode, nil
	}
	for _, bad := range []string{"", "{", `{"port":22}`, `{"port":0}`, `{"port":70000}`, strings.Repeat("x", 2*maxInbound)} {
		if status, err := ask(a, b.id, bad); err != nil || status != http.StatusBadRequest {
			t.Errorf("%.20q: status %d, %v", bad, status, err)
		}
	}
	if outcome, ifname, err := a.CheckInbound(t.Context(), b.id, netip.AddrPort{}); err != nil || outcome != InboundOpen || ifname != "lo" {
		t.Errorf("%q on %q, %v", outcome, ifname, err)
	}
	// What listens at the port is not the device that asks.
	other := newDevice(t, "127.0.0.1:0")
	c, err := b.dialOnce(t.Context(), Candidate{Addr: other.addr()}, purpose{want: a.id})
	if err == nil {
		_ = c.Close()
	}
	if outcome := inboundOutcome(err); outcome != InboundRefused {
		t.Errorf("another device at the port: %q", outcome)
	}
	var last error
	for range 2 * inboundBurst {
		if _, _, err := a.CheckInbound(t.Context(), b.id, netip.AddrPort{}); err != nil {
			last = err
		}
	}
	if !errors.Is(last, ErrNotChecked) {
		t.Errorf("asked without end: %v", last)
	}
	// A stranger is served, too, on a connection of its own.
	stranger := newDevice(t, "127.0.0.1:0")
	if outcome, _, err := stranger.CheckInbound(t.Context(), b.id, b.addr()); err != nil || outcome != InboundOpen {
		t.Errorf("a stranger: %q, %v", outcome, err)
	}
}

func TestGrantedRequestsAreNotCounted(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0", func(c *Config) {
		c.Granted = func(p Peer, r *http.Request) bool {
			return p.Standing == trust.New && strings.HasPrefix(r.URL.Path, "/v1/x/")
		}
	})
	stranger := newDevice(t, "127.0.0.1:0")
	stranger.at(d.id, d.lan())
	for range 3 * strangerBurst {
		mustGet(t, stranger.Control(d.id), "/v1/x/1/file/0")
	}
	refused := false
	for range 3 * strangerBurst {
		status, _, err := get(t, stranger.Control(d.id), "/v1/any")
		if err != nil {
			t.Fatal(err)
		}
		refused = refused || status == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("what was not granted was not counted")
	}
}

func TestManyTrustedDevicesStayConnected(t *testing.T) {
	hub := newDevice(t, "127.0.0.1:0", quiet)
	const devices = 100
	for range devices {
		d := newDevice(t, "127.0.0.1:0", quiet)
		hub.set(d.id, trust.Trusted)
		d.at(hub.id, hub.lan())
		d.Hold(hub.id)
		d.until(t, "connected", connected)
	}
	hub.Sessions.mu.Lock()
	defer hub.Sessions.mu.Unlock()
	seen := map[identity.DeviceID]bool{}
	for c := range hub.active {
		seen[c.id] = true
	}
	if len(seen) != devices {
		t.Errorf("%d of %d trusted devices are connected", len(seen), devices)
	}
}

func quiet(c *Config) { c.Logger = nil }
