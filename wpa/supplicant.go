package wpa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nigh/wpa/dbusapi"
)

const (
	nameNM  = "org.freedesktop.NetworkManager"
	nameIWD = "net.connman.iwd"

	retryMin      = 500 * time.Millisecond // a new supplicant gets its interface a moment after its name
	retryMax      = 10 * time.Second       // between two attempts to reach wpa_supplicant
	activateDelay = 3 * time.Second        // after a loss: systemd or NetworkManager may be quicker
	shutdownLimit = 12 * time.Second       // for groups to end when we stop

	maxIfaces = 64 // that are remembered by name; a machine has a few
)

// start looks for a supplicant.
func (m *machine) start() {
	do(m, m.api.Present, func(present bool, err error) {
		switch {
		case err != nil:
			m.setState(Absent, callErr(err))
		case present:
			m.prepare(retryMin)
		default:
			m.setState(Absent, ErrNoSupplicant)
			m.activate()
		}
	})
}

// activate has the bus start the supplicant, unless iwd has the radio.
func (m *machine) activate() {
	m.order(func(ctx context.Context) error {
		if iwd, err := m.api.HasOwner(ctx, nameIWD); err != nil || iwd {
			return errors.Join(err, ErrIWD)
		}
		return m.api.Activate(ctx)
	}, func(err error) {
		if m.state != Absent || err == nil { // on success OwnerChanged follows
			return
		}
		m.log.Debug("Starting wpa_supplicant failed", "err", err)
		if errors.Is(err, ErrIWD) || errors.Is(err, ErrDenied) {
			m.setState(Absent, err)
		}
	})
}

func (m *machine) setState(s State, err error) {
	if m.state == s && m.err == err { //nolint:errorlint // the very same error: a new one is news, whatever it wraps
		return
	}
	m.log.Info("Radio state changed", "state", string(s), "ifname", m.ifname, "err", err)
	m.state, m.err, m.dirty = s, err, true
}

// prepare reads and configures the supplicant that is there; when it has no interface yet, again after wait.
func (m *machine) prepare(wait time.Duration) {
	if m.stopping {
		return
	}
	if m.preparing {
		m.again = true
		return
	}
	m.preparing, m.again = true, false
	if m.state != Starting {
		m.setState(Starting, nil)
	}
	known := slices.Clone(m.known)
	do(m, func(ctx context.Context) (ready, error) { return prepare(ctx, m.api, m.cfg, known) }, func(r ready, err error) {
		m.preparing = false
		switch {
		case m.stopping:
		case err == nil:
			m.ready(r)
		case m.again:
			m.prepare(wait)
		default:
			state := Absent
			if errors.Is(err, ErrNoP2P) || errors.Is(err, ErrUnsupported) {
				state = NoP2P
			}
			m.setState(state, callErr(err))
			if !errors.Is(err, ErrDenied) {
				life := m.life
				m.after(wait, func() {
					if m.life == life && m.state != Ready {
						m.prepare(min(2*wait, retryMax))
					}
				})
			}
		}
	})
}

// ready takes over what prepare found.
func (m *machine) ready(r ready) {
	m.owner, m.ifname, m.address = r.iface.Path, r.iface.Ifname, r.address
	m.before = &r.before
	for _, err := range r.refused {
		m.log.Warn("Setting was refused", "err", err)
	}
	m.profiles = r.profiles
	m.connected, m.shown = r.connected, r.shown
	m.phy, m.seat = phyOf(m.ifname), r.seat
	m.setState(Ready, nil)
	m.log.Info("Radio is ready", "ifname", m.ifname, "address", m.address.String(), "engine", string(m.choice.Engine))
	m.restoreServices()
	m.take(r.found, m.lastGroup, r.crashed)
	m.matchProfiles(func(error) {}) // they may have been set meanwhile; a failure shows when one is used
	m.switched()
	m.showAdvert(func(err error) { // it may have changed meanwhile
		if err != nil {
			m.log.Warn("Setting what others see failed", "err", err)
		}
	})
	m.resume()
}

