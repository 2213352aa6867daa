package wpa

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"nigh/wpa/dbusapi"
)

// maxProfiles bounds the profiles given to the supplicant: it searches them one after the other.
const maxProfiles = 64

// addProfiles gives the supplicant the profiles that it does not have, and returns where all of known are and what the
// supplicant had before. One that it refuses is left out. Self is our device address, nil when it is not known.
func addProfiles(ctx context.Context, api supplicant, owner dbusapi.Path, known []Persistent, self net.HardwareAddr) (map[dbusapi.Path]Persistent, map[dbusapi.Path]bool, error) {
	paths, err := api.PersistentGroups(ctx, owner)
	if err != nil {
		return nil, nil, err
	}
	had := map[dbusapi.Path]bool{}
	have := map[dbusapi.Path]Persistent{}
	for _, p := range paths {
		had[p] = true
		if v, err := api.Persistent(ctx, p); err == nil && v.SSID != "" {
			have[p] = Persistent{SSID: v.SSID, BSSID: v.BSSID, PSK: v.PSK, Owner: v.Owner}
		}
	}
	out := map[dbusapi.Path]Persistent{}
	for _, k := range known[:min(len(known), maxProfiles)] {
		path := dbusapi.Path("")
		for p, h := range have {
			if h.same(k) && slices.Equal(h.BSSID, bssid(k, self)) {
				path = p
			}
		}
		if path == "" {
			if path, err = addProfile(ctx, api, owner, k, self); err != nil {
				return nil, nil, err
			}
		}
		if path != "" {
			out[path] = k
		}
	}
	return out, had, nil
}

// bssid returns what the supplicant has to know as the address of a group's owner. An invitation names the group by its SSID and
// the address that its owner has now, and each side looks for both in its own profiles.
func bssid(p Persistent, self net.HardwareAddr) net.HardwareAddr {
	if p.Owner && self != nil {
		return self
	}
	return p.BSSID
}

// addProfile adds one profile; the path is empty when the supplicant refuses it.
func addProfile(ctx context.Context, api supplicant, owner dbusapi.Path, p Persistent, self net.HardwareAddr) (dbusapi.Path, error) {
	v := dbusapi.Persistent{SSID: p.SSID, BSSID: bssid(p, self), PSK: p.PSK, Owner: p.Owner}
	path, err := api.AddPersistent(ctx, owner, v, p.Peer)
	if errors.Is(err, dbusapi.ErrInvalidArgs) || errors.Is(err, dbusapi.ErrFailed) {
		return "", nil
	}
	return path, err
}

// SetPersistent replaces the profiles of persistent groups that this device knows, those of Config.Groups and those told by
// PersistentSaved; it returns when the supplicant has them, or at once when there is none. Who may start a group with this device
// without being asked again is decided by it: a profile that is left out is forgotten on the radio, too. When the device at the
// other side has another address now, its profile is given with the new Peer, and with it as BSSID if that device is the owner. No
// PersistentRemoved follows. It returns ErrConfig, and changes nothing, when one is no profile; of more than 64 only the first
// are used.
func (r *Radio) SetPersistent(ctx context.Context, groups []Persistent) error {
	for _, p := range groups {
		if err := p.check(); err != nil {
			return fmt.Errorf("wpa: set persistent groups: %w", err)
		}
	}
	groups = slices.Clone(groups)
	return r.command(ctx, "set persistent groups", func(m *machine, reply func(error)) { m.setPersistent(groups, reply) })
}

// setPersistent makes list all that is known.
func (m *machine) setPersistent(list []Persistent, reply func(error)) {
	m.known = list
	m.matchProfiles(reply)
}

// matchProfiles gives the supplicant what is known, and takes away what is not any more.
func (m *machine) matchProfiles(reply func(error)) {
	if m.state != Ready && m.state != Off || m.stopping { // it gets them when it is there
		reply(nil)
		return
	}
	var drop []dbusapi.Path
	for path, p := range m.profiles {
		if !slices.ContainsFunc(m.known, p.equal) {
			drop = append(drop, path)
			delete(m.profiles, path)
		}
	}
	var add []Persistent
	for _, k := range m.known[:min(len(m.known), maxProfiles)] {
		if !slices.ContainsFunc(slices.Collect(maps.Values(m.profiles)), k.equal) {
			add = append(add, k)
		}
	}
	if len(drop) == 0 && len(add) == 0 {
		reply(nil)
		return
	}
	owner, self := m.owner, m.address
	do(m, func(ctx context.Context) (map[dbusapi.Path]Persistent, error) {
		for _, path := range drop {
			ignore(m.api.RemovePersistent(ctx, owner, path)) // it may have gone by itself
		}
		added := map[dbusapi.Path]Persistent{}
		for _, k := range add {
			path, err := addProfile(ctx, m.api, owner, k, self)
			if err != nil {
				return added, err
			}
			if path != "" {
				added[path] = k
			}
		}
		return added, nil
	}, func(added map[dbusapi.Path]Persistent, err error) {
		maps.Copy(m.profiles, added)
		reply(callErr(err))
	})
}

