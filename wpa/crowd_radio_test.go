//go:build radio

package wpa

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

// TestCrowdOnRadio has devices that do not fit, push themselves forward, or all come at once.
func TestCrowdOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 3)
	a := newStation(t, nodes[0], Config{Visible: true})
	d, e := newDevice(t, nodes[1]), newDevice(t, nodes[2])
	air := watch(t, nodes[0])
	if err := a.Listen(t.Context(), 20*time.Minute); err != nil {
		t.Fatal(err)
	}
	from := func(who *device) func(Event) bool {
		return func(x Event) bool {
			r, ok := x.(RequestReceived)
			return ok && r.Request.Peer.Name == who.name
		}
	}
	question := func(mark int, who *device) Request {
		t.Helper()
		return a.await(mark, "request of "+who.name, from(who)).(RequestReceived).Request
	}

	t.Run("methods that do not fit", func(t *testing.T) {
		mark := a.mark()
		d.connect(d.find(a), "pbc", 7)
		req := question(mark, d)
		failed := d.mark()
		r := a.wait(later(func() (Group, error) {
			return a.Accept(t.Context(), req, EnterPIN("12345670"), ConnectOptions{Intent: -1})
		}))
		mustFail(t, "a PIN for a button", r.err, ErrMethod)
		lasted(t, "told", r.took, 20*time.Second)
		s := d.await(failed, "failure", kind[dbusapi.GONegotiationFailure]).Signal.(dbusapi.GONegotiationFailure)
		if s.Status != 10 || a.where("formation") != "Idle" {
			t.Errorf("status at the other side is %d, formation is %s", s.Status, a.where("formation"))
		}
	})

	t.Run("a flood of requests is one question", func(t *testing.T) {
		peer := d.find(a)
		mark, start := a.mark(), air.mark()
		const many = 20
		for range many {
			m := air.mark()
			d.connect(peer, "pbc", 7)
			air.await(m, "request", kind[dbusapi.GONegotiationRequest])
			d.must("cancel", d.Cancel(t.Context(), d.owner))
		}
		n := len(air.since(start, kind[dbusapi.GONegotiationRequest]))
		if q := a.count(mark, from(d)); n < many || q != 1 {
			t.Errorf("%d requests made %d questions", n, q)
		}
		if err := a.Reject(t.Context(), question(mark, d)); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("another device asks meanwhile", func(t *testing.T) {
		d.listen()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		address := d.address()
		md := d.mark()
		asked := later(func() (Group, error) { return a.Connect(ctx, address, PBC(), ConnectOptions{Intent: -1}) })
		d.await(md, "request", kind[dbusapi.GONegotiationRequest])
		mark := a.mark()
		e.connect(e.find(a), "pbc", 0)
		req := question(mark, e)
		_, err := a.Accept(t.Context(), req, PBC(), ConnectOptions{Intent: 15})
		mustFail(t, "accept while forming", err, ErrBusy)
		cancel()
		mustFail(t, "cancelled", a.wait(asked).err, context.Canceled)
		r := a.wait(later(func() (Group, error) { return a.Accept(t.Context(), req, PBC(), ConnectOptions{Intent: 15}) }))
		if r.err != nil {
			t.Fatal(r.err)
		}
		if !slices.ContainsFunc(r.group.Members, func(m net.HardwareAddr) bool { return slices.Equal(m, e.address()) }) {
			t.Errorf("group is %s with %v", r.group, r.group.Members)
		}
		leaveAll(a)
	})

	t.Run("two negotiate at once", func(t *testing.T) {
		if err := a.Listen(t.Context(), 20*time.Minute); err != nil {
			t.Fatal(err)
		}
		mark := a.mark()
		d.connect(d.find(a), "pbc", 0)
		e.connect(e.find(a), "pbc", 0)
		first, second := question(mark, d), question(mark, e)
		one := later(func() (Group, error) { return a.Accept(t.Context(), first, PBC(), ConnectOptions{Intent: 15}) })
		two := later(func() (Group, error) { return a.Accept(t.Context(), second, PBC(), ConnectOptions{Intent: 15}) })
		r1, r2 := a.wait(one), a.wait(two)
		t.Logf("%v after %.1f s, %v after %.1f s", r1.err, r1.took.Seconds(), r2.err, r2.took.Seconds())
		won, lost := r1, r2
		if r1.err != nil {
			won, lost = r2, r1
		}
		if won.err != nil {
			t.Fatalf("neither: %v, %v", r1.err, r2.err)
		}
		mustFail(t, "the other one", lost.err, ErrBusy)
		if n := len(a.groupLinks()); n != 1 || len(a.Status().Groups) != 1 {
			t.Errorf("%d groups on %v", len(a.Status().Groups), a.groupLinks())
		}
	})
}
