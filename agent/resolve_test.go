package agent

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/store"
	"nigh/agent/trust"
)

// newBookAgent is an agent with nothing but a peer table and a trust book.
func newBookAgent(t *testing.T) *Agent {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	book, err := trust.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{log: slog.New(slog.DiscardHandler), store: s, trust: book}
	a.table = newTable(a.record)
	return a
}

func (a *Agent) befriend(t *testing.T, id identity.DeviceID, name string) {
	t.Helper()
	if err := a.trust.Add(id, name); err != nil {
		t.Fatal(err)
	}
	a.table.know(id)
}

func (a *Agent) stranger(id identity.DeviceID, name string) {
	a.table.attach(id, name, on(id.String(), kindLAN, "eth0", "10.0.0.66:7421"))
}

func TestStrangerCannotTakeAWord(t *testing.T) {
	friend, evil := someID(1<<24), someID(2<<24)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		what, friend, evil, word string
		code                     string // of the error; "" = the friend is found
	}{
		{what: "the whole name", friend: "bob", evil: "bob", word: "Bob"},
		{what: "the name as a prefix", friend: "bob-laptop", evil: "bob", word: "bob", code: control.CodeAmbiguous},
		{what: "a longer name", friend: "bob-laptop", evil: "bob-lap", word: "bob-lap", code: control.CodeAmbiguous},
		{what: "the short ID", friend: "bob", evil: friend.Short(), word: friend.Short()},
		{what: "the short ID of a device that is not here", friend: "bob", evil: someID(3 << 24).Short(), word: someID(3 << 24).Short(), code: control.CodeNotFound},
		{what: "a short ID with more", friend: "bob", evil: someID(3<<24).Short() + "X", word: someID(3 << 24).Short(), code: control.CodeNotFound},
		{what: "the address of a radio", friend: "bob", evil: mac.String(), word: mac.String(), code: control.CodeNotFound},
		{what: "nothing", friend: "bob-laptop", evil: "eve", word: "bob"},
	} {
		t.Run(c.what, func(t *testing.T) {
			a := newBookAgent(t)
			a.befriend(t, friend, c.friend)
			a.stranger(evil, c.evil)
			got, err := a.resolve(c.word)
			if c.code != "" {
				if !errors.Is(err, &control.Error{Code: c.code}) {
					t.Errorf("%q became %q, %v; want the error %s", c.word, got.name, err, c.code)
				}
			} else if err != nil || got.id != friend {
				t.Errorf("%q became %q, %v; want the friend", c.word, got.name, err)
			}
		})
	}
}

func TestStrangersAreStillFoundByName(t *testing.T) {
	a := newBookAgent(t)
	a.befriend(t, someID(1<<24), "bob")
	a.stranger(someID(2<<24), "kiosk")
	for _, word := range []string{"kiosk", "KIO", someID(2 << 24).Short(), someID(2 << 24).String()} {
		if got, err := a.resolve(word); err != nil || got.id != someID(2<<24) {
			t.Errorf("%q: %+v, %v", word, got, err)
		}
	}
}

// A trusted device without a name of its own in the book keeps the one that it
// was known by: nobody takes it over while it is away.
func TestNameOfATrustedDeviceIsKept(t *testing.T) {
	a := newBookAgent(t)
	friend, evil := someID(1<<24), someID(2<<24)
	a.befriend(t, friend, "")
	a.table.attach(friend, "bob", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	a.keepName(friend)
	a.table = newTable(a.record) // it was started again
	a.table.know(friend)
	a.stranger(evil, "bob")
	if got, err := a.resolve("bob"); err != nil || got.id != friend {
		t.Errorf("bob became %v, %v", got.id, err)
	}
	a.keepName(evil)
	if r := a.record(evil); r.Name != "" {
		t.Errorf("a stranger is in the book: %+v", r)
	}
}

func TestRadioDeviceIsMetByItsShortID(t *testing.T) {
	b := newBench()
	want, other := someID(1<<24), someID(2<<24)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b.heard(radioSighting{mac: mac, name: "kiosk", short: want.Short()})
	b.attach(other, "kiosk", sighting{key: "r", kind: kindDirect, ifname: "p2p0", addrs: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%p2p0]:7421")}})
	if id, ok := b.onInterface("p2p0", b.shortOnAir(mac)); ok {
		t.Errorf("%s is taken for %s", id.Short(), want.Short())
	}
	if id, ok := b.onInterface("p2p0", ""); !ok || id != other {
		t.Error("a device that says no short ID is not met")
	}
}

// Whoever blocks a name that a stranger took means the stranger as well.
func TestBlockingASharedNameIsAmbiguous(t *testing.T) {
	a := newBookAgent(t)
	a.id = &identity.Identity{ID: someID(5)}
	friend, evil := someID(1<<24), someID(2<<24)
	a.befriend(t, friend, "bob")
	a.stranger(evil, "bob")
	b := backend{a}
	if _, err := b.ChangeTrust(t.Context(), control.TrustRequest{Action: "block", Device: "bob"}); !errors.Is(err, &control.Error{Code: control.CodeAmbiguous}) {
		t.Errorf("block: %v", err)
	}
	if s := a.trust.Standing(friend); s != trust.Trusted {
		t.Errorf("the friend is %v", s)
	}
	if _, err := b.ChangeTrust(t.Context(), control.TrustRequest{Action: "block", Device: evil.Short()}); err != nil || a.trust.Standing(evil) != trust.Blocked {
		t.Errorf("block by short ID: %v, now %v", err, a.trust.Standing(evil))
	}
}
