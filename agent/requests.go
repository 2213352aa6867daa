package agent

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
	"nigh/wpa"
)

// Bounds of what others can make of this device by asking for groups, whatever
// addresses they ask from.
const (
	questionLife     = 110 * time.Second // the asking supplicant waits 120 s
	questionPause    = 30 * time.Second  // from one question to the next
	refusedPause     = time.Minute       // after a no
	unansweredPause  = 10 * time.Minute  // when nobody answered: nobody is there to ask
	questionsPerHour = 12
	maxDeciding      = 4                // requests looked into at once
	lookPause        = 5 * time.Second  // between looks at who asks, on average
	looksAtOnce      = 3                // that need not wait for it
	silentLimit      = 45 * time.Second // for a friend to come, once it was let in
	failurePause     = time.Minute      // between failed attempts of "friends", on average
	failuresAtOnce   = 5                // that need not wait for it
	yesLife          = time.Minute      // that a yes to a button counts, for a device that has to begin anew
	yesRepeats       = 2                // as often as that
)

// gate keeps those bounds.
type gate struct {
	deciding chan struct{}
	looks    *rate.Limiter
	pause    *rate.Limiter // of questions
	hour     *rate.Limiter // of questions
	failures *rate.Limiter // one token for each silent attempt that failed
	quiet    time.Time     // no question before; guarded by direct.mu
	yes      *yes          // the last one; nil = none, or taken back; guarded by direct.mu
}

// yes is what a person said to a device that pressed its button. A group that one side takes for formed can fail at the other
// up to ten seconds later, which then begins anew: nobody is asked the same again because of that.
type yes struct {
	address string    // of the radio device
	until   time.Time // zero while a group is being formed
	left    int       // times that it may begin anew
}

func newGate() *gate {
	return &gate{
		deciding: make(chan struct{}, maxDeciding),
		looks:    rate.NewLimiter(rate.Every(lookPause), looksAtOnce),
		pause:    rate.NewLimiter(rate.Every(questionPause), 1),
		hour:     rate.NewLimiter(rate.Every(time.Hour/questionsPerHour), questionsPerHour),
		failures: rate.NewLimiter(rate.Every(failurePause), failuresAtOnce),
	}
}

// mayAsk takes the right to one question; direct.mu is held.
func (g *gate) mayAsk() bool {
	return !time.Now().Before(g.quiet) && g.hour.Tokens() >= 1 && g.pause.Allow() && g.hour.Allow()
}

// question is a device that asks to form a group, waiting for a person.
type question struct {
	id      string
	request wpa.Request
	answer  chan *control.AcceptRequest // nil = no
	until   time.Time
}

// requested decides about a device that wants a group with us. A trusted device
// that we recognise is let in by the PIN that only it can derive; with the policy
// "all" everybody is who presses a button. All others become a question, one at a
// time. What is too much is not answered at all.
func (d *direct) requested(ctx context.Context, r wpa.Request, group *errgroup.Group) {
	d.heard(r.Peer)
	select {
	case d.gate.deciding <- struct{}{}:
	default:
		d.log.Debug("Too many devices ask for a group, one ignored", "address", r.Peer.Address.String())
		return
	}
	group.Go(func() error {
		ask := d.decide(ctx, r)
		<-d.gate.deciding
		if ask {
			d.ask(ctx, r)
		}
		return nil
	})
}

// decide answers a request as far as the policy can, and reports whether it is a
// question.
func (d *direct) decide(ctx context.Context, r wpa.Request) (ask bool) {
	if d.invited(ctx, r) {
		return false
	}
	id, s, ok := d.asker(ctx, r)
	if d.a.trust.Standing(s.id) == trust.Blocked {
		// As far as it says who it is. One that says that it is somebody else is a stranger.
		d.log.Debug("A blocked device asks for a group and is ignored", "peer", s.id.Short())
		return false
	}
	switch {
	case ok && d.a.now().Join == JoinTrusted && d.a.trust.Standing(id) == trust.Trusted:
		if d.gate.failures.Tokens() < 1 {
			d.log.Warn("Too many groups with trusted devices failed, a request is ignored", "peer", id.Short())
			return false
		}
		d.admitFriend(ctx, r, id, s)
		return false
	case requestMethod(r) == "pbc" && d.a.now().Accept == AcceptAll:
		d.admit(ctx, r, &control.AcceptRequest{})
		return false
	case requestMethod(r) == "pbc" && d.repeated(ctx, r):
		return false
	case requestMethod(r) != "pbc" && s.nigh && !s.manual:
		// It trusts us and hopes that we trust it: there is no PIN that a person could
		// type. It comes back with a button when nothing happens.
		return false
	}
	return true
}

