package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sort"
	"time"

	"nigh/agent/identity"
	"nigh/agent/recognise"
	"nigh/agent/trust"
	"nigh/discovery"
	"nigh/wpa"
)

const (
	renewIdle = 10 * time.Minute // a new nonce, though nothing happened
	lookTime  = 5 * time.Second  // for a device that is to be asked
	askerTime = 15 * time.Second // for a device that asks: it searches and listens only now and then meanwhile
	freshFor  = 3 * time.Second  // a nonce heard so lately is still the device's, unless an attempt was made with it
	// renewTime is how long a device is listened to for another nonce than that of the last attempt. Its side of a
	// failed formation may end later than ours: a group owner waits 15 s for a client that gave up.
	renewTime  = 8 * time.Second
	renewPause = 500 * time.Millisecond // between looks at it
	maxSpent   = 64                     // nonces of others that attempts were made with
	// friendTries is how often a device is asked before it counts as one that cannot prove itself. When both ask at the
	// same time, one may be asked with a nonce that it had a moment ago.
	friendTries = 3
	// unsureLimit is how long a trusted device that may not recognise us has to answer
	// a derived PIN.
	unsureLimit = 30 * time.Second
)

// friends are the trusted devices, the newest first.
func (a *Agent) friends() []recognise.Friend {
	list := slices.DeleteFunc(a.trust.List(), func(r trust.Record) bool { return r.Standing != trust.Trusted })
	sort.SliceStable(list, func(i, j int) bool {
		x, y := list[i], list[j]
		return cmp.Compare(y.Added.Unix(), x.Added.Unix()) < 0
	})
	friends := make([]recognise.Friend, 0, len(list))
	for _, r := range list {
		friends = append(friends, recognise.Friend{ID: r.ID, Key: r.Key})
	}
	return friends
}

// recogniseFriends brings what we tell the air, and whom we recognise there, in line with
// the trust book.
func (a *Agent) recogniseFriends() {
	a.air.Befriend(a.friends())
	a.direct.tell()
	if a.now().Visibility == VisibleEveryone {
		return // the announcement has no tags
	}
	if err := a.finder.SetTXT(a.announcement().TXT); err != nil {
		a.log.Warn("Announcing who is trusted failed", "err", err)
	}
}

// met takes the word of the session layer that a device has this key. It does not
// wait.
func (a *Agent) met(key identity.PublicKey) {
	if r := a.record(key.ID()); r.Standing == trust.Trusted && r.Key.IsZero() {
		select {
		case a.keys <- key:
		default: // it is told again at the next handshake
		}
	}
}

// learn keeps the key of a trusted device, and returns when the device is recognised by
// it. The ID is a hash of the key, so it does not matter where the key was heard.
func (a *Agent) learn(key identity.PublicKey) {
	id := key.ID()
	// What is heard once is often looked at twice at the same time, by whom it is told and by whom it was looked for. The second
	// must not find the key in the book and the device still not recognised: it would count as a stranger.
	a.learning.Lock()
	defer a.learning.Unlock()
	if r := a.record(id); r.Standing != trust.Trusted || !r.Key.IsZero() {
		return
	}
	if err := a.trust.SetKey(id, key); err != nil {
		if !errors.Is(err, trust.ErrUnknown) { // trusted no more
			a.log.Warn("Keeping the key of a device failed", "peer", id.Short(), "err", err)
		}
		return
	}
	a.recogniseFriends()
}

// announcement is what mDNS says of this device: names, text, or nothing.
func (a *Agent) announcement() discovery.Config {
	r := a.now()
	c := discovery.Config{NoPublish: r.Visibility == VisibleHidden}
	if r.Visibility == VisibleEveryone {
		c.Instance, c.ShortID = r.Name, a.id.ID.Short()
		c.TXT = []string{"v=1", "n=" + r.Name, "id=" + c.ShortID}
		return c
	}
	// Without a short ID the names are random, others at each call.
	c.TXT = []string{"v=1", "t=" + a.air.Announcement().Text()}
	return c
}

// announce says what announcement makes now, on all links.
func (a *Agent) announce() {
	if err := a.finder.Announce(a.announcement()); err != nil {
		a.log.Warn("Announcing this device failed", "err", err)
	}
}

