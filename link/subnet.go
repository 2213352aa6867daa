package link

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// defaultLike is the longest prefix that counts as a way of writing the default route: VPN programs split it into halves.
const defaultLike = 4

// FreeSubnet returns the first /24 of 192.168.49.0 to 192.168.63.0 and then 10.77.0.0 to 10.77.255.0 that overlaps no IPv4
// address and no route of this machine in any routing table; default routes do not count. 192.168.49.0/24 is what Android
// group owners always use. The error is ErrNoSubnet when all are taken.
func FreeSubnet() (netip.Prefix, error) {
	taken, err := networks(0)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("link: find a free subnet: %w", err)
	}
	p, ok := firstFree(taken)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("link: find a free subnet: %w", ErrNoSubnet)
	}
	return p, nil
}

func firstFree(taken []netip.Prefix) (netip.Prefix, bool) {
	free := func(p netip.Prefix) bool {
		for _, t := range taken {
			if t.Overlaps(p) {
				return false
			}
		}
		return true
	}
	for i := 49; i <= 63; i++ {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24); free(p) {
			return p, true
		}
	}
	for i := range 256 {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i), 0}), 24); free(p) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// networks returns the IPv4 networks this machine has an address in or a route to, but those of the link with the ifindex
// except.
func networks(except int) ([]netip.Prefix, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, err
	}
	// The iterator, because the list form drops the data of an interrupted dump.
	all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := dump(func() (out []netlink.Route, err error) {
		err = netlink.RouteListFilteredIter(netlink.FAMILY_V4, all, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			out = append(out, r)
			return true
		})
		return out, err
	})
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, ok := prefixOf(a); ok && a.LinkIndex != except {
			out = append(out, p.Masked())
		}
	}
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == except && except != 0 {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > defaultLike {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ones).Masked())
		}
	}
	return out, nil
}