// asker returns the trusted device that a request seems to come from, if it is one
// that a derived PIN can answer. Nothing is proved by it: the PIN does that.
func (d *direct) asker(ctx context.Context, r wpa.Request) (id identity.DeviceID, s radioSighting, ok bool) {
	mac := r.Peer.Address
	s, _ = d.a.table.at(mac)
	if d.ownsGroup() {
		// Somebody who wants to join is not listening, and its PIN needs our nonce only:
		// what it says by its name will do to know whom to try.
		id, ok = d.a.table.behind(mac)
		if _, err := d.method(id, s); err != nil {
			ok = false
		}
		return id, s, ok && (r.Kind == wpa.ProvisionEnterPIN || r.Kind == wpa.Negotiation && r.PasswordID != wpa.PasswordPushButton)
	}
	pin := r.Kind == wpa.Invitation || r.Kind == wpa.Negotiation && r.PasswordID != wpa.PasswordPushButton
	if pin && (!s.friend || !d.fresh(s)) && d.gate.looks.Allow() {
		if now, err := d.lookAnew(ctx, mac, askerTime); err == nil {
			s = now
		} else if ctx.Err() == nil {
			d.log.Debug("Looking at who asks failed", "address", mac.String(), "err", err)
		}
	}
	return s.id, s, pin && s.friend && !s.manual
}

// admitFriend answers yes with the PIN of the pair.
func (d *direct) admitFriend(ctx context.Context, r wpa.Request, id identity.DeviceID, s radioSighting) {
	radio, err := d.current()
	if err != nil {
		return
	}
	formed, err := d.beginForming(ctx)
	if err != nil {
		return
	}
	defer formed()
	if d.sharesGroup(r.Peer.Address) { // formed meanwhile, because we asked it
		return
	}
	// What was formed meanwhile, and failed, has made both draw other nonces.
	if !d.ownsGroup() && !d.fresh(s) && d.gate.looks.Allow() {
		if now, err := d.lookAnew(ctx, r.Peer.Address, askerTime); err == nil && now.id == id {
			s = now
		}
	}
	method, err := d.method(id, s)
	if err == nil {
		d.log.Info("Trusted device asks to form a group", "peer", id.Short())
		limited, cancel := context.WithTimeoutCause(ctx, silentLimit, wpa.ErrTimeout)
		forming, over := d.formation(limited)
		_, err = radio.Accept(forming, r, method, wpa.ConnectOptions{Intent: d.intent(), Persistent: true, OneTime: true})
		err = over(err)
		cancel()
		d.spendAfter(s.nonce, err)
		d.renew()
	}
	if err != nil && ctx.Err() == nil {
		d.gate.failures.Allow()
		d.log.Info("Forming the group failed", "peer", id.Short(), "err", err)
		d.a.step("group", "failed", explain(err).Message)
	}
}

// sharesGroup reports whether a radio device is in a group with us.
func (d *direct) sharesGroup(mac net.HardwareAddr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.groups {
		if slices.Equal(g.group.Peer, mac) && g.group.Role == wpa.Client || slices.ContainsFunc(g.group.Members, func(m net.HardwareAddr) bool { return slices.Equal(m, mac) }) {
			return true
		}
	}
	return false
}

// ask puts a request to a person and carries out the answer. There is one question
// at a time.
func (d *direct) ask(ctx context.Context, r wpa.Request) {
	q := &question{id: questionID(r.Peer.Address), request: r, answer: make(chan *control.AcceptRequest, 1), until: time.Now().Add(questionLife)}
	d.mu.Lock()
	mine := d.question == nil && d.gate.mayAsk()
	if mine {
		d.question = q
	}
	d.mu.Unlock()
	if !mine {
		d.log.Debug("Another question waits or was just there, a device is ignored", "address", r.Peer.Address.String())
		return
	}
	d.log.Info("Device asks to form a group", "name", peerLabel(r.Peer))
	d.a.publishInbox(q.id)
	timer := time.NewTimer(time.Until(q.until))
	defer timer.Stop()
	var answer *control.AcceptRequest
	pause := unansweredPause
	select {
	case <-ctx.Done():
		pause = 0
	case <-timer.C:
	case answer = <-q.answer:
		if pause = refusedPause; answer != nil {
			pause = 0
		}
	}
	d.mu.Lock()
	d.question = nil
	d.gate.quiet = time.Now().Add(pause)
	d.mu.Unlock()
	d.a.publishInbox(q.id)
	if answer != nil {
		said := &yes{address: r.Peer.Address.String()}
		if requestMethod(r) == "pbc" {
			said.left = yesRepeats // who was let in by a PIN is not let in without one
		}
		d.mu.Lock()
		d.gate.yes = said
		d.mu.Unlock()
		d.admit(ctx, r, answer)
		d.mu.Lock()
		said.until = time.Now().Add(yesLife)
		d.mu.Unlock()
	} else if ctx.Err() == nil {
		d.reject(ctx, r)
	}
}

