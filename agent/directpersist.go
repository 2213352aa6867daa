package agent

import (
	"context"
	"net"
	"slices"

	"nigh/agent/identity"
	"nigh/agent/trust"
	"nigh/wpa"
)

// bucketGroups holds the persistent groups.
const bucketGroups = "groups"

// savedGroup is a persistent group as the database keeps it. It belongs to the
// devices that a session proved to be in it, not to their addresses: those may be
// others after the next start of a radio.
type savedGroup struct {
	SSID, BSSID, PSK, Peer string
	Owner                  bool     // this device is the group owner
	Devices                []string // DeviceIDs: of the owner, or of the members of a group of ours
}

// key is the record's in the bucket. It stays when an address changes.
func (s savedGroup) key(p wpa.Persistent) []byte { return []byte(p.BSSID.String() + "/" + s.SSID) }

// fits reports whether a profile is that of this group.
func (s savedGroup) fits(p wpa.Persistent) bool {
	return s.SSID == p.SSID && s.Owner == p.Owner && (s.BSSID == p.BSSID.String() || s.Peer != "" && s.Peer == p.Peer.String())
}

// eachGroup calls fn for every persistent group that can be read. What fn returns
// becomes of it: the changed group, or nil to forget it.
func (d *direct) eachGroup(fn func(savedGroup) *savedGroup) {
	bucket := d.a.store.Bucket(bucketGroups)
	err := bucket.ForEach(func(key, _ []byte) error {
		var s savedGroup
		if err := bucket.Get(key, &s); err != nil {
			return nil // it is left alone: a later version may read it
		}
		before := s
		before.Devices = slices.Clone(s.Devices)
		now := fn(s)
		switch {
		case now == nil:
			d.dropLeases(before.SSID)
			return bucket.Delete(key)
		case now.BSSID != before.BSSID || now.Peer != before.Peer || !slices.Equal(now.Devices, before.Devices):
			return bucket.Put(key, *now)
		}
		return nil
	})
	if err != nil {
		d.log.Warn("Keeping the persistent groups failed", "err", err)
	}
}

// profiles are the persistent groups for the radio, each with the addresses that
// its devices have now, as far as the radio hears them. A group of ours has one
// address to invite: that of the device meant, if it is one of its members.
func (d *direct) profiles(meant identity.DeviceID) []wpa.Persistent {
	var all []wpa.Persistent
	d.eachGroup(func(s savedGroup) *savedGroup {
		d.readdress(&s, meant)
		bssid, err := net.ParseMAC(s.BSSID)
		if err != nil {
			return &s
		}
		peer, _ := net.ParseMAC(s.Peer) // empty when it is not known
		all = append(all, wpa.Persistent{SSID: s.SSID, BSSID: bssid, PSK: s.PSK, Owner: s.Owner, Peer: peer})
		return &s
	})
	return all
}

// readdress takes over the addresses that the devices of a group have now.
func (d *direct) readdress(s *savedGroup, meant identity.DeviceID) {
	for _, text := range s.Devices {
		id, err := identity.ParseDeviceID(text)
		if err != nil || len(s.Devices) > 1 && id != meant || d.a.trust.Standing(id) != trust.Trusted {
			continue
		}
		if r, ok := d.a.table.onRadio(id); ok {
			s.Peer = r.mac.String()
			if !s.Owner {
				s.BSSID = s.Peer
			}
		}
	}
}

// offerProfiles tells the radio the persistent groups as they are now, meant
// being the device that is about to be invited, if any.
func (d *direct) offerProfiles(ctx context.Context, meant identity.DeviceID) {
	radio, err := d.current()
	if err != nil {
		return // it gets them when it is opened
	}
	if err := radio.SetPersistent(ctx, d.profiles(meant)); err != nil && ctx.Err() == nil {
		d.log.Warn("Telling the radio its persistent groups failed", "err", err)
	}
}

// membership is what a session proved: a device is in the group on an interface.
type membership struct {
	id     identity.DeviceID
	ifname string
}

// maxJoined bounds the memberships that wait to be written down.
const maxJoined = 64

// joined notes that a device was proved on an interface. It does not wait: the
// word comes from where locks are held.
func (d *direct) joined(id identity.DeviceID, ifname string) {
	d.mu.Lock()
	if len(d.proofs) < maxJoined {
		d.proofs = append(d.proofs, membership{id, ifname})
	}
	d.mu.Unlock()
	d.profilesChanged()
}

// keepProfiles writes down who belongs to which persistent group, and tells the
// radio whenever one of them, or the address of a device in one, has changed.
func (d *direct) keepProfiles(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.regroup:
		}
		d.mu.Lock()
		proofs := d.proofs
		d.proofs = nil
		d.mu.Unlock()
		for _, p := range proofs {
			d.belongs(p.id, p.ifname)
		}
		d.offerProfiles(ctx, identity.DeviceID{})
	}
}

