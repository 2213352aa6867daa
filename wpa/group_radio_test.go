//go:build radio

package wpa

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"nigh/lab/radio"
)

var testPool = netip.MustParsePrefix("192.168.50.0/24")

func TestFindOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{DeviceName: "Büro · 2", Vendor: [][]byte{{0x00, 0x4e, 0x47, 'n', 'i', 'g', 'h'}}})
	if err := b.Listen(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p := a.findName("Büro · 2")
	t.Logf("found after %.2f s", time.Since(begin).Seconds())
	if p.DeviceType != computer || p.ConfigMethods&0x188 != 0x188 || p.IsGO || p.Seen.IsZero() {
		t.Errorf("peer is %+v", p)
	}
	if len(p.Vendor) != 1 || string(p.Vendor[0]) != "\x00\x4e\x47nigh" {
		t.Errorf("vendor extensions are %q", p.Vendor)
	}
	if !a.Status().Finding {
		t.Error("status does not say that it is finding")
	}
	if err := a.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.await(0, "end of find", func(Event) bool { return !a.Status().Finding })
	if n := a.count(0, func(e Event) bool { s, ok := e.(PeerSeen); return ok && s.Peer.Name == "Büro · 2" }); n != 1 {
		t.Errorf("peer was seen %d times", n)
	}
}

func TestPushButtonOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{Pool: testPool, GroupIdle: time.Second})

	t.Run("asking side owns", func(t *testing.T) {
		ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
		checkGroup(a, b, ga, gb, testPool)
		if len(ga.Peer) != 6 || len(gb.Peer) != 6 {
			t.Errorf("peers are %v and %v", ga.Peer, gb.Peer)
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
	})

	t.Run("accepting side owns", func(t *testing.T) {
		ma, mb := a.mark(), b.mark()
		ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 0}, ConnectOptions{Intent: 15})
		checkGroup(b, a, gb, ga, testPool)
		if n := b.count(mb, func(e Event) bool { _, ok := e.(RequestReceived); return ok }); n != 1 {
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

func TestPINOnRadio(t *testing.T) {
	const right, wrong = "12345670", "00000000"
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	leave := func(ga, gb Group) {
		t.Helper()
		ma, mb := a.mark(), b.mark()
		if ga.Role == Owner {
			_ = a.Leave(t.Context(), ga.ID)
		} else {
			_ = b.Leave(t.Context(), gb.ID)
		}
		a.awaitGone(ma)
		b.awaitGone(mb)
	}

	t.Run("asking side shows", func(t *testing.T) {
		ga, gb := form(a, b, ShowPIN(right, nil), EnterPIN(right), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
		checkGroup(a, b, ga, gb, netip.Prefix{})
		leave(ga, gb)
	})
	t.Run("asking side types", func(t *testing.T) {
		ga, gb := form(a, b, EnterPIN(right), ShowPIN(right, nil), ConnectOptions{Intent: 0}, ConnectOptions{Intent: 15})
		checkGroup(b, a, gb, ga, netip.Prefix{})
		leave(ga, gb)
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
		accepted := later(func() (Group, error) {
			return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: 7})
		})
		ra, rb := a.wait(asked), b.wait(accepted)
		if ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
		}
		leave(ra.group, rb.group)
	})
	t.Run("wrong, then right", func(t *testing.T) {
		peer := meet(a, b)
		mark := b.mark()
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(right, nil), ConnectOptions{Intent: 15})
		})
		accepted := b.answer(mark, EnterPIN(wrong), ConnectOptions{Intent: 0})
		ra, rb := a.wait(asked), b.wait(accepted)
		t.Logf("wrong PIN: %v after %.1f s, %v after %.1f s", ra.err, ra.took.Seconds(), rb.err, rb.took.Seconds())
		mustFail(t, "owner", ra.err, ErrWrongPIN)
		if rb.err == nil {
			t.Fatal("the side with the wrong PIN got a group")
		}
		if n := len(a.Status().Groups) + len(b.Status().Groups); n != 0 {
			t.Errorf("%d groups are left", n)
		}
		ga, gb := form(a, b, ShowPIN(right, nil), EnterPIN(right), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
		checkGroup(a, b, ga, gb, netip.Prefix{})
	})
	if _, err := a.Connect(t.Context(), make([]byte, 6), EnterPIN(""), ConnectOptions{}); err == nil {
		t.Error("an empty PIN was taken")
	}
}

func TestAutonomousGroupOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 3)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{})
	c := newStation(t, nodes[2], Config{})
	begin := time.Now()
	g, err := a.StartGroup(t.Context(), GroupOptions{SSIDPostfix: "-nigh"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started after %.2f s", time.Since(begin).Seconds())
	if g.Role != Owner || len(g.Passphrase) < 8 || g.SSID[len(g.SSID)-5:] != "-nigh" {
		t.Errorf("group is %s", g)
	}
	_, err = a.StartGroup(t.Context(), GroupOptions{})
	mustFail(t, "second group", err, ErrBusy)

	// Push button: the owner is asked.
	p := b.findName(a.name)
	if !p.IsGO {
		t.Errorf("peer is %+v", p)
	}
	mark := a.mark()
	joined := later(func() (Group, error) { return b.Connect(t.Context(), p.Address, PBC(), ConnectOptions{Intent: -1}) })
	req := a.awaitRequest(mark)
	if req.Kind != ProvisionPBC || req.Group != g.ID {
		t.Errorf("request is %+v", req)
	}
	let, err := a.Accept(t.Context(), req, PBC(), ConnectOptions{Intent: -1})
	if err != nil {
		t.Fatal(err)
	}
	rb := b.wait(joined)
	if rb.err != nil {
		t.Fatal(rb.err)
	}
	checkGroup(a, b, let, rb.group, testPool)
	t.Logf("first client after %.2f s", rb.took.Seconds())

	// PIN: the second client shows it, the owner types it.
	p = c.findName(a.name)
	mark = a.mark()
	joined = later(func() (Group, error) {
		return c.Connect(t.Context(), p.Address, ShowPIN("12345670", nil), ConnectOptions{Intent: -1})
	})
	req = a.awaitRequest(mark)
	if req.Kind != ProvisionEnterPIN {
		t.Errorf("request is %+v", req)
	}
	let, err = a.Accept(t.Context(), req, EnterPIN("12345670"), ConnectOptions{Intent: -1})
	if err != nil {
		t.Fatal(err)
	}
	rc := c.wait(joined)
	if rc.err != nil {
		t.Fatal(rc.err)
	}
	if len(let.Members) != 2 || rc.group.Local == rb.group.Local || !rc.group.Local.IsValid() {
		t.Errorf("members %v, addresses %s and %s", let.Members, rb.group.Local, rc.group.Local)
	}
	t.Logf("second client after %.2f s", rc.took.Seconds())

	// One leaves; the group goes on without it, and ends for the other.
	mark = a.mark()
	if err := b.Leave(t.Context(), rb.group.ID); err != nil {
		t.Fatal(err)
	}
	a.await(mark, "one member", func(e Event) bool { ch, ok := e.(GroupChanged); return ok && len(ch.Group.Members) == 1 })
	mark = c.mark()
	if err := a.Leave(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	if gone := c.awaitGone(mark); gone.Reason != ReasonPeerLeft {
		t.Errorf("client: %+v", gone)
	}
	_, err = a.StartGroup(t.Context(), GroupOptions{Frequency: 5175})
	mustFail(t, "impossible frequency", err, ErrChannel)
}

func TestInviteOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{})
	peer := meet(a, b)
	g, err := a.StartGroup(t.Context(), GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mark := b.mark()
	asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1}) })
	req := b.awaitRequest(mark)
	if req.Kind != Invitation {
		t.Errorf("request is %+v", req)
	}
	gb, err := b.Accept(t.Context(), req, PBC(), ConnectOptions{Intent: -1})
	if err != nil {
		t.Fatal(err)
	}
	ra := a.wait(asked)
	if ra.err != nil || ra.group.ID != g.ID {
		t.Fatalf("inviting side: %v, %v", ra.group, ra.err)
	}
	checkGroup(a, b, ra.group, gb, testPool)
	if n := a.count(0, func(e Event) bool { _, ok := e.(RequestReceived); return ok }); n != 0 {
		t.Error("the inviting side was asked whether it wants its own guest")
	}
}

func TestBothConnectOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	pb := meet(a, b)
	pa := meet(b, a)
	ca := later(func() (Group, error) { return a.Connect(t.Context(), pb, PBC(), ConnectOptions{Intent: -1}) })
	cb := later(func() (Group, error) { return b.Connect(t.Context(), pa, PBC(), ConnectOptions{Intent: -1}) })
	ra, rb := a.wait(ca), b.wait(cb)
	if ra.err != nil || rb.err != nil {
		t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
	}
	t.Logf("%s after %.2f s, %s after %.2f s", ra.group.Role, ra.took.Seconds(), rb.group.Role, rb.took.Seconds())
	if ra.group.SSID != rb.group.SSID || ra.group.Role == rb.group.Role || len(a.Status().Groups) != 1 || len(b.Status().Groups) != 1 {
		t.Errorf("groups are %v and %v", a.Status().Groups, b.Status().Groups)
	}
}

func TestBothInsistOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 15})
	if ga.SSID != gb.SSID || ga.Role == gb.Role {
		t.Errorf("groups are %s and %s", ga, gb)
	}
}

func TestCancelAndRejectOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})

	ask := func() (cancel context.CancelFunc, asked <-chan result) {
		peer := meet(a, b)
		ctx, cancel := context.WithCancel(t.Context())
		return cancel, later(func() (Group, error) { return a.Connect(ctx, peer, PBC(), ConnectOptions{Intent: -1}) })
	}
	var req Request
	t.Run("cancel", func(t *testing.T) {
		cancel, asked := ask()
		defer cancel()
		req = b.awaitRequest(0)
		if req.Kind != Negotiation || req.PasswordID != PasswordPushButton || req.Peer.Name != a.name {
			t.Errorf("request is %+v", req)
		}
		_, err := a.StartGroup(t.Context(), GroupOptions{})
		mustFail(t, "group while forming", err, ErrBusy)
		begin := time.Now()
		cancel()
		mustFail(t, "cancelled", a.wait(asked).err, context.Canceled)
		t.Logf("idle %.2f s after the end of ctx", time.Since(begin).Seconds())
	})
	t.Run("reject", func(t *testing.T) {
		if err := b.Reject(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		cancel, asked := ask()
		defer cancel()
		mustFail(t, "asked again", a.wait(asked).err, ErrRejected)
		if n := b.count(0, func(e Event) bool { _, ok := e.(RequestReceived); return ok }); n != 1 {
			t.Errorf("a rejected device made %d requests", n)
		}
	})
	t.Run("both agree after all", func(t *testing.T) {
		// The rejected side is let in when the other one asks.
		form(b, a, PBC(), PBC(), ConnectOptions{Intent: -1}, ConnectOptions{Intent: -1})
	})
}
