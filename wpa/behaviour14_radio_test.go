//go:build radio

package wpa

import (
	"net"
	"slices"
	"testing"
	"time"

	"nigh/lab/radio"
)

func (s *station) awaitSaved(mark int) Persistent {
	s.t.Helper()
	return s.await(mark, "saved profile", func(e Event) bool { _, ok := e.(PersistentSaved); return ok }).(PersistentSaved).Persistent
}

// requests counts the questions since mark.
func (s *station) requests(mark int) int {
	return s.count(mark, func(e Event) bool { _, ok := e.(RequestReceived); return ok })
}

// leaveBoth ends the group that two stations share.
func leaveBoth(a, b *station) {
	a.t.Helper()
	ma, mb := a.mark(), b.mark()
	for _, s := range []*station{a, b} {
		for _, g := range s.Status().Groups {
			if g.Role == Owner {
				if err := s.Leave(s.t.Context(), g.ID); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
	a.awaitGone(ma)
	b.awaitGone(mb)
}

// reinvoke has a connect to b, which must not be asked, and returns the time it took on both sides.
func reinvoke(t *testing.T, a, b *station) {
	t.Helper()
	peer := meet(a, b)
	mark := b.mark()
	r := a.wait(later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1}) }))
	if r.err != nil {
		t.Fatal(r.err)
	}
	g := b.awaitUp(mark)
	within(t, "group again, "+r.group.Role.String()+" at the inviting side,", time.Now().Add(-r.took), 3*time.Second)
	if g.SSID != r.group.SSID || !slices.Equal(g.Peer, a.address(b)) {
		t.Errorf("groups are %s and %s, peer %s", r.group, g, g.Peer)
	}
	if n := b.requests(mark); n != 0 {
		t.Errorf("the invited side was asked %d times", n)
	}
}

// address is s's device address as other sees it.
func (s *station) address(other *station) []byte {
	for _, p := range other.Peers() {
		if p.Name == s.name {
			return p.Address
		}
	}
	return nil
}

// TestBehaviour14PersistentGroup: a persistent group is told to be saved, and starts again on either side's invitation without anybody
// being asked, whatever was restarted in between.
func TestBehaviour14PersistentGroup(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{Pool: testPool})
	o := ConnectOptions{Intent: 15, Persistent: true}
	ga, _ := form(a, b, PBC(), PBC(), o, ConnectOptions{Intent: 0, Persistent: true})
	if !ga.Persistent {
		t.Error("group is not persistent")
	}
	pa, pb := a.awaitSaved(0), b.awaitSaved(0)
	if !pa.Owner || pb.Owner || pa.SSID != pb.SSID || !slices.Equal(pa.Peer, b.address(a)) || !slices.Equal(pb.Peer, a.address(b)) || len(pb.PSK) < 8 {
		t.Errorf("profiles are %s for %s and %s for %s", pa, pa.Peer, pb, pb.Peer)
	}
	leaveBoth(a, b)

	again := func(what string, from, to *station) {
		t.Run(what, func(t *testing.T) { reinvoke(t, from, to); leaveBoth(a, b) })
	}
	again("owner invites", a, b)
	again("client invites", b, a)
	t.Run("both at once", func(t *testing.T) {
		toB, toA := meet(a, b), meet(b, a)
		ca := later(func() (Group, error) { return a.Connect(t.Context(), toB, PBC(), ConnectOptions{Intent: -1}) })
		cb := later(func() (Group, error) { return b.Connect(t.Context(), toA, PBC(), ConnectOptions{Intent: -1}) })
		ra, rb := a.wait(ca), b.wait(cb)
		if ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
		}
		t.Logf("after %.2f s and %.2f s", ra.took.Seconds(), rb.took.Seconds())
		leaveBoth(a, b)
	})
	restart(b)
	again("after a restart of the client's supplicant", a, b)
	restart(a)
	again("after a restart of the owner's supplicant", b, a)
	a.end()
	b.end()
	a = newStation(t, nodes[0], Config{Groups: []Persistent{pa}})
	b = newStation(t, nodes[1], Config{Groups: []Persistent{pb}})
	again("after a restart of both programs", a, b)

	// Radios that make up a new address at every start; whose it is, the caller knows.
	swap(b)
	pa.Peer = moved(a, b, pa.Peer)
	set(a, pa)
	again("with another address of the client", a, b)
	swap(a)
	pb.Peer = moved(b, a, pb.Peer)
	pa.BSSID, pb.BSSID = pb.Peer, pb.Peer
	set(a, pa)
	set(b, pb)
	again("with another address of the owner", b, a)
	again("with another address of both", a, b)

	t.Run("forgotten by both", func(t *testing.T) {
		set(a)
		set(b)
		peer := meet(a, b)
		mark := b.mark()
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), o) })
		accepted := b.answer(mark, PBC(), ConnectOptions{Intent: 0})
		if ra, rb := a.wait(asked), b.wait(accepted); ra.err != nil || rb.err != nil || ra.group.SSID == pa.SSID {
			t.Errorf("formation gave %v, %v and %v, %v", ra.group, ra.err, rb.group, rb.err)
		}
	})
}

