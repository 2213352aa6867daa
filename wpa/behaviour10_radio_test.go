//go:build radio

package wpa

import (
	"context"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

func TestBehaviour10AutonomousGroup(t *testing.T) {
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

func TestBehaviour11ConnectJoins(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	d := newDevice(t, nodes[1])
	air := watch(t, nodes[0])
	end := func(group dbusapi.Path) {
		t.Helper()
		mark, said := a.mark(), d.mark()
		d.must("disconnect", d.Disconnect(t.Context(), group))
		a.awaitGone(mark)
		d.await(said, "end of the interface", kind[dbusapi.InterfaceRemoved])
	}
	type what int
	const (
		isOwner     what = iota // it is known to own the group
		wasOwner                // it is known to have owned another one
		isListening             // it is known from before
		isNowhere               // it is not known at all
	)
	for _, c := range []struct {
		name      string
		frequency int
		known     what
	}{
		{"on a social channel", 2437, isOwner},
		{"started again on another channel", 2422, wasOwner},
		{"not looked for before, on another channel", 2422, isNowhere},
		{"on another channel", 2422, isOwner},
		{"known before it started the group", 2437, isListening},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.must("stop", d.StopFind(t.Context(), d.owner))
			if c.known != wasOwner {
				d.must("flush", air.Flush(t.Context(), air.owner))
				a.await(0, "loss of all peers", func(Event) bool { return len(a.Peers()) == 0 })
			}
			if c.known == isListening {
				d.listen()
				a.findName(d.name)
			}
			group := d.startGroup(c.frequency)
			d.admitAll(group)
			address := d.address()
			if c.known == isOwner {
				a.findOwner(address)
				if got := a.groupFrequency(address); got != c.frequency {
					t.Errorf("the kernel has it on %d MHz", got)
				}
			}
			mark := d.mark()
			r := a.wait(later(func() (Group, error) { return a.Connect(t.Context(), address, PBC(), ConnectOptions{Intent: 15}) }))
			if r.err != nil {
				t.Fatal(r.err)
			}
			t.Logf("joined after %.2f s on %d MHz", r.took.Seconds(), r.group.Frequency)
			if r.group.Role != Client || r.group.Frequency != c.frequency || r.group.Peer.String() != address.String() {
				t.Errorf("group is %s with %s", r.group, r.group.Peer)
			}
			if n := len(d.since(mark, kind[dbusapi.GONegotiationSuccess])); n != 0 {
				t.Error("it was negotiated")
			}
			end(group)
		})
	}

	// A Radio beside the radio's interfaces, as an agent is, knows where to look; then the supplicant need not scan all channels.
	t.Run("with the channel from the kernel", func(t *testing.T) {
		d.must("flush", air.Flush(t.Context(), air.owner))
		group := d.startGroup(2422)
		d.admitAll(group)
		a.await(0, "loss of all peers", func(Event) bool { return len(a.Peers()) == 0 })
		a.findOwner(d.address())
		args := dbusapi.ConnectArgs{Peer: dbusapi.PeerPath(air.owner, d.address()), WPS: "pbc", Join: true, Frequency: a.groupFrequency(d.address())}
		up, mark, begin := a.mark(), air.mark(), time.Now()
		_, err := air.Connect(t.Context(), air.owner, args)
		air.must("join", err)
		air.await(mark, "group", kind[dbusapi.GroupStarted])
		t.Logf("joined after %.2f s on %d MHz", time.Since(begin).Seconds(), args.Frequency)
		a.awaitUp(up)
		end(group)
	})
}

// TestBehaviour12RoleSwap has two devices join each other's groups in turn. The supplicant remembers the provision discovery
// that the other one did, and would not do its own: then nobody is asked.
func TestBehaviour12RoleSwap(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	for i := range 4 {
		owner, client := a, b
		if i%2 == 1 {
			owner, client = b, a
		}
		g, err := owner.StartGroup(t.Context(), GroupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := client.findName(owner.name)
		client.findOwner(p.Address)
		mark, lost := owner.mark(), client.mark()
		joined := later(func() (Group, error) {
			return client.Connect(t.Context(), p.Address, PBC(), ConnectOptions{Intent: -1})
		})
		req := owner.awaitRequest(mark)
		// Within seconds of the end of a group of its own, an owner is taken for none, asked to negotiate, and invites.
		if joins := req.Kind == ProvisionPBC && req.Group == g.ID; !joins && req.Kind != Negotiation {
			t.Errorf("request is %+v", req)
		}
		let, err := owner.Accept(t.Context(), req, PBC(), ConnectOptions{Intent: -1})
		r := client.wait(joined)
		if err != nil || r.err != nil {
			t.Fatalf("round %d: %v, %v", i, err, r.err)
		}
		t.Logf("round %d: joined after %.2f s", i, r.took.Seconds())
		if len(let.Members) != 1 || let.SSID != r.group.SSID {
			t.Errorf("groups are %s and %s", let, r.group)
		}
		if n := client.count(lost, func(e Event) bool { _, ok := e.(PeerLost); return ok }); n != 0 {
			t.Errorf("round %d: %d peers were lost", i, n)
		}
		leaveBoth(a, b)
	}
}

func TestBehaviour13CancelJoin(t *testing.T) {
	for name, without := range map[string]bool{"with a P2P device": false, "without a P2P device": true} {
		t.Run(name, func(t *testing.T) {
			cancelJoin(t, radio.NodesOf(t, radio.Config{Nodes: 2, NoP2PDevice: without}))
		})
	}
}

func cancelJoin(t *testing.T, nodes []*radio.Node) {
	a := newStation(t, nodes[0], Config{})
	d := newDevice(t, nodes[1])
	air := watch(t, nodes[0])
	d.admitAll(d.startGroup(0))
	p := a.findName(d.name)
	// In the scan for the group, which takes seconds when the channel is not known.
	for _, after := range []time.Duration{50 * time.Millisecond, time.Second} {
		mark := air.mark()
		ctx, cancel := context.WithTimeout(t.Context(), after)
		begin := time.Now()
		_, err := a.Connect(ctx, p.Address, PBC(), ConnectOptions{Intent: -1})
		cancel()
		mustFail(t, "cancelled", err, context.DeadlineExceeded)
		lasted(t, "idle after the end of ctx", time.Since(begin)-after, 3*time.Second)
		if at := a.where("formation"); at != "Idle" {
			t.Errorf("formation is %s", at)
		}
		select {
		case <-time.After(8 * time.Second): // the scan is over by then
		case <-a.done:
		}
		if n := len(air.since(mark, kind[dbusapi.InterfaceAdded])); n != 0 {
			t.Logf("cancelled after %v: an interface came all the same and was removed", after)
		}
		n := len(air.since(mark, kind[dbusapi.GroupStarted]))
		if left := a.groupLinks(); n != 0 || len(left) != 0 || len(a.Status().Groups) != 0 {
			t.Errorf("cancelled after %v: %d groups started, %v are left", after, n, left)
		}
		if n := a.count(0, func(e Event) bool { _, ok := e.(GroupUp); return ok }); n != 0 {
			t.Errorf("%d groups were told", n)
		}
	}
	r := a.wait(later(func() (Group, error) { return a.Connect(t.Context(), p.Address, PBC(), ConnectOptions{Intent: -1}) }))
	if r.err != nil {
		t.Fatalf("after the cancelled ones: %v", r.err)
	}
	t.Logf("joined after %.2f s, after the cancelled ones", r.took.Seconds())
}
