//go:build radio

package wpa

import (
	"net/netip"
	"testing"

	"nigh/lab/radio"
)

var testPool = netip.MustParsePrefix("192.168.50.0/24")

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
