package wpa

import (
	"net"
	"slices"
	"time"

	"nigh/wpa/dbusapi"
)

// maxStations bounds the list; the kernel's own limit is the driver's, mostly 32 or less, and at most 2007.
const maxStations = 256

// groupSignal handles what the supplicant says of running groups.
func (m *machine) groupSignal(s dbusapi.Signal) {
	switch s := s.(type) {
	case dbusapi.MemberJoined:
		for _, g := range m.groups {
			if g.path == groupIface(s.Group) {
				m.member(g, dbusapi.PeerAddress(s.Peer), s.Left)
			}
		}
	case dbusapi.StationAuthorized:
		if g := m.groups[s.Path]; g != nil && g.Role == Owner {
			g.station(s.Address, s.Gone)
			g.entered = g.entered || !s.Gone
			m.groupChanged(g)
			m.watchIdle(g)
			m.populated(g)
		}
	case dbusapi.InterfaceChanged:
		m.linking(s)
		if g := m.groups[s.Path]; g != nil && g.Role == Client {
			m.linkChanged(g, s)
		}
	case dbusapi.GroupFinished:
		if g := m.groups[s.Interface]; g != nil {
			g.finished = true
			g.state = groupEnding
			g.timer.stop()
			g.timer = m.after(removeLimit, func() { m.groupGone(g, g.reason) })
		}
	}
}

// has takes over who is in the group. It says nothing of who has its keys: the supplicant lists members and stations from the
// moment that they begin to get them.
func (g *group) has(d details) {
	for _, p := range d.group.Members {
		if addr := dbusapi.PeerAddress(p); addr != nil && !isZero(addr) {
			g.join(addr)
		}
	}
	for _, addr := range d.stations {
		g.station(addr, false)
	}
}

// station notes that a station is in the group, or gone.
func (g *group) station(addr net.HardwareAddr, gone bool) {
	g.Stations = slices.DeleteFunc(g.Stations, func(a net.HardwareAddr) bool { return slices.Equal(a, addr) })
	if !gone && len(g.Stations) < maxStations {
		g.Stations = append(g.Stations, addr)
	}
}

// believes takes the stations that are there for clients with the group's keys: the signals that would say so were missed.
func (g *group) believes(d details) { g.entered = g.entered || len(d.stations) > 0 }

// reread brings a group that is up in line with what its properties say, after signals were missed.
func (m *machine) reread(g *group) {
	if !g.up || g.state == groupEnding || g.Role != Owner {
		return
	}
	do(m, m.reading(g), func(d details, err error) {
		if m.groups[g.path] != g || err != nil {
			return
		}
		g.Members, g.Stations = nil, nil
		g.has(d)
		g.believes(d)
		switch {
		case len(g.Members) == 0 && g.state == groupPopulated:
			g.state = groupLinked
		case len(g.Members) > 0 && g.state == groupLinked:
			g.state = groupPopulated
		}
		m.groupChanged(g)
		m.watchIdle(g)
		m.populated(g)
	})
}

// groupIface returns the interface that a W.Group object belongs to.
func groupIface(p dbusapi.Path) dbusapi.Path {
	for i := len(p) - 1; i > 0; i-- {
		if p[i] == '/' {
			if len(p) > i+1 && i > 7 && p[i-7:i] == "/Groups" {
				return p[:i-7]
			}
			return ""
		}
	}
	return ""
}

func (m *machine) member(g *group, addr net.HardwareAddr, left bool) {
	if addr == nil || isZero(addr) {
		return
	}
	if left {
		g.Members = slices.DeleteFunc(g.Members, func(a net.HardwareAddr) bool { return slices.Equal(a, addr) })
		if len(g.Members) == 0 && g.state == groupPopulated {
			g.state = groupLinked
		}
	} else {
		g.entered = true
		if !g.join(addr) {
			m.populated(g)
			return
		}
		if g.state == groupLinked {
			g.state = groupPopulated
		}
		if g.Peer == nil {
			g.Peer = addr
		}
		delete(m.requests, addr.String())
	}
	m.groupChanged(g)
	m.watchIdle(g)
	if left || !g.up {
		return
	}
	m.populated(g)
	if a := m.admissions[addr.String()]; a != nil {
		m.admitted(a, g.clone(), nil)
	}
}

// populated ends a formation whose client is in the group now.
func (m *machine) populated(g *group) {
	if f := m.form; f != nil && f.group == g.path && g.up && g.state != groupEnding {
		m.formed(f, g)
	}
}

func (m *machine) groupChanged(g *group) {
	if g.up {
		m.emit(GroupChanged{g.clone()})
	}
}

// watchIdle ends a group that was formed with a peer and has had no client for some time.
func (m *machine) watchIdle(g *group) {
	empty := g.Role == Owner && len(g.Members) == 0 && len(g.Stations) == 0
	if !empty || g.alone || !g.ours || m.cfg.GroupIdle < 0 {
		g.idle.stop()
		g.idle = nil
		return
	}
	if g.idle == nil {
		g.idle = m.after(m.cfg.GroupIdle, func() { m.end(g, ReasonIdle) })
	}
}

func (g *group) join(addr net.HardwareAddr) bool {
	if len(g.Members) >= maxStations || slices.ContainsFunc(g.Members, func(a net.HardwareAddr) bool { return slices.Equal(a, addr) }) {
		return false
	}
	g.Members = append(g.Members, addr)
	return true
}

func isZero(addr net.HardwareAddr) bool {
	return !slices.ContainsFunc(addr, func(b byte) bool { return b != 0 })
}

// staleOwner is how long the supplicant may go on taking a device for a group owner after its group ended: it believes what it
// finds in older scan results.
const staleOwner = 30 * time.Second

// hasQuit notes that an owner ended its group.
func (m *machine) hasQuit(owner net.HardwareAddr) {
	for key, at := range m.quit {
		if time.Since(at) >= staleOwner {
			delete(m.quit, key)
		}
	}
	m.quit[owner.String()] = time.Now()
}

// quitLately reports whether a peer that is seen as a group owner most likely is none any more.
func (m *machine) quitLately(peer net.HardwareAddr) bool {
	at, ok := m.quit[peer.String()]
	return ok && time.Since(at) < staleOwner
}
