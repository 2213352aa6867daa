package wpa

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"

	"nigh/wpa/dbusapi"
)

// maxProfiles bounds the profiles given to the supplicant: it searches them one after the other.
const maxProfiles = 64

// addProfiles gives the supplicant the profiles that it does not have, and returns where all of known are and what the
// supplicant had before. One that it refuses is left out.
func addProfiles(ctx context.Context, api supplicant, owner dbusapi.Path, known []Persistent) (map[dbusapi.Path]Persistent, map[dbusapi.Path]bool, error) {
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
			if h.same(k) {
				path = p
			}
		}
		if path == "" {
			v := dbusapi.Persistent{SSID: k.SSID, BSSID: k.BSSID, PSK: k.PSK, Owner: k.Owner}
			if path, err = api.AddPersistent(ctx, owner, v, k.Peer); err != nil {
				if errors.Is(err, dbusapi.ErrInvalidArgs) || errors.Is(err, dbusapi.ErrFailed) {
					continue
				}
				return nil, nil, err
			}
		}
		out[path] = k
	}
	return out, had, nil
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
		default:
			f.fresh = true
			m.decide(f)
		}
	})
}
