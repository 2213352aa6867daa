package link

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Why a link is not used. Those that other code looks for have names.
const (
	whyNoAddress = "no address yet"
	whyNoCarrier = "no carrier"
	whyLoopback  = "leads to no other device"
)

// usableMax bounds the links that are used at once: each costs sockets and servers, and each server hears the others. Groups come
// first, and then the links that have been there longest.
const usableMax = 16

// parentsMax bounds how far links are followed to what they lie on: a VLAN on a bond on two cards is three.
const parentsMax = 8

// table is the kernel's list of links.
type table struct {
	links  map[int]netlink.Link
	radios map[int]uint32
	ports  map[int][]netlink.Link // by the index of the bridge or bond
}

func newTable(links []netlink.Link, radios map[int]uint32) table {
	t := table{links: map[int]netlink.Link{}, radios: radios, ports: map[int][]netlink.Link{}}
	for _, l := range links {
		a := l.Attrs()
		t.links[a.Index] = l
		if a.MasterIndex != 0 {
			t.ports[a.MasterIndex] = append(t.ports[a.MasterIndex], l)
		}
	}
	return t
}

// assemble builds the view of one moment from the kernel's tables.
func assemble(links []netlink.Link, addrs []netlink.Addr, radios map[int]uint32, only []string) []Link {
	t := newTable(links, radios)
	prefixes := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := prefixOf(a); ok && ready(a) {
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], p)
		}
	}
	out := make([]Link, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		v := Link{
			Index: a.Index, Name: a.Name, Kind: classify(l, radios), HardwareAddr: slices.Clone(a.HardwareAddr), MTU: a.MTU,
			// Some drivers never report an operstate; RUNNING is then the carrier.
			Up:       a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0 && a.OperState != netlink.OperDormant,
			Prefixes: prefixes[a.Index],
		}
		sort.Slice(v.Prefixes, func(i, j int) bool {
			x, y := v.Prefixes[i], v.Prefixes[j]
			return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits())) < 0
		})
		v.Prefixes = slices.Compact(v.Prefixes)
		v.Why = t.whyNot(v, l, only)
		v.Usable = v.Why == ""
		out = append(out, v)
	}
	sort.Slice(out, func(i, j int) bool {
		x, y := out[i], out[j]
		return cmp.Compare(x.Index, y.Index) < 0
	})
	limit(out)
	return out
}

// limit takes back the use of links beyond usableMax.
func limit(links []Link) {
	used := 0
	for _, direct := range []bool{true, false} {
		for i := range links {
			l := &links[i]
			if !l.Usable || (l.Kind == Direct) != direct {
				continue
			}
			if used++; used > usableMax {
				l.Usable, l.Why = false, fmt.Sprintf("%d other links are used already", usableMax)
			}
		}
	}
}

// ready says that an address can be used now. One whose duplicate was found stays in the table, and belongs to somebody
// else.
func ready(a netlink.Addr) bool {
	return a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 || a.Flags&unix.IFA_F_OPTIMISTIC != 0
}

// whyNot returns why other devices are not looked for on a link, or "". A user's choice overrides what is only a judgement
// of ours, and not what makes a link useless.
func (t table) whyNot(v Link, l netlink.Link, only []string) string {
	a := l.Attrs()
	master := t.links[a.MasterIndex]
	parent := t.parent(l)
	chosen := len(only) > 0
	switch {
	case chosen && !slices.Contains(only, v.Name):
		return "not one of the interfaces chosen by the user"
	case v.Kind == Loopback:
		return whyLoopback
	case !chosen && v.Kind == Tunnel:
		return "VPN, tunnel or other point-to-point link"
	case !chosen && v.Kind == Virtual:
		return "made for containers, virtual machines or tests"
	case !chosen && v.Kind == Other:
		return "of a kind on which no devices are looked for"
	case !chosen && v.Kind == Bridge && !t.reaches(l, 0):
		return "bridge for virtual machines or containers"
	case !chosen && parent != nil && !t.reaches(parent, 0):
		return "lies on " + parent.Attrs().Name + ", which leads to no network card"
	case master != nil && master.Type() != "vrf":
		return "part of " + master.Attrs().Name
	case !chosen && a.RawFlags&unix.IFF_MULTICAST == 0:
		return "no multicast"
	case a.RawFlags&unix.IFF_UP == 0:
		return "down"
	case !v.Up:
		return whyNoCarrier
	case len(v.Prefixes) == 0:
		return whyNoAddress
	}
	return ""
}

// parent returns the link that a VLAN or the like lies on, nil when there is none or it is in another namespace.
func (t table) parent(l netlink.Link) netlink.Link {
	switch l.Type() {
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap":
	default:
		return nil
	}
	if l.Attrs().NetNsID >= 0 {
		return nil
	}
	return t.links[l.Attrs().ParentIndex]
}

// reaches says whether a link leads to a network card of this machine: it is one, or lies on one, or is a bridge that
// has one for a port. depth counts the links followed.
func (t table) reaches(l netlink.Link, depth int) bool {
	if depth > parentsMax {
		return false
	}
	switch classify(l, t.radios) {
	case Bridge:
		return slices.ContainsFunc(t.ports[l.Attrs().Index], func(p netlink.Link) bool { return t.reaches(p, depth+1) })
	case Ethernet, WiFi, Direct:
		p := t.parent(l)
		return p == nil || t.reaches(p, depth+1)
	}
	return false
}

// hostSideNames begin the names of veth links that container engines and virtual machine hosts keep on their own side, and of
// the host-only networks of hypervisors whose drivers look like network cards.
var hostSideNames = []string{"veth", "cali", "cilium", "lxc", "lxd", "cni", "ve-", "vb-", "vz-", "vnet", "fwpr", "fwln", "vmnet", "vboxnet"}

// classify tells what a link is from its kind in the kernel and, for radios, the interface type that nl80211 reports:
// names of group interfaces are cut and numbered by the supplicant and cannot be relied on.
func classify(l netlink.Link, radios map[int]uint32) Kind {
	a := l.Attrs()
	if a.RawFlags&unix.IFF_LOOPBACK != 0 {
		return Loopback
	}
	if iftype, ok := radios[a.Index]; ok {
		if iftype == nl80211IftypeP2PClient || iftype == nl80211IftypeP2PGO {
			return Direct
		}
		return WiFi
	}
	hostSide := slices.ContainsFunc(hostSideNames, func(prefix string) bool { return strings.HasPrefix(a.Name, prefix) })
	switch l.Type() {
	case "bridge":
		return Bridge
	case "dummy", "ifb", "nlmon", "vcan", "vxcan", "netdevsim", "vrf", "macvtap", "ipvtap":
		return Virtual
	case "ipvlan":
		// Its parent has the same hardware address and is the one to use, unless that is out of reach of this namespace.
		if a.NetNsID < 0 {
			return Virtual
		}
		return Ethernet
	case "tun", "tuntap", "wireguard", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan", "ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm",
		"vxlan", "geneve", "bareudp", "gtp", "amt", "ppp", "ovpn", "wwan", "rmnet":
		return Tunnel
	}
	if a.RawFlags&unix.IFF_POINTOPOINT != 0 || a.EncapType == "ppp" || strings.HasPrefix(a.EncapType, "tunnel") {
		return Tunnel
	}
	switch l.Type() {
	case "veth", "netkit", "device":
		switch {
		case a.EncapType != "ether":
			return Other
		case hostSide:
			return Virtual
		}
		return Ethernet
	case "vlan", "macvlan", "bond", "team", "hsr", "dsa":
		return Ethernet
	}
	return Other
}
