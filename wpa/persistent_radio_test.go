//go:build radio

package wpa

import (
	"slices"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
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
func reinvoke(a, b *station) {
	t := a.t
	t.Helper()
	peer := meet(a, b)
	mark := b.mark()
	r := a.wait(later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1}) }))
	if r.err != nil {
		t.Fatal(r.err)
	}
	g := b.awaitUp(mark)
	t.Logf("group again after %.2f s, %s at the inviting side", r.took.Seconds(), r.group.Role)
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

func TestPersistentOnRadio(t *testing.T) {
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

	t.Run("owner invites", func(t *testing.T) { reinvoke(a, b); leaveBoth(a, b) })
	t.Run("client invites", func(t *testing.T) { reinvoke(b, a); leaveBoth(a, b) })
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
	t.Run("after a restart of the supplicant", func(t *testing.T) {
		if err := nodes[1].KillSupplicant(); err != nil {
			t.Fatal(err)
		}
		b.await(0, "loss", func(Event) bool { return b.Status().State == Absent })
		if err := nodes[1].StartSupplicant(); err != nil {
			t.Fatal(err)
		}
		b.awaitState(Ready)
		reinvoke(a, b)
		leaveBoth(a, b)
	})
	whole := t // stations live longer than the subtest that starts them
	t.Run("after a restart of both programs", func(t *testing.T) {
		a.end()
		b.end()
		a = newStation(whole, nodes[0], Config{Groups: []Persistent{pa}})
		b = newStation(whole, nodes[1], Config{Groups: []Persistent{pb}})
		reinvoke(a, b)
		leaveBoth(a, b)
	})
	t.Run("one side forgot", func(t *testing.T) {
		b.end()
		b = newStation(whole, nodes[1], Config{})
		peer := meet(a, b)
		ma, mb := a.mark(), b.mark()
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), o) })
		accepted := b.answer(mb, PBC(), ConnectOptions{Intent: 0, Persistent: true})
		ra, rb := a.wait(asked), b.wait(accepted)
		if ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
		}
		t.Logf("after %.2f s", ra.took.Seconds())
		a.await(ma, "removal of the profile", func(e Event) bool { r, ok := e.(PersistentRemoved); return ok && r.Persistent.SSID == pa.SSID })
		if p := a.awaitSaved(ma); p.SSID == pa.SSID {
			t.Error("the same profile was saved again")
		}
	})
}

func TestSupplicantKilledOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{Pool: testPool})
	kill := func(s *station) {
		t.Helper()
		if err := s.node.KillSupplicant(); err != nil {
			t.Fatal(err)
		}
	}
	restart := func(s *station) {
		t.Helper()
		if err := s.node.StartSupplicant(); err != nil {
			t.Fatal(err)
		}
		s.awaitState(Ready)
	}

	// In a group, on the client.
	_, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
	mark := b.mark()
	kill(b)
	if gone := b.awaitGone(mark); gone.Reason != ReasonSupplicantGone {
		t.Errorf("client: %+v", gone)
	}
	b.awaitState(Absent)
	b.checkNoLink(gb)
	mustFail(t, "find without supplicant", b.Find(t.Context(), time.Second), ErrSupplicantGone)
	restart(b)
	if n := b.count(mark, func(e Event) bool { _, ok := e.(GroupGone); return ok }); n != 1 {
		t.Errorf("group was gone %d times", n)
	}

	// In a group, on the owner: the client sees the beacons end.
	leaveAll(a)
	ga, _ := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
	ma, mb := a.mark(), b.mark()
	kill(a)
	if gone := a.awaitGone(ma); gone.Reason != ReasonSupplicantGone {
		t.Errorf("owner: %+v", gone)
	}
	a.checkNoLink(ga)
	begin := time.Now()
	if gone := b.awaitGone(mb); gone.Reason != ReasonPeerVanished && gone.Reason != ReasonPeerLeft {
		t.Errorf("client: %+v", gone)
	} else {
		t.Logf("client noticed after %.1f s: %s", time.Since(begin).Seconds(), gone.Reason)
	}
	restart(a)

	// During a search and a formation: the formation fails, the search goes on, the name is set again.
	peer := meet(a, b)
	mb = b.mark()
	asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1}) })
	b.awaitRequest(mb)
	if err := a.Find(t.Context(), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	ma = a.mark()
	kill(a)
	mustFail(t, "formation", a.wait(asked).err, ErrSupplicantGone)
	restart(a)
	a.await(ma, "search again", func(Event) bool { return a.Status().Finding })
	a.await(ma, "peer again", func(e Event) bool { s, ok := e.(PeerSeen); return ok && s.Peer.Name == b.name })
	b.StopFind(t.Context())
	if p := b.findName(a.name); p.DeviceType != computer {
		t.Errorf("peer is %+v", p)
	}
}

func leaveAll(s *station) {
	s.t.Helper()
	for _, g := range s.Status().Groups {
		if err := s.Leave(s.t.Context(), g.ID); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestEndOnRadio checks that nothing is left when Run returns, in the middle of a group and of a search.
func TestEndOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	probe, err := dbusapi.Dial(t.Context(), nodes[0].Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	path, err := probe.GetInterface(t.Context(), nodes[0].Ifname)
	if err != nil {
		t.Fatal(err)
	}
	read := func() dbusapi.Config {
		t.Helper()
		c, err := probe.Config(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read()
	a := newStation(t, nodes[0], Config{Pool: testPool, Intent: 11, Vendor: [][]byte{{0, 1, 2, 3, 4}}})
	b := newStation(t, nodes[1], Config{})
	during := read()
	if during.DeviceName != a.name || during.GOIntent != 11 || during.Start != poolOf(testPool).start || len(during.VendorExtension) != 1 {
		t.Errorf("settings are %+v", during)
	}
	ga, _ := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15, Persistent: true}, ConnectOptions{Intent: 0, Persistent: true})
	ma, mb := a.mark(), b.mark()
	a.end()
	if gone := a.awaitGone(ma); gone.Reason != ReasonLeft {
		t.Errorf("group is gone for %q", gone.Reason)
	}
	a.checkNoLink(ga)
	b.awaitGone(mb)
	after := read()
	if after.DeviceName != before.DeviceName || after.GOIntent != before.GOIntent || after.Start != before.Start || after.Owner != before.Owner ||
		after.PersistentReconnect != before.PersistentReconnect || len(after.VendorExtension) != 0 || string(after.DeviceType) != string(before.DeviceType) {
		t.Errorf("settings were %+v and are %+v", before, after)
	}
	if left, err := probe.PersistentGroups(t.Context(), path); err != nil || len(left) != 0 {
		t.Errorf("profiles are left: %v, %v", left, err)
	}
}
