package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OwnerLinkLocal is the address that a group owner has on its group link beside its own, so that a client can dial it
// before it knows anything else: a rendezvous, not an identity.
var OwnerLinkLocal = netip.MustParseAddr("fe80::1")

// addrGenModeNone keeps the kernel from making a link-local address of its own (IN6_ADDR_GEN_MODE_NONE).
const addrGenModeNone = "1"

// GroupSpec names the interface of a group, and what it is to be.
type GroupSpec struct {
	Ifname string
	Index  int
	Owner  bool         // we are the group owner: fe80::1 is ours
	V4     netip.Prefix // our IPv4 address with its prefix length; the zero value means none
}

// GroupLink is a group interface with our addresses on it. Close puts it back.
type GroupLink struct {
	book  *Book
	at    entry // which link
	local netip.Addr

	mu     sync.Mutex
	closed bool // guarded by mu
}

// LinkLocal returns our own link-local address, with the interface name as its zone. It is the zero Addr where IPv6 is off.
func (g *GroupLink) LinkLocal() netip.Addr { return g.local }

// Close takes our addresses off the link and puts back every setting that still has our value. It returns nil when the link
// is gone, and may be called again when it failed. It closes the link for every GroupLink of the same interface.
func (g *GroupLink) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	if e, ok := g.book.find(g.at); ok {
		if err := e.undo(); err != nil {
			return fmt.Errorf("link: put %s back: %w", g.at.Ifname, err)
		}
		if err := g.book.drop(e); err != nil {
			return err
		}
	}
	g.closed = true
	return nil
}

// EnsureGroup makes a group interface ready: no address generation by the kernel, our own fe80::/64 address made from
// the hardware address (RFC 4291 appendix A), fe80::1/64 too for the owner, both without duplicate address detection,
// the given IPv4 address without any gateway, in a routing table of its own so that no other link in the same network
// suffers, no router advertisements, no forwarding, and the link up. It takes about a millisecond and waits for nothing. It may be called again, for instance when an IPv4 address became known: what is
// there stays, and IPv4 addresses that an earlier call added and this one does not name are removed.
//
// ErrNotFound: the interface vanished. ErrDenied: no CAP_NET_ADMIN. ErrNoIPv6: neither kind of address is possible.
// ErrTaken: another link of this machine has the IPv4 address.
// After an error nothing of this call is left, nor of earlier calls for the same interface.
func (b *Book) EnsureGroup(ctx context.Context, spec GroupSpec) (*GroupLink, error) {
	g, err := b.ensure(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("link: set up group interface %s: %w", spec.Ifname, err)
	}
	return g, nil
}

func (b *Book) ensure(ctx context.Context, spec GroupSpec) (*GroupLink, error) {
	if spec.V4.IsValid() && !spec.V4.Addr().Is4() {
		return nil, fmt.Errorf("%s is not an IPv4 address", spec.V4)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := netlink.LinkByIndex(spec.Index)
	if err != nil {
		return nil, found(err)
	}
	here, err := place()
	if err != nil {
		return nil, err
	}
	here.Index, here.Ifname = spec.Index, l.Attrs().Name
	g := &GroupLink{book: b, at: here}
	v6 := ipv6On(here.Ifname)
	if !v6 && !spec.V4.IsValid() {
		return nil, ErrNoIPv6
	}
	if taken, err := ownElsewhere(spec.V4.Addr(), spec.Index); err != nil || taken {
		return nil, errors.Join(cmp.Or(err, error(ErrTaken)), g.Close())
	}
	if err := b.apply(l, here, spec, v6); err != nil {
		err = found(err)
		return nil, errors.Join(err, g.Close())
	}
	if v6 {
		g.local = LocalAddress(l.Attrs().HardwareAddr).WithZone(here.Ifname)
	}
	return g, nil
}

// apply records and then makes the changes that are still missing.
func (b *Book) apply(l netlink.Link, here entry, spec GroupSpec, v6 bool) error {
	e, _ := b.find(here)
	present, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	if v6 && LocalAddress(l.Attrs().HardwareAddr) == (netip.Addr{}) {
		return fmt.Errorf("hardware address %q gives no link-local address", l.Attrs().HardwareAddr)
	}
	want := wanted(l.Attrs().HardwareAddr, spec, v6)
	stale := e.forget(want)
	for _, p := range want {
		if !usable(present, p) && !slices.Contains(e.Addresses, p) {
			e.Addresses = append(e.Addresses, p)
		}
	}
	for _, s := range settings(v6) {
		e.change(here.Ifname, s)
	}
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		e.BroughtUp = true
	}
	if err := b.put(e); err != nil {
		return err
	}
	for _, p := range stale {
		if err := e.withdraw(l, p); err != nil {
			return err
		}
	}
	for _, s := range e.Settings {
		if err := s.set(l); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	for _, p := range want {
		if err := ensureAddress(l, present, p); err != nil {
			return fmt.Errorf("add %s: %w", p, err)
		}
		// An address that was there before us has the routes that its owner gave it.
		if p.Addr().Is4() && slices.Contains(e.Addresses, p) {
			if err := e.private(p).ensure(); err != nil {
				return fmt.Errorf("route %s: %w", p, err)
			}
		}
	}
	return nil
}

// ownElsewhere says whether an IPv4 address is on another link of this machine.
func ownElsewhere(a netip.Addr, index int) (bool, error) {
	if !a.IsValid() {
		return false, nil
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	return slices.ContainsFunc(addrs, func(o netlink.Addr) bool {
		p, ok := prefixOf(o)
		return ok && p.Addr() == a && o.LinkIndex != index
	}), err
}

// wanted lists our addresses on the link.
func wanted(mac net.HardwareAddr, spec GroupSpec, v6 bool) []netip.Prefix {
	var out []netip.Prefix
	if v6 {
		out = append(out, netip.PrefixFrom(LocalAddress(mac), 64))
		if spec.Owner {
			out = append(out, netip.PrefixFrom(OwnerLinkLocal, 64))
		}
	}
	if spec.V4.IsValid() {
		out = append(out, spec.V4)
	}
	return out
}

// forget takes addresses that are no longer wanted out of the record and returns them.
func (e *entry) forget(want []netip.Prefix) (stale []netip.Prefix) {
	e.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), func(p netip.Prefix) bool {
		if slices.Contains(want, p) {
			return false
		}
		stale = append(stale, p)
		return true
	})
	return stale
}

