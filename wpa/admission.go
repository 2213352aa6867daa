package wpa

import (
	"context"
	"net"
	"time"

	"nigh/wpa/dbusapi"
)

const (
	admitLimit    = 60 * time.Second // from opening WPS until the client is in
	maxAdmissions = 16               // clients that are let in at the same time
)

// admission is a client that may join a group owned here.
type admission struct {
	peer   net.HardwareAddr
	group  dbusapi.Path
	method Method
	opened time.Time // when WPS was opened for it; zero = not yet
	timer  *timer
	reply  func(Group, error) // nil when nobody waits
}

// expect lets a peer into a group without another question.
func (m *machine) expect(g *group, peer net.HardwareAddr, method Method, reply func(Group, error)) *admission {
	key := peer.String()
	if old := m.admissions[key]; old != nil {
		m.admitted(old, Group{}, ErrBusy)
	}
	if len(m.admissions) >= maxAdmissions {
		if reply != nil {
			reply(Group{}, ErrBusy)
		}
		return nil
	}
	a := &admission{peer: peer, group: g.path, method: method, reply: reply}
	a.timer = m.after(admitLimit, func() { m.admitted(a, Group{}, ErrTimeout) })
	m.admissions[key] = a
	return a
}

// admitted ends an admission.
func (m *machine) admitted(a *admission, g Group, err error) {
	if m.admissions[a.peer.String()] != a {
		return
	}
	delete(m.admissions, a.peer.String())
	a.timer.stop()
	if g := m.groups[a.group]; err != nil && !a.opened.IsZero() && a.method.PIN != "" && g != nil && m.state == Ready {
		// The supplicant would take the PIN for two minutes.
		m.order(func(ctx context.Context) error { return m.api.CloseWPS(ctx, g.path) }, nil)
	}
	if a.reply != nil {
		a.reply(g, err)
	}
}

// fits returns nil when the client's new request is what it is admitted for. One that asks for another method shows or types
// another PIN; one that was let in and asks again has found its PIN to be wrong, of which the owner of a group that is not new
// is told nothing.
func (a *admission) fits(kind RequestKind) error {
	want := map[MethodKind]RequestKind{KindPBC: ProvisionPBC, KindShowPIN: ProvisionShowPIN, KindEnterPIN: ProvisionEnterPIN}
	switch {
	case want[a.method.Kind] != kind:
		return ErrMethod
	case kind != ProvisionPBC && !a.opened.IsZero() && time.Since(a.opened) > secondThoughts:
		return ErrWrongPIN
	}
	return nil
}

// openWPS opens the group for the client: on the group's object, or it would be the parent that listens.
func (m *machine) openWPS(a *admission) {
	group, peer, pin := a.group, a.peer, a.method.PIN
	if !a.opened.IsZero() && pin != "" {
		return // to open it again would forget that the PIN was tried
	}
	a.opened = time.Now()
	m.order(func(ctx context.Context) error {
		err := m.api.OpenWPS(ctx, group, peer, pin)
		if err == nil && a.method.Kind == KindShowPIN && a.method.Shown != nil {
			a.method.Shown(pin)
		}
		return err
	}, func(err error) {
		if err != nil {
			m.admitted(a, Group{}, callErr(err))
		}
	})
}

// admissionFailed ends the admission of a client that did not know the PIN.
func (m *machine) admissionFailed(s dbusapi.WPSFailed) {
	for _, a := range m.admissions {
		if a.group == s.Path && !a.opened.IsZero() && a.method.PIN != "" && s.ConfigError == wpsWrongPIN {
			m.admitted(a, Group{}, ErrWrongPIN)
		}
	}
}

// admit answers a peer that asked to join a group owned here.
func (m *machine) admit(req Request, method Method, reply func(Group, error)) func(error) {
	g := m.groupByID(req.Group)
	if g == nil || g.Role != Owner {
		reply(Group{}, ErrNoGroup)
		return nil
	}
	if method.Kind == KindShowPIN && method.PIN == "" {
		method.PIN = req.PIN
	}
	if method.Kind != KindPBC && method.PIN == "" {
		reply(Group{}, ErrBadMethod)
		return nil
	}
	a := m.expect(g, req.Peer.Address, method, reply)
	if a == nil {
		return nil
	}
	m.openWPS(a)
	return m.refuser(a)
}

// refuser returns what ends an admission because its caller does not want it any more.
func (m *machine) refuser(a *admission) func(error) {
	return func(why error) { m.admitted(a, Group{}, why) }
}

// inviteMember is Connect on a group owner: the peer becomes a client of the group that is there.
func (m *machine) inviteMember(g *group, peer net.HardwareAddr, method Method, reply func(Group, error)) func(error) {
	if err := m.usable(); err != nil {
		reply(Group{}, err)
		return nil
	}
	if method.Kind == KindShowPIN && method.PIN == "" {
		reply(Group{}, ErrBadMethod)
		return nil
	}
	a := m.expect(g, peer, method, reply)
	if a == nil {
		return nil
	}
	m.callInvite(g, peer, func(err error) {
		if err != nil {
			m.admitted(a, Group{}, err)
		}
	})
	return m.refuser(a)
}