// repeated answers a device that begins anew after a yes to it, and reports whether it was one.
func (d *direct) repeated(ctx context.Context, r wpa.Request) bool {
	d.mu.Lock()
	said := d.gate.yes
	if said == nil || said.address != r.Peer.Address.String() || said.left == 0 || !time.Now().Before(said.until) {
		d.mu.Unlock()
		return false
	}
	until := said.until
	said.left, said.until = said.left-1, time.Time{}
	d.mu.Unlock()
	d.log.Info("Device begins anew, after a yes to it", "name", peerLabel(r.Peer))
	d.admit(ctx, r, &control.AcceptRequest{})
	d.mu.Lock()
	said.until = until
	d.mu.Unlock()
	return true
}

// unsaid takes the last yes back: the person has left the group.
func (d *direct) unsaid() {
	d.mu.Lock()
	d.gate.yes = nil
	d.mu.Unlock()
}

// questionID is the inbox ID of what a radio device asks.
func questionID(mac net.HardwareAddr) string {
	return "group-" + strings.ReplaceAll(mac.String(), ":", "")
}

// admit answers yes to a request.
func (d *direct) admit(ctx context.Context, r wpa.Request, answer *control.AcceptRequest) {
	radio, err := d.current()
	if err != nil {
		return
	}
	method := wpa.PBC()
	switch requestMethod(r) {
	case "enter_pin":
		method = wpa.EnterPIN(answer.PIN)
	case "show_pin":
		method = wpa.ShowPIN(r.PIN, func(pin string) { d.a.step("pin", "running", pin) })
	}
	forming, over := d.formation(ctx)
	_, err = radio.Accept(forming, r, method, wpa.ConnectOptions{Intent: d.intent(), Persistent: true})
	if err = over(err); err != nil && ctx.Err() == nil {
		d.log.Info("Forming the group failed", "name", peerLabel(r.Peer), "err", err)
		d.a.step("group", "failed", explain(err).Message)
	}
}

func (d *direct) reject(ctx context.Context, r wpa.Request) {
	if radio, err := d.current(); err == nil {
		if err := radio.Reject(ctx, r); err != nil {
			d.log.Debug("Rejecting failed", "err", err)
		}
	}
}

// requestMethod is how a request wants to be answered: "pbc", "enter_pin" (the
// other side shows a PIN) or "show_pin" (we show one).
func requestMethod(r wpa.Request) string {
	switch {
	case r.Kind == wpa.ProvisionEnterPIN, r.Kind == wpa.Negotiation && r.PasswordID == wpa.PasswordRegistrarSpecified:
		return "enter_pin"
	case r.Kind == wpa.ProvisionShowPIN, r.Kind == wpa.Negotiation && r.PasswordID == wpa.PasswordUserSpecified:
		return "show_pin"
	default:
		return "pbc"
	}
}

// inbox returns the waiting question, if there is one.
func (d *direct) inbox() []control.InboxItem {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.question == nil {
		return []control.InboxItem{}
	}
	return []control.InboxItem{d.question.item()}
}

func (q *question) item() control.InboxItem {
	return control.InboxItem{
		ID: q.id, Kind: "group", PeerName: peerLabel(q.request.Peer), Trust: trust.New.String(),
		Expires: time.Until(q.until).Seconds(), Method: requestMethod(q.request), PIN: q.request.PIN,
		Address: q.request.Peer.Address.String(),
	}
}

// reply answers a question; it reports false when there is none with that ID.
func (d *direct) reply(id string, answer *control.AcceptRequest) bool {
	d.mu.Lock()
	q := d.question
	d.mu.Unlock()
	if q == nil || q.id != id {
		return false
	}
	select {
	case q.answer <- answer:
	default: // somebody else was quicker
	}
	return true
}
