package agent

import (
	"net/netip"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// host is where a sighting's device is: the address where its key was proved.
func (s sighting) host() netip.Addr {
	switch {
	case s.at.IsValid():
		return s.at.Addr()
	case len(s.addrs) > 0:
		return s.addrs[0].Addr()
	}
	return netip.Addr{}
}

// makeRoom makes a full table forget one stranger, for a device that was met at an
// address: the one without a path that was seen longest ago, else one of the host
// that has most of them. One machine can hold any number of keys; it fills the table,
// but keeps nobody else out. t.mu is held.
func (t *table) makeRoom(from netip.Addr) bool {
	if t.forgetOne() {
		return true
	}
	if !from.IsValid() {
		return false
	}
	type host struct {
		n      int
		oldest *peer
	}
	hosts := map[netip.Addr]host{}
	for _, p := range t.peers {
		if p.link.Connected || t.standing(p.id).Standing != trust.New {
			continue
		}
		on := map[netip.Addr]bool{}
		for _, s := range p.sightings {
			if on[s.host()] {
				continue
			}
			on[s.host()] = true
			h := hosts[s.host()]
			h.n++
			if h.oldest == nil || p.seen.Before(h.oldest.seen) {
				h.oldest = p
			}
			hosts[s.host()] = h
		}
	}
	most := from
	for addr, h := range hosts {
		if h.n > hosts[most].n {
			most = addr
		}
	}
	if hosts[most].n <= hosts[from].n+1 {
		return false
	}
	id := hosts[most].oldest.id
	delete(t.peers, id)
	t.gone = append(t.gone, id)
	return true
}

// gaveWay returns the devices that makeRoom forgot although they are near, once.
func (t *table) gaveWay() []identity.DeviceID {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := t.gone
	t.gone = nil
	return ids
}

// forgetOne drops the stranger without a path that was seen longest ago; t.mu
// is held.
func (t *table) forgetOne() bool {
	var oldest *peer
	for _, p := range t.peers {
		if len(p.sightings) > 0 || p.link.Connected || t.standing(p.id).Standing != trust.New {
			continue
		}
		if oldest == nil || p.seen.Before(oldest.seen) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.peers, oldest.id)
	return true
}