// announced reports whether an mDNS announcement says that it is a trusted
// device's. It is a hint, for the order of greetings.
func (a *Agent) announced(txt map[string]string) bool {
	if advert, err := recognise.FromText(txt["t"]); err == nil {
		if _, ok := a.air.Who(advert); ok {
			return true
		}
	}
	return a.table.expects(txt["id"])
}

// advert is what the radio is to say of this device. While it asks a friend for a
// group its name is the one that only friends can read: unlike vendor extensions, the
// name is in the very frame that asks, so that the friend need not look for us first.
func (d *direct) advert() wpa.Advert {
	now, r := d.a.air.Advert(), d.a.now()
	now.Members = d.groupSize()
	v := wpa.Advert{Name: now.Name(), Vendor: [][]byte{now.Encode()}, Visible: r.Visibility != VisibleHidden}
	d.mu.Lock()
	asking := d.asking
	d.mu.Unlock()
	if r.Visibility == VisibleEveryone && !asking {
		v.Name = radioName(r.Name, d.a.id.ID)
	}
	return v
}

// tell has keepTelling bring the radio up to date. It does not wait.
func (d *direct) tell() {
	select {
	case d.telling <- struct{}{}:
	default:
	}
}

// keepTelling keeps what the radio says up to date until ctx ends.
func (d *direct) keepTelling(ctx context.Context, radio *wpa.Radio) error {
	idle := time.NewTicker(renewIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-idle.C:
			// A formation under way was begun with the nonce of now.
			select {
			case d.forming <- struct{}{}:
				d.a.air.Renew()
				<-d.forming
			default:
				continue
			}
		case <-d.telling:
		}
		if err := radio.Advertise(ctx, d.advert()); err != nil && ctx.Err() == nil {
			d.log.Warn("Telling the radio what to say failed", "err", err)
		}
		for _, p := range radio.Peers() { // whoever was a stranger may be a friend now
			d.heard(p)
		}
	}
}

// renew draws a new nonce after an attempt to form a group: a PIN is never derived
// twice from the same two.
func (d *direct) renew() {
	d.a.air.Renew()
	d.tell()
}

// sighting is what a radio device says of itself.
func (d *direct) sighting(p wpa.Peer) radioSighting {
	s := radioSighting{mac: p.Address, seen: p.Seen, signal: p.SignalDBm, owner: p.IsGO}
	s.name, s.short = splitRadioName(p.Name)
	advert, whole, ok := advertOf(p)
	if !ok {
		return s
	}
	s.whole = whole
	s.nonce, s.nigh, s.manual, s.members = advert.Nonce, true, advert.Manual, advert.Members
	if !advert.Key.IsZero() {
		d.a.learn(advert.Key)
	}
	if s.id, s.friend = d.a.air.Who(advert); !s.friend && !advert.Key.IsZero() {
		s.id = advert.Key.ID()
	}
	if named, err := recognise.FromName(p.Name); err == nil && named.Nonce == advert.Nonce {
		s.name, s.short = "", "" // it is no name
	}
	return s
}

// advertOf returns the advert that a radio device sends: in its vendor extensions,
// or, in frames that have none, in its name, which has no room for all of it.
func advertOf(p wpa.Peer) (a recognise.Advert, whole, ok bool) {
	for _, v := range p.Vendor {
		if a, err := recognise.Decode(v); err == nil {
			return a, true, true
		}
	}
	a, err := recognise.FromName(p.Name)
	return a, false, err == nil
}

// errNotRecognised is returned when no PIN can be derived with a trusted device: its
// key is not known, or it says nothing that is new each time.
var errNotRecognised = errors.New("agent: the device is not recognised")

// errNotProved is returned when a device that says it is a trusted one does not
// derive the PIN that only that one can.
var errNotProved = errors.New("agent: the device could not prove who it is")

// spendAfter notes that an attempt that ended with err was made with the nonce of a device: it draws another one after it, as
// we do. A device that did not answer has taken no part.
func (d *direct) spendAfter(n recognise.Nonce, err error) {
	if err != nil && !errors.Is(err, wpa.ErrWrongPIN) && !errors.Is(err, wpa.ErrFormation) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.spent, n) {
		d.spent = append(d.spent[max(0, len(d.spent)+1-maxSpent):], n)
	}
}

