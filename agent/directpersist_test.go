package agent

import (
	"net"
	"net/netip"
	"testing"

	"nigh/agent/identity"
	"nigh/wpa"
)

// A persistent group belongs to a device, whatever its P2P address is today, and goes when the device is trusted no more.
func TestPersistentGroupsFollowTheirDevices(t *testing.T) {
	a := newBookAgent(t)
	d := newDirect(a)
	a.direct = d
	ana, ben, cleo := someID(1<<24), someID(2<<24), someID(3<<24)
	for i, id := range []identity.DeviceID{ana, ben, cleo} {
		a.befriend(t, id, []string{"ana", "ben", "cleo"}[i])
	}
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	own := mac(0xaa)
	of := func(list []wpa.Persistent, ssid string) *wpa.Persistent {
		for i := range list {
			if list[i].SSID == ssid {
				return &list[i]
			}
		}
		return nil
	}
	proved := func(id identity.DeviceID, key, ifname, addr string) {
		a.table.attach(id, "", sighting{key: key, kind: kindDirect, ifname: ifname, addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}})
	}

	// Ana's group, of which we are a client; Ben is in it too, and it is not his.
	d.groups["1"] = &directGroup{d: d, group: wpa.Group{ID: "1", Ifname: "p2p0", SSID: "DIRECT-an", Persistent: true}}
	d.saveGroup(wpa.Persistent{SSID: "DIRECT-an", BSSID: mac(1), PSK: "key", Peer: mac(1)})
	proved(ana, rendezvousKey("p2p0"), "p2p0", "[fe80::1%p2p0]:7421")
	proved(ben, "mdns/ben", "p2p0", "192.168.49.3:7421")
	d.belongs(ben, "p2p0")
	d.belongs(ana, "p2p0")
	if p := of(d.profiles(identity.DeviceID{}), "DIRECT-an"); p == nil || p.Peer.String() != mac(1).String() {
		t.Fatalf("the profile is %v", p)
	}

	// Ana's radio starts again with another address.
	a.table.heard(radioSighting{mac: mac(2), short: ana.Short()})
	for range 2 { // heard, then only remembered
		p := of(d.profiles(identity.DeviceID{}), "DIRECT-an")
		if p == nil || p.Peer.String() != mac(2).String() || p.BSSID.String() != mac(2).String() {
			t.Fatalf("with her new address the profile is %v of %v", p, p.Peer)
		}
		a.table.lost(mac(2))
	}

	// Our own group, with Ben and Cleo in it.
	d.groups["2"] = &directGroup{d: d, group: wpa.Group{ID: "2", Ifname: "p2p1", Role: wpa.Owner, SSID: "DIRECT-us", Persistent: true}}
	d.saveGroup(wpa.Persistent{SSID: "DIRECT-us", BSSID: own, PSK: "ours", Owner: true, Peer: mac(5)})
	proved(ben, "mdns/ben1", "p2p1", "192.168.50.3:7421")
	proved(cleo, "mdns/cleo", "p2p1", "192.168.50.4:7421")
	d.belongs(ben, "p2p1")
	d.belongs(cleo, "p2p1")
	a.table.heard(radioSighting{mac: mac(6), short: ben.Short()})
	a.table.heard(radioSighting{mac: mac(7), short: cleo.Short()})
	if p := of(d.profiles(cleo), "DIRECT-us"); p.Peer.String() != mac(7).String() || p.BSSID.String() != own.String() {
		t.Errorf("to invite Cleo the profile is %v of %v", p, p.Peer)
	}
	if p := of(d.profiles(ben), "DIRECT-us"); p.Peer.String() != mac(6).String() {
		t.Errorf("to invite Ben the profile is for %v", p.Peer)
	}

	// A new group with Ana takes the place of the old one.
	delete(d.groups, "1")
	d.groups["3"] = &directGroup{d: d, group: wpa.Group{ID: "3", Ifname: "p2p2", SSID: "DIRECT-nu", Persistent: true}}
	d.saveGroup(wpa.Persistent{SSID: "DIRECT-nu", BSSID: mac(2), PSK: "new", Peer: mac(2)})
	proved(ana, rendezvousKey("p2p2"), "p2p2", "[fe80::1%p2p2]:7421")
	d.belongs(ana, "p2p2")
	if list := d.profiles(identity.DeviceID{}); of(list, "DIRECT-an") != nil || of(list, "DIRECT-nu") == nil {
		t.Errorf("the profiles are %v", list)
	}

	// Cleo knows the key of our group, so that it goes with her trust.
	if err := a.trust.Block(cleo); err != nil {
		t.Fatal(err)
	}
	d.forget(t.Context(), cleo)
	if err := a.trust.Remove(ana); err != nil {
		t.Fatal(err)
	}
	d.forget(t.Context(), ana)
	if list := d.profiles(identity.DeviceID{}); len(list) != 0 {
		t.Errorf("the profiles that are left are %v", list)
	}
}