// readProfiles looks for profiles that a formation made. The supplicant's own signal is sent before the profile is filled
// in, with nothing in it or not at all, so the list is read once a persistent group is up.
func (m *machine) readProfiles() {
	owner := m.owner
	have := maps.Clone(m.profiles)
	do(m, func(ctx context.Context) (map[dbusapi.Path]dbusapi.Persistent, error) {
		paths, err := m.api.PersistentGroups(ctx, owner)
		if err != nil {
			return nil, err
		}
		found := map[dbusapi.Path]dbusapi.Persistent{}
		for _, p := range paths {
			if _, known := have[p]; known {
				continue
			}
			if v, err := m.api.Persistent(ctx, p); err == nil {
				found[p] = v
			}
		}
		return found, nil
	}, func(found map[dbusapi.Path]dbusapi.Persistent, err error) {
		if err != nil {
			m.log.Warn("Reading persistent groups failed", "err", err)
		}
		for path, v := range found {
			m.profileFound(path, v)
		}
	})
}

func (m *machine) profileFound(path dbusapi.Path, v dbusapi.Persistent) {
	if _, known := m.profiles[path]; known || v.SSID == "" || v.PSK == "" || len(v.BSSID) != 6 {
		return
	}
	p := Persistent{SSID: v.SSID, BSSID: v.BSSID, PSK: v.PSK, Owner: v.Owner}
	if !v.Owner {
		p.Peer = v.BSSID
	}
	for _, g := range m.groups {
		if g.up && g.SSID == v.SSID && g.Role == Owner == v.Owner && g.Peer != nil {
			p.Peer = g.Peer
		}
	}
	if slices.ContainsFunc(m.known, p.same) {
		m.profiles[path] = p
		return
	}
	for older, old := range m.profiles {
		if p.Peer != nil && slices.Equal(old.Peer, p.Peer) {
			m.dropProfile(older)
		}
	}
	m.profiles[path] = p
	m.known = append(m.known, p)
	m.emit(PersistentSaved{p})
}

// dropProfile removes a profile that is of no use any more.
func (m *machine) dropProfile(path dbusapi.Path) {
	p, ok := m.profiles[path]
	if !ok {
		return
	}
	delete(m.profiles, path)
	m.known = slices.DeleteFunc(m.known, p.same)
	owner := m.owner
	m.order(func(ctx context.Context) error { return m.api.RemovePersistent(ctx, owner, path) }, nil)
	m.emit(PersistentRemoved{p})
}

// profileWith returns the profile of the persistent group with a peer.
func (m *machine) profileWith(peer net.HardwareAddr) (dbusapi.Path, bool) {
	for path, p := range m.profiles {
		if len(p.Peer) == 6 && slices.Equal(p.Peer, peer) {
			return path, true
		}
	}
	return "", false
}

// peerOf returns the other device of the persistent group that a running group was started from.
func (m *machine) peerOf(ssid string, role Role) net.HardwareAddr {
	for _, p := range m.profiles {
		if p.SSID == ssid && p.Owner == (role == Owner) {
			return p.Peer
		}
	}
	return nil
}

// callInviteBack invites the peer of a formation that is Inviting to the persistent group, again while no answer comes: a peer
// that restarted listens on another channel, and the supplicant calls into the old one without telling.
func (m *machine) callInviteBack(f *formation) {
	owner, peer, profile := m.owner, f.path, f.profile
	m.order(func(ctx context.Context) error { return m.api.Invite(ctx, owner, peer, profile) }, func(err error) {
		switch {
		case m.form != f || f.stage != stageInviting:
		case err == nil:
			m.nudgeLater(f)
		case !f.seekTried: // it knows the peer by a frame of it only, and not where it listens
			f.seekTried = true
			m.seek(f)
		default:
			f.fresh = true
			m.decide(f)
		}
	})
}