// take brings peers and groups in line with what the supplicant's properties say. Groups that we did not know are ours
// when ours is true; those after the last one that there was when the reading began may not be in the properties.
func (m *machine) take(s snapshot, last int, ours bool) {
	for path, p := range s.peers {
		m.peerFound(path, p)
	}
	for path := range m.peers {
		if _, ok := s.peers[path]; !ok {
			m.peerLost(path)
		}
	}
	for path, g := range m.groups {
		if _, ok := s.ifaces[path]; !ok && g.number <= last {
			m.groupGone(g, ReasonEnded)
		}
	}
	for _, g := range m.groups {
		m.reread(g)
	}
	for path, i := range s.ifaces {
		m.ifaces[path] = i.Ifname
		if (i.Role == "GO" || i.Role == "client") && m.groups[path] == nil && path != m.owner {
			m.adopt(i, ours)
		}
	}
}

// resync reads the properties again after signals were dropped, or a sleep.
func (m *machine) resync() {
	if m.state != Ready {
		return
	}
	m.log.Info("Reading the radio's state again")
	owner, last := m.owner, m.lastGroup
	do(m, func(ctx context.Context) (snapshot, error) { return look(ctx, m.api, owner) }, func(s snapshot, err error) {
		if err == nil && m.state == Ready {
			m.take(s, last, false)
		}
	})
}

// gone handles the loss of the supplicant or of its interface.
func (m *machine) gone(reason error) {
	m.log.Info("Radio is gone", "ifname", m.ifname, "err", reason)
	m.state, m.err, m.dirty = Absent, reason, true // before anything goes on by itself
	m.life++
	m.preparing = false
	m.before = nil // the supplicant's settings went with it
	m.closeAll(ErrSupplicantGone)
	for _, g := range m.groups {
		m.groupGone(g, ReasonSupplicantGone)
	}
	for path := range m.peers {
		m.peerLost(path)
	}
	m.forget()
}

// forget drops everything that hangs on the life of one supplicant.
func (m *machine) forget() {
	m.owner, m.address = "", nil
	m.ifname = m.cfg.Ifname
	m.ifaces = map[dbusapi.Path]string{}
	m.peers = map[dbusapi.Path]*Peer{}
	m.displaced = map[string]bool{}
	m.quit = map[string]time.Time{}
	m.requests = map[string]*request{}
	m.groups = map[dbusapi.Path]*group{}
	m.admissions = map[string]*admission{}
	m.profiles = map[dbusapi.Path]Persistent{}
	m.unwanted = map[dbusapi.Path]bool{}
	m.provisioned = map[string]bool{}
	m.flushed = map[dbusapi.Path]bool{}
	m.haunted.stop()
	m.haunted = nil
	m.disc.halt()
	m.connected, m.listening, m.shown, m.searched = false, 0, Advert{}, false
}

// closeAll fails everything that waits.
func (m *machine) closeAll(err error) {
	if m.form != nil {
		m.finish(m.form, Group{}, err)
	}
	for len(m.ending) > 0 {
		m.ended(m.ending[0])
	}
	for _, a := range m.admissions {
		m.admitted(a, Group{}, err)
	}
	m.inviteDone(err)
	for _, l := range slices.Clone(m.looks) {
		m.looked(l, err)
	}
	for _, g := range m.groups {
		g.left(err)
	}
	for n, reply := range m.waiters {
		delete(m.waiters, n)
		reply(err)
	}
}

