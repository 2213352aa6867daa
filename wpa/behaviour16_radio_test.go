//go:build radio

package wpa

import (
	"net"
	"slices"
	"testing"
	"time"

	"nigh/lab/radio"
)

// awaitChange returns the first GroupChanged since mark that match likes.
func (s *station) awaitChange(mark int, what string, match func(Group) bool) Group {
	s.t.Helper()
	e := s.await(mark, what, func(e Event) bool { c, ok := e.(GroupChanged); return ok && match(c.Group) })
	return e.(GroupChanged).Group
}

// never fails when an event that match likes comes after mark and within d.
func (s *station) never(mark int, d time.Duration, what string, match func(Event) bool) {
	s.t.Helper()
	end := time.After(d)
	for {
		s.mu.Lock()
		events, changed := s.events, s.changed
		s.mu.Unlock()
		if slices.ContainsFunc(events[mark:], match) {
			s.t.Fatalf("%s: %s; events since: %s", s.name, what, describe(events[mark:]))
		}
		select {
		case <-changed:
		case <-end:
			return
		}
	}
}

// slow is how much longer than on a machine something may take in the guest, which is emulated and shares its processors.
const slow = 4

// within says how long something took, and fails when that was too long for the guest. The bound is that of a machine.
func within(t *testing.T, what string, since time.Time, bound time.Duration) {
	t.Helper()
	took := time.Since(since)
	t.Logf("%s after %.2f s (bound on a machine: %v)", what, took.Seconds(), bound)
	if took > slow*bound {
		t.Errorf("%s after %.2f s, more than %d times %v", what, took.Seconds(), slow, bound)
	}
}

// TestBehaviour16LegacyClient: a client without P2P joins with the passphrase and is told by its interface address, and so is
// its end; a group with no other client lives as long as it is there.
func TestBehaviour16LegacyClient(t *testing.T) {
	nodes := radio.NodesOf(t, radio.Config{Nodes: 3, Plain: 1})
	a := newStation(t, nodes[0], Config{Pool: testPool, GroupIdle: 2 * time.Second})
	b := newStation(t, nodes[1], Config{})
	phone := nodes[2]
	phoneAddress, err := phone.HardwareAddr()
	if err != nil {
		t.Fatal(err)
	}
	isIn := func(g Group) bool {
		return slices.ContainsFunc(g.Stations, func(s net.HardwareAddr) bool { return slices.Equal(s, phoneAddress) })
	}
	join := func(g Group) {
		t.Helper()
		network := radio.Network{SSID: g.SSID, Passphrase: g.Passphrase, Frequency: g.Frequency}
		if err := phone.Join(t.Context(), network); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("autonomous group", func(t *testing.T) {
		g, err := a.StartGroup(t.Context(), GroupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mark, begin := a.mark(), time.Now()
		join(g)
		in := a.awaitChange(mark, "station", isIn)
		t.Logf("station told %.2f s after it began to join", time.Since(begin).Seconds())
		if len(in.Members) != 0 || len(in.Stations) != 1 {
			t.Errorf("members are %v, stations %v", in.Members, in.Stations)
		}
		mark, begin = a.mark(), time.Now()
		if err := phone.Part(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.awaitChange(mark, "end of the station", func(g Group) bool { return len(g.Stations) == 0 })
		within(t, "station gone", begin, 5*time.Second)
		if len(a.Status().Groups) != 1 { // started by hand, it waits for the next one
			t.Error("the group is gone")
		}
		leaveAll(a)
	})

	t.Run("group formed with a peer", func(t *testing.T) {
		mark := a.mark()
		ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
		join(ga)
		both := a.awaitChange(mark, "station", isIn)
		if len(both.Members) != 1 || len(both.Stations) != 2 {
			t.Errorf("members are %v, stations %v", both.Members, both.Stations)
		}
		mark = a.mark()
		if err := b.Leave(t.Context(), gb.ID); err != nil {
			t.Fatal(err)
		}
		a.awaitChange(mark, "end of the peer", func(g Group) bool { return len(g.Members) == 0 && len(g.Stations) == 1 })
		// The idle timer is 2 s, and must not run.
		a.never(mark, 4*time.Second, "end of a group with a client in it", func(e Event) bool { _, ok := e.(GroupGone); return ok })
		if err := phone.Part(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g := a.awaitGone(mark); g.Reason != ReasonIdle {
			t.Errorf("group is gone for %q", g.Reason)
		}
	})
}

// TestBehaviour17Losses: how a group ends tells who ended it, and a group owner that is only away for a moment ends nothing.
func TestBehaviour17Losses(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{})
	hide := func(on bool) {
		t.Helper()
		if err := nodes[0].SetAudible(!on); err != nil {
			t.Fatal(err)
		}
	}
	degraded := func(g Group) bool { return g.Degraded }
	owned := func() (ga, gb Group) {
		t.Helper()
		return form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
	}

	t.Run("owner comes back and then quits", func(t *testing.T) {
		ga, gb := owned()
		mark, begin := b.mark(), time.Now()
		hide(true)
		lost := b.awaitChange(mark, "degraded", degraded)
		within(t, "degraded", begin, 3*time.Second)
		if len(b.Status().Groups) != 1 || !b.Status().Groups[0].Degraded || lost.ID != gb.ID {
			t.Errorf("status has %+v", b.Status().Groups)
		}
		mark, begin = b.mark(), time.Now()
		hide(false)
		back := b.awaitChange(mark, "populated again", func(g Group) bool { return !g.Degraded })
		within(t, "populated again", begin, 10*time.Second)
		if back.ID != gb.ID || back.SSID != ga.SSID {
			t.Errorf("group is %s, was %s", back, gb)
		}
		// It is a whole group again: the owner's goodbye is told as one.
		mark, begin = b.mark(), time.Now()
		if err := a.Leave(t.Context(), ga.ID); err != nil {
			t.Fatal(err)
		}
		gone := b.awaitGone(mark)
		within(t, "gone after the owner quit", begin, 2*time.Second)
		if gone.Reason != ReasonPeerLeft {
			t.Errorf("group is gone for %q", gone.Reason)
		}
		b.checkNoLink(gb)
	})

	t.Run("owner vanishes", func(t *testing.T) {
		_, gb := owned()
		mark, begin := b.mark(), time.Now()
		hide(true)
		b.awaitChange(mark, "degraded", degraded)
		within(t, "degraded", begin, 3*time.Second)
		gone := b.awaitGone(mark)
		within(t, "gone", begin, 14*time.Second)
		if gone.Reason != ReasonPeerVanished {
			t.Errorf("group is gone for %q", gone.Reason)
		}
		if n := b.count(mark, func(e Event) bool { _, ok := e.(GroupGone); return ok }); n != 1 {
			t.Errorf("the group was gone %d times", n)
		}
		b.checkNoLink(gb)
		hide(false)
		leaveAll(a)
	})
}
