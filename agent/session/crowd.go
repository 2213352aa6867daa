package session

import (
	"errors"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// ErrCrowded is returned for a device that would be one too many ([Config].Most).
var ErrCrowded = errors.New("session: as many devices are connected as may be")

// enter remembers c for as long as it is open, as track does, unless its device is one
// too many: a stranger gives way to a trusted device.
func (s *Sessions) enter(c *conn) bool {
	most := s.most()
	if most == 0 {
		return s.track(c)
	}
	s.entering.Lock()
	defer s.entering.Unlock()
	there := s.connected()
	if _, known := there[c.id]; !known && len(there) >= most {
		if s.standing(c.id) != trust.Trusted {
			return false
		}
		stranger, ok := s.leastOf(there, true)
		if !ok {
			return false
		}
		s.Close(stranger)
	}
	return s.track(c)
}

// Thin closes the connections of as many devices as are more than Config.Most says now:
// strangers first, then those that asked or were asked for nothing for the longest time.
func (s *Sessions) Thin() {
	most := s.most()
	if most == 0 {
		return
	}
	s.entering.Lock()
	defer s.entering.Unlock()
	for there := s.connected(); len(there) > most; {
		id, ok := s.leastOf(there, true)
		if !ok {
			id, _ = s.leastOf(there, false)
		}
		s.Close(id)
		delete(there, id)
	}
}

func (s *Sessions) most() int {
	if s.cfg.Most == nil {
		return 0
	}
	return s.cfg.Most()
}

// connected returns the devices that have a connection, with when each was busy last.
func (s *Sessions) connected() map[identity.DeviceID]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := map[identity.DeviceID]int64{}
	for c := range s.active {
		there[c.id] = max(there[c.id], c.quiet.Load())
	}
	return there
}

// leastOf returns the device that was busy the longest time ago; of strangers only, when
// that is wanted.
func (s *Sessions) leastOf(there map[identity.DeviceID]int64, strangers bool) (least identity.DeviceID, ok bool) {
	for id, busy := range there {
		if strangers && s.standing(id) == trust.Trusted {
			continue
		}
		if !ok || busy < there[least] {
			least, ok = id, true
		}
	}
	return least, ok
}
