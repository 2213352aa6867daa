package link

import (
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
