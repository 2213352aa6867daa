//go:build radio

package wpa

import (
	"net/netip"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

func TestBehaviour03PBCInitiatorOwns(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{Pool: testPool})
	air := watch(t, nodes[0])
	ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
	checkGroup(a, b, ga, gb, testPool)
	a.checkType(ga)
	b.checkType(gb)
	if len(ga.Peer) != 6 || len(gb.Peer) != 6 {
		t.Errorf("peers are %v and %v", ga.Peer, gb.Peer)
	}
	if n := len(air.since(0, kind[dbusapi.MemberJoined])); n != 1 {
		t.Errorf("%d clients joined", n)
	}
	// Connect to a device that shares a group already returns that.
	again, err := a.Connect(t.Context(), ga.Peer, PBC(), ConnectOptions{Intent: -1})
	if err != nil || again.ID != ga.ID {
		t.Errorf("second connect: %v, %v", again, err)
	}
	// The owner ends the group: the client learns why.
	ma, mb := a.mark(), b.mark()
	if err := a.Leave(t.Context(), ga.ID); err != nil {
		t.Fatal(err)
	}
	a.checkNoLink(ga)
	if gone := a.awaitGone(ma); gone.Reason != ReasonLeft || gone.Group.ID != ga.ID {
		t.Errorf("owner: %+v", gone)
	}
	if gone := b.awaitGone(mb); gone.Reason != ReasonPeerLeft {
		t.Errorf("client: %+v", gone)
	}
	b.checkNoLink(gb)
	mustFail(t, "leave again", a.Leave(t.Context(), ga.ID), ErrNoGroup)
}

func TestBehaviour04PBCResponderJoins(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{GroupIdle: time.Second})
	air := watch(t, nodes[0])

	t.Run("peer repeats its request", func(t *testing.T) {
		d := newDevice(t, nodes[1])
		if err := a.Listen(t.Context(), 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		peer := d.find(a)
		mark, start := a.mark(), air.mark()
		asks := func() heard {
			m := air.mark()
			d.connect(peer, "pbc", 15)
			return air.await(m, "request", kind[dbusapi.GONegotiationRequest])
		}
		asks()
		req := a.awaitRequest(mark)
		if req.Kind != Negotiation || req.PasswordID != PasswordPushButton || req.Peer.Name != d.name {
			t.Errorf("request is %+v", req)
		}
		asks()
		asks()
		if n := len(air.since(start, kind[dbusapi.GONegotiationRequest])); n < 3 || a.requests(mark) != 1 {
			t.Errorf("%d requests of the peer made %d questions", n, a.requests(mark))
		}
		g, err := a.Accept(t.Context(), req, PBC(), ConnectOptions{Intent: 0})
		if err != nil {
			t.Fatal(err)
		}
		if g.Role != Client || g.SSID[:7] != "DIRECT-" {
			t.Errorf("group is %s", g)
		}
		a.checkType(g)
		path, err := air.GetInterface(t.Context(), g.Ifname)
		if err != nil {
			t.Fatal(err)
		}
		if state, err := air.State(t.Context(), path); err != nil || state != "completed" {
			t.Errorf("state is %q, %v", state, err)
		}
		leaveAll(a)
		for _, s := range d.since(0, kind[dbusapi.GroupStarted]) {
			d.must("disconnect", d.Disconnect(t.Context(), s.Signal.(dbusapi.GroupStarted).Interface))
		}
	})

	t.Run("accepting side owns", func(t *testing.T) {
		b := newStation(t, nodes[1], Config{Pool: testPool, GroupIdle: time.Second})
		ma, mb := a.mark(), b.mark()
		ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 0}, ConnectOptions{Intent: 15})
		checkGroup(b, a, gb, ga, testPool)
		if n := b.requests(mb); n != 1 {
			t.Errorf("one attempt made %d requests", n)
		}
		if err := a.Leave(t.Context(), ga.ID); err != nil {
			t.Fatal(err)
		}
		if gone := a.awaitGone(ma); gone.Reason != ReasonLeft {
			t.Errorf("client: %+v", gone)
		}
		b.await(mb, "client gone", func(e Event) bool { c, ok := e.(GroupChanged); return ok && len(c.Group.Members) == 0 })
		if gone := b.awaitGone(mb); gone.Reason != ReasonIdle { // GroupIdle is a second here
			t.Errorf("owner: %+v", gone)
		}
	})
}

