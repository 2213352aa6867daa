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

// Deadlines of the formation machine: the supplicant's own timer, a little more for what it does not tell.
const (
	seekLimit      = 20 * time.Second
	seekSocial     = 3 * time.Second
	provisionLimit = 10 * time.Second
	waitLimit      = 124 * time.Second // the peer's user has 120 s
	buildLimit     = 25 * time.Second
	joinLimit      = 65 * time.Second
	joinSearch     = 12 * time.Second // a scan of all channels and provision discovery take half of it
	inviteLimit    = 20 * time.Second
	cancelLimit    = 3 * time.Second
	clientLimit    = 20 * time.Second // group owner: from GroupStarted until the client is in
	rebuildLimit   = 60 * time.Second // further GO negotiations, with a peer that did the same: a lost confirmation costs it 16 s
	lifeSigns      = 2 * time.Second  // a cancelled join or invitation may still start a group
	hauntLimit     = 20 * time.Second // and so may a scan for a group that goes on, for as long as all channels take
	ownerLimit     = 12 * time.Second // client: from the agreement until the owner is found; its access point waits for a scan of its Wi-Fi, up to 10 s
	refusedPause   = time.Second      // before calling Connect again when both sides called at once
	maxRefused     = 3
	maxPostfix     = 23 // SSID of 32 bytes less "DIRECT-xy"
)

// formKind is what a formation is for.
type formKind int

const (
	formConnect formKind = iota // whatever fits
	formAccept                  // an answer to a peer that asked: GO negotiation only
	formJoin                    // join the group of an inviting owner
	formStart                   // an autonomous group
)

// stage is the state of the formation machine; no formation at all is Idle.
type stage int

const (
	stageSeeking stage = iota
	stageProvision
	stageWaiting
	stageNegotiated
	stageBuilding
	stageJoining
	stageInviting
	stageCancelling
)

func (s stage) String() string {
	return [...]string{"Seeking", "Provision", "Waiting", "Negotiated", "Building", "Joining", "Inviting", "Cancelling"}[s]
}

// formation is the formation machine while it is not Idle.
type formation struct {
	kind    formKind
	stage   stage
	peer    net.HardwareAddr // nil for an autonomous group
	path    dbusapi.Path     // the peer's object
	profile dbusapi.Path     // the persistent group being invited to
	method  Method
	opts    ConnectOptions
	group   dbusapi.Path // interface of the group that comes of it; empty until known
	started time.Time
	timer   *timer
	nudge   *timer
	err     error // what is known to have gone wrong, until the failure itself is told
	reply   func(Group, error)

	wishing      bool // opts.Frequency is given up when it cannot be had
	explained    bool // the error says on which channel the radio is
	refused      int  // Connect calls that failed at once
	fresh        bool // do not invite (again)
	intentTried  bool
	seekTried    bool
	sought       bool // before it is invited, for where it listens
	joinTried    bool
	notOwner     bool         // the peer's group ended, whatever it was last seen as
	nudges       int          // times that the peer was, or is about to be, asked again
	asked        time.Time    // when it was asked last
	lost         int          // negotiations that failed at once
	gaveUp       bool         // the supplicant does not try any more, and leaves a request of the peer to us
	looking      bool         // for the peer, before it is asked again
	negotiated   bool         // roles were agreed
	agreed       time.Time    // when roles were agreed
	rebuilt      int          // times that it was tried again after the group could not be built
	linked       bool         // as a client, the owner was found
	awaiting     dbusapi.Path // as the owner, the group that is up and has no client yet
	patience     *timer       // for the owner to be found
	searchedAnew bool         // for the group to join
	joins        bool         // it is a group to join, however its owner shows itself
	frequency    int          // of the group to join, when the invitation said it
}

// builds reports whether a new interface is this formation's group.
func (f *formation) builds() bool {
	switch f.stage {
	case stageNegotiated, stageBuilding, stageJoining, stageInviting, stageCancelling:
		return true
	}
	return false
}

// claims reports whether a group that is up is what this formation wanted. The supplicant does not say: it is the group
// on the interface bound to it, any group where one is due, or one from the profile of that peer, which the peer may have
// invited us to while we asked it.
func (f *formation) claims(m *machine, g *group) bool {
	if f.stage == stageCancelling {
		return false
	}
	if f.group == g.path || f.group == "" && f.builds() {
		return true
	}
	return f.peer != nil && slices.Equal(m.peerOf(g.SSID, g.Role), f.peer)
}

