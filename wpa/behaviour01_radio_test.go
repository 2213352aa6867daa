//go:build radio

package wpa

import (
	"context"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

func TestBehaviour01FindSocial(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{DeviceName: "Büro · 2", Vendor: [][]byte{{0x00, 0x4e, 0x47, 'n', 'i', 'g', 'h'}}})
	air := watch(t, nodes[0])
	if err := b.Listen(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p := a.findName("Büro · 2")
	lasted(t, "found", time.Since(begin), 2*time.Second)
	if p.DeviceType != computer || p.ConfigMethods&0x188 != 0x188 || p.IsGO || p.Seen.IsZero() {
		t.Errorf("peer is %+v", p)
	}
	if len(p.Vendor) != 1 || string(p.Vendor[0]) != "\x00\x4e\x47nigh" {
		t.Errorf("vendor extensions are %q", p.Vendor)
	}
	if !a.Status().Finding {
		t.Error("status does not say that it is finding")
	}
	mark := air.mark()
	if err := a.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.await(0, "end of find", func(Event) bool { return !a.Status().Finding })
	air.await(mark, "end of find", kind[dbusapi.FindStopped])
	if n := a.count(0, func(e Event) bool { s, ok := e.(PeerSeen); return ok && s.Peer.Name == "Büro · 2" }); n != 1 {
		t.Errorf("peer was seen %d times", n)
	}

	// A search ends by itself, and is not begun again.
	mark = air.mark()
	begin = time.Now()
	if err := a.Find(t.Context(), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	a.await(a.mark(), "end of find", func(Event) bool { return !a.Status().Finding })
	took := time.Since(begin)
	lasted(t, "search of 3 s ended", took, 4*time.Second)
	if took < 3*time.Second {
		t.Errorf("it ended early")
	}
	air.await(mark, "end of find", kind[dbusapi.FindStopped])
	mark = air.mark()
	if err := a.StopFind(t.Context()); err != nil {
		t.Errorf("stop without search: %v", err)
	}
	if n := len(air.since(mark, kind[dbusapi.FindStopped])); n != 0 {
		t.Errorf("%d ends of a search that had ended", n)
	}
}

func TestBehaviour02PeerLost(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	address := meet(a, b)
	if err := a.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
	silent, mark := time.Now(), a.mark()
	lost := a.await(mark, "loss of "+b.name, func(e Event) bool { l, ok := e.(PeerLost); return ok && l.Address.String() == address.String() })
	took := time.Since(silent)
	lasted(t, "lost", took, 75*time.Second)
	if took < 60*time.Second {
		t.Errorf("lost already after %.1f s", took.Seconds())
	}
	if got := lost.(PeerLost).Address.String(); got != address.String() {
		t.Errorf("%s was lost, not %s", got, address)
	}
	named := func() (n int) {
		for _, p := range a.Peers() {
			if p.Name == b.name {
				n++
			}
		}
		return n
	}
	if n := named(); n != 0 {
		t.Errorf("%d records of a lost peer", n)
	}
	if again := meet(a, b); again.String() != address.String() {
		t.Errorf("the peer came back as %s, not %s", again, address)
	}
	seen := func(e Event) bool { s, ok := e.(PeerSeen); return ok && s.Peer.Name == b.name }
	if n := a.count(mark, seen); n != 1 || named() != 1 {
		t.Errorf("the peer was seen %d times and has %d records", n, named())
	}
}

func TestBehaviour09NoAnswer(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	d := newDevice(t, nodes[1])
	air := watch(t, nodes[0])
	d.listen()
	peer := a.findName(d.name).Address

	// Its user is asked and does nothing. At once is in the middle of the exchange of frames, later it is while waiting.
	for _, early := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		if early {
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		}
		mark := d.mark()
		asked := later(func() (Group, error) { return a.Connect(ctx, peer, PBC(), ConnectOptions{Intent: 7}) })
		if !early {
			d.await(mark, "request", kind[dbusapi.GONegotiationRequest])
			cancel()
		}
		<-ctx.Done()
		begin := time.Now()
		mustFail(t, "cancelled", a.wait(asked).err, ctx.Err())
		cancel()
		lasted(t, "idle after the end of ctx", time.Since(begin), 3*time.Second)
		if at := a.where("formation"); at != "Idle" {
			t.Errorf("formation is %s", at)
		}
	}

	mark, begin := air.mark(), time.Now()
	asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: 7}) })
	select {
	case r := <-asked:
		t.Fatalf("ended after %.1f s: %v", r.took.Seconds(), r.err)
	case <-time.After(60*time.Second - time.Since(begin)):
	}
	if at := a.where("formation"); at != "Waiting" {
		t.Errorf("formation is %s after 60 s", at)
	}
	_, err := a.StartGroup(t.Context(), GroupOptions{})
	mustFail(t, "group while forming", err, ErrBusy)
	r := a.wait(asked)
	mustFail(t, "no answer", r.err, ErrTimeout)
	lasted(t, "given up", r.took, 126*time.Second)
	if n := len(air.since(mark, kind[dbusapi.GroupStarted])); n != 0 || len(a.groupLinks()) != 0 {
		t.Errorf("%d groups, interfaces %v", n, a.groupLinks())
	}
	if n := d.since(0, kind[dbusapi.GONegotiationSuccess]); len(n) != 0 {
		t.Errorf("the silent device agreed to %v", n)
	}
}
