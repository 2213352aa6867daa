package wpa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"nigh/wpa/dbusapi"
)

const (
	maxRebuilt     = 2               // times that a formation begins anew
	secondThoughts = 5 * time.Second // a request of the peer that comes earlier may be one that it sent before, on a busy machine
)

// WPS configuration errors (Wi-Fi Simple Configuration 2.0.8, table 33).
const (
	wpsOverlap  = 12
	wpsWrongPIN = 18
)

// formationSignal handles what the supplicant says of group formation.
func (m *machine) formationSignal(s dbusapi.Signal) {
	f := m.form
	switch s := s.(type) {
	case dbusapi.GONegotiationRequest:
		m.negotiationRequest(s)
	case dbusapi.Provision:
		m.provision(s)
	case dbusapi.InvitationReceived:
		m.invitationReceived(s)
	case dbusapi.InvitationResult:
		m.invitationResult(s)
	case dbusapi.GroupStarted:
		ghost := m.haunted != nil && !s.Owner && (f == nil && !s.Persistent || f != nil && f.kind == formStart)
		if ghost || m.unwanted[s.Interface] || f != nil && f.stage == stageCancelling {
			m.layGhost(s.Interface)
			return
		}
		m.groupStarted(s)
	case dbusapi.GONegotiationSuccess:
		if f != nil && f.path == s.Peer && f.stage == stageWaiting {
			f.negotiated, f.agreed = true, time.Now()
			f.enter(m, stageNegotiated)
			if !s.Owner {
				m.expectOwner(f)
			}
		}
	case dbusapi.GONegotiationFailure:
		if f != nil && f.path == s.Peer && f.stage == stageWaiting {
			m.negotiationFailed(f, s.Status)
		}
	case dbusapi.ProvisionFailure:
		if f != nil && f.path == s.Peer {
			m.provisionFailed(f, s.Status)
		}
	case dbusapi.WPSFailed:
		m.admissionFailed(s)
		if f != nil && (s.Path == f.group || s.Path == m.owner) {
			switch s.ConfigError {
			case wpsWrongPIN:
				f.err = ErrWrongPIN
			case wpsOverlap:
				f.err = ErrOverlap
			}
		}
	case dbusapi.GroupFormationFailure:
		m.formationFailed(s)
	}
}

// negotiationFailed handles a status of GO negotiation; each way out is tried once.
func (m *machine) negotiationFailed(f *formation, status int) {
	switch {
	case status == 9 && f.opts.Intent == 15 && !f.intentTried:
		f.intentTried = true
		f.opts.Intent = 14
		if f.kind == formAccept { // when both ask at once, each is on the other's channel
			m.hearPeer(f, lostNudge)
		} else {
			m.negotiate(f)
		}
	case m.withoutWish(f, statusErr(status)):
		m.negotiate(f)
	case status == -1 && f.lost < maxLost && time.Since(f.started) < waitLimit/2:
		// A frame was lost, or crossed one of the peer's. The peer may be sure that all is well and is about to ask us.
		f.lost++
		m.hearPeer(f, lostNudge)
	case (status == 1 || status == 2) && !f.joinTried && f.kind == formConnect:
		// It may have become a group owner, which we learn only by asking.
		f.joinTried = true
		path := f.path
		do(m, func(ctx context.Context) (dbusapi.Peer, error) { return m.api.Peer(ctx, path) }, func(v dbusapi.Peer, err error) {
			switch {
			case m.form != f || f.stage != stageWaiting:
			case err == nil && v.GroupCapab&dbusapi.GroupOwner != 0 && !m.canJoin():
				// Should it be the group of this try, it gives it up soon, and asks us.
				f.timer.stop()
				f.timer = m.after(rebuildLimit, func() { m.finish(f, Group{}, limited("joining a running group")) })
			case err == nil && v.GroupCapab&dbusapi.GroupOwner != 0:
				delete(m.quit, f.peer.String())
				m.peerFound(path, v)
				m.decide(f)
			case status != 1: // with 1 its user has to accept: it will ask us
				m.finish(f, Group{}, statusErr(status))
			}
		})
	case status == 1:
	default:
		m.finish(f, Group{}, statusErr(status))
	}
}