// enter moves the formation to a stage with its deadline.
func (f *formation) enter(m *machine, s stage) {
	limits := [...]time.Duration{seekLimit, provisionLimit, waitLimit, buildLimit, buildLimit, joinLimit, inviteLimit, cancelLimit}
	m.log.Debug("Formation", "stage", s.String(), "peer", f.peer.String())
	f.stage = s
	f.timer.stop()
	f.timer = m.after(limits[s], func() { m.expired(f) })
	m.endScans()
}

// begin makes f the formation, or says why not.
func (m *machine) begin(f *formation) bool {
	err := m.usable()
	if err == nil && m.form != nil {
		err = fmt.Errorf("%w: forming a group with %s", ErrBusy, m.form.peer)
	}
	if err == nil && len(m.groups) > 0 {
		err = fmt.Errorf("%w: leave the group first", ErrBusy)
	}
	if err != nil {
		f.reply(Group{}, err)
		return false
	}
	if f.opts.Intent < 0 {
		f.opts.Intent = m.cfg.Intent
	}
	f.wish()
	f.started = time.Now()
	m.form = f
	m.pause()
	if f.peer != nil {
		delete(m.requests, f.peer.String())
	}
	return true
}

func (m *machine) startGroup(o GroupOptions, reply func(Group, error)) func(error) {
	f := &formation{kind: formStart, opts: ConnectOptions{Frequency: o.Frequency, Prefer: o.Prefer, Persistent: o.Persistent}, reply: reply}
	if !m.begin(f) {
		return nil
	}
	var profile dbusapi.Path // a persistent group of ours that was not made with one peer: clients come back to it
	for path, p := range m.profiles {
		if o.Persistent && p.Owner && p.Peer == nil {
			profile = path
		}
	}
	f.enter(m, stageBuilding)
	m.addGroup(f, o, profile)
	return m.canceller(f)
}

// addGroup starts an autonomous group, or the persistent group of profile.
func (m *machine) addGroup(f *formation, o GroupOptions, profile dbusapi.Path) {
	owner, before, frequency := m.owner, "", f.opts.Frequency
	if m.before != nil {
		before = m.before.config.SSIDPostfix
	}
	m.order(func(ctx context.Context) error {
		if o.SSIDPostfix != before {
			if err := m.api.SetConfig(ctx, owner, dbusapi.SSIDPostfix(o.SSIDPostfix)); err != nil {
				return err
			}
		}
		err := m.api.GroupAdd(ctx, owner, frequency, o.Persistent, profile)
		if o.SSIDPostfix != before { // the SSID is made at once
			ignore(m.api.SetConfig(ctx, owner, dbusapi.SSIDPostfix(before)))
		}
		return err
	}, func(err error) {
		if err == nil || m.form != f {
			return
		}
		if errors.Is(err, dbusapi.ErrInvalidArgs) { // its one answer to every trouble
			err = fmt.Errorf("%w: %w", ErrFormation, err)
			if frequency != 0 {
				err = fmt.Errorf("%w: %d MHz: %w", ErrChannel, frequency, err)
			}
		}
		if m.withoutWish(f, err) {
			m.addGroup(f, o, profile)
			return
		}
		m.finish(f, Group{}, callErr(err))
	})
}

func (m *machine) connect(peer net.HardwareAddr, method Method, o ConnectOptions, reply func(Group, error)) func(error) {
	for _, g := range m.groups {
		shared := slices.ContainsFunc(g.Members, func(a net.HardwareAddr) bool { return slices.Equal(a, peer) }) ||
			g.Role == Client && slices.Equal(g.Peer, peer)
		switch {
		case !g.up || g.state == groupEnding:
		case shared:
			reply(g.clone(), nil)
			return nil
		case g.Role == Owner:
			return m.inviteMember(g, peer, method, reply)
		}
	}
	f := &formation{kind: formConnect, peer: peer, method: method, opts: o, reply: reply}
	if !m.begin(f) {
		return nil
	}
	m.locate(f)
	return m.canceller(f)
}

