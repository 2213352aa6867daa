package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
	"nigh/wpa"
)

// Waits of the Wi-Fi Direct side. Looking for devices is always limited in time
// (Android's CVE-2021-0326 is what unlimited listening to strangers can cost).
const (
	defaultFind    = 30 * time.Second
	maxFind        = 120 * time.Second
	wantFind       = 30 * time.Second
	restartLimit   = 10 * time.Second // for a supplicant that crashed
	wantAgain      = 5 * time.Second  // doubled with each try
	wantTries      = 6
	askFind        = 5 * time.Second
	questionLife   = 110 * time.Second // the asking supplicant waits 120 s
	maxQuestions   = 8
	maxRadioName   = 32 // bytes (Wi-Fi P2P specification 4.1.15)
	radioRetryMin  = 2 * time.Second
	radioRetryMax  = time.Minute
	identityWait   = 20 * time.Second
	rendezvousPort = 7421
)

// errNoRadio is returned while Wi-Fi Direct cannot be used.
var errNoRadio = errors.New("agent: no usable Wi-Fi Direct radio")

// direct is the Wi-Fi Direct side of the agent: it turns what the radio hears
// into sightings, decides who may form a group, and gives groups addresses.
type direct struct {
	a   *Agent
	log *slog.Logger

	forming chan struct{} // one group formation of ours at a time
	killed  atomic.Bool   // NetworkManager removed a group

	mu        sync.Mutex
	radio     *wpa.Radio                   // nil while there is none; guarded by mu
	down      control.Radio                // what status says meanwhile; guarded by mu
	groups    map[wpa.GroupID]*directGroup // guarded by mu
	questions map[string]*question         // by inbox ID; guarded by mu
	pool      netip.Prefix                 // addresses that an owned group hands out; guarded by mu
	formings  map[*forming]bool            // groups that are being formed; guarded by mu
	wants     map[identity.DeviceID]bool   // devices to connect to; guarded by mu
	wantWake  chan struct{}
}

// question is a device that asks to form a group, waiting for a person.
type question struct {
	id      string
	request wpa.Request
	answer  chan *control.AcceptRequest // nil = no
	until   time.Time
}

func newDirect(a *Agent) *direct {
	d := &direct{
		a: a, log: a.log,
		forming: make(chan struct{}, 1), wantWake: make(chan struct{}, 1),
		groups: map[wpa.GroupID]*directGroup{}, questions: map[string]*question{}, wants: map[identity.DeviceID]bool{},
		formings: map[*forming]bool{},
		down:     control.Radio{State: "starting"},
	}
	if !a.directOn() {
		d.down = control.Radio{State: "disabled", Hint: "Wi-Fi Direct is switched off by --no-direct or the configuration."}
	}
	return d
}