func (m *machine) provisionFailed(f *formation, status int) {
	switch f.stage {
	case stageProvision:
		if status == 2 {
			m.finish(f, Group{}, ErrRejected)
		} else {
			m.negotiate(f)
		}
	case stageJoining:
		if status == 2 && f.kind == formConnect && !f.notOwner {
			f.notOwner = true // it knows of no such group: the one that we saw has ended
			m.negotiate(f)
		} else if status == 2 {
			m.finish(f, Group{}, ErrRejected)
		} else {
			m.finish(f, Group{}, ErrTimeout)
		}
	}
}

// formationFailed handles GroupFormationFailure, which comes from the group's interface when there is one.
func (m *machine) formationFailed(s dbusapi.GroupFormationFailure) {
	if g := m.groups[s.Path]; g != nil {
		g.reason = ReasonFormationFailed
	}
	f := m.form
	if f == nil {
		m.goOn() // one that the supplicant agreed to by itself
		return
	}
	if s.Path != f.group && s.Path != m.owner {
		return
	}
	if f.stage == stageCancelling {
		if f.group == "" {
			m.finish(f, Group{}, f.err)
		}
		return
	}
	if f.stage == stageSeeking || f.stage == stageProvision { // an older formation's
		return
	}
	negotiated := f.stage == stageNegotiated || f.stage == stageBuilding && f.negotiated
	invited := f.profile != "" && !f.fresh && (f.stage == stageInviting || f.stage == stageBuilding)
	if f.err == nil && s.Reason != "FREQ_CONFLICT" && (negotiated || invited) && f.rebuilt < maxRebuilt && !f.opts.OneTime {
		m.rebuild(f)
		return
	}
	switch {
	case s.Reason == "FREQ_CONFLICT":
		f.err = fmt.Errorf("%w: the group is on another channel than this radio's Wi-Fi connection", ErrChannel)
	case f.err == nil && f.kind == formStart:
		f.err = ErrFormation
	case f.err == nil && s.Reason != "":
		f.err = fmt.Errorf("%w: %s", ErrFormation, s.Reason)
	case f.err == nil:
		f.err = ErrFormation
	}
	m.finish(f, Group{}, f.err)
}

// rebuild asks again, a few times, after a group could not be built for no told reason. Other uses of the radio, a slow owner or a
// lost frame make the client give up after 15 s; the other side fails at the same time and, if it is like us, asks too. Two
// invitations that cross can make one side join a group that the other has not started yet.
func (m *machine) rebuild(f *formation) {
	m.log.Info("Group formation failed and is tried again", "peer", f.peer.String())
	invited := !f.negotiated
	f.rebuilt, f.negotiated, f.group = f.rebuilt+1, false, ""
	if invited {
		m.decide(f)
		return
	}
	f.enter(m, stageWaiting)
	f.timer.stop()
	f.timer = m.after(rebuildLimit, func() { m.finish(f, Group{}, ErrFormation) })
	m.hearPeer(f, lostNudge)
}

// expectOwner gives up a group whose owner is not on the air. It failed the negotiation that we are sure of, when its own
// request crossed ours, and is about to ask again; the supplicant would wait for it for 15 s and not listen.
func (m *machine) expectOwner(f *formation) {
	f.linked = false
	f.patience.stop()
	if f.rebuilt > 0 {
		return
	}
	f.patience = m.after(ownerLimit, func() {
		if m.form != f || f.linked || f.stage != stageNegotiated && f.stage != stageBuilding {
			return
		}
		owner := m.owner
		m.order(func(ctx context.Context) error { return m.api.Cancel(ctx, owner) }, nil) // GroupFormationFailure follows
	})
}

// linking notes that the owner of the group being built was found.
func (m *machine) linking(s dbusapi.InterfaceChanged) {
	if f := m.form; f != nil && s.Path == f.group && s.State != "" && s.State != "scanning" && s.State != "disconnected" && s.State != "inactive" {
		f.linked = true
	}
}

const (
	requestLife  = 110 * time.Second // the peer waits 120 s
	maxRequests  = 64                // of peers, that wait for an answer
	requestPause = time.Second       // between requests told while there are that many
)

// request is a peer that waits for our answer.
type request struct {
	kind     RequestKind
	password uint16
	at       time.Time
}

