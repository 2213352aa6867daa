package link

import (
	"cmp"
	"errors"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often an interrupted dump is repeated before its data is used as it is.
const dumpTries = 5

// dump reads a kernel table. The kernel marks a dump as interrupted when the table changed meanwhile, and the library then
// gives the data together with the error; our own changes are enough to cause it. The resync of the monitor heals what
// the last try may have missed.
func dump[T any](read func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		rows, err := read()
		if err == nil || errors.Is(err, netlink.ErrDumpInterrupted) && try == dumpTries {
			return rows, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, err
		}
	}
}

// read returns all links sorted by index. only is the list of names that a user allows, or empty.
func read(only []string) ([]Link, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	return assemble(links, addrs, wireless(), only), nil
}

// assemble builds the view of one moment from the kernel's tables.
func assemble(links []netlink.Link, addrs []netlink.Addr, radios map[int]uint32, only []string) []Link {
	masters := map[int]netlink.Link{}
	for _, l := range links {
		masters[l.Attrs().Index] = l
	}
	// A bridge stands for the machine's own card when one of its ports is a card.
	cards := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		if k := classify(l, radios); a.MasterIndex != 0 && (k == Ethernet || k == WiFi) {
			cards[a.MasterIndex] = true
		}
	}
	prefixes := map[int][]netip.Prefix{}
	for _, a := range addrs {
		// DADFAILED addresses stay in the table, and belong to somebody else.
		if a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0 {
			continue
		}
		if p, ok := prefixOf(a); ok {
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
		slices.SortFunc(v.Prefixes, func(x, y netip.Prefix) int {
			return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
		})
		v.Prefixes = slices.Compact(v.Prefixes)
		v.Why = whyNot(v, a, masters[a.MasterIndex], cards[a.Index], only)
		v.Usable = v.Why == ""
		out = append(out, v)
	}
	slices.SortFunc(out, func(x, y Link) int { return cmp.Compare(x.Index, y.Index) })
	return out
}

func prefixOf(a netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), true
}

// whyNot returns why other devices are not looked for on a link, or "". card says that the link is a bridge with a card in it.
func whyNot(v Link, a *netlink.LinkAttrs, master netlink.Link, card bool, only []string) string {
	chosen := len(only) > 0
	switch {
	case chosen && !slices.Contains(only, v.Name):
		return "not one of the interfaces chosen by the user"
	case v.Kind == Loopback:
		return "loopback"
	case !chosen && v.Kind == Bridge && !card:
		return "bridge for virtual machines or containers"
	case !chosen && (v.Kind == Virtual || v.Kind == Tunnel || v.Kind == Other):
		return v.Kind.String() + " link"
	case master != nil && master.Type() != "vrf":
		return "part of " + master.Attrs().Name
	case a.RawFlags&unix.IFF_MULTICAST == 0:
		return "no multicast"
	case a.RawFlags&unix.IFF_UP == 0:
		return "down"
	case !v.Up:
		return "no carrier"
	case len(v.Prefixes) == 0:
		return "no address yet"
	}
	return ""
}

// containerNames begin the names of veth links that container engines keep on their host's side, and of the host-only
// networks of hypervisors whose drivers look like network cards.
var containerNames = []string{"veth", "cali", "cilium", "lxc", "cni", "vmnet", "vboxnet"}

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
	named := func(prefix string) bool { return strings.HasPrefix(a.Name, prefix) }
	switch l.Type() {
	case "bridge":
		return Bridge
	case "veth", "netkit":
		if slices.ContainsFunc(containerNames, named) {
			return Virtual
		}
		return Ethernet
	case "dummy", "ifb", "nlmon", "vcan", "vxcan", "netdevsim", "vrf", "ipvlan", "macvtap", "ipvtap":
		return Virtual
	case "vlan", "macvlan", "bond", "team", "hsr", "dsa":
		return Ethernet
	case "device":
		switch {
		case a.EncapType == "ppp" || a.EncapType == "tunnel":
			return Tunnel
		case a.EncapType != "ether":
			return Other
		case slices.ContainsFunc(containerNames, named):
			return Virtual
		}
		return Ethernet
	case "can", "ipoib":
		return Other
	}
	return Tunnel
}

// nl80211 (include/uapi/linux/nl80211.h).
const (
	nl80211CmdGetInterface = 5
	nl80211AttrIfindex     = 3
	nl80211AttrIftype      = 5

	nl80211IftypeP2PClient = 8
	nl80211IftypeP2PGO     = 9
)

// wireless returns the nl80211 interface type of each radio link by ifindex. A kernel without wireless has none.
func wireless() map[int]uint32 {
	// Asking the kernel for the family would load cfg80211 where it is not loaded: without this folder no radio is there.
	if _, err := os.Stat("/sys/class/ieee80211"); err != nil {
		return nil
	}
	family, err := netlink.GenlFamilyGet("nl80211")
	if err != nil {
		return nil
	}
	out := map[int]uint32{}
	for range dumpTries {
		req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_DUMP)
		req.AddData(&nl.Genlmsg{Command: nl80211CmdGetInterface})
		msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
		for _, m := range msgs {
			if index, iftype, ok := parseInterface(m); ok {
				out[index] = iftype
			}
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out
}

func parseInterface(m []byte) (index int, iftype uint32, ok bool) {
	if len(m) < nl.SizeofGenlmsg {
		return 0, 0, false
	}
	for kind, value := range attributes(m[nl.SizeofGenlmsg:]) {
		switch {
		case kind == nl80211AttrIfindex && len(value) == 4:
			index = int(nl.NativeEndian().Uint32(value))
		case kind == nl80211AttrIftype && len(value) == 4:
			iftype, ok = nl.NativeEndian().Uint32(value), true
		}
	}
	return index, iftype, ok && index > 0
}

// attributes walks netlink attributes, as far as they are whole. The library's own parser panics when the last one lacks its
// padding.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(nl.NativeEndian().Uint16(b))
			kind := nl.NativeEndian().Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if n < unix.SizeofRtAttr || n > len(b) || !yield(kind, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(len(b), (n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
		}
	}
}

// neighbourKeys are the per-link settings that the kernel keeps with its neighbour tables.
var neighbourKeys = []string{"retrans_time_ms", "mcast_solicit"}

// sysctl is the value of a per-link setting, such as ("ipv6", "wlan0", "accept_ra").
func sysctl(family, ifname, key string) (string, error) {
	raw, err := os.ReadFile(sysctlPath(family, ifname, key))
	return strings.TrimSpace(string(raw)), err
}

func setSysctl(family, ifname, key, value string) error {
	return os.WriteFile(sysctlPath(family, ifname, key), []byte(value), 0)
}

func sysctlPath(family, ifname, key string) string {
	kind := "conf"
	if slices.Contains(neighbourKeys, key) {
		kind = "neigh"
	}
	return filepath.Join("/proc/sys/net", family, kind, ifname, key)
}
