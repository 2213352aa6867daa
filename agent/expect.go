package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/transfer"
	"nigh/agent/trust"
	"nigh/link"
	"nigh/wpa"
)

// Bounds of what is expected.
const (
	maxExpected = 8               // addresses at which one device is expected
	expectLimit = 2 * time.Second // for a session to prove that it is there; after that the address is greeted as any other
)

// expect notes an address at which a trusted device probably is: a group was
// formed with it, so it is dialled at once with its key pinned, instead of being
// greeted first to learn who it is. Until a session proved it the sighting is an
// address to try and nothing else. It reports false when there is no room, or
// the device was met there already.
func (t *table) expect(id identity.DeviceID, s sighting) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil || len(p.expected) >= maxExpected || t.standing(id).Standing != trust.Trusted {
		return false
	}
	if _, ok := p.sightings[s.key]; ok {
		return false
	}
	if p.expected == nil {
		p.expected = map[string]sighting{}
	}
	p.expected[s.key] = s
	return true
}

// expectsOn reports whether a device is expected on an interface.
func (t *table) expectsOn(ifname string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		for _, s := range p.expected {
			if s.ifname == ifname {
				return true
			}
		}
	}
	return false
}

// unexpect takes back what expect noted under key and reports whether anything
// was there.
func (t *table) unexpect(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := false
	for _, p := range t.peers {
		if _, ok := p.expected[key]; ok {
			delete(p.expected, key)
			found = true
		}
	}
	return found
}

// confirm takes the word of the session layer that id was reached at addr on an
// interface: what was expected there is now proved. It returns the keys of the
// sightings that this settles.
func (t *table) confirm(id identity.DeviceID, ifname string, addr netip.Addr) (keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		return nil
	}
	for key, s := range p.expected {
		if s.ifname != ifname || !slices.ContainsFunc(s.addrs, func(a netip.AddrPort) bool { return a.Addr().WithZone("") == addr.WithZone("") }) {
			continue
		}
		for _, q := range t.peers {
			delete(q.expected, key)
			delete(q.sightings, key)
		}
		p.sightings[key] = s
		keys = append(keys, key)
	}
	if len(keys) > 0 {
		p.greeted = true
	}
	return keys
}