func (m *machine) accept(req Request, method Method, o ConnectOptions, reply func(Group, error)) func(error) {
	delete(m.requests, req.Peer.Address.String())
	if req.Group != "" {
		return m.admit(req, method, reply)
	}
	for _, g := range m.groups {
		if g.Role == Owner && g.up && g.state != groupEnding && req.Kind != Invitation {
			// It asks for a new group because it has not heard that we own one.
			return m.inviteMember(g, req.Peer.Address, method, reply)
		}
	}
	f := &formation{kind: formAccept, peer: req.Peer.Address, method: method, opts: o, reply: reply, fresh: true}
	if req.Kind == Invitation {
		if f.fresh = req.runs; req.runs {
			f.kind, f.peer, f.frequency = formJoin, req.Owner, req.frequency
		} else {
			f.kind = formConnect
		}
	}
	if !m.begin(f) {
		return nil
	}
	m.locate(f)
	return m.canceller(f)
}

// locate makes sure that the supplicant knows the peer, and what it is doing now.
func (m *machine) locate(f *formation) {
	f.path = dbusapi.PeerPath(m.owner, f.peer)
	if m.peers[f.path] == nil {
		m.seek(f)
		return
	}
	path := f.path
	f.enter(m, stageSeeking)
	do(m, func(ctx context.Context) (dbusapi.Peer, error) { return m.api.Peer(ctx, path) }, func(v dbusapi.Peer, err error) {
		switch {
		case m.form != f || f.stage != stageSeeking:
		case errors.Is(err, dbusapi.ErrUnknownObject):
			m.seek(f)
		case err != nil:
			m.finish(f, Group{}, callErr(err))
		default:
			m.peerFound(path, v) // which decides
		}
	})
}

// seek looks for a peer that the supplicant has forgotten.
func (m *machine) seek(f *formation) {
	f.enter(m, stageSeeking)
	owner := m.owner
	m.searched = true
	m.order(func(ctx context.Context) error { return seek(ctx, m.api, owner) }, func(err error) {
		if err != nil && m.form == f {
			m.finish(f, Group{}, callErr(err))
		}
	})
	f.nudge.stop()
	f.nudge = m.after(seekSocial, func() { // a group owner may be on any channel
		if m.form == f && f.stage == stageSeeking {
			m.order(func(ctx context.Context) error {
				return m.api.Find(ctx, owner, "progressive", seconds(seekLimit-seekSocial))
			}, nil)
		}
	})
}

// decide picks the way to a group with a peer that is near.
func (m *machine) decide(f *formation) {
	profile, known := m.profileWith(f.peer)
	if p := m.peers[f.path]; f.searchedAnew && f.kind == formConnect && p != nil && !p.IsGO {
		f.notOwner, f.joins = true, false // the group that we looked for has ended; one that still owns it would invite us
	}
	switch {
	case f.kind == formConnect && known && !f.fresh && !f.sought && m.displaced[f.peer.String()]:
		f.sought = true
		m.seek(f)
	case f.kind == formConnect && known && !f.fresh:
		f.profile = profile
		f.enter(m, stageInviting)
		m.callInviteBack(f)
	case f.opts.NewGroup && f.kind == formConnect && m.joinable(f):
		m.unexpected(f)
	case f.kind == formJoin, f.joins && !f.notOwner, f.kind == formConnect && m.joinable(f):
		m.join(f)
	case f.kind == formConnect && f.method.Kind == KindShowPIN && f.method.PIN == "":
		// Nobody knows the PIN yet: have the peer's user asked for it.
		f.enter(m, stageProvision)
		owner, peer := m.owner, f.path
		m.order(func(ctx context.Context) error {
			ignore(m.api.StopFind(ctx, owner)) // during a search it leaves 2.10 in a state in which Connect does nothing
			return m.api.ProvisionDiscovery(ctx, owner, peer, "keypad")
		}, func(err error) {
			if err != nil && m.form == f && f.stage == stageProvision {
				m.negotiate(f)
			}
		})
	default:
		m.negotiate(f)
	}
}

// joinable reports whether the peer seems to own a group that is to be joined. Where joining is impossible, and the peer
// was asked already, it is most likely the group of that try, which it has begun to own: it is asked again.
func (m *machine) joinable(f *formation) bool {
	p := m.peers[f.path]
	return p != nil && p.IsGO && !f.notOwner && !m.quitLately(f.peer) && (m.canJoin() || f.nudges == 0)
}

func (m *machine) canJoin() bool { return !m.choice.Engine.limits().NoJoin }

// unexpected ends a formation whose method is for a new group, with a peer that owns one. What older scans found is not believed
// without another look.
func (m *machine) unexpected(f *formation) {
	if !f.searchedAnew {
		f.searchedAnew = true
		m.joinAnew(f)
		return
	}
	m.finish(f, Group{}, fmt.Errorf("%w: the device owns a group by now", ErrMethod))
}