// restart kills a station's supplicant and starts it again.
func restart(s *station) {
	s.t.Helper()
	kill(s)
	revive(s)
}

func kill(s *station) {
	s.t.Helper()
	mark := s.mark()
	if err := s.node.KillSupplicant(); err != nil {
		s.t.Fatal(err)
	}
	s.await(mark, "loss of the supplicant", func(e Event) bool { c, ok := e.(StateChanged); return ok && c.Status.State == Absent })
}

func revive(s *station) {
	s.t.Helper()
	if err := s.node.StartSupplicant(); err != nil {
		s.t.Fatal(err)
	}
	s.awaitState(Ready)
}

// swap restarts a station's supplicant with another P2P device address.
func swap(s *station) {
	s.t.Helper()
	kill(s)
	if err := s.node.SwapAddress(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	revive(s)
}

// moved waits until seeker finds other with another address than old, and returns it.
func moved(seeker, other *station, old net.HardwareAddr) net.HardwareAddr {
	t := seeker.t
	t.Helper()
	if err := other.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := seeker.Find(t.Context(), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	var found net.HardwareAddr
	seeker.await(0, "new address of "+other.name, func(Event) bool {
		for _, p := range seeker.Peers() {
			if p.Name == other.name && !slices.Equal(p.Address, old) {
				found = p.Address
			}
		}
		return found != nil
	})
	return found
}

func set(s *station, groups ...Persistent) {
	s.t.Helper()
	if err := s.SetPersistent(s.t.Context(), groups); err != nil {
		s.t.Fatal(err)
	}
}

// TestBehaviour15ForgottenGroup: a peer that forgot the group makes the profile go, once, and a new group is formed in its place.
func TestBehaviour15ForgottenGroup(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	owner, client := ConnectOptions{Intent: 15, Persistent: true}, ConnectOptions{Intent: 0, Persistent: true}
	form(a, b, PBC(), PBC(), owner, client)
	old := a.awaitSaved(0)
	b.awaitSaved(0)
	leaveBoth(a, b)

	forgotten := func(from, to *station, o, other ConnectOptions) {
		t.Helper()
		set(to)
		peer := meet(from, to)
		mf, mt := from.mark(), to.mark()
		asked := later(func() (Group, error) { return from.Connect(t.Context(), peer, PBC(), o) })
		accepted := to.answer(mt, PBC(), other)
		rf, rt := from.wait(asked), to.wait(accepted)
		if rf.err != nil || rt.err != nil {
			t.Fatalf("formation failed: %v, %v", rf.err, rt.err)
		}
		t.Logf("after %.2f s", rf.took.Seconds())
		removed := func(e Event) bool { _, ok := e.(PersistentRemoved); return ok }
		if r := from.await(mf, "removal of the profile", removed).(PersistentRemoved); r.Persistent.SSID != old.SSID {
			t.Errorf("%s was removed, not %s", r.Persistent, old)
		}
		saved := from.awaitSaved(mf)
		if saved.SSID == old.SSID {
			t.Error("the same profile was saved again")
		}
		to.awaitSaved(mt)
		if n := from.count(mf, removed); n != 1 {
			t.Errorf("%d profiles were removed", n)
		}
		if n := to.requests(mt); n != 1 {
			t.Errorf("the other side was asked %d times", n)
		}
		old = saved
		leaveBoth(a, b)
	}
	t.Run("by the client", func(t *testing.T) { forgotten(a, b, owner, client) })
	t.Run("by the owner", func(t *testing.T) { forgotten(b, a, client, owner) })
	t.Run("healed", func(t *testing.T) { reinvoke(t, a, b); leaveBoth(a, b) })
}

func leaveAll(s *station) {
	s.t.Helper()
	for _, g := range s.Status().Groups {
		if err := s.Leave(s.t.Context(), g.ID); err != nil {
			s.t.Fatal(err)
		}
	}
}
