package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVariable); dir != "" {
		crashing(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

const running = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_MULTICAST

func attrs(index int, name string, flags uint32, master int) netlink.LinkAttrs {
	return netlink.LinkAttrs{Index: index, Name: name, RawFlags: flags, MasterIndex: master, EncapType: "ether", MTU: 1500,
		OperState: netlink.OperUp, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}}
}

func addr(index int, prefix string, flags int) netlink.Addr {
	return netlink.Addr{LinkIndex: index, IPNet: ipNet(netip.MustParsePrefix(prefix)), Flags: flags}
}

func on(parent int, a netlink.LinkAttrs) netlink.LinkAttrs {
	a.ParentIndex, a.NetNsID = parent, -1
	return a
}

func elsewhere(a netlink.LinkAttrs) netlink.LinkAttrs {
	a.ParentIndex, a.NetNsID = 2, 0
	return a
}

// The links of a laptop with everything on it, as the kernel would list them.
func TestAssembleClassifies(t *testing.T) {
	device := func(a netlink.LinkAttrs) netlink.Link { return &netlink.Device{LinkAttrs: a} }
	veth := func(a netlink.LinkAttrs) netlink.Link { return &netlink.Veth{LinkAttrs: a} }
	ppp := attrs(15, "ppp0", running, 0)
	ppp.EncapType = "ppp"
	dormant := attrs(16, "wlan1", running, 0)
	dormant.OperState = netlink.OperDormant
	links := []netlink.Link{
		device(attrs(1, "lo", running|unix.IFF_LOOPBACK, 0)),
		device(attrs(2, "eth0", running, 0)),
		device(attrs(3, "wlan0", running, 0)),
		device(attrs(4, "p2p-wlp0s20-0", running, 0)),
		&netlink.Bridge{LinkAttrs: attrs(5, "docker0", running, 0)},
		veth(attrs(6, "veth12ab", running, 5)),
		&netlink.Bridge{LinkAttrs: attrs(7, "br0", running, 0)},
		device(attrs(8, "enp3s0", running, 7)),
		veth(attrs(9, "eth9", running, 0)),
		&netlink.Wireguard{LinkAttrs: attrs(10, "wg0", running, 0)},
		&netlink.Tuntap{LinkAttrs: attrs(11, "tun0", running, 0)},
		&netlink.Dummy{LinkAttrs: attrs(12, "dummy0", running, 0)},
		device(attrs(13, "eth1", unix.IFF_UP|unix.IFF_MULTICAST, 0)),
		device(attrs(14, "vmnet8", running, 0)),
		device(ppp),
		device(dormant),
		device(attrs(17, "eth2", running, 0)),
		device(attrs(18, "eth3", unix.IFF_MULTICAST, 0)),
		veth(attrs(19, "cali01234", running, 0)),
		// What a container sees: the card that its link lies on is not in its namespace.
		&netlink.IPVlan{LinkAttrs: elsewhere(attrs(20, "eth20", running, 0))},
		&netlink.Macvlan{LinkAttrs: elsewhere(attrs(21, "eth21", running, 0))},
		&netlink.Vlan{LinkAttrs: on(5, attrs(22, "docker0.7", running, 0))},
		&netlink.Vlan{LinkAttrs: on(2, attrs(23, "eth0.7", running, 0))},
		&netlink.IPVlan{LinkAttrs: on(2, attrs(24, "ipvl0", running, 0))},
		&netlink.Bond{LinkAttrs: attrs(25, "bond0", running, 0)},
		device(attrs(26, "enp5s0", running, 25)),
		&netlink.Vlan{LinkAttrs: on(25, attrs(27, "bond0.7", running, 0))},
		&netlink.Bridge{LinkAttrs: attrs(28, "br7", running, 0)},
		&netlink.Vlan{LinkAttrs: on(25, attrs(29, "bond0.8", running, 28))},
		device(attrs(30, "slip0", running|unix.IFF_POINTOPOINT, 0)),
		// A ring that no kernel makes, and that must not hang us.
		&netlink.Vlan{LinkAttrs: on(32, attrs(31, "ring0", running, 0))},
		&netlink.Vlan{LinkAttrs: on(31, attrs(32, "ring1", running, 0))},
	}
	addrs := []netlink.Addr{
		addr(1, "127.0.0.1/8", 0), addr(2, "10.0.0.2/24", 0), addr(2, "fe80::2/64", unix.IFA_F_TENTATIVE), addr(3, "192.168.1.5/24", 0),
		addr(4, "fe80::4/64", unix.IFA_F_NODAD), addr(5, "172.17.0.1/16", 0), addr(6, "fe80::6/64", 0), addr(7, "10.7.0.1/24", 0), addr(8, "fe80::8/64", 0),
		addr(9, "fe80::9/64", unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC), addr(10, "10.9.0.1/24", 0), addr(11, "10.8.0.1/24", 0), addr(12, "10.6.0.1/24", 0),
		addr(13, "10.5.0.1/24", 0), addr(14, "10.4.0.1/24", 0), addr(16, "10.3.0.1/24", 0), addr(17, "fe80::17/64", unix.IFA_F_TENTATIVE),
		addr(19, "fe80::19/64", 0),
	}
	for i := 20; i <= 32; i++ {
		addrs = append(addrs, addr(i, fmt.Sprintf("fe80::%d/64", i), 0))
	}
	radios := map[int]uint32{3: 2, 4: nl80211IftypeP2PGO, 16: 2}
	const (
		virtual = "made for containers, virtual machines or tests"
		tunnel  = "VPN, tunnel or other point-to-point link"
	)
	want := map[string]struct {
		kind Kind
		why  string
	}{
		"lo": {Loopback, whyLoopback}, "eth0": {Ethernet, ""}, "wlan0": {WiFi, ""}, "p2p-wlp0s20-0": {Direct, ""},
		"docker0":  {Bridge, "bridge for virtual machines or containers"},
		"veth12ab": {Virtual, virtual}, "br0": {Bridge, ""}, "enp3s0": {Ethernet, "part of br0"}, "eth9": {Ethernet, ""},
		"wg0": {Tunnel, tunnel}, "tun0": {Tunnel, tunnel}, "dummy0": {Virtual, virtual}, "eth1": {Ethernet, "no carrier"},
		"vmnet8": {Virtual, virtual}, "ppp0": {Tunnel, tunnel}, "wlan1": {WiFi, "no carrier"}, "eth2": {Ethernet, "no address yet"},
		"eth3": {Ethernet, "down"}, "cali01234": {Virtual, virtual}, "eth20": {Ethernet, ""}, "eth21": {Ethernet, ""},
		"docker0.7": {Ethernet, "lies on docker0, which leads to no network card"}, "eth0.7": {Ethernet, ""}, "ipvl0": {Virtual, virtual},
		"bond0": {Ethernet, ""}, "enp5s0": {Ethernet, "part of bond0"}, "bond0.7": {Ethernet, ""}, "br7": {Bridge, ""}, "bond0.8": {Ethernet, "part of br7"},
		"slip0": {Tunnel, tunnel}, "ring0": {Ethernet, "lies on ring1, which leads to no network card"}, "ring1": {Ethernet, "lies on ring0, which leads to no network card"},
	}
	for _, l := range assemble(links, addrs, radios, nil) {
		w := want[l.Name]
		if l.Kind != w.kind || l.Why != w.why || l.Usable != (w.why == "") {
			t.Errorf("%s: kind %v, usable %v, why %q; want %v, %q", l.Name, l.Kind, l.Usable, l.Why, w.kind, w.why)
		}
	}
	for _, l := range assemble(links, addrs, radios, []string{"wg0", "docker0", "veth12ab", "lo"}) {
		if want := l.Name == "wg0" || l.Name == "docker0"; l.Usable != want {
			t.Errorf("with the choice of the user %s: usable %v, %q", l.Name, l.Usable, l.Why)
		}
	}
}

// A machine with hundreds of links uses some: its groups, and the oldest.
func TestLinksInUseAreBounded(t *testing.T) {
	var links []netlink.Link
	var addrs []netlink.Addr
	for i := 2; i < 302; i++ {
		links = append(links, &netlink.Device{LinkAttrs: attrs(i, fmt.Sprintf("eth%d", i), running, 0)})
		addrs = append(addrs, addr(i, "10.0.0.1/24", 0))
	}
	used := 0
	for _, l := range assemble(links, addrs, map[int]uint32{301: nl80211IftypeP2PGO}, nil) {
		if want := l.Index == 301 || l.Index < 2+usableMax-1; l.Usable != want || (l.Why == "") != want {
			t.Errorf("link %d: usable %v, %q", l.Index, l.Usable, l.Why)
		}
		if l.Usable {
			used++
		}
	}
	if used != usableMax {
		t.Errorf("%d links are used", used)
	}
}

func TestDifferencesNameWhatDiffers(t *testing.T) {
	p := netip.MustParsePrefix
	eth := Link{Index: 2, Name: "eth0", Kind: Ethernet, Up: true, Usable: true, Prefixes: []netip.Prefix{p("10.0.0.1/24")}}
	renamed, moved, down := eth, eth, eth
	renamed.Name = "lan0"
	moved.Prefixes = []netip.Prefix{p("10.0.0.2/24")}
	down.Up, down.Usable, down.Why = false, false, "no carrier"
	wifi := Link{Index: 3, Name: "wlan0", Kind: WiFi, Why: "down"}
	for _, c := range []struct {
		old, now []Link
		want     []string
	}{
		{[]Link{eth}, []Link{eth}, nil},
		{nil, []Link{eth}, []string{"eth0 added", "eth0 address 10.0.0.1/24 added"}},
		{[]Link{eth, wifi}, []Link{eth}, []string{"wlan0 removed"}},
		{[]Link{eth}, []Link{renamed}, []string{"eth0 renamed to lan0"}},
		{[]Link{eth}, []Link{moved}, []string{"eth0 address 10.0.0.2/24 added", "eth0 address 10.0.0.1/24 removed"}},
		{[]Link{eth}, []Link{down}, []string{"eth0 down", "eth0 not usable: no carrier"}},
	} {
		if d := cmp.Diff(c.want, differences(c.old, c.now), cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	}
}

// What happened while nobody looked is told at the next look, with all reasons up to a bound.
func TestChangesMerge(t *testing.T) {
	m := NewMonitor(Config{})
	m.publish([]string{"first"}, Change{Links: []Link{{Name: "old"}}})
	m.publish([]string{"second"}, Change{Links: []Link{{Name: "new"}}})
	if c := <-m.changes; c.Reason != "first; second" || len(c.Links) != 1 || c.Links[0].Name != "new" {
		t.Errorf("%+v", c)
	}
	m.publish([]string{"third"}, Change{})
	for range 1000 {
		m.publish([]string{"more"}, Change{})
	}
	if c := <-m.changes; c.Reason != "third; more; more; more; and more" || len(m.pending) > reasonsMax+1 {
		t.Errorf("%q, %d pending", c.Reason, len(m.pending))
	}
}

func TestDumpRetriesInterruptedReads(t *testing.T) {
	tries := 0
	rows, err := dump(func() ([]int, error) {
		tries++
		if tries < 3 {
			return []int{tries}, netlink.ErrDumpInterrupted
		}
		return []int{tries}, nil
	})
	if err != nil || tries != 3 || len(rows) != 1 || rows[0] != 3 {
		t.Errorf("rows %v, error %v after %d tries", rows, err, tries)
	}
	tries = 0
	rows, err = dump(func() ([]int, error) { tries++; return []int{tries}, netlink.ErrDumpInterrupted })
	if err != nil || tries != dumpTries || len(rows) != 1 {
		t.Errorf("always interrupted: rows %v, error %v after %d tries", rows, err, tries)
	}
	if _, err = dump(func() ([]int, error) { return nil, unix.EPERM }); !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v", err)
	}
}

// Messages as the kernel sends them: only those that can change what we know wake the monitor.
func TestMattersDropsBridgeAndScanMessages(t *testing.T) {
	info := func(family byte, attrs ...byte) []byte {
		return append(append([]byte{family}, make([]byte, unix.SizeofIfInfomsg-1)...), attrs...)
	}
	wireless := []byte{8, 0, unix.IFLA_WIRELESS, 0, 1, 2, 3, 4}
	name := []byte{8, 0, unix.IFLA_IFNAME, 0, 'e', 't', 'h', 0}
	for _, c := range []struct {
		what string
		kind uint16
		data []byte
		want bool
	}{
		{"link", unix.RTM_NEWLINK, info(unix.AF_UNSPEC, name...), true},
		{"link removed", unix.RTM_DELLINK, info(unix.AF_UNSPEC, name...), true},
		{"bridge port left", unix.RTM_DELLINK, info(unix.AF_BRIDGE, name...), false},
		{"wireless scan", unix.RTM_NEWLINK, info(unix.AF_UNSPEC, append(name, wireless...)...), false},
		{"address", unix.RTM_NEWADDR, nil, true},
		{"route", unix.RTM_NEWROUTE, info(unix.AF_UNSPEC), false},
		{"cut", unix.RTM_NEWLINK, []byte{0, 1}, false},
	} {
		if got := matters(c.kind, c.data); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestLinkLocalIsModifiedEUI64(t *testing.T) {
	got := LocalAddress(net.HardwareAddr{0x02, 0x42, 0xac, 0x11, 0x00, 0x02})
	if want := netip.MustParseAddr("fe80::42:acff:fe11:2"); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := LocalAddress(nil); got.IsValid() {
		t.Errorf("no hardware address gave %v", got)
	}
}

func TestFirstFree(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		taken []netip.Prefix
		want  string
	}{
		{nil, "192.168.49.0/24"},
		{[]netip.Prefix{p("192.168.49.7/32")}, "192.168.50.0/24"},
		{[]netip.Prefix{p("192.168.48.0/22")}, "192.168.52.0/24"},
		{[]netip.Prefix{p("192.168.0.0/16")}, "10.77.0.0/24"},
		{[]netip.Prefix{p("192.168.0.0/16"), p("10.77.0.0/23")}, "10.77.2.0/24"},
		{[]netip.Prefix{p("192.168.0.0/16"), p("10.0.0.0/8")}, ""},
	} {
		got, ok := firstFree(c.taken)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("taken %v: %v, %v; want %s", c.taken, got, ok, c.want)
		}
	}
}

func TestSentinelsMatchTheStandardOnes(t *testing.T) {
	if !errors.Is(ErrNotFound, fs.ErrNotExist) || !errors.Is(ErrDenied, fs.ErrPermission) {
		t.Error("ErrNotFound or ErrDenied matches nothing of io/fs")
	}
	for _, err := range []error{unix.EPERM, unix.EACCES, unix.EROFS} {
		if !errors.Is(denied(err), ErrDenied) {
			t.Errorf("%v is not ErrDenied", err)
		}
	}
	for _, err := range []error{unix.ENODEV, netlink.LinkNotFoundError{}} {
		if !errors.Is(found(err), ErrNotFound) {
			t.Errorf("%v is not ErrNotFound", err)
		}
	}
}
