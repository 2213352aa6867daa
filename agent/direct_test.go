package agent

import (
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/wpa"
)

func TestFacesHearThatTheRadioIsGone(t *testing.T) {
	a := newBookAgent(t)
	a.id = &identity.Identity{ID: someID(5)}
	a.direct = newDirect(a)
	friend := someID(1 << 24)
	a.befriend(t, friend, "bob")
	events, cancel, err := a.watchers.watch(false, func() control.State { return control.State{} })
	if err != nil {
		t.Fatal(err)
	}
	a.direct.heard(wpa.Peer{Address: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Name: "Pixel"})
	a.direct.heard(wpa.Peer{Address: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Name: radioName("bob", friend)})
	a.direct.silence()
	cancel()
	near := map[string]bool{}
	for e := range events {
		switch e.Type {
		case "peer":
			near[e.Peer.Key()] = e.Peer.State != "away"
		case "peer_gone":
			near[e.Key] = false
		}
	}
	if len(near) != 2 {
		t.Errorf("the faces heard of %d devices: %v", len(near), near)
	}
	for key, there := range near {
		if there {
			t.Errorf("the faces still show %s", key)
		}
	}
}

func TestRadioDeviceThatBecomesKnownIsShownOnce(t *testing.T) {
	a := newBookAgent(t)
	a.id = &identity.Identity{ID: someID(5)}
	a.direct = newDirect(a)
	events, cancel, err := a.watchers.watch(false, func() control.State { return control.State{} })
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	shown := map[string]string{} // names by key
	follow := func() {
		for len(events) > 0 {
			switch e := <-events; e.Type {
			case "peer":
				shown[e.Peer.Key()] = e.Peer.Name
			case "peer_gone":
				delete(shown, e.Key)
			}
		}
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		if follow(); !maps.Equal(shown, want) {
			t.Errorf("%s, the faces show %v, want %v", when, shown, want)
		}
	}
	bob, radio := someID(1<<24), net.HardwareAddr{2, 0, 0, 0, 0, 2}
	onAir := wpa.Peer{Address: radio, Name: radioName("bob", bob)}
	a.direct.heard(onAir)
	check("before anybody is known", map[string]string{"direct:" + radio.String(): "bob"})
	a.table.attach(bob, "bob", sighting{key: "s", kind: kindDirect, ifname: "p2p-wlan0-0", addrs: []netip.AddrPort{netip.MustParseAddrPort("192.168.49.1:7421")}})
	a.publishPeer(bob)
	check("when it has proved who it is", map[string]string{bob.String(): "bob"})
	a.direct.heard(onAir)
	check("when it is heard again", map[string]string{bob.String(): "bob"})
	a.table.detach("s")
	a.table.forget(bob)
	a.publishPeer(bob)
	check("when it is forgotten", map[string]string{"direct:" + radio.String(): "bob"})
	a.befriend(t, bob, "bob")
	a.direct.heard(onAir)
	check("when it is a friend, and heard", map[string]string{bob.String(): "bob"})
	a.direct.silence()
	check("when the radio is gone", map[string]string{bob.String(): "bob"})
}

func TestGroupNameOfAnotherIsEscaped(t *testing.T) {
	g := &directGroup{group: wpa.Group{Role: wpa.Client, SSID: "DIRECT-ab\x1b[2J"}}
	if v := g.view(false); strings.ContainsRune(v.SSID, 0x1b) {
		t.Errorf("the SSID is shown as %q", v.SSID)
	}
}