// sightingsOn returns the keys of everything that was seen or is expected on an
// interface.
func (t *table) sightingsOn(ifname string) (keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		for key, s := range p.expected {
			if s.ifname == ifname {
				keys = append(keys, key)
			}
		}
		for key, s := range p.sightings {
			if s.ifname == ifname {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// lostInterface forgets everything that was reached over an interface that is gone: its
// connections would only time out, and no path leads to who was there.
func (a *Agent) lostInterface(ifname string) {
	for _, key := range a.table.sightingsOn(ifname) {
		a.table.unexpect(key)
		a.lose(key)
	}
	a.sessions.Check()
}

// reachedOn takes the session layer's word that a device was reached on a group.
func (a *Agent) reachedOn(id identity.DeviceID, ifname string, addr netip.Addr) {
	for _, key := range a.table.confirm(id, ifname, addr) {
		a.prover.gone(key) // no greeting is needed any more
	}
	a.direct.joined(id, ifname)
}

// membersOn returns the devices that were proved on the interface of a group: all
// of them where we own it, else its owner, whom the rendezvous address leads to.
func (t *table) membersOn(ifname string, owner bool) (ids []identity.DeviceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		in := owner && p.link.Connected && p.link.Path.Ifname == ifname
		for key, s := range p.sightings {
			in = in || s.ifname == ifname && (owner || key == rendezvousKey(ifname))
		}
		if in {
			ids = append(ids, id)
		}
	}
	return ids
}

func rendezvousKey(ifname string) string { return "rendezvous/" + ifname }

// reach has a device dialled that is expected. When we have nothing for it, it may
// have something for us, and its data takes a connection of its own.
func (d *direct) reach(id identity.DeviceID) {
	for _, t := range d.a.transfers.Transfers() {
		if t.Peer == id && t.Direction == transfer.Send && !t.State.Ended() {
			d.a.sessions.Kick(id)
			return
		}
	}
	d.a.sessions.Expect(id)
}

// known returns the trusted device that a P2P device address seems to belong to.
// It is only a hint, for whom to dial with its key pinned.
func (d *direct) known(mac net.HardwareAddr) (identity.DeviceID, bool) {
	id, ok := d.a.table.behind(mac)
	return id, ok && d.a.trust.Standing(id) == trust.Trusted
}

// meetOwner begins to reach the owner of a group that we joined.
func (g *directGroup) meetOwner(ctx context.Context, group wpa.Group, later func(func())) (key string) {
	d := g.d
	s := sighting{
		key: rendezvousKey(group.Ifname), kind: kindDirect, ifindex: group.Index, ifname: group.Ifname,
		addrs: []netip.AddrPort{netip.AddrPortFrom(rendezvous.WithZone(group.Ifname), rendezvousPort)},
		known: true,
	}
	id, ok := d.known(group.Peer)
	if !ok || !d.a.table.expect(id, s) {
		d.a.prover.see(ctx, s)
		return s.key
	}
	d.reach(id)
	later(func() {
		if wait(ctx, expectLimit) && d.a.table.unexpect(s.key) {
			d.log.Debug("The group's owner is not who was expected, greeting it", "group", group.Ifname, "peer", id.Short())
			d.a.prover.see(ctx, s)
		}
	})
	return s.key
}

// meetMembers begins to reach the trusted devices that joined a group of ours. A
// nigh device's own address follows from its interface address, so nothing has
// to be announced first. Which member has which interface address the supplicant
// does not say: each is tried, and the pinned key tells.
func (g *directGroup) meetMembers(ctx context.Context, group wpa.Group, later func(func())) {
	d := g.d
	members := group.Members
	if len(members) == 0 && group.Peer != nil {
		members = []net.HardwareAddr{group.Peer} // its PeerJoined comes a moment after its station
	}
	for _, station := range group.Stations {
		addr := link.LocalAddress(station)
		if !addr.IsValid() || g.met[station.String()] {
			continue
		}
		s := sighting{
			key: memberKey(group.Ifname, station), kind: kindDirect, ifindex: group.Index, ifname: group.Ifname,
			addrs: []netip.AddrPort{netip.AddrPortFrom(addr.WithZone(group.Ifname), rendezvousPort)},
		}
		for _, mac := range members {
			id, ok := d.known(mac)
			if !ok || !d.a.table.expect(id, s) {
				continue
			}
			g.met[station.String()] = true
			d.reach(id)
		}
		if g.met[station.String()] {
			later(func() {
				if wait(ctx, expectLimit) {
					d.a.table.unexpect(s.key) // it is found by its announcement, if at all
				}
			})
		}
	}
	for station := range g.met {
		mac, err := net.ParseMAC(station)
		if err == nil && !slices.ContainsFunc(group.Stations, func(m net.HardwareAddr) bool { return slices.Equal(m, mac) }) {
			delete(g.met, station)
			d.a.leftGroup(memberKey(group.Ifname, mac), group.Ifname)
		}
	}
}

// memberKey is the key of the sighting of a member of a group of ours.
func memberKey(ifname string, station net.HardwareAddr) string {
	return "member/" + ifname + "/" + station.String()
}

// silent reports whether the session layer did not get an answer from a device at
// any of its addresses.
func (t *table) silent(id identity.DeviceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	return p != nil && !p.link.Connected && errors.Is(p.err, session.ErrUnreachable)
}

// provedAt returns the device that a sighting was proved to be.
func (t *table) provedAt(key string) (identity.DeviceID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		if _, ok := p.sightings[key]; ok {
			return id, true
		}
	}
	return identity.DeviceID{}, false
}

// leftGroup forgets a member that is gone from a group of ours, and all that was
// reached over it: its connections would only time out.
func (a *Agent) leftGroup(key, ifname string) {
	a.table.unexpect(key)
	id, ok := a.table.provedAt(key)
	if !ok {
		return
	}
	for _, k := range a.table.sightingsOn(ifname) {
		if who, ok := a.table.provedAt(k); ok && who == id {
			a.lose(k)
		}
	}
	a.sessions.Close(id) // it is dialled again where else it is
}

// nameAt is the name of the device that a sighting was proved to be, "" without.
func (t *table) nameAt(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		if _, ok := p.sightings[key]; ok {
			v, _ := t.view(p)
			return v.Name
		}
	}
	return ""
}

// wait returns true after d, or false when ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
