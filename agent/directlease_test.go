package agent

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"nigh/agent/identity"
	"nigh/link"
	"nigh/link/dhcp"
	"nigh/wpa"
)

// What plain members of a persistent group had is known to its next run, in whatever subnet that is, and forgotten with it.
func TestLeasesBelongToTheirGroup(t *testing.T) {
	a := newBookAgent(t)
	d := newDirect(a)
	a.direct = d
	phone, tablet := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	us := wpa.Group{ID: "1", Ifname: "p2p0", Role: wpa.Owner, SSID: "DIRECT-us", Persistent: true}
	once := us
	once.SSID, once.Persistent = "DIRECT-once", false
	given := []dhcp.Binding{{HardwareAddr: phone, Addr: netip.MustParseAddr("192.168.49.150")}, {HardwareAddr: tablet, Addr: netip.MustParseAddr("192.168.49.20")}}
	d.saveGroup(wpa.Persistent{SSID: us.SSID, BSSID: net.HardwareAddr{2, 0, 0, 0, 0, 9}, PSK: "ours", Owner: true})
	d.saveLeases(us, given)
	d.saveLeases(once, given)

	had := d.leases(us, netip.MustParsePrefix("192.168.52.0/24"))
	if len(had) != 2 || had[0].HardwareAddr.String() != phone.String() || had[0].Addr.String() != "192.168.52.150" || had[1].Addr.String() != "192.168.52.20" {
		t.Errorf("the next run knows %v", had)
	}
	if had := d.leases(once, netip.MustParsePrefix("192.168.49.0/24")); len(had) != 0 {
		t.Errorf("of a group that is not kept it knows %v", had)
	}
	// What somebody wrote into the database gives no address outside the pool.
	if err := a.store.Bucket(bucketLeases).Put([]byte("DIRECT-odd"), []savedLease{{"02:00:00:00:00:03", 1}, {"02:00:00:00:00:04", 255}, {"no address", 20}}); err != nil {
		t.Fatal(err)
	}
	odd := us
	odd.SSID = "DIRECT-odd"
	if had := d.leases(odd, netip.MustParsePrefix("192.168.49.0/24")); len(had) != 0 {
		t.Errorf("from a spoiled record it knows %v", had)
	}
	d.dropGroup(wpa.Persistent{SSID: us.SSID, BSSID: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Owner: true})
	if list := d.profiles(identity.DeviceID{}); len(list) != 0 {
		t.Fatalf("the group is still there: %v", list)
	}
	if had := d.leases(us, netip.MustParsePrefix("192.168.49.0/24")); len(had) != 0 {
		t.Errorf("of a group that was forgotten it knows %v", had)
	}
}

// Only what the radio calls a station of the group is one.
func TestMembersAreStations(t *testing.T) {
	a := newBookAgent(t)
	phone := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	g := &directGroup{d: newDirect(a), group: wpa.Group{Stations: []net.HardwareAddr{phone}, Members: []net.HardwareAddr{{2, 0, 0, 0, 0, 2}}}}
	for mac, want := range map[string]bool{"02:00:00:00:00:01": true, "02:00:00:00:00:02": false, "02:00:00:00:00:03": false} {
		m, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		if g.member(m) != want {
			t.Errorf("%s is a member: %v", mac, !want)
		}
	}
}

func TestOwnAddressIsRefused(t *testing.T) {
	a := newBookAgent(t)
	a.links = link.NewMonitor(link.Config{})
	if err := a.ownAddress(netip.MustParsePrefix("192.168.49.20/24"), "p2p0"); err != nil {
		t.Errorf("before the first reading of the links: %v", err)
	}
	ctx := t.Context()
	done := make(chan error, 1)
	go func() { done <- a.links.Run(ctx) }()
	<-a.links.Changes()
	if err := a.ownAddress(netip.MustParsePrefix("127.0.0.1/24"), "p2p0"); !errors.Is(err, errOwnAddress) {
		t.Errorf("the loopback's own: %v", err)
	}
	if err := a.ownAddress(netip.MustParsePrefix("127.0.0.1/24"), "lo"); err != nil {
		t.Errorf("on its own link: %v", err)
	}
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