// ask tells of a peer that wants a group, once for each attempt: the peer repeats its frames, and GO negotiation follows
// provision discovery.
func (m *machine) ask(peer dbusapi.Path, req Request) {
	addr := dbusapi.PeerAddress(peer)
	if addr == nil || m.stopping || m.state != Ready {
		return
	}
	key := addr.String()
	if old := m.requests[key]; old != nil && time.Since(old.at) < requestLife && (old.kind == req.Kind && old.password == req.PasswordID || old.kind != Negotiation && req.Kind == Negotiation) {
		return
	}
	if len(m.requests) >= maxRequests {
		for k, r := range m.requests {
			if time.Since(r.at) >= requestLife {
				delete(m.requests, k)
			}
		}
		if len(m.requests) >= maxRequests { // a flood of strangers must not keep others from asking for long
			if time.Since(m.crowded) < requestPause {
				return
			}
			m.crowded = time.Now()
			oldest := ""
			for k, r := range m.requests {
				if oldest == "" || r.at.Before(m.requests[oldest].at) {
					oldest = k
				}
			}
			delete(m.requests, oldest)
		}
	}
	m.requests[key] = &request{req.Kind, req.PasswordID, time.Now()}
	if p := m.peers[peer]; p != nil {
		req.Peer = *p
		m.emit(RequestReceived{req})
		return
	}
	do(m, func(ctx context.Context) (dbusapi.Peer, error) { return m.api.Peer(ctx, peer) }, func(v dbusapi.Peer, err error) {
		req.Peer = Peer{Address: addr, Seen: time.Now()}
		if err == nil {
			m.peerFound(peer, v)
			if p := m.peers[peer]; p != nil {
				req.Peer = *p
			}
		}
		m.emit(RequestReceived{req})
	})
}

func (m *machine) negotiationRequest(s dbusapi.GONegotiationRequest) {
	if f := m.form; f != nil && f.path == s.Peer && f.stage != stageCancelling {
		if f.stage == stageInviting {
			// We want the old group, the peer a new one: it has forgotten the old one.
			f.fresh, f.kind = true, formAccept
			m.dropProfile(f.profile)
			m.negotiate(f)
		} else if f.stage == stageSeeking || f.stage == stageProvision {
			m.negotiate(f)
		} else if f.stage == stageJoining && f.kind == formConnect && f.group == "" {
			m.negotiateInstead(f)
		} else if f.stage == stageWaiting && f.gaveUp {
			f.gaveUp, f.looking = false, false
			f.nudge.stop()
			m.callConnect(f)
		} else if f.negotiated && !f.linked && m.groups[f.group] == nil && time.Since(f.agreed) > secondThoughts {
			// The peer missed our agreement and starts anew: do not wait for the group that it will never come to, nor start.
			owner := m.owner
			m.order(func(ctx context.Context) error { return m.api.Cancel(ctx, owner) }, nil) // GroupFormationFailure follows
		}
		return // the two requests cross; the supplicant makes one group of them
	}
	m.ask(s.Peer, Request{Kind: Negotiation, PasswordID: s.PasswordID})
}

// negotiateInstead gives up joining the group of a peer that asks for a new one: its group has ended.
func (m *machine) negotiateInstead(f *formation) {
	f.notOwner, f.joins = true, false
	f.nudge.stop()
	m.haunt()
	owner := m.owner
	m.order(func(ctx context.Context) error {
		ignore(m.api.Cancel(ctx, owner))
		ignore(m.api.StopFind(ctx, owner))
		return nil
	}, nil)
	m.negotiate(f)
}

// provision handles provision discovery, which a peer does before it negotiates or joins our group.
func (m *machine) provision(s dbusapi.Provision) {
	addr := dbusapi.PeerAddress(s.Peer)
	f := m.form
	if s.Response {
		if f != nil && f.path == s.Peer && f.stage == stageProvision {
			if s.Kind == "display" && f.method.PIN == "" && len(s.PIN) == 8 {
				f.method.PIN = s.PIN
			}
			m.negotiate(f)
		}
		return
	}
	m.provisionedBy(addr)
	if f != nil && f.path == s.Peer {
		return
	}
	req := Request{Kind: ProvisionPBC}
	switch s.Kind {
	case "display":
		req.Kind, req.PIN = ProvisionShowPIN, s.PIN
	case "keypad":
		req.Kind = ProvisionEnterPIN
	}
	for _, g := range m.groups {
		if g.Role != Owner || !g.up || g.state == groupEnding {
			continue
		}
		req.Group = g.ID
		if a := m.admissions[addr.String()]; a != nil && a.group == g.path {
			err := a.fits(req.Kind)
			if err == nil {
				m.openWPS(a)
				return
			}
			m.admitted(a, Group{}, err) // and what it asks for now is a question
		}
	}
	m.ask(s.Peer, req)
}