// join joins the group that the peer owns. The supplicant would skip provision discovery when it remembers one that the peer
// did, in a group of ours, and then nobody is asked there: only Flush makes it forget.
func (m *machine) join(f *formation) {
	f.joinTried = true
	f.nudge.stop()
	if m.provisioned[f.peer.String()] {
		m.joinAnew(f)
		return
	}
	f.enter(m, stageJoining)
	m.callConnect(f)
	f.nudge = m.after(joinSearch, func() {
		if m.form == f && f.stage == stageJoining && f.group == "" && !f.searchedAnew {
			f.searchedAnew = true
			m.joinAnew(f)
		}
	})
}

// joinAnew forgets what is known of the group to join, and looks for it. A group that was started again has another address
// and perhaps another channel, and the supplicant goes on looking for the old one.
func (m *machine) joinAnew(f *formation) {
	f.joins, f.frequency = true, 0
	owner := m.owner
	m.order(func(ctx context.Context) error { ignore(m.api.Cancel(ctx, owner)); return nil }, nil)
	m.flushPeers()
	m.seek(f)
}

func (m *machine) negotiate(f *formation) {
	f.enter(m, stageWaiting)
	m.callConnect(f)
}

// callConnect calls Connect for a formation that is Waiting or Joining.
func (m *machine) callConnect(f *formation) {
	args := f.args()
	shown := f.method.Shown
	if f.method.Kind != KindShowPIN {
		shown = nil
	}
	at := f.stage
	m.connectCall(args, shown, func(pin string, err error) {
		switch {
		case m.form != f || f.stage != at:
		case err == nil:
			f.method.Shown = nil
			if f.method.Kind == KindShowPIN {
				f.method.PIN = pin // another try is with the same one
			}
			m.nudgeLater(f)
		case errors.Is(err, dbusapi.ErrInvalidArgs) && !f.seekTried: // the peer expired
			f.seekTried = true
			m.seek(f)
		case errors.Is(err, dbusapi.ErrFailed) && f.refused < maxRefused:
			// Both sides called at the same moment and the peer's frame is being answered.
			f.refused++
			m.after(refusedPause, func() {
				if m.form == f && f.stage == at {
					m.callConnect(f)
				}
			})
		case m.withoutWish(f, callErr(err)):
			m.callConnect(f)
		case errors.Is(err, dbusapi.ErrFailed) && !f.seekTried: // it knows the peer by a frame of it only, and not where it listens
			f.seekTried = true
			m.seek(f)
		default:
			m.finish(f, Group{}, callErr(err))
		}
	})
}

func (f *formation) args() dbusapi.ConnectArgs {
	a := dbusapi.ConnectArgs{
		Peer: f.path, WPS: f.method.wps(), PIN: f.method.PIN, Join: f.stage == stageJoining,
		Persistent: f.opts.Persistent, Intent: f.opts.Intent, Frequency: f.opts.Frequency,
	}
	if a.Join { // a group is where it is
		a.Frequency = f.frequency
	}
	return a
}

// formed ends a formation whose group is up, or lets a group owner wait for its client.
func (m *machine) formed(f *formation, g *group) {
	f.group = g.path
	if g.Role == Owner && f.kind != formStart && (len(g.Members) == 0 || !g.entered) {
		if f.awaiting == g.path {
			return
		}
		f.awaiting = g.path
		f.enter(m, stageBuilding)
		f.timer.stop()
		f.timer = m.after(clientLimit, func() {
			f.err = ErrFormation
			m.end(g, ReasonFormationFailed)
		})
		return
	}
	m.finish(f, g.clone(), nil)
}

// expired is the end of a stage's time.
func (m *machine) expired(f *formation) {
	if m.form != f {
		return
	}
	switch f.stage {
	case stageSeeking:
		if f.sought && m.peers[f.path] != nil && len(m.groups) == 0 {
			m.decide(f)
			return
		}
		m.finish(f, Group{}, ErrPeerGone)
	case stageProvision: // it was only polite
		m.negotiate(f)
	case stageCancelling:
		m.finish(f, Group{}, f.err)
	case stageNegotiated, stageBuilding:
		if f.err == nil {
			f.err = ErrFormation
		}
		m.finish(f, Group{}, f.err)
	case stageInviting: // the peer may have a new name for itself, or nothing listens
		f.fresh = true
		m.locate(f)
	default:
		m.finish(f, Group{}, ErrTimeout)
	}
}