// signal is the one entry for everything that the supplicant says.
func (m *machine) signal(s dbusapi.Signal) {
	m.log.Debug("Signal", "signal", fmt.Sprintf("%T", s))
	switch s := s.(type) {
	case dbusapi.OwnerChanged:
		if m.stopping {
			if s.Owner == "" {
				m.gone(ErrSupplicantGone)
				m.finished = true
			}
			return
		}
		m.gone(ErrSupplicantGone)
		if s.Owner != "" {
			m.prepare(retryMin)
		} else {
			life := m.life
			m.after(activateDelay, func() {
				if m.life == life && m.state == Absent {
					m.activate()
				}
			})
		}
	case dbusapi.Disconnected:
		m.gone(ErrNoBus)
		m.finished = true
		if !m.stopping {
			m.result = ErrNoBus
		}
	case dbusapi.Overflow:
		m.resync()
	case dbusapi.InterfaceAdded:
		if len(m.ifaces) < maxIfaces {
			m.ifaces[s.Path] = s.Ifname
		}
		if m.owner == "" {
			m.prepare(retryMin)
		} else {
			m.interfaceAdded(s.Path, s.Ifname)
		}
	case dbusapi.InterfaceRemoved:
		delete(m.ifaces, s.Path)
		if s.Path == m.owner {
			m.gone(ErrNoInterface)
			if !m.stopping {
				m.prepare(retryMin)
			}
			return
		}
		m.interfaceRemoved(s.Path)
	case dbusapi.DeviceFound:
		m.placed(s.Path, s.Peer)
		m.peerFound(s.Path, s.Peer)
	case dbusapi.DeviceLost:
		m.peerLost(s.Path)
	case dbusapi.FindStopped:
		m.searched = false
		m.findStopped()
	case dbusapi.InterfaceChanged:
		if s.Path == m.owner && s.State != "" {
			m.ownerChanged(s.State)
		}
		m.groupSignal(s)
	case dbusapi.StationAuthorized, dbusapi.GroupFinished, dbusapi.MemberJoined:
		m.groupSignal(s)
	case dbusapi.ServiceResponse:
		m.serviceResponse(s)
	case dbusapi.PersistentRemoved:
		delete(m.profiles, s.Path)
	default:
		m.formationSignal(s)
	}
}

// shutdown ends what we began, waits for the groups to be gone, puts the settings back and finishes.
func (m *machine) shutdown() {
	m.stopping = true
	searching := m.disc.stage != discIdle
	m.disc.halt()
	if m.state != Ready && m.state != Off {
		m.finished = true
		return
	}
	formed := m.form != nil
	m.closeAll(ErrClosed)
	var ends []func(context.Context) error
	for path, g := range m.groups {
		if g.ours && g.state != groupEnding {
			g.state, g.reason = groupEnding, ReasonLeft
			ends = append(ends, m.disconnect(path))
		}
	}
	owner := m.owner
	m.order(func(ctx context.Context) error {
		if formed {
			ignore(m.api.Cancel(ctx, owner))
		}
		if searching || formed { // another program may be searching, too
			ignore(m.api.StopFind(ctx, owner))
		}
		for _, end := range ends {
			ignore(end(ctx))
		}
		return nil
	}, func(error) {
		m.endGroups()
	})
	m.after(shutdownLimit, func() { m.finished = true })
}

// endGroups restores once no group of ours is left.
func (m *machine) endGroups() {
	for _, g := range m.groups {
		if g.ours {
			g.waiting = append(g.waiting, func(error) { m.endGroups() })
			if g.timer == nil || g.timer.dead {
				g.timer = m.after(endLimit, func() { m.groupGone(g, ReasonLeft) })
			}
			return
		}
	}
	m.putBack()
}

// putBack undoes our settings and finishes.
func (m *machine) putBack() {
	b := m.before
	if b == nil {
		m.finished = true
		return
	}
	m.before = nil
	withdraw := m.withdrawServices()
	m.order(func(ctx context.Context) error {
		withdraw(ctx)
		paths, err := m.api.PersistentGroups(ctx, b.owner)
		for _, p := range paths {
			if !b.profiles[p] {
				ignore(m.api.RemovePersistent(ctx, b.owner, p))
			}
		}
		if err = errors.Join(err, restore(ctx, m.api, m.cfg, b)); err == nil {
			err = dropRecord(m.cfg.Record)
		}
		return err
	}, func(err error) {
		if err != nil {
			m.log.Warn("Putting the radio's settings back failed", "err", err)
		}
		m.finished = true
	})
}

// ignore marks an error that says only that there was nothing to end.
func ignore(error) {}