// fresh reports whether a PIN can be derived from what was last heard of a device: it was heard lately, and no attempt was
// made with its nonce.
func (d *direct) fresh(s radioSighting) bool {
	return time.Since(s.seen) <= freshFor && !d.isSpent(s.nonce)
}

func (d *direct) isSpent(n recognise.Nonce) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.spent, n)
}

// lookAnew is look until the device says a nonce with which no attempt was made, and who it is: a frame that asks for a group
// counts as having heard it, and has neither its key nor all its tags. A device that goes on with the old nonce took no part in
// that attempt, or has not noticed its end: then what it says has to do.
func (d *direct) lookAnew(ctx context.Context, mac net.HardwareAddr, limit time.Duration) (radioSighting, error) {
	return d.anew(ctx, func() (radioSighting, error) { return d.look(ctx, mac, limit) })
}

func (d *direct) anew(ctx context.Context, look func() (radioSighting, error)) (radioSighting, error) {
	for began := time.Now(); ; {
		s, err := look()
		good := !d.isSpent(s.nonce) && (s.friend || s.whole || !s.nigh)
		if err != nil || good || time.Since(began) >= renewTime {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(renewPause):
		}
	}
}

// look looks at a device now, for the nonce that a PIN is derived from. When the
// radio has no time for it, what was heard lately has to do.
func (d *direct) look(ctx context.Context, mac net.HardwareAddr, limit time.Duration) (radioSighting, error) {
	radio, err := d.current()
	if err != nil {
		return radioSighting{}, err
	}
	p, err := radio.Look(ctx, mac, limit)
	if errors.Is(err, wpa.ErrBusy) {
		if s, ok := d.a.table.at(mac); ok {
			return s, nil
		}
	}
	if err != nil {
		return radioSighting{}, err
	}
	d.heard(p)
	return d.sighting(p), nil
}

// connectFriend forms or joins a group with a trusted device, silently on both
// sides when the two recognise each other. A failure is tried again with what the
// device says then: it may have had another nonce by the time it was asked. The first
// try may do without a PIN and does not count then.
func (d *direct) connectFriend(ctx context.Context, id identity.DeviceID, o wpa.ConnectOptions) (wpa.Group, error) {
	anew := false
	for try := 1; ; try++ {
		s, err := d.sight(ctx, id)
		if err != nil {
			return wpa.Group{}, err
		}
		hurry := try == 1 && d.hasGroup(s.mac)
		if hurry {
			try = 0
		}
		g, err := d.connectAt(ctx, id, s, hurry, anew, o)
		// No run of WPS was made, and what was heard last did not say what the device does now.
		anew = errors.Is(err, wpa.ErrMethod) || errors.Is(err, wpa.ErrRejected)
		again := errors.Is(err, wpa.ErrWrongPIN) || errors.Is(err, wpa.ErrFormation) || anew
		if err == nil || try == friendTries || !again || ctx.Err() != nil {
			if errors.Is(err, wpa.ErrWrongPIN) {
				err = fmt.Errorf("%w: %w", errNotProved, err)
			}
			return g, err
		}
		d.log.Info("Forming the group is tried again", "peer", id.Short(), "err", err)
	}
}

// connectByHand forms or joins a group with a method that a person chose. A device
// that trusts us must not answer it with a derived PIN.
func (d *direct) connectByHand(ctx context.Context, mac net.HardwareAddr, m wpa.Method, o wpa.ConnectOptions) (wpa.Group, error) {
	if m.Kind != wpa.KindPBC {
		radio, err := d.current()
		if err != nil {
			return wpa.Group{}, err
		}
		d.a.air.Manual(true)
		defer func() { d.a.air.Manual(false); d.tell() }()
		if err := radio.Advertise(ctx, d.advert()); err != nil {
			return wpa.Group{}, err
		}
	}
	return d.connect(ctx, mac, m, o)
}

// hasGroup reports whether a persistent group with a radio device is kept: starting
// it again needs no PIN.
func (d *direct) hasGroup(mac net.HardwareAddr) bool {
	id, _ := d.a.table.behind(mac)
	return slices.ContainsFunc(d.profiles(id), func(p wpa.Persistent) bool { return slices.Equal(p.Peer, mac) })
}