// settings are the values a group link needs: a peer must become neither our router nor, through us, anybody's.
func settings(v6 bool) []setting {
	out := []setting{{Family: "ipv4", Key: "forwarding", New: "0"}, {Family: "ipv4", Key: "arp_ignore", New: "1"}}
	if v6 {
		out = append(out,
			setting{Family: "ipv6", Key: "disable_ipv6", New: "0"},
			setting{Family: "ipv6", Key: "addr_gen_mode", New: addrGenModeNone},
			setting{Family: "ipv6", Key: "accept_ra", New: "0"},
			setting{Family: "ipv6", Key: "autoconf", New: "0"},
			setting{Family: "ipv6", Key: "forwarding", New: "0"},
			// The first neighbour solicitation on a new group is usually lost: the client may speak before the owner lets it.
			// The kernel would ask again only after a second.
			setting{Family: "ipv6", Key: "retrans_time_ms", New: "100"},
			setting{Family: "ipv6", Key: "mcast_solicit", New: "20"})
	}
	return out
}

// change records the value before ours, once.
func (e *entry) change(ifname string, s setting) {
	old, err := sysctl(s.Family, ifname, s.Key)
	if err != nil || old == s.New {
		return
	}
	same := func(o setting) bool { return o.Family == s.Family && o.Key == s.Key }
	if slices.ContainsFunc(e.Settings, same) {
		return
	}
	s.Old = old
	e.Settings = append(e.Settings, s)
}

// set makes one setting. The address generation mode goes over netlink, which also works where /proc/sys is read-only.
func (s setting) set(l netlink.Link) error {
	if s.Key == "addr_gen_mode" {
		return netlink.LinkSetIP6AddrGenMode(l, int(s.New[0]-'0'))
	}
	if now, err := sysctl(s.Family, l.Attrs().Name, s.Key); err == nil && now == s.New {
		return nil
	}
	return setSysctl(s.Family, l.Attrs().Name, s.Key, s.New)
}

// usable says that an address is on the link and not tentative.
func usable(present []netlink.Addr, p netip.Prefix) bool {
	return slices.ContainsFunc(present, func(a netlink.Addr) bool {
		q, ok := prefixOf(a)
		return ok && q == p && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
	})
}

func ensureAddress(l netlink.Link, present []netlink.Addr, p netip.Prefix) error {
	if usable(present, p) {
		return nil
	}
	a := &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NOPREFIXROUTE}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
		a.Scope = unix.RT_SCOPE_LINK
		// The kernel may have made the same address and still be probing for it; replacing it would leave it tentative.
		if err := netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
	}
	return netlink.AddrReplace(l, a)
}

// LocalAddress returns the link-local address that EnsureGroup gives an interface with this hardware address, without a zone:
// modified EUI-64, as the kernel makes it. It is the zero Addr when mac has not six bytes.
func LocalAddress(mac net.HardwareAddr) netip.Addr {
	if len(mac) != 6 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// ipv6On says whether the kernel can do IPv6 on a link. What was turned off for this link alone may be turned on again; what
// the administrator turned off for all links stays off.
func ipv6On(ifname string) bool {
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/" + ifname); err != nil {
		return false
	}
	all, err := sysctl("ipv6", "all", "disable_ipv6")
	return err == nil && all == "0"
}

func found(err error) error {
	if gone(err) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	}
	return denied(err)
}
