//go:build radio

package wpa

import (
	"errors"
	"slices"
	"testing"
	"time"

	"nigh/lab/radio"
)

// TestAdvertOnAir has one device change what it says while another one looks, while it runs a group, and over the loss of its
// supplicant.
func TestAdvertOnAir(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	one, two := []byte("NGH\x01first"), []byte("NGH\x01second, a longer one")
	a := newStation(t, nodes[0], Config{DeviceName: "before", Vendor: [][]byte{one}, Visible: true})
	b := newStation(t, nodes[1], Config{})
	address := b.findName("before").Address
	look := func(what, name string, vendor ...[]byte) {
		t.Helper()
		begin := time.Now()
		p, err := b.Look(t.Context(), address, 20*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: heard %q %q at %d dBm after %.2f s", what, p.Name, p.Vendor, p.SignalDBm, time.Since(begin).Seconds())
		if p.Name != name || !slices.EqualFunc(p.Vendor, vendor, slices.Equal[[]byte]) || p.SignalDBm >= 0 {
			t.Errorf("%s: heard %+v", what, p)
		}
	}
	look("at first", "before", one)
	if err := a.Advertise(t.Context(), Advert{Name: "after", Vendor: [][]byte{two, one}, Visible: true}); err != nil {
		t.Fatal(err)
	}
	look("after a change", "after", two, one)
	if err := nodes[0].KillSupplicant(); err != nil {
		t.Fatal(err)
	}
	a.await(0, "loss of the supplicant", func(Event) bool { return a.Status().State != Ready })
	if err := a.Advertise(t.Context(), Advert{Name: "later", Vendor: [][]byte{one}, Visible: true}); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].StartSupplicant(); err != nil {
		t.Fatal(err)
	}
	a.await(0, "the new supplicant", func(Event) bool { return a.Status().State == Ready })
	look("after a restart", "later", one)

	// Hidden: nobody finds it, once the listen that was under way is over.
	if err := a.Advertise(t.Context(), Advert{Name: "later"}); err != nil {
		t.Fatal(err)
	}
	var err error
	for tries := 0; err == nil && tries < 5; tries++ {
		_, err = b.Look(t.Context(), address, 5*time.Second)
	}
	if !errors.Is(err, ErrPeerGone) {
		t.Errorf("a hidden device is heard: %v", err)
	}

	// A group owner says it in beacons and probe responses.
	if err := a.Advertise(t.Context(), Advert{Name: "owner", Vendor: [][]byte{two}, Visible: true}); err != nil {
		t.Fatal(err)
	}
	g, err := a.StartGroup(t.Context(), GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The first beacons may go out before the group has been told.
	for tries := 0; tries < 5; tries++ {
		if p, err := b.Look(t.Context(), address, 20*time.Second); err == nil && len(p.Vendor) > 0 {
			break
		}
	}
	look("a group owner", "owner", two)
	if err := a.Advertise(t.Context(), Advert{Name: "owner", Vendor: [][]byte{one}, Visible: true}); err != nil {
		t.Fatal(err)
	}
	for tries := 0; tries < 5; tries++ { // a beacon from before the change may be heard first
		if p, err := b.Look(t.Context(), address, 20*time.Second); err == nil && len(p.Vendor) == 1 && slices.Equal(p.Vendor[0], one) {
			break
		}
	}
	look("a group owner after a change", "owner", one)
	if err := a.Leave(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	look("without the group", "owner", one)
}
