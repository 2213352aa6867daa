package agent

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/trust"
	"nigh/link"
)

func someID(n uint32) identity.DeviceID {
	var id identity.DeviceID
	binary.BigEndian.PutUint32(id[:], n)
	return id
}

// bench is a table with a settable book and clock.
type bench struct {
	*table
	book  map[identity.DeviceID]trust.Record
	clock time.Time
}

func newBench() *bench {
	b := &bench{book: map[identity.DeviceID]trust.Record{}, clock: time.Unix(1000, 0)}
	b.table = newTable(func(id identity.DeviceID) trust.Record { return b.book[id] })
	b.now = func() time.Time { return b.clock }
	return b
}

func (b *bench) trust(id identity.DeviceID, name string) {
	b.book[id] = trust.Record{ID: id, Name: name, Standing: trust.Trusted}
	b.know(id)
}

func on(key, kind, ifname string, addrs ...string) sighting {
	s := sighting{key: key, kind: kind, ifname: ifname}
	for _, a := range addrs {
		s.addrs = append(s.addrs, netip.MustParseAddrPort(a))
	}
	return s
}

func TestCandidatesBestFirst(t *testing.T) {
	b := newBench()
	id := someID(1)
	b.attach(id, "x", on("m", kindManual, "", "10.9.9.9:7421"))
	b.attach(id, "x", on("l", kindLAN, "eth0", "[fe80::2%eth0]:7421", "[fd00::2]:7421", "10.0.0.2:7421"))
	b.attach(id, "x", on("d", kindDirect, "p2p0", "192.168.49.2:7421", "[fe80::1%p2p0]:7421"))
	var got []string
	for _, c := range b.candidates(id) {
		got = append(got, c.Addr.String())
	}
	want := "[fe80::1%p2p0]:7421 192.168.49.2:7421 10.0.0.2:7421 [fd00::2]:7421 [fe80::2%eth0]:7421 10.9.9.9:7421"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestWireBeforeWiFi(t *testing.T) {
	b := newBench()
	id := someID(1)
	b.onLinks([]link.Link{{Name: "wlan0", Kind: link.WiFi}, {Name: "eth0", Kind: link.Ethernet}, {Name: "br0", Kind: link.Bridge}})
	b.attach(id, "x", on("w", kindLAN, "wlan0", "10.0.0.2:7421"))
	b.attach(id, "x", on("e", kindLAN, "eth0", "10.0.1.2:7421", "[fe80::2%eth0]:7421"))
	b.attach(id, "x", on("b", kindLAN, "br0", "10.0.2.2:7421"))
	var got []string
	cost := map[string]int{}
	for _, c := range b.candidates(id) {
		got = append(got, c.Addr.String())
		cost[c.Ifname] = c.Cost
	}
	if s := strings.Join(got, " "); s != "10.0.1.2:7421 10.0.2.2:7421 [fe80::2%eth0]:7421 10.0.0.2:7421" {
		t.Errorf("got %s", s)
	}
	if cost["eth0"] != cost["br0"] || cost["eth0"] >= cost["wlan0"] {
		t.Errorf("costs: %v; two wires are as good as each other", cost)
	}
}

func TestPathThatWasLeftIsProvedAgain(t *testing.T) {
	b := newBench()
	id := someID(1)
	b.trust(id, "bob")
	b.onLinks([]link.Link{{Name: "wlan0", Kind: link.WiFi}, {Name: "eth0", Kind: link.Ethernet}})
	b.attach(id, "bob", on(announcedKey+"e", kindLAN, "eth0", "10.0.1.2:7421"))
	b.attach(id, "bob", on(announcedKey+"w", kindLAN, "wlan0", "10.0.0.2:7421"))
	at := func(ifname string) session.PeerState {
		return session.PeerState{ID: id, Connected: true, Path: session.Candidate{Kind: kindLAN, Ifname: ifname}}
	}
	if _, left := b.session(at("wlan0")); left.Ifname != "" {
		t.Errorf("left %+v at first", left)
	}
	if _, left := b.session(at("eth0")); left.Ifname != "" {
		t.Errorf("left %+v for a better one", left)
	}
	b.session(session.PeerState{ID: id, Err: session.ErrLost})
	_, left := b.session(at("wlan0"))
	if left.Ifname != "eth0" {
		t.Errorf("left %+v, want the better eth0", left)
	}
	if all := b.unproved(id, left.Ifname); len(all) != 1 || all[0].key != announcedKey+"e" {
		t.Errorf("to be proved again: %+v", all)
	}
	if c := b.candidates(id); len(c) != 1 || c[0].Ifname != "wlan0" {
		t.Errorf("candidates meanwhile: %+v", c)
	}
}

func TestPeerStates(t *testing.T) {
	b := newBench()
	id := someID(1)
	state := func() string { v, _ := b.one(id); return v.State }
	b.trust(id, "bob")
	if v, ok := b.one(id); !ok || v.State != "away" || v.Age != -1 {
		t.Errorf("a trusted device that was never seen: %+v", v)
	}
	b.attach(id, "something else", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	if v, _ := b.one(id); v.State != "connecting" || v.Name != "bob" {
		t.Errorf("sighted: %+v; its own name must not replace the given one", v)
	}
	if up, _ := b.session(session.PeerState{ID: id, Connected: true, Path: session.Candidate{Kind: kindLAN, Ifname: "eth0"}}); !up || state() != "ready" {
		t.Errorf("connected: %s", state())
	}
	b.detach("l")
	if state() != "ready" {
		t.Errorf("a session outlives the announcement, but the state is %s", state())
	}
	b.session(session.PeerState{ID: id, Err: errors.New("gone")})
	if v, _ := b.one(id); v.State != "away" || len(v.Paths) != 0 {
		t.Errorf("disconnected: %+v", v)
	}
}

func TestStrangerIsShownOnlyWhileNear(t *testing.T) {
	b := newBench()
	id := someID(7)
	b.attach(id, "ev\x1b[2Jil", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	v, ok := b.one(id)
	if !ok || v.State != "visible" || v.Trust != "new" || strings.ContainsRune(v.Name, 0x1b) {
		t.Errorf("near: %+v, %t", v, ok)
	}
	b.detach("l")
	if _, ok := b.one(id); ok {
		t.Error("a stranger that left is still shown")
	}
}

func TestSightingMovesToTheDeviceThatProvedIt(t *testing.T) {
	b := newBench()
	b.attach(someID(1), "a", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	b.attach(someID(2), "b", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	if len(b.candidates(someID(1))) != 0 || len(b.candidates(someID(2))) != 1 {
		t.Error("one announcement is a path to two devices")
	}
}

func TestTableIsBoundedAndKeepsTheTrusted(t *testing.T) {
	b := newBench()
	b.trust(someID(0), "friend")
	for i := range uint32(2 * maxPeers) {
		s := on("x", kindLAN, "eth0", "10.0.0.2:7421")
		b.attach(someID(1000+i), "crowd", s)
		b.detach("x")
		b.clock = b.clock.Add(time.Second)
	}
	if len(b.peers) > maxPeers {
		t.Errorf("%d peers, at most %d", len(b.peers), maxPeers)
	}
	if _, ok := b.one(someID(0)); !ok {
		t.Error("the trusted device was pushed out by strangers")
	}
	// A crowd that stays near fills the table but never grows it.
	full := newBench()
	for i := range uint32(2 * maxPeers) {
		full.attach(someID(i), "crowd", on(someID(i).Short(), kindLAN, "eth0", "10.0.0.2:7421"))
	}
	if len(full.peers) != maxPeers {
		t.Errorf("%d peers, want %d", len(full.peers), maxPeers)
	}
}

func TestRadioSightingsMergeByMarker(t *testing.T) {
	b := newBench()
	id := someID(1)
	b.trust(id, "bob")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b.heard(radioSighting{mac: mac, name: "bob", short: id.Short(), signal: -48})
	b.heard(radioSighting{mac: net.HardwareAddr{2, 0, 0, 0, 0, 2}, name: "Pixel", signal: -70})
	views := b.views()
	if len(views) != 2 {
		t.Fatalf("%d peers listed: %+v", len(views), views)
	}
	v, _ := b.one(id)
	if v.State != "visible" || len(v.Paths) != 1 || v.Paths[0].Signal != -48 || v.Paths[0].Address != mac.String() {
		t.Errorf("bob: %+v", v)
	}
	if len(b.candidates(id)) != 0 {
		t.Error("a radio sighting must never be dialled")
	}
	stranger, _ := b.oneRadio(net.HardwareAddr{2, 0, 0, 0, 0, 2})
	if stranger.ID != "" || stranger.Trust != "new" || stranger.Key() != "direct:02:00:00:00:00:02" {
		t.Errorf("stranger: %+v", stranger)
	}
	if _, ok := b.lost(mac); !ok {
		t.Error("lost does not know bob's radio")
	}
	if v, _ := b.one(id); v.State != "away" {
		t.Errorf("bob after he was lost: %+v", v)
	}
	for i := range 2 * maxRadio {
		b.heard(radioSighting{mac: net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}})
	}
	if len(b.radio) > maxRadio {
		t.Errorf("%d radio devices, at most %d", len(b.radio), maxRadio)
	}
}

func TestRadioNames(t *testing.T) {
	id := someID(1)
	for _, c := range []struct{ name, back string }{
		{"ada", "ada"},
		{strings.Repeat("x", 40), strings.Repeat("x", 20)},
		{"写真写真写真写真", "写真写真写真"},
		{"", ""},
	} {
		full := radioName(c.name, id)
		name, short := splitRadioName(full)
		if len(full) > 32 || name != c.back || short != id.Short() {
			t.Errorf("%q became %q (%d bytes), read as %q and %q", c.name, full, len(full), name, short)
		}
	}
	for _, s := range []string{"Pixel 8", "a [7Q4K]", "[7Q4K-M2XD", "x [\x1b]m-AAAA]", "]", ""} {
		if name, short := splitRadioName(s); short != "" || strings.ContainsRune(name, 0x1b) {
			t.Errorf("%q was read as %q and %q", s, name, short)
		}
	}
}

func TestTrustEndsWithTheSession(t *testing.T) {
	for _, standing := range []trust.Standing{trust.New, trust.Blocked} {
		b := newBench()
		id := someID(1)
		b.trust(id, "bob")
		up := session.PeerState{ID: id, Connected: true, Path: session.Candidate{Kind: kindLAN, Ifname: "eth0"}}
		b.session(up)
		b.book[id] = trust.Record{ID: id, Standing: standing}
		// The session layer says nothing more about a device that it released, and
		// what it was just saying may still come.
		b.release(id)
		if up, _ := b.session(up); up {
			t.Errorf("%v: a late word made it connected", standing)
		}
		if v, _ := b.one(id); v.State != "away" || len(v.Paths) != 0 {
			t.Errorf("%v: %+v", standing, v)
		}
		if forgot := b.forget(id); forgot != (standing == trust.New) {
			t.Errorf("%v: forgotten %t", standing, forgot)
		}
	}
}

func TestTrustedDeviceFindsRoomInAFullTable(t *testing.T) {
	b := newBench()
	for i := range uint32(maxPeers) {
		b.attach(someID(i), "crowd", on(someID(i).Short(), kindLAN, "eth0", "10.0.0.2:7421"))
	}
	id := someID(1 << 20)
	b.trust(id, "friend")
	if v, ok := b.one(id); !ok || v.Name != "friend" {
		t.Errorf("%+v, %t", v, ok)
	}
	if b.attach(someID(1<<21), "one more", on("x", kindLAN, "eth0", "10.0.0.2:7421")) {
		t.Error("a stranger of the crowd's host found room, too")
	}
}

func TestStateAfterAnAddressCame(t *testing.T) {
	b := newBench()
	id := someID(1)
	b.trust(id, "bob")
	b.session(session.PeerState{ID: id, Err: session.ErrNoAddress})
	b.attach(id, "bob", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	if v, _ := b.one(id); v.State != "connecting" || v.Error != "" {
		t.Errorf("%+v", v)
	}
	b.session(session.PeerState{ID: id, Err: session.ErrUnreachable})
	b.attach(id, "bob", on("l", kindLAN, "eth0", "10.0.0.2:7421"))
	if v, _ := b.one(id); v.State != "away" || v.Error == "" {
		t.Errorf("%+v", v)
	}
}