// connectAt is one attempt of connectFriend with the radio device s. When hurry, the
// PIN is hardly needed and may come of an older nonce; when anew, what was heard of the
// device before does not do.
func (d *direct) connectAt(ctx context.Context, id identity.DeviceID, s radioSighting, hurry, anew bool, o wpa.ConnectOptions) (wpa.Group, error) {
	radio, err := d.current()
	if err != nil {
		return wpa.Group{}, err
	}
	// Before the PIN is derived: another formation renews our nonce.
	formed, err := d.beginForming(ctx)
	if err != nil {
		return wpa.Group{}, err
	}
	defer formed()
	d.a.air.Prefer(id) // there may not be room for all tags
	d.asks(true)
	defer d.asks(false)
	if err := radio.Advertise(ctx, d.advert()); err != nil {
		return wpa.Group{}, err
	}
	if at, ok := d.a.table.at(s.mac); ok {
		s = at
	}
	if !hurry && !d.ownsGroup() && (anew || !d.fresh(s) || !s.friend || s.id != id) {
		now, err := d.lookAnew(ctx, s.mac, lookTime)
		if err != nil {
			return wpa.Group{}, err
		}
		s = now
	}
	method, err := d.method(id, s)
	if err != nil {
		return d.connectStranger(ctx, s.mac, o)
	}
	limited, cancel := context.WithTimeoutCause(ctx, silentLimit, wpa.ErrTimeout)
	if !s.friend && !d.ownsGroup() {
		// It does not know our key yet, which it learns when we ask, or does not trust us.
		cancel()
		limited, cancel = context.WithTimeoutCause(ctx, unsureLimit, wpa.ErrTimeout)
	}
	defer cancel()
	silent := o
	silent.OneTime = true
	// To join, who shows the PIN and what it is made of are others than in a negotiation.
	silent.NewGroup = !s.owner && !d.ownsGroup()
	g, err := d.connectNow(limited, s.mac, method, silent)
	if !hurry || err != nil {
		d.spendAfter(s.nonce, err)
	}
	d.renew()
	if err == nil || ctx.Err() != nil || limited.Err() == nil {
		return g, err
	}
	if s.friend {
		return g, fmt.Errorf("agent: %w: it recognises this device and does not answer", wpa.ErrTimeout)
	}
	d.log.Info("The device does not answer to a derived PIN; its user is asked", "peer", id.Short())
	return d.connectStranger(ctx, s.mac, o)
}

// connectStranger asks a device by the button, so that its user has to say yes. The
// caller holds what beginForming gives.
func (d *direct) connectStranger(ctx context.Context, mac net.HardwareAddr, o wpa.ConnectOptions) (wpa.Group, error) {
	radio, err := d.current()
	if err != nil {
		return wpa.Group{}, err
	}
	d.asks(false) // its user reads our name
	if err := radio.Advertise(ctx, d.advert()); err != nil {
		return wpa.Group{}, err
	}
	return d.connectNow(ctx, mac, wpa.PBC(), o)
}

// asks notes that a friend is, or is no more, being asked for a group.
func (d *direct) asks(friend bool) {
	d.mu.Lock()
	d.asking = friend
	d.mu.Unlock()
	if !friend {
		d.tell()
	}
}

// method derives the WPS method for a group with a trusted device: who of the two
// shows and who enters the PIN is agreed without a word, so that it does not matter
// who asks, or whether both do.
func (d *direct) method(id identity.DeviceID, s radioSighting) (wpa.Method, error) {
	if d.ownsGroup() {
		pin, err := d.a.air.Admitting(id)
		if err != nil {
			return wpa.Method{}, errNotRecognised
		}
		return wpa.EnterPIN(pin), nil
	}
	if !s.nigh || s.id != id {
		return wpa.Method{}, errNotRecognised
	}
	if s.owner {
		pin, err := d.a.air.Joining(id, s.nonce)
		return wpa.ShowPIN(pin, nil), err
	}
	pin, shows, err := d.a.air.Negotiation(id, s.nonce)
	if shows {
		return wpa.ShowPIN(pin, nil), err
	}
	return wpa.EnterPIN(pin), err
}

// ownsGroup reports whether we are the owner of a running group.
func (d *direct) ownsGroup() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.groups {
		if g.group.Role == wpa.Owner {
			return true
		}
	}
	return false
}
