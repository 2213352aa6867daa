package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/link"
	"nigh/link/dhcp"
	"nigh/wpa"
)

// rendezvous is the address that every group owner has on its group, so that a
// client dials at once and waits for no lease and no announcement.
var rendezvous = netip.MustParseAddr("fe80::1")

// directGroup is one group while it lives.
type directGroup struct {
	d    *direct
	up   time.Time
	done chan struct{} // closed when live has put everything back
	wake chan struct{} // capacity 1: group changed

	met map[string]bool // stations that were tried; used by live only

	group wpa.Group      // guarded by direct.mu
	link  netip.Addr     // own link-local address; guarded by direct.mu
	v4    netip.Prefix   // own IPv4 address; guarded by direct.mu
	given []dhcp.Binding // addresses that members got by DHCP; guarded by direct.mu
}

// live addresses the group's interface and serves it until ctx ends, then
// takes everything away again.
func (g *directGroup) live(ctx context.Context) {
	defer close(g.done)
	d := g.d
	d.mu.Lock()
	group, pool := g.group, d.pool
	d.mu.Unlock()
	owner := group.Role == wpa.Owner
	spec := link.GroupSpec{Ifname: group.Ifname, Index: group.Index, Owner: owner}
	switch {
	case owner && pool.IsValid():
		spec.V4 = netip.PrefixFrom(pool.Addr().Next(), pool.Bits())
	case !owner && group.Local.IsValid():
		spec.V4 = netip.PrefixFrom(group.Local, maskBits(group.Mask4))
		// The owner's word is anybody's.
		if err := dhcp.CheckAddress(spec.V4); err != nil {
			d.log.Warn("The group's owner gave an address that cannot be used", "group", group.Ifname, "err", err)
			spec.V4 = netip.Prefix{}
		}
	}
	addressed, v4, err := g.ensure(ctx, spec)
	if err != nil {
		d.log.Warn("Addressing the group failed", "group", group.Ifname, "err", err)
		d.a.step("address", "failed", explain(err).Message)
		<-ctx.Done()
		return
	}
	defer func() {
		if err := addressed.Close(); err != nil {
			d.log.Warn("Taking the group's addresses away failed", "group", group.Ifname, "err", err)
		}
	}()
	g.addressed(addressed.LinkLocal(), v4)
	work, ctx := errgroup.WithContext(ctx)
	defer func() { _ = work.Wait() }() // its goroutines log what went wrong and return nil
	later := func(f func()) { work.Go(func() error { f(); return nil }) }
	if owner {
		if v4.IsValid() {
			work.Go(func() error { g.serveLeases(ctx, group, pool, v4); return nil })
		}
	} else {
		defer d.a.lose(g.meetOwner(ctx, group, later))
		if !v4.IsValid() {
			spec.V4 = v4
			work.Go(func() error { g.lease(ctx, group, spec); return nil })
		}
	}
	for {
		if owner {
			d.mu.Lock()
			group = g.group
			d.mu.Unlock()
			g.meetMembers(ctx, group, later)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		}
	}
}

