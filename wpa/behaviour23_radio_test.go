//go:build radio

package wpa

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

// TestBehaviour23Addresses: a group owner with a pool gives each client an address of its own in the handshake; without one it
// gives none. This package sends no DHCP: that is the business of package link.
func TestBehaviour23Addresses(t *testing.T) {
	nodes := radio.Nodes(t, 3)
	pool := poolOf(testPool)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{})
	c := newStation(t, nodes[2], Config{})
	join := func(owner, client *station) Group {
		t.Helper()
		peer := client.findName(owner.name).Address
		mark := owner.mark()
		asked := later(func() (Group, error) { return client.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1}) })
		let := owner.answer(mark, PBC(), ConnectOptions{})
		ro, rc := owner.wait(let), client.wait(asked)
		if ro.err != nil || rc.err != nil {
			t.Fatalf("joining failed: %v, %v", ro.err, rc.err)
		}
		return rc.group
	}

	t.Run("pool", func(t *testing.T) {
		if _, err := a.StartGroup(t.Context(), GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		var seen []netip.Addr
		for _, client := range []*station{b, c} {
			g := join(a, client)
			if g.Local.Less(pool.start) || pool.end.Less(g.Local) || g.Owner4 != pool.owner || g.Mask4 != pool.mask {
				t.Errorf("%s got %s, mask %s, owner %s", client.name, g.Local, g.Mask4, g.Owner4)
			}
			if slices.Contains(seen, g.Local) {
				t.Errorf("%s was given twice", g.Local)
			}
			seen = append(seen, g.Local)
		}
		if g := a.Status().Groups[0]; len(g.Members) != 2 || len(g.Stations) != 2 {
			t.Errorf("members are %v, stations %v", g.Members, g.Stations)
		}
		mb, mc := b.mark(), c.mark()
		leaveAll(a)
		b.awaitGone(mb)
		c.awaitGone(mc)
	})
	t.Run("no pool", func(t *testing.T) {
		if _, err := b.StartGroup(t.Context(), GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		if g := join(b, c); g.Local.IsValid() || g.Owner4.IsValid() || g.Mask4.IsValid() {
			t.Errorf("client got %s, mask %s, owner %s", g.Local, g.Mask4, g.Owner4)
		}
	})
}

// TestBehaviour24Services: what is advertised before there is a group is found byte for byte, by asking one device or all; a query that
// was cancelled is silent, and what is malformed is dropped.
func TestBehaviour24Services(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	service := Service{Type: "_nigh._tcp", Instance: "Büro", TXT: []string{"id=abc", "v=1"}}
	other := Service{Type: "_test._udp", Instance: "x"}
	if err := b.SetServices(t.Context(), []Service{service, other}); err != nil {
		t.Fatal(err)
	}
	peer := meet(a, b)

	ask := func(q ServiceQuery) (QueryID, ServicesFound) {
		t.Helper()
		mark, begin := a.mark(), time.Now()
		id, err := a.DiscoverServices(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Find(t.Context(), 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		found := a.await(mark, "services", func(e Event) bool { s, ok := e.(ServicesFound); return ok && s.Query == id }).(ServicesFound)
		t.Logf("%+v after %.2f s", q, time.Since(begin).Seconds())
		if !slices.Equal(found.Peer, peer) {
			t.Errorf("services of %s, not %s", found.Peer, peer)
		}
		return id, found
	}
	one := func(found ServicesFound) ServiceRecord {
		t.Helper()
		if len(found.Records) != 1 {
			t.Fatalf("records are %+v", found.Records)
		}
		return found.Records[0]
	}
	t.Run("directed", func(t *testing.T) {
		_, found := ask(ServiceQuery{Peer: peer, Type: service.Type})
		r := one(found)
		if r.Name != service.Type || r.Type != PTR || r.Instance != service.Instance || hex.EncodeToString(r.Data) != "0542c3bc726fc027" {
			t.Errorf("record is %+v, %x", r, r.Data)
		}
		_, found = ask(ServiceQuery{Peer: peer, Type: service.Type, Instance: service.Instance})
		r = one(found)
		if r.Name != service.Instance+"."+service.Type || r.Type != TXT || !slices.Equal(r.TXT, service.TXT) || string(r.Data) != "\x06id=abc\x03v=1" {
			t.Errorf("record is %+v, %x", r, r.Data)
		}
	})
	t.Run("of what it has not", func(t *testing.T) {
		if _, found := ask(ServiceQuery{Peer: peer, Type: "_none._tcp"}); len(found.Records) != 0 {
			t.Errorf("records are %+v", found.Records)
		}
	})
	t.Run("everything, of all", func(t *testing.T) {
		id, found := ask(ServiceQuery{})
		if len(found.Records) != 4 {
			t.Errorf("records are %+v", found.Records)
		}
		// It goes on until it is cancelled; then it is silent.
		if err := a.CancelServices(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		mark := a.mark()
		if err := a.Find(t.Context(), 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		_, _ = ask(ServiceQuery{Peer: peer, Type: other.Type})
		if n := a.count(mark, func(e Event) bool { s, ok := e.(ServicesFound); return ok && s.Query == id }); n != 0 {
			t.Errorf("a cancelled query was answered %d times", n)
		}
	})
	t.Run("after a restart of both supplicants", func(t *testing.T) {
		id, _ := ask(ServiceQuery{Type: other.Type})
		if err := a.Find(t.Context(), 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		restart(b)
		mark := a.mark()
		restart(a)
		a.await(mark, "services again", func(e Event) bool { s, ok := e.(ServicesFound); return ok && s.Query == id && len(s.Records) == 1 })
	})
	t.Run("malformed", func(t *testing.T) {
		// Written into the supplicant past SetServices: a PTR record that ends in the middle.
		raw, err := dbusapi.Dial(t.Context(), nodes[1].Bus)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		path, err := raw.GetInterface(t.Context(), nodes[1].Ifname)
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.AddService(t.Context(), path, serviceKey("_bad._tcp", "", PTR), []byte{9, 'x'}); err != nil {
			t.Fatal(err)
		}
		mark := a.mark()
		id, err := a.DiscoverServices(t.Context(), ServiceQuery{Type: "_bad._tcp"})
		if err != nil {
			t.Fatal(err)
		}
		// What comes after it is heard.
		ask(ServiceQuery{Peer: freshly(a, b).Address, Type: service.Type})
		if n := a.count(mark, func(e Event) bool { s, ok := e.(ServicesFound); return ok && s.Query == id && len(s.Records) > 0 }); n != 0 {
			t.Error("a malformed record was told")
		}
	})
	if err := b.SetServices(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, found := ask(ServiceQuery{Peer: net.HardwareAddr(freshly(a, b).Address), Type: service.Type}); len(found.Records) != 0 {
		t.Errorf("withdrawn services are %+v", found.Records)
	}
}
