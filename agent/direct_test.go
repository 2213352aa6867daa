package agent

import (
	"net"
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

func TestGroupNameOfAnotherIsEscaped(t *testing.T) {
	g := &directGroup{group: wpa.Group{Role: wpa.Client, SSID: "DIRECT-ab\x1b[2J"}}
	if v := g.view(false); strings.ContainsRune(v.SSID, 0x1b) {
		t.Errorf("the SSID is shown as %q", v.SSID)
	}
}