// run keeps a radio open for as long as ctx lives. No radio, no supplicant or
// no rights are states to report, not errors: LAN and cable work on.
func (d *direct) run(ctx context.Context) error {
	for wait := radioRetryMin; ; wait = min(2*wait, radioRetryMax) {
		err := d.radioLife(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errOtherEngine) {
			wait = radioRetryMin / 2
			continue
		}
		down := control.Radio{State: "absent", Hint: wpa.Hint(err)}
		if errors.Is(err, wpa.ErrNoP2P) {
			down.State = "no_p2p"
		}
		d.mu.Lock()
		told := d.down == down
		d.down = down
		d.mu.Unlock()
		if !told {
			d.log.Info("Wi-Fi Direct is not available", "err", err)
		}
		d.a.publishStatus()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// radioLife opens the radio and follows it until it or ctx ends.
func (d *direct) radioLife(ctx context.Context) error {
	cfg := d.radioConfig()
	radio, err := wpa.Open(ctx, cfg)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.radio, d.pool = radio, cfg.Pool
	d.mu.Unlock()
	defer func() {
		// Every group's life has ended, told or not.
		d.mu.Lock()
		d.radio = nil
		clear(d.groups)
		d.mu.Unlock()
		d.silence()
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return radio.Run(ctx) })
	group.Go(func() error { return d.follow(ctx, radio, group) })
	group.Go(func() error { return d.connectWanted(ctx) })
	return group.Wait()
}

// follow handles the radio's events until its channel closes.
func (d *direct) follow(ctx context.Context, radio *wpa.Radio, group *errgroup.Group) error {
	lives := map[wpa.GroupID]context.CancelFunc{}
	for e := range radio.Events() {
		switch e := e.(type) {
		case wpa.PeerSeen:
			d.heard(e.Peer)
		case wpa.PeerChanged:
			d.heard(e.Peer)
		case wpa.PeerLost:
			d.lost(e.Address)
		case wpa.RequestReceived:
			d.requested(ctx, e.Request, group)
		case wpa.GroupUp:
			life, cancel := context.WithCancel(ctx)
			lives[e.Group.ID] = cancel
			g := &directGroup{d: d, group: e.Group, up: time.Now(), done: make(chan struct{}), wake: make(chan struct{}, 1), met: map[string]bool{}}
			d.mu.Lock()
			d.groups[e.Group.ID] = g
			d.mu.Unlock()
			d.log.Info("Group is up", "group", e.Group.Ifname, "role", e.Group.Role.String(), "freq", e.Group.Frequency)
			d.a.step("group", "ok", e.Group.Role.String()+" of "+clean.Text(e.Group.SSID))
			group.Go(func() error { g.live(life); return nil })
		case wpa.GroupChanged:
			d.mu.Lock()
			if g := d.groups[e.Group.ID]; g != nil {
				g.changed(e.Group)
			}
			d.mu.Unlock()
		case wpa.GroupGone:
			d.log.Info("Group is gone", "group", e.Group.Ifname, "reason", e.Reason)
			if cancel := lives[e.Group.ID]; cancel != nil {
				cancel()
				delete(lives, e.Group.ID)
			}
			d.mu.Lock()
			g := d.groups[e.Group.ID]
			delete(d.groups, e.Group.ID)
			d.mu.Unlock()
			if g != nil {
				<-g.done
			}
			d.a.lostInterface(e.Group.Ifname)
			if e.Reason != wpa.ReasonLeft {
				d.wantUnfinished()
			}
		case wpa.GroupKilled:
			group.Go(func() error { return d.groupKilled(ctx, radio) })
		case wpa.PersistentSaved:
			d.saveGroup(e.Persistent)
		case wpa.PersistentRemoved:
			d.dropGroup(e.Persistent)
		case wpa.StateChanged:
			if e.Status.State == wpa.Ready {
				d.wantUnfinished()
			} else {
				d.silence()
			}
		}
		d.a.publishStatus()
		d.a.change.changed()
	}
	for _, cancel := range lives {
		cancel()
	}
	return nil
}

// heard records a device that the radio sees.
func (d *direct) heard(p wpa.Peer) {
	name, short := splitRadioName(p.Name)
	s := radioSighting{mac: p.Address, name: name, short: short, signal: p.SignalDBm}
	if s.short == d.a.id.ID.Short() || !d.a.table.heard(s) {
		return
	}
	d.publishRadio(p.Address)
	// Its question may have come before its name did.
	d.mu.Lock()
	q := d.questions[questionID(p.Address)]
	d.mu.Unlock()
	if q != nil && requestMethod(q.request) == "pbc" && d.saysTrusted(p.Address) {
		d.reply(q.id, &control.AcceptRequest{})
	}
}

// lost forgets a device that the radio no longer hears.
func (d *direct) lost(mac net.HardwareAddr) {
	view, ok := d.a.table.oneRadio(mac)
	if _, known := d.a.table.lost(mac); !known || !ok {
		return
	}
	if id, err := identity.ParseDeviceID(view.ID); err == nil && view.ID != "" {
		d.a.publishPeer(id)
		return
	}
	d.a.publish(control.Event{Type: "peer_gone", Key: view.Key()})
}

// silence forgets every device that the radio heard: the radio is gone, and so
// nothing else says that they are.
func (d *direct) silence() {
	for _, mac := range d.a.table.onAir() {
		d.lost(mac)
	}
}

func (d *direct) publishRadio(mac net.HardwareAddr) {
	d.a.watchers.publish(func() (control.Event, bool) {
		v, ok := d.a.table.oneRadio(mac)
		return control.Event{Type: "peer", Peer: &v}, ok
	})
}

// saysTrusted reports whether a radio device says it is a trusted
// device.
func (d *direct) saysTrusted(mac net.HardwareAddr) bool {
	id, ok := d.a.table.behind(mac)
	return ok && d.a.trust.Standing(id) == trust.Trusted
}

// requested decides about a device that wants a group with us. The short ID of a
// trusted device, or the policy "all", says yes by itself: being in a group
// gives no more than being on the same cable, the session still proves the key.
// Everybody else becomes a question.
func (d *direct) requested(ctx context.Context, r wpa.Request, group *errgroup.Group) {
	d.heard(r.Peer)
	if requestMethod(r) == "pbc" && (d.a.cfg.Accept == AcceptAll || d.saysTrusted(r.Peer.Address)) {
		group.Go(func() error { d.admit(ctx, r, &control.AcceptRequest{}); return nil })
		return
	}
	id := questionID(r.Peer.Address)
	q := &question{id: id, request: r, answer: make(chan *control.AcceptRequest, 1), until: time.Now().Add(questionLife)}
	d.mu.Lock()
	known := d.questions[id] != nil
	full := len(d.questions) >= maxQuestions
	if !known && !full {
		d.questions[id] = q
	}
	d.mu.Unlock()
	if known || full {
		return
	}
	d.log.Info("Device asks to form a group", "name", peerLabel(r.Peer))
	d.a.publishInbox(id)
	group.Go(func() error {
		// The supplicant may have an old name for it, or none: ask the air once.
		if err := d.find(ctx, askFind); err != nil {
			d.log.Debug("Looking at who asks failed", "err", err)
		}
		timer := time.NewTimer(time.Until(q.until))
		defer timer.Stop()
		var answer *control.AcceptRequest
		select {
		case <-ctx.Done():
		case <-timer.C:
		case answer = <-q.answer:
		}
		d.mu.Lock()
		delete(d.questions, id)
		d.mu.Unlock()
		d.a.publishInbox(id)
		if answer != nil {
			d.admit(ctx, r, answer)
		} else if ctx.Err() == nil {
			d.reject(ctx, r)
		}
		return nil
	})
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
	const shown, typed = 5, 1 // device password IDs of Wi-Fi Simple Configuration
	switch {
	case r.Kind == wpa.ProvisionEnterPIN, r.Kind == wpa.Negotiation && r.PasswordID == shown:
		return "enter_pin"
	case r.Kind == wpa.ProvisionShowPIN, r.Kind == wpa.Negotiation && r.PasswordID == typed:
		return "show_pin"
	default:
		return "pbc"
	}
}

// inbox returns the waiting questions.
func (d *direct) inbox() []control.InboxItem {
	d.mu.Lock()
	defer d.mu.Unlock()
	items := []control.InboxItem{}
	for _, q := range d.questions {
		items = append(items, q.item())
	}
	return items
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
	q := d.questions[id]
	d.mu.Unlock()
	if q == nil {
		return false
	}
	select {
	case q.answer <- answer:
	default: // somebody else was quicker
	}
	return true
}

// current returns the radio, or errNoRadio wrapped with what is wrong.
func (d *direct) current() (*wpa.Radio, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.radio == nil {
		return nil, errNoRadio
	}
	return d.radio, nil
}

// radioName is the P2P device name: the name and, as in the mDNS instance, the
// short ID in brackets, together at most 32 bytes. The name is the only text of
// ours that is in every frame a peer may first hear from us (probe requests and
// responses, GO negotiation), so that either side can tell whom it may be.
func radioName(name string, id identity.DeviceID) string {
	suffix := " [" + id.Short() + "]"
	for len(name)+len(suffix) > maxRadioName {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return name + suffix
}

// splitRadioName takes a P2P device name apart: what the device calls itself,
// escaped, and the short ID that it says it has, "" without one. Both are hints.
func splitRadioName(s string) (name, short string) {
	if before, ok := strings.CutSuffix(s, "]"); ok {
		if i := strings.LastIndex(before, " ["); i >= 0 && shortID.MatchString(before[i+2:]) {
			return clean.Name(before[:i], maxNameBytes), before[i+2:]
		}
	}
	return clean.Name(s, maxNameBytes), ""
}

// shortID is the form of a short device ID.
var shortID = regexp.MustCompile(`^[A-Z2-7]{4}-[A-Z2-7]{4}$`)

// peerLabel is what a person reads about a radio device.
func peerLabel(p wpa.Peer) string {
	name, short := splitRadioName(p.Name)
	return cmp.Or(name, short, p.Address.String())
}
