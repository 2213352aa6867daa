//go:build radio

package wpa

import (
	"net"
	"strings"
	"testing"
	"time"

	"nigh/lab/radio"
)

// awaitStage returns when the formation of a station is in a stage, or one of several.
func (s *station) awaitStage(want ...stage) {
	s.t.Helper()
	deadline := time.After(limit)
	for {
		at := make(chan bool, 1)
		s.in.command(func(m *machine) {
			is := false
			for _, w := range want {
				is = is || m.form != nil && m.form.stage == w
			}
			at <- is
		})
		if <-at {
			return
		}
		// The stage changes by what the supplicant says or calls return: a turn of the machine, soon.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("%s: formation is not %v", s.name, want)
		}
	}
}

// checkNoGroups checks that the kernel has no interface of a group on a node.
func (s *station) checkNoGroups() {
	s.t.Helper()
	err := s.node.Do(func() error {
		list, err := net.Interfaces()
		for _, i := range list {
			if strings.HasPrefix(i.Name, groupPrefix) {
				s.t.Errorf("%s: interface %s is left", s.name, i.Name)
			}
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

// lost is a StateChanged that tells of the loss of the supplicant.
func lost(e Event) bool {
	c, ok := e.(StateChanged)
	return ok && c.Status.State == Absent && c.Status.Err != nil
}

// TestBehaviour21SupplicantKilled kills wpa_supplicant at every step. Each time what was going on fails at once, nothing is left, and with
// the next supplicant everything that is wanted goes on.
func TestBehaviour21SupplicantKilled(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{Pool: testPool})
	usual := ConnectOptions{Intent: -1}
	// dead kills a's supplicant and checks what is told.
	dead := func(step string) {
		t.Helper()
		mark := a.mark()
		kill(a)
		s := a.await(mark, "loss", lost).(StateChanged).Status
		if s.Hint == "" || s.Finding || len(s.Groups) != 0 {
			t.Errorf("%s: status is %+v", step, s)
		}
		mustFail(t, step+": find without supplicant", a.Find(t.Context(), time.Second), ErrSupplicantGone)
		a.checkNoGroups()
		if n := a.count(mark, lost); n != 1 {
			t.Errorf("%s: the loss was told %d times", step, n)
		}
	}
	// alive starts it again and checks that the other side finds us by our name.
	alive := func() {
		t.Helper()
		revive(a)
		if p := freshly(b, a); p.DeviceType != computer {
			t.Errorf("peer is %+v", p)
		}
	}

	t.Run("finding", func(t *testing.T) {
		if err := b.Listen(t.Context(), 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		a.findName(b.name)
		dead("finding")
		mark := a.mark()
		revive(a)
		a.await(mark, "search again", func(Event) bool { return a.Status().Finding })
		a.await(mark, "peer again", func(e Event) bool { s, ok := e.(PeerSeen); return ok && s.Peer.Name == b.name })
		if err := a.StopFind(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("negotiating", func(t *testing.T) {
		peer := meet(a, b)
		mark := b.mark()
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), usual) })
		b.awaitRequest(mark)
		dead("negotiating")
		mustFail(t, "connect", a.wait(asked).err, ErrSupplicantGone)
		alive()
	})
	t.Run("joining", func(t *testing.T) {
		if _, err := b.StartGroup(t.Context(), GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		peer := a.findName(b.name).Address
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), usual) })
		a.awaitStage(stageJoining)
		dead("joining")
		mustFail(t, "connect", a.wait(asked).err, ErrSupplicantGone)
		leaveAll(b)
		alive()
	})
	t.Run("building", func(t *testing.T) {
		// The other side may be told of a request that it was told of before; it is the same for it.
		peer := meet(a, b)
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: 15}) })
		accepted := later(func() (Group, error) {
			return b.Connect(t.Context(), b.findName(a.name).Address, PBC(), ConnectOptions{Intent: 0})
		})
		a.awaitStage(stageNegotiated, stageBuilding)
		dead("building")
		mustFail(t, "connect", a.wait(asked).err, ErrSupplicantGone)
		// What the other side makes of it is its own: it asks again, and is answered.
		revive(a)
		mark := a.mark()
		answered := a.answer(mark, PBC(), ConnectOptions{Intent: 15})
		ra, rb := a.wait(answered), b.wait(accepted)
		if ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed after all: %v, %v", ra.err, rb.err)
		}
		t.Logf("the other side has a group %.1f s after it asked first", rb.took.Seconds())
	})
	t.Run("in a group as owner", func(t *testing.T) {
		ma, mb, begin := a.mark(), b.mark(), time.Now()
		dead("group")
		if gone := a.awaitGone(ma); gone.Reason != ReasonSupplicantGone {
			t.Errorf("owner: %+v", gone)
		}
		if gone := b.awaitGone(mb); gone.Reason != ReasonPeerVanished && gone.Reason != ReasonPeerLeft {
			t.Errorf("client: %+v", gone)
		} else {
			within(t, "client: "+string(gone.Reason), begin, 14*time.Second)
		}
		if n := a.count(ma, func(e Event) bool { _, ok := e.(GroupGone); return ok }); n != 1 {
			t.Errorf("group was gone %d times", n)
		}
		alive()
	})
	t.Run("in a group as client", func(t *testing.T) {
		form(a, b, PBC(), PBC(), ConnectOptions{Intent: 0, Persistent: true}, ConnectOptions{Intent: 15, Persistent: true})
		a.awaitSaved(0)
		mark := a.mark()
		dead("group")
		if gone := a.awaitGone(mark); gone.Reason != ReasonSupplicantGone {
			t.Errorf("client: %+v", gone)
		}
		leaveAll(b)
		alive()
	})
	t.Run("inviting", func(t *testing.T) {
		peer := freshly(a, b).Address
		if err := b.node.SetAudible(false); err != nil { // so that it takes time
			t.Fatal(err)
		}
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), usual) })
		a.awaitStage(stageInviting)
		dead("inviting")
		mustFail(t, "connect", a.wait(asked).err, ErrSupplicantGone)
		if err := b.node.SetAudible(true); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("at once after its start", func(t *testing.T) {
		for range 3 {
			mark := a.mark()
			if err := a.node.StartSupplicant(); err != nil {
				t.Fatal(err)
			}
			a.await(mark, "new supplicant", func(e Event) bool { c, ok := e.(StateChanged); return ok && c.Status.State != Absent })
			kill(a)
		}
		alive()
		reinvoke(t, a, b) // the profile was given to it again, too
	})
}

// freshly has seeker look for other until it is seen in this search, and returns it.
func freshly(seeker, other *station) Peer {
	t := seeker.t
	t.Helper()
	if err := other.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := seeker.Find(t.Context(), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	var found Peer
	deadline := time.After(limit)
	for {
		seeker.mu.Lock()
		changed := seeker.changed
		seeker.mu.Unlock()
		for _, p := range seeker.Peers() {
			if p.Name == other.name && p.Seen.After(begin) {
				found = p
			}
		}
		if found.Address != nil {
			break
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // to be seen again unchanged is no event
		case <-deadline:
			t.Fatalf("%s does not find %s", seeker.name, other.name)
		}
	}
	if err := seeker.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
	return found
}