func TestBehaviour05Reject(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	d := newDevice(t, nodes[1])
	air := watch(t, nodes[0])
	if err := a.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	peer := d.find(a)
	rejected := func() {
		t.Helper()
		mark := a.mark()
		d.connect(peer, "pbc", 7)
		if err := a.Reject(t.Context(), a.awaitRequest(mark)); err != nil {
			t.Fatal(err)
		}
		d.must("cancel", d.Cancel(t.Context(), d.owner))
		for range 2 {
			m := d.mark()
			d.connect(peer, "pbc", 7)
			failed := d.await(m, "failure", kind[dbusapi.GONegotiationFailure]).Signal.(dbusapi.GONegotiationFailure)
			if failed.Status != 11 {
				t.Errorf("status of a rejected device is %d", failed.Status)
			}
		}
		if n := a.requests(mark); n != 1 {
			t.Errorf("a rejected device made %d requests", n)
		}
		if at := a.where("formation"); at != "Idle" {
			t.Errorf("formation is %s", at)
		}
	}

	rejected()
	// Flush lifts the block.
	d.must("flush", air.Flush(t.Context(), air.owner))
	if err := a.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	d.find(a)
	rejected()
	// So does our own Connect.
	d.listen()
	mark := d.mark()
	address := a.findName(d.name).Address
	asked := later(func() (Group, error) { return a.Connect(t.Context(), address, PBC(), ConnectOptions{Intent: 15}) })
	d.await(mark, "request", kind[dbusapi.GONegotiationRequest])
	d.connect(peer, "pbc", 0)
	if r := a.wait(asked); r.err != nil {
		t.Fatal(r.err)
	}
}

func TestBehaviour06PIN(t *testing.T) {
	const zeros = "00345673" // with its check digit
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	air := watch(t, nodes[0])

	t.Run("asking side shows", func(t *testing.T) {
		shown := make(chan string, 1)
		ga, gb := form(a, b, ShowPIN(zeros, func(pin string) { shown <- pin }), EnterPIN(zeros), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
		checkGroup(a, b, ga, gb, netip.Prefix{})
		if pin := <-shown; pin != zeros {
			t.Errorf("%s is shown as %s", zeros, pin)
		}
		leaveBoth(a, b)
	})
	t.Run("asking side types", func(t *testing.T) {
		ga, gb := form(a, b, EnterPIN(zeros), ShowPIN(zeros, nil), ConnectOptions{Intent: 0}, ConnectOptions{Intent: 15})
		checkGroup(b, a, gb, ga, netip.Prefix{})
		leaveBoth(a, b)
	})
	t.Run("supplicant makes the PIN", func(t *testing.T) {
		peer := meet(a, b)
		mark := b.mark()
		shown := make(chan string, 1)
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN("", func(pin string) { shown <- pin }), ConnectOptions{Intent: 7})
		})
		req := b.awaitRequest(mark)
		if req.Kind != ProvisionEnterPIN {
			t.Errorf("request is %+v", req)
		}
		var pin string
		select {
		case pin = <-shown:
		case <-time.After(limit):
			t.Fatal("no PIN to show")
		}
		if len(pin) != 8 {
			t.Fatalf("PIN has %d digits", len(pin))
		}
		rb := b.wait(later(func() (Group, error) { return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: 7}) }))
		ra := a.wait(asked)
		if ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
		}
		leaveBoth(a, b)
	})
	t.Run("empty PIN", func(t *testing.T) {
		peer := meet(a, b)
		if err := a.StopFind(t.Context()); err != nil {
			t.Fatal(err)
		}
		ma, mb, heard := a.mark(), b.mark(), air.mark()
		_, err := a.Connect(t.Context(), peer, EnterPIN(""), ConnectOptions{Intent: -1})
		mustFail(t, "empty PIN", err, ErrBadMethod)
		if at := a.where("formation"); at != "Idle" {
			t.Errorf("formation is %s", at)
		}
		all := func(dbusapi.Signal) bool { return true }
		if len(air.since(heard, all)) != 0 || a.mark() != ma || b.mark() != mb {
			t.Errorf("the radio was used: %v", air.since(heard, all))
		}
	})
}

func TestBehaviour07WrongPIN(t *testing.T) {
	const right, wrong = "12345670", "00000000"
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	for name, intents := range map[string][2]int{"owner shows": {15, 0}, "client shows": {0, 15}} {
		t.Run(name, func(t *testing.T) {
			oa, ob := ConnectOptions{Intent: intents[0]}, ConnectOptions{Intent: intents[1]}
			peer := meet(a, b)
			mark := b.mark()
			asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, ShowPIN(right, nil), oa) })
			accepted := b.answer(mark, EnterPIN(wrong), ob)
			ra, rb := a.wait(asked), b.wait(accepted)
			t.Logf("wrong PIN: %v after %.1f s, %v after %.1f s", ra.err, ra.took.Seconds(), rb.err, rb.took.Seconds())
			mustFail(t, "the side that shows", ra.err, ErrWrongPIN)
			mustFail(t, "the side that types", rb.err, ErrWrongPIN)
			lasted(t, "told", max(ra.took, rb.took), 20*time.Second)
			if n := len(a.Status().Groups) + len(b.Status().Groups); n != 0 {
				t.Errorf("%d groups are left", n)
			}
			ga, gb := form(a, b, ShowPIN(right, nil), EnterPIN(right), oa, ob)
			if ga.Role == Owner {
				checkGroup(a, b, ga, gb, netip.Prefix{})
			} else {
				checkGroup(b, a, gb, ga, netip.Prefix{})
			}
			if la, lb := a.groupLinks(), b.groupLinks(); len(la) != 1 || len(lb) != 1 {
				t.Errorf("interfaces are %v and %v", la, lb)
			}
			leaveBoth(a, b)
		})
	}
}