// changed takes over what is new about the group; direct.mu is held.
func (g *directGroup) changed(now wpa.Group) {
	tell := func(more, less []net.HardwareAddr, log func(m net.HardwareAddr)) {
		for _, m := range more {
			if !slices.ContainsFunc(less, func(o net.HardwareAddr) bool { return slices.Equal(o, m) }) {
				log(m)
			}
		}
	}
	tell(now.Stations, g.group.Stations, func(m net.HardwareAddr) {
		g.d.log.Info("Client joined the group", "group", now.Ifname, "mac", m.String(), "clients", len(now.Stations))
	})
	tell(g.group.Stations, now.Stations, func(m net.HardwareAddr) {
		g.d.log.Info("Client left the group", "group", now.Ifname, "mac", m.String(), "clients", len(now.Stations))
	})
	g.group = now
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// addressed notes the group's own addresses, tells the faces, and wakes whoever waits for them: on a quiet device nothing else does.
func (g *directGroup) addressed(linkLocal netip.Addr, v4 netip.Prefix) {
	g.d.mu.Lock()
	g.link, g.v4 = linkLocal, v4
	g.d.mu.Unlock()
	text := linkLocal.String()
	if v4.IsValid() {
		text += ", " + v4.String()
	}
	g.d.a.step("address", "ok", text)
	g.d.a.publishStatus()
	g.d.a.change.changed()
}

// isGroup reports whether an interface belongs to one of our groups.
func (d *direct) isGroup(ifname string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.groups {
		if g.group.Ifname == ifname {
			return true
		}
	}
	return false
}

// views returns the groups as the faces see them. The passphrase is in it only
// when asked for.
func (d *direct) views(secrets bool) []control.Group {
	d.mu.Lock()
	defer d.mu.Unlock()
	views := []control.Group{}
	for _, g := range d.groups {
		views = append(views, g.view(secrets))
	}
	return views
}

// view renders g; d.mu is held.
func (g *directGroup) view(secrets bool) control.Group {
	v := control.Group{
		Ifname: g.group.Ifname, Role: g.group.Role.String(), SSID: clean.Text(g.group.SSID), Frequency: g.group.Frequency,
		Clients: max(len(g.group.Members), len(g.group.Stations)), Persistent: g.group.Persistent, Uptime: int64(time.Since(g.up).Seconds()),
	}
	if g.group.Role == wpa.Client {
		v.Clients, v.Reconnecting = 1, g.group.Degraded
	}
	for _, m := range g.group.Members {
		v.Members = append(v.Members, m.String())
	}
	for _, m := range g.group.Stations {
		s := control.Station{Address: m.String()}
		for _, b := range g.given {
			if slices.Equal(b.HardwareAddr, m) {
				s.IPv4 = b.Addr.String()
			}
		}
		s.Name = g.d.a.table.nameAt(memberKey(g.group.Ifname, m))
		v.Stations = append(v.Stations, s)
	}
	if g.link.IsValid() {
		v.LinkLocal = g.link.String()
	}
	if g.v4.IsValid() {
		v.Address = g.v4.String()
	}
	if secrets {
		v.Passphrase = g.group.Passphrase
	}
	return v
}

// radioView is the radio part of the status.
func (d *direct) radioView() control.Radio {
	intent, why := d.ownerFacts().intent()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.radio == nil {
		return d.down
	}
	s := d.radio.Status()
	return control.Radio{
		State: string(s.State), Ifname: s.Ifname, Engine: string(s.Engine), Why: s.Why, Address: s.Address.String(), Finding: s.Finding, Hint: s.Hint,
		Intent: intent, IntentWhy: why,
	}
}

// errNoGroup is returned for a group that this device is not in.
var errNoGroup = errors.New("agent: no such group")

// groupOn finds the group on an interface, "" meaning the only one, and its
// interface.
func (d *direct) groupOn(ifname string) (id wpa.GroupID, on string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, g := range d.groups {
		if g.group.Ifname == ifname || ifname == "" && len(d.groups) == 1 {
			return i, g.group.Ifname, nil
		}
	}
	return id, "", fmt.Errorf("%w: %q", errNoGroup, ifname)
}

// host returns the n-th address of an IPv4 prefix.
func host(p netip.Prefix, n byte) netip.Addr {
	a := p.Masked().Addr().As4()
	a[3] += n
	return netip.AddrFrom4(a)
}

// maskBits turns a netmask such as 255.255.255.0 into its length, 24 when it is
// not one.
func maskBits(mask netip.Addr) int {
	if !mask.Is4() {
		return 24
	}
	m := mask.As4()
	ones, bits := net.IPMask(m[:]).Size()
	if bits != 32 {
		return 24
	}
	return ones
}
