package link

import (
	"testing"

	"golang.org/x/sys/unix"

	"nigh/lab"
)

// tunnel opens a TUN device, which carries for as long as the test runs.
func tunnel(t *testing.T, h *lab.Host, name string, flags uint16) {
	t.Helper()
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(flags | unix.IFF_NO_PI)
	// The device is made in the namespace of the thread that opens the file.
	err = h.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.IP("link", "set", name, "up")
}

// Real links of every kind that this kernel can make, each with an address and a carrier: only sensible ones are used, and the
// rest say why not.
func TestRealKinds(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	bridge := func(name string) { a.IP("link", "add", name, "up", "type", "bridge", "forward_delay", "0") }
	n.Cable(a, "eth0", b, "eth0")
	n.Cable(a, "eth1", b, "eth1")
	n.Cable(a, "eth2", b, "eth2")
	b.IP("link", "set", "eth2", "down")
	n.Cable(a, "eth3", b, "eth3")
	a.IP("link", "set", "eth3", "down")
	n.Cable(a, "vethdocker", b, "vethd")
	for _, name := range []string{"docker0", "virbr0", "br0", "empty0"} {
		bridge(name)
	}
	a.IP("address", "add", "172.17.0.1/16", "dev", "docker0")
	a.IP("link", "set", "vethdocker", "master", "docker0")
	tunnel(t, a, "vnet0", unix.IFF_TAP)
	a.IP("link", "set", "vnet0", "master", "virbr0")
	a.IP("link", "set", "eth1", "master", "br0")
	tunnel(t, a, "tun0", unix.IFF_TUN)
	tunnel(t, a, "tap0", unix.IFF_TAP)
	for _, name := range []string{"virbr0", "br0", "eth1", "tun0", "tap0", "vethdocker"} {
		a.IP("address", "add", "10.200.7.1/24", "dev", name)
	}
	a.IP("link", "add", "link", "eth0", "name", "mac0", "up", "type", "macvlan", "mode", "bridge")
	a.IP("link", "add", "link", "docker0", "name", "mac1", "up", "type", "macvlan", "mode", "bridge")
	a.IP("link", "add", "link", "eth0", "name", "tap1", "up", "type", "macvtap", "mode", "bridge")
	a.IP("link", "add", "name", "vx0", "up", "type", "vxlan", "id", "7", "dstport", "4789", "local", "127.0.0.1")
	a.IP("link", "add", "name", "ifb7", "up", "type", "ifb")
	for _, name := range []string{"mac0", "mac1", "tap1", "vx0", "ifb7"} {
		a.IP("address", "add", "10.201.7.1/24", "dev", name)
	}
	const virtual, vpn = "made for containers, virtual machines or tests", "VPN, tunnel or other point-to-point link"
	want := map[string]struct {
		kind Kind
		why  string
	}{
		"lo": {Loopback, whyLoopback}, "eth0": {Ethernet, ""}, "eth1": {Ethernet, "part of br0"}, "eth2": {Ethernet, whyNoCarrier}, "eth3": {Ethernet, "down"},
		"docker0": {Bridge, "bridge for virtual machines or containers"}, "virbr0": {Bridge, "bridge for virtual machines or containers"},
		"empty0": {Bridge, "bridge for virtual machines or containers"}, "br0": {Bridge, ""}, "vethdocker": {Virtual, virtual},
		"vnet0": {Tunnel, vpn}, "tun0": {Tunnel, vpn}, "tap0": {Tunnel, vpn}, "vx0": {Tunnel, vpn}, "ifb7": {Virtual, virtual}, "tap1": {Virtual, virtual},
		"mac0": {Ethernet, ""}, "mac1": {Ethernet, "lies on docker0, which leads to no network card"},
	}
	m := watch(t, a)
	// Carriers and addresses of the last links may come a moment later.
	expected := func(c Change) bool {
		ok := len(c.Links) == len(want)
		for _, l := range c.Links {
			w := want[l.Name]
			ok = ok && l.Kind == w.kind && l.Why == w.why && l.Usable == (w.why == "")
		}
		return ok
	}
	if now := m.Links(); !expected(Change{Links: now}) {
		await(t, m, expected)
	}
	// What the user names is used, whatever we think of it; what cannot work is not.
	var chosen []Link
	names := []string{"docker0", "tun0", "vnet0", "ifb7", "mac1", "eth1", "eth2", "lo"}
	if err := a.Do(func() (err error) { chosen, err = read(names); return err }); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{
		"docker0": "", "tun0": "", "ifb7": "", "mac1": "", "vnet0": "part of virbr0", "eth1": "part of br0", "eth2": whyNoCarrier, "lo": whyLoopback,
		"eth0": "not one of the interfaces chosen by the user",
	} {
		if l, _ := named(chosen, name); l.Why != why || l.Usable != (why == "") {
			t.Errorf("chosen %s: usable %v, %q; want %q", name, l.Usable, l.Why, why)
		}
	}
}