func (m *machine) invitationReceived(s dbusapi.InvitationReceived) {
	owner := s.OwnerAddress
	if owner == nil {
		owner = s.Source
	}
	runs := s.BSSID != nil
	if f := m.form; f != nil && slices.Equal(f.peer, s.Source) {
		if runs && (f.stage == stageSeeking || f.stage == stageProvision || f.stage == stageWaiting) {
			m.invitedInstead(f, owner, s.Frequency)
		}
		return
	}
	m.ask(dbusapi.PeerPath(m.owner, s.Source), Request{Kind: Invitation, Owner: owner, runs: runs, frequency: s.Frequency})
}

// invitedInstead joins the running group to which the peer invites us, when it is asked for a new one.
func (m *machine) invitedInstead(f *formation, owner net.HardwareAddr, frequency int) {
	f.nudge.stop()
	if f.opts.NewGroup {
		f.searchedAnew = true // it says so itself
		m.unexpected(f)
		return
	}
	f.kind, f.peer, f.frequency = formJoin, owner, frequency
	f.gaveUp, f.looking = false, false
	object := m.owner
	m.order(func(ctx context.Context) error { ignore(m.api.Cancel(ctx, object)); return nil }, nil)
	m.locate(f)
}

// invitation is an Invite into a running group that waits for the peer's answer.
type invitation struct {
	group dbusapi.Path
	peer  net.HardwareAddr
	timer *timer
	reply func(error)
}

func (m *machine) inviteDone(err error) {
	if i := m.invited; i != nil {
		m.invited = nil
		i.timer.stop()
		i.reply(err)
	}
}

func (m *machine) invitationResult(s dbusapi.InvitationResult) {
	f := m.form
	if f == nil || f.stage != stageInviting {
		if s.Status == 1 { // its user is being asked
			s.Status = 0
		}
		m.inviteDone(statusErr(s.Status))
		return
	}
	switch s.Status {
	case 0:
		f.enter(m, stageBuilding)
	case 8: // the peer forgot the group
		m.dropProfile(f.profile)
		f.fresh = true
		m.locate(f)
	case 1: // the peer does not take invitations unasked: ask its user in the ordinary way
		f.fresh = true
		m.locate(f)
	case -1:
		if f.seekTried {
			f.fresh = true
			m.locate(f)
			return
		}
		f.seekTried = true
		m.seek(f)
	default:
		m.finish(f, Group{}, statusErr(s.Status))
	}
}

func (m *machine) reject(req Request, reply func(error)) {
	delete(m.requests, req.Peer.Address.String())
	if err := m.usable(); err != nil || req.Kind == Invitation || req.Group != "" {
		reply(err) // to those, silence is the refusal
		return
	}
	owner, peer := m.owner, dbusapi.PeerPath(m.owner, req.Peer.Address)
	m.order(func(ctx context.Context) error { return m.api.RejectPeer(ctx, owner, peer) }, func(err error) { reply(callErr(err)) })
}

// invite invites a peer to a running group.
func (m *machine) invite(id GroupID, peer net.HardwareAddr, reply func(error)) {
	g := m.groupByID(id)
	if err := m.usable(); err != nil || g == nil {
		if err == nil {
			err = ErrNoGroup
		}
		reply(err)
		return
	}
	if g.Role == Owner {
		m.expect(g, peer, PBC(), nil)
	}
	m.callInvite(g, peer, reply)
}

func (m *machine) callInvite(g *group, peer net.HardwareAddr, reply func(error)) {
	if i := m.invited; i != nil && i.group == g.path && slices.Equal(i.peer, peer) { // one invitation is enough for both
		before := i.reply
		i.reply = func(err error) { before(err); reply(err) }
		return
	}
	if m.invited != nil {
		reply(fmt.Errorf("%w: another invitation is on its way", ErrBusy))
		return
	}
	i := &invitation{group: g.path, peer: peer, reply: reply}
	i.timer = m.after(inviteLimit, func() { m.inviteDone(ErrTimeout) })
	m.invited = i
	on, path := g.path, dbusapi.PeerPath(m.owner, peer)
	m.order(func(ctx context.Context) error { return m.api.Invite(ctx, on, path, "") }, func(err error) {
		if err != nil && m.invited == i {
			if errors.Is(err, dbusapi.ErrInvalidArgs) {
				err = fmt.Errorf("%w: %w", ErrPeerGone, err)
			}
			m.inviteDone(callErr(err))
		}
	})
}
