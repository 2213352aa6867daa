package agent

import (
	"cmp"
	"net"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
)

// heard records a Wi-Fi Direct device. It reports false when there is no room.
func (t *table) heard(s radioSighting) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.seen.IsZero() {
		s.seen = t.now()
	}
	old, ok := t.radio[s.mac.String()]
	if !ok && len(t.radio) >= maxRadio {
		return false
	}
	if ok && s.seen.Before(old.seen) {
		return true // an event that waited, while the device was looked at
	}
	if ok && s.name == "" && s.id == old.id {
		s.name, s.short = old.name, old.short // it only hides them while it asks a friend for a group
	}
	t.radio[s.mac.String()] = s
	return true
}

// lost forgets a Wi-Fi Direct device and reports whether it was known.
func (t *table) lost(mac net.HardwareAddr) (radioSighting, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.radio[mac.String()]
	delete(t.radio, mac.String())
	delete(t.alone, mac.String())
	return s, ok
}

// onAir returns the P2P device addresses of everything that the radio hears.
func (t *table) onAir() []net.HardwareAddr {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]net.HardwareAddr, 0, len(t.radio))
	for _, s := range t.radio {
		all = append(all, s.mac)
	}
	return all
}

// shortOnAir is the short ID that a Wi-Fi Direct device says it has, "" without.
func (t *table) shortOnAir(mac net.HardwareAddr) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.radio[mac.String()].short
}

// at returns the sighting of a Wi-Fi Direct device.
func (t *table) at(mac net.HardwareAddr) (radioSighting, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.radio[mac.String()]
	return s, ok
}

// onRadio returns the Wi-Fi Direct sighting that seems to be of this identity. Of
// several the newest counts: an impostor can only repeat what it heard.
func (t *table) onRadio(id identity.DeviceID) (found radioSighting, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.radio {
		if s.is(id) && (!ok || s.friend && !found.friend || s.friend == found.friend && s.seen.After(found.seen)) {
			found, ok = s, true
		}
	}
	return found, ok
}

// behind returns the known identity that a radio sighting seems to be of: by its
// tag or key, else the only one that its short ID fits. It is a hint; the session
// proves.
func (t *table) behind(mac net.HardwareAddr) (identity.DeviceID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.behindLocked(t.radio[mac.String()])
}

func (t *table) behindLocked(s radioSighting) (found identity.DeviceID, ok bool) {
	if !s.id.IsZero() {
		_, known := t.peers[s.id]
		return s.id, known
	}
	if s.short == "" {
		return found, false
	}
	for id := range t.peers {
		if id.Short() == s.short {
			if ok {
				return identity.DeviceID{}, false
			}
			found, ok = id, true
		}
	}
	return found, ok
}

// oneRadio returns the view of a Wi-Fi Direct device: of the peer it seems to
// be, or of its own.
func (t *table) oneRadio(mac net.HardwareAddr) (control.Peer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.radio[mac.String()]
	if !ok {
		return control.Peer{}, false
	}
	if id, ok := t.behindLocked(s); ok {
		return t.view(t.peers[id])
	}
	return t.radioView(s), true
}

// regroup returns what has to be told of the radio devices that seem to be id, beside id itself: one that was shown by itself
// is gone, since it is shown as id; and where id is not known any more, or another has its short ID, it is by itself again.
func (t *table) regroup(id identity.DeviceID) (events []control.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for mac, s := range t.radio {
		if !s.is(id) {
			continue
		}
		if _, known := t.behindLocked(s); !known {
			v := t.radioView(s)
			events = append(events, control.Event{Type: "peer", Peer: &v})
		} else if t.alone[mac] {
			delete(t.alone, mac)
			events = append(events, control.Event{Type: "peer_gone", Key: control.Peer{Paths: []control.Path{{Kind: kindDirect, Address: mac}}}.Key()})
		}
	}
	return events
}

// radioView renders a Wi-Fi Direct device whose identity is not known, and notes
// that it was shown by itself; t.mu is held.
func (t *table) radioView(s radioSighting) control.Peer {
	t.alone[s.mac.String()] = true
	return control.Peer{
		Name: cmp.Or(s.name, s.short, s.mac.String()), Short: s.short, Trust: trust.New.String(), State: "visible",
		Paths:    []control.Path{{Kind: kindDirect, Address: s.mac.String(), Signal: s.signal}},
		LastSeen: s.seen.Format(time.RFC3339), Age: t.now().Sub(s.seen).Seconds(),
	}
}
