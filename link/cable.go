package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cableGrace is how long a cable may carry without an address before it gets one of ours: time for whoever configures it. The
// kernel's own link-local address takes 1.7 to 2.5 s from the carrier, because it is probed for first.
const cableGrace = 1500 * time.Millisecond

// Cables gives a link-local IPv6 address to Ethernet links that carry and have no address at all: two machines and a cable,
// or a switch without a DHCP server. The address is made from the hardware address, is not probed for, and is recorded in the
// book and taken away at the end of Run, when the link stops carrying, or when a program begins to manage the link.
//
// It touches nothing else, and no link that NetworkManager, systemd-networkd, dhcpcd, ConnMan or ifupdown manages, that is part
// of a bridge or bond, that a VLAN or the like lies on, or on which the administrator turned IPv6 off. There is no IPv4 link-local
// addressing (RFC 3927): on a link without IPv6 and without DHCP nothing is found. It brings no link up.
//
// Create it with [NewCables], tell it the links with Set, and call Run once.
type Cables struct {
	book   *Book
	logger *slog.Logger
	grace  time.Duration
	run    string // /run

	poke chan struct{} // capacity 1: wanted differs

	mu     sync.Mutex
	wanted []Link // guarded by mu

	waiting map[int]time.Time  // by ifindex: when it gets an address; used by Run only
	given   map[int]*GroupLink // used by Run only
}

// NewCables returns a Cables that records in the book what it does. A nil logger discards.
func NewCables(book *Book, logger *slog.Logger) *Cables {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Cables{book: book, logger: logger, grace: cableGrace, run: "/run", poke: make(chan struct{}, 1),
		waiting: map[int]time.Time{}, given: map[int]*GroupLink{}}
}

// Set tells all links as a [Monitor] sees them. It does not block, and may be called from any goroutine.
func (c *Cables) Set(links []Link) {
	copied := clone(links)
	c.mu.Lock()
	c.wanted = copied
	c.mu.Unlock()
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, takes its addresses away and returns nil. Without CAP_NET_ADMIN it does nothing. It works in
// the network namespace of the calling thread.
func (c *Cables) Run(ctx context.Context) error {
	if has, err := capEff("/proc"); err != nil || has&(1<<unix.CAP_NET_ADMIN) == 0 {
		c.logger.Debug("Cables without addresses are left alone: not permitted to change links", "err", err)
		<-ctx.Done()
		return nil
	}
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			for index := range c.given {
				c.take(index)
			}
			return nil
		case <-c.poke:
			c.mu.Lock()
			links := c.wanted
			c.mu.Unlock()
			c.follow(links)
		case <-due.C:
			c.serve(ctx)
		}
		if next, ok := c.next(); ok {
			due.Reset(time.Until(next))
		}
	}
}

func (c *Cables) next() (next time.Time, ok bool) {
	for _, at := range c.waiting {
		if !ok || at.Before(next) {
			next, ok = at, true
		}
	}
	return next, ok
}

// follow notes which links need an address, and takes away what is needed no more.
func (c *Cables) follow(links []Link) {
	here := map[int]Link{}
	for _, l := range links {
		here[l.Index] = l
		_, waits := c.waiting[l.Index]
		switch bare := l.Kind == Ethernet && l.Why == whyNoAddress; {
		case !bare:
			delete(c.waiting, l.Index)
		case !waits:
			c.waiting[l.Index] = time.Now().Add(c.grace)
		}
	}
	for index := range c.waiting {
		if _, ok := here[index]; !ok {
			delete(c.waiting, index)
		}
	}
	for index := range c.given {
		if l, ok := here[index]; !ok || !l.Up || manager(c.run, index, l.Name) != "" {
			c.take(index)
		}
	}
}

// serve gives addresses to the links that waited long enough.
func (c *Cables) serve(ctx context.Context) {
	for index, at := range c.waiting {
		if time.Now().Before(at) {
			continue
		}
		delete(c.waiting, index)
		g, address, err := c.give(ctx, index)
		switch {
		case err == nil:
			c.given[index] = g
			c.logger.Info("Cable without an address got a link-local one", "ifname", g.at.Ifname, "address", address)
		case !errors.Is(err, ErrNotFound):
			c.logger.Debug("Cable without an address is left alone", "ifindex", index, "err", err)
		}
	}
}

func (c *Cables) take(index int) {
	g := c.given[index]
	delete(c.given, index)
	if err := g.Close(); err != nil {
		c.logger.Warn("Taking the address of a cable away failed", "ifname", g.at.Ifname, "err", err)
	}
}

// give adds the address, unless the link as it is now must be left alone.
func (c *Cables) give(ctx context.Context, index int) (*GroupLink, netip.Addr, error) {
	if err := ctx.Err(); err != nil {
		return nil, netip.Addr{}, err
	}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == index })
	if i < 0 {
		return nil, netip.Addr{}, ErrNotFound
	}
	l := links[i]
	if why := c.hands(l, links); why != "" {
		return nil, netip.Addr{}, fmt.Errorf("%s: %s", l.Attrs().Name, why)
	}
	here, err := place()
	if err != nil {
		return nil, netip.Addr{}, err
	}
	here.Index, here.Ifname = index, l.Attrs().Name
	p := netip.PrefixFrom(cableAddress(l.Attrs().HardwareAddr), 64)
	e, _ := c.book.find(here)
	if !slices.Contains(e.Addresses, p) {
		e.Addresses = append(slices.Clone(e.Addresses), p)
	}
	g := &GroupLink{book: c.book, at: here, local: p.Addr().WithZone(here.Ifname)}
	if err := c.book.put(e); err != nil {
		return nil, netip.Addr{}, err
	}
	a := &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD, Scope: unix.RT_SCOPE_LINK}
	if err := netlink.AddrReplace(l, a); err != nil {
		return nil, netip.Addr{}, errors.Join(found(err), g.Close())
	}
	return g, p.Addr(), nil
}

// hands says why our hands stay off a link, "" when it may get an address.
func (c *Cables) hands(l netlink.Link, all []netlink.Link) string {
	a := l.Attrs()
	if by := manager(c.run, a.Index, a.Name); by != "" {
		return by + " manages it"
	}
	if kind := l.Type(); kind != "device" && kind != "veth" || len(a.HardwareAddr) != 6 || a.MasterIndex != 0 {
		return "no link of its own"
	}
	t := newTable(all, nil)
	for _, o := range all {
		if p := t.parent(o); p != nil && p.Attrs().Index == a.Index {
			return o.Attrs().Name + " lies on it"
		}
	}
	if off, err := sysctl("ipv6", a.Name, "disable_ipv6"); err != nil || off != "0" || !ipv6On(a.Name) {
		return "IPv6 is off on it"
	}
	return ""
}

// cableAddress makes a link-local address that is no other program's: the kernel's own is made otherwise.
func cableAddress(mac net.HardwareAddr) netip.Addr {
	sum := sha256.Sum256(append([]byte("nigh cable "), mac...))
	raw := [16]byte{0: 0xfe, 1: 0x80}
	copy(raw[8:], sum[:8])
	return netip.AddrFrom16(raw)
}
