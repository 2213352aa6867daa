package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"nigh/link"
	"nigh/link/dhcp"
	"nigh/wpa"
)

// The addresses of a group: its owner has .1, the handshake gives .2 to .9 and the DHCP server the rest of these, so that
// the two never meet.
const (
	firstLease = 10
	lastLease  = 199
)

// bucketLeases holds, by the name of a persistent group of ours, which of its plain members had which address.
const bucketLeases = "leases"

// savedLease is one of them. Only the number within the subnet is kept: the next run may have to take another subnet.
type savedLease struct {
	MAC  string `json:"mac"`
	Host byte   `json:"host"`
}

// leases returns what members of a persistent group of ours had, in the subnet that it has now.
func (d *direct) leases(group wpa.Group, pool netip.Prefix) (given []dhcp.Binding) {
	if !group.Persistent {
		return nil
	}
	var saved []savedLease
	if err := d.a.store.Bucket(bucketLeases).Get([]byte(group.SSID), &saved); err != nil {
		return nil // there was none yet
	}
	for _, s := range saved {
		mac, err := net.ParseMAC(s.MAC)
		if err != nil || s.Host < firstLease || s.Host > lastLease {
			continue
		}
		given = append(given, dhcp.Binding{HardwareAddr: mac, Addr: host(pool, s.Host)})
	}
	return given
}

// saveLeases keeps them.
func (d *direct) saveLeases(group wpa.Group, given []dhcp.Binding) {
	if !group.Persistent {
		return
	}
	saved := []savedLease{}
	for _, b := range given {
		saved = append(saved, savedLease{MAC: b.HardwareAddr.String(), Host: b.Addr.As4()[3]})
	}
	if err := d.a.store.Bucket(bucketLeases).Put([]byte(group.SSID), saved); err != nil {
		d.log.Warn("Keeping the addresses of the group's members failed", "group", group.Ifname, "err", err)
	}
}

// dropLeases forgets them, with the group.
func (d *direct) dropLeases(ssid string) {
	if err := d.a.store.Bucket(bucketLeases).Delete([]byte(ssid)); err != nil {
		d.log.Warn("Forgetting the addresses of a group's members failed", "err", err)
	}
}

// serveLeases gives addresses to members that have none from the handshake: phones and plain Wi-Fi devices.
func (g *directGroup) serveLeases(ctx context.Context, group wpa.Group, pool, own netip.Prefix) {
	d := g.d
	server, err := dhcp.NewServer(dhcp.Config{
		Logger: d.log, Ifname: group.Ifname, Index: group.Index, Subnet: own,
		First: host(pool, firstLease), Last: host(pool, lastLease),
		Bindings: d.leases(group, pool),
		Allowed:  g.member,
		Store: func(given []dhcp.Binding) {
			d.mu.Lock()
			g.given = given
			d.mu.Unlock()
			d.saveLeases(group, given)
			d.a.publishStatus()
		},
	})
	if err == nil {
		err = server.Run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		d.log.Warn("Serving addresses on the group failed; nigh devices need none", "group", group.Ifname, "err", err)
	}
}

// member reports whether the radio says that a device has joined the group.
func (g *directGroup) member(mac net.HardwareAddr) bool {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	return slices.ContainsFunc(g.group.Stations, func(m net.HardwareAddr) bool { return slices.Equal(m, mac) })
}

// lease has an IPv4 address from the owner when the handshake gave none, for as long as the group lives. nigh itself does
// not wait for it.
func (g *directGroup) lease(ctx context.Context, group wpa.Group, spec link.GroupSpec) {
	d := g.d
	refuse := func(p netip.Prefix) error { return d.a.ownAddress(p, spec.Ifname) }
	err := dhcp.Keep(ctx, dhcp.ClientConfig{Logger: d.log, Ifname: spec.Ifname, Owner: group.BSSID, Refuse: refuse}, func(l dhcp.Lease) {
		spec.V4 = l.Prefix
		addressed, v4, err := g.ensure(ctx, spec)
		if err != nil {
			if ctx.Err() == nil {
				d.log.Warn("Addressing the group failed", "group", spec.Ifname, "err", err)
			}
			return
		}
		g.addressed(addressed.LinkLocal(), v4)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Debug("No lease on the group", "group", spec.Ifname, "err", err)
	}
}

// errOwnAddress says that an address that somebody in a group offers is already this device's.
var errOwnAddress = errors.New("agent: the address is this device's own")

// ownAddress refuses an address that this device has on a link other than ifname.
func (a *Agent) ownAddress(p netip.Prefix, ifname string) error {
	for _, l := range a.links.Links() {
		if l.Name != ifname && slices.ContainsFunc(l.Prefixes, func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
			return fmt.Errorf("%w: %v is on %s", errOwnAddress, p.Addr(), l.Name)
		}
	}
	return nil
}

// ensure addresses the group's interface, and returns the IPv4 address that it has then. One that cannot be had does not
// keep the link-local one from being used.
func (g *directGroup) ensure(ctx context.Context, spec link.GroupSpec) (*link.GroupLink, netip.Prefix, error) {
	addressed, err := g.d.a.book.EnsureGroup(ctx, spec)
	if err != nil && spec.V4.IsValid() && ctx.Err() == nil {
		g.d.log.Warn("The group's IPv4 address cannot be used", "group", spec.Ifname, "address", spec.V4.String(), "err", err)
		spec.V4 = netip.Prefix{}
		addressed, err = g.d.a.book.EnsureGroup(ctx, spec)
	}
	return addressed, spec.V4, err
}
