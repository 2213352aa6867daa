package wpa

import (
	"context"
	"net"
	"slices"
	"time"

	"nigh/wpa/dbusapi"
)

// maxPeers bounds the table; the supplicant keeps at most 100.
const maxPeers = 256

// peerFound records a peer. The supplicant tells of a peer again in every search and when its name changes.
func (m *machine) peerFound(path dbusapi.Path, v dbusapi.Peer) {
	addr := dbusapi.PeerAddress(path)
	if addr == nil || m.state != Ready {
		return
	}
	p := Peer{
		Address: addr, Name: v.Name, DeviceType: v.DeviceType, SignalDBm: v.SignalDBm, ConfigMethods: v.ConfigMethods,
		IsGO: v.GroupCapab&dbusapi.GroupOwner != 0, Vendor: v.VendorExtension, Seen: time.Now(),
	}
	delete(m.flushed, path)
	old := m.peers[path]
	switch {
	case old == nil && len(m.peers) >= maxPeers:
		return
	case old == nil:
		m.emit(PeerSeen{p})
	case !old.equal(p):
		m.emit(PeerChanged{p})
	}
	m.peers[path] = &p
	m.peersDirty = true
	m.askAgain(addr)
	m.heard(addr)
	if f := m.form; f != nil && f.stage == stageSeeking && slices.Equal(f.peer, addr) {
		m.decide(f)
	} else if f != nil && f.looking && slices.Equal(f.peer, addr) {
		m.nudge(f)
	}
}

// displace notes that the supplicant takes the channel of a group for the one that its owner listens on: it does so with what
// scans find, and sends the owner's next invitation there, where nobody hears it once the group is gone. A search finds the
// right one.
func (m *machine) displace(owner net.HardwareAddr) {
	if len(owner) == 6 && len(m.displaced) < maxPeers {
		m.displaced[owner.String()] = true
	}
}

// placed notes where a peer was heard: a group's owner on the channel of the group, everybody else, by a search, on the channel
// that it listens on.
func (m *machine) placed(path dbusapi.Path, v dbusapi.Peer) {
	addr := dbusapi.PeerAddress(path)
	searching := m.disc.stage == discSocial || m.disc.stage == discProgressive || len(m.looks) > 0 || m.form != nil && m.form.stage == stageSeeking
	switch {
	case v.GroupCapab&dbusapi.GroupOwner != 0:
		m.displace(addr)
	case searching && len(m.groups) == 0:
		delete(m.displaced, addr.String())
	}
}

// provisionedBy notes that the supplicant remembers provision discovery of a peer. What many strangers push out is found out by
// the join that nobody answers.
func (m *machine) provisionedBy(addr net.HardwareAddr) {
	if len(m.provisioned) >= maxPeers {
		for other := range m.provisioned {
			delete(m.provisioned, other)
			break
		}
	}
	m.provisioned[addr.String()] = true
}

// peerLife is for how long the supplicant knows a peer that it does not hear.
const peerLife = 70 * time.Second

// flushPeers makes the supplicant forget all peers, and what they did. For everybody else they are there as before, until
// they would have expired.
func (m *machine) flushPeers() {
	owner := m.owner
	gone := make(map[dbusapi.Path]bool, len(m.peers))
	for path := range m.peers {
		gone[path], m.flushed[path] = true, true
	}
	clear(m.provisioned)
	life := m.life
	m.after(peerLife, func() {
		for path := range gone {
			if m.life == life && m.flushed[path] {
				delete(m.flushed, path)
				m.peerLost(path)
			}
		}
	})
	m.order(func(ctx context.Context) error { return m.api.Flush(ctx, owner) }, nil)
	m.restoreQueries()
}

// peerLost forgets a peer that expired.
func (m *machine) peerLost(path dbusapi.Path) {
	p := m.peers[path]
	if p == nil || m.flushed[path] {
		return
	}
	delete(m.peers, path)
	delete(m.requests, p.Address.String())
	m.peersDirty = true
	m.emit(PeerLost{p.Address})
}