func (d *direct) profilesChanged() {
	select {
	case d.regroup <- struct{}{}:
	default:
	}
}

// moved notices that a trusted device has another P2P address than before.
func (d *direct) moved(mac net.HardwareAddr) {
	id, ok := d.known(mac)
	if !ok {
		return
	}
	d.mu.Lock()
	before := d.macs[id]
	d.macs[id] = mac.String()
	d.mu.Unlock()
	if before != mac.String() {
		d.profilesChanged()
	}
}

// saveGroup keeps a persistent group that the radio has made.
func (d *direct) saveGroup(p wpa.Persistent) {
	s := savedGroup{SSID: p.SSID, BSSID: p.BSSID.String(), PSK: p.PSK, Peer: p.Peer.String(), Owner: p.Owner}
	if err := d.a.store.Bucket(bucketGroups).Put(s.key(p), s); err != nil {
		d.log.Warn("Saving the persistent group failed", "err", err)
	}
	// Its members may have been proved before it was told.
	d.mu.Lock()
	var ifname string
	for _, g := range d.groups {
		if g.group.SSID == p.SSID && (g.group.Role == wpa.Owner) == p.Owner {
			ifname = g.group.Ifname
		}
	}
	d.mu.Unlock()
	if ifname != "" {
		for _, id := range d.a.table.membersOn(ifname, p.Owner) {
			d.joined(id, ifname)
		}
	}
}

// dropGroup forgets a persistent group that is of no use any more.
func (d *direct) dropGroup(p wpa.Persistent) {
	d.eachGroup(func(s savedGroup) *savedGroup {
		if s.fits(p) {
			return nil
		}
		return &s
	})
}

// belongs notes that a session proved a trusted device to be in the group on an
// interface: its owner, or a member of a group of ours. The persistent group is
// its from then on, and what it had with us before is void.
func (d *direct) belongs(id identity.DeviceID, ifname string) {
	if d.a.trust.Standing(id) != trust.Trusted {
		return
	}
	var group wpa.Group
	d.mu.Lock()
	for _, g := range d.groups {
		if g.group.Ifname == ifname {
			group = g.group
		}
	}
	d.mu.Unlock()
	owner := group.Role == wpa.Owner
	if group.SSID == "" || !slices.Contains(d.a.table.membersOn(ifname, owner), id) {
		return
	}
	mine := func(s savedGroup) bool { return s.Owner == owner && s.SSID == group.SSID }
	persistent := false // what the supplicant says of it at its start is not always so
	d.eachGroup(func(s savedGroup) *savedGroup {
		persistent = persistent || mine(s)
		return &s
	})
	if !persistent {
		return
	}
	text := id.String()
	d.eachGroup(func(s savedGroup) *savedGroup {
		switch has := slices.Contains(s.Devices, text); {
		case mine(s) && !has:
			s.Devices = append(s.Devices, text)
		case !mine(s) && has && s.Owner == owner:
			if s.Devices = slices.DeleteFunc(s.Devices, func(d string) bool { return d == text }); len(s.Devices) == 0 {
				return nil
			}
		}
		return &s
	})
}

// forget removes every persistent group that a device knows the key of, and ends
// the group that is only there for it: it is trusted no more.
func (d *direct) forget(ctx context.Context, id identity.DeviceID) {
	d.mu.Lock()
	delete(d.macs, id)
	d.mu.Unlock()
	text, found := id.String(), false
	d.eachGroup(func(s savedGroup) *savedGroup {
		mac, _ := net.ParseMAC(s.Peer)
		seems, ok := d.a.table.behind(mac)
		if slices.Contains(s.Devices, text) || len(s.Devices) == 0 && ok && seems == id {
			found = true
			return nil
		}
		return &s
	})
	if found {
		d.log.Info("Persistent groups of a device that is trusted no more are forgotten", "peer", id.Short())
		d.profilesChanged()
	}
	d.mu.Lock()
	radio := d.radio
	groups := map[wpa.GroupID]wpa.Group{}
	for i, g := range d.groups {
		groups[i] = g.group
	}
	d.mu.Unlock()
	if radio == nil {
		return
	}
	for i, g := range groups {
		members := d.a.table.membersOn(g.Ifname, g.Role == wpa.Owner)
		others := slices.ContainsFunc(members, func(m identity.DeviceID) bool { return m != id })
		if !slices.Contains(members, id) || others || len(g.Stations) > 1 {
			continue
		}
		if err := radio.Leave(ctx, i); err != nil && ctx.Err() == nil {
			d.log.Warn("Leaving the group of a device that is trusted no more failed", "peer", id.Short(), "err", err)
		}
	}
}
