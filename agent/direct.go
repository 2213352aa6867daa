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
	"nigh/agent/recognise"
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
	killed  atomic.Bool   // NetworkManager removed a group in spite of the policy
	telling chan struct{} // capacity 1: what the radio says is not what it should
	better  chan struct{} // capacity 1: another engine is better now
	gate    *gate

	mu          sync.Mutex
	radio       *wpa.Radio                   // nil while there is none; guarded by mu
	down        control.Radio                // what status says meanwhile; guarded by mu
	groups      map[wpa.GroupID]*directGroup // guarded by mu
	ended       ending                       // the last group that is gone; guarded by mu
	asking      bool                         // a friend for a group; guarded by mu
	spent       []recognise.Nonce            // of others, newest last, that attempts were made with; guarded by mu
	question    *question                    // the one that waits for a person; guarded by mu
	pool        netip.Prefix                 // addresses that an owned group hands out; guarded by mu
	formings    map[*forming]bool            // groups that are being formed; guarded by mu
	regroup     chan struct{}                // capacity 1: the persistent groups changed
	proofs      []membership                 // to be written down; guarded by mu
	macs        map[identity.DeviceID]string // last P2P addresses of trusted devices; guarded by mu
	unreachedAt time.Time                    // when it was last noticed that a device does not answer; guarded by mu
	movedAt     time.Time                    // when this device last left a group for another one; guarded by mu
	wants       map[identity.DeviceID]bool   // devices to connect to; guarded by mu
	wantWake    chan struct{}
}

// ending is the end of a group, for whoever has just formed it. IDs count anew with each radio.
type ending struct {
	radio  *wpa.Radio
	id     wpa.GroupID
	reason wpa.Reason
}

func newDirect(a *Agent) *direct {
	d := &direct{
		a: a, log: a.log,
		forming: make(chan struct{}, 1), telling: make(chan struct{}, 1), better: make(chan struct{}, 1), wantWake: make(chan struct{}, 1), gate: newGate(),
		groups: map[wpa.GroupID]*directGroup{}, wants: map[identity.DeviceID]bool{},
		formings: map[*forming]bool{}, regroup: make(chan struct{}, 1), macs: map[identity.DeviceID]string{},
		down: control.Radio{State: "starting"},
	}
	if !a.directOn() {
		d.down = disabledRadio
	}
	return d
}

// disabledRadio is the radio while Wi-Fi Direct is switched off.
var disabledRadio = control.Radio{State: "disabled", Hint: "Wi-Fi Direct is switched off by --no-direct, the configuration or the policy: nigh config show."}

// runDirect runs Wi-Fi Direct for as long as the rules let it; when they no longer do,
// its groups end as they do when the agent stops.
func (a *Agent) runDirect(ctx context.Context) error {
	for ctx.Err() == nil {
		next := a.ruling.changed.next()
		if !a.directOn() {
			select {
			case <-ctx.Done():
			case <-next:
			}
			continue
		}
		running, stop := context.WithCancel(ctx)
		group, running := errgroup.WithContext(running)
		group.Go(func() error { return a.direct.run(running) })
		for running.Err() == nil && a.directOn() {
			select {
			case <-running.Done():
			case <-next:
				next = a.ruling.changed.next()
			}
		}
		stop()
		if err := group.Wait(); err != nil {
			return err
		}
		if ctx.Err() == nil {
			a.direct.mu.Lock()
			a.direct.down = disabledRadio
			a.direct.mu.Unlock()
			a.publishStatus()
		}
	}
	return nil
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
	group.Go(func() error { return d.keepTelling(ctx, radio) })
	group.Go(func() error { return d.keepProfiles(ctx) })
	group.Go(func() error { return d.keepEngine(ctx) })
	return group.Wait()
}

// follow handles the radio's events until its channel closes.
func (d *direct) follow(ctx context.Context, radio *wpa.Radio, group *errgroup.Group) error {
	lives := map[wpa.GroupID]context.CancelFunc{}
	state := wpa.State("")
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
			d.ended = ending{radio, e.Group.ID, e.Reason}
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
			// The status changes with every search and formation, too.
			if e.Status.State == wpa.Ready && state != wpa.Ready {
				d.wantUnfinished()
			} else if e.Status.State != wpa.Ready {
				d.silence()
			}
			state = e.Status.State
		}
		switch e.(type) {
		case wpa.GroupUp, wpa.GroupChanged, wpa.GroupGone:
			d.tell() // the advert says how many are in our group
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
	s := d.sighting(p)
	if s.id != d.a.id.ID && s.short != d.a.id.ID.Short() && d.a.table.heard(s) {
		d.publishRadio(p.Address)
		d.moved(p.Address)
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
	d.a.watchers.publishAll(func() []control.Event {
		v, ok := d.a.table.oneRadio(mac)
		if !ok {
			return nil
		}
		var gone []control.Event
		if id, err := identity.ParseDeviceID(v.ID); err == nil {
			gone = d.a.table.regroup(id)
		}
		return append(gone, control.Event{Type: "peer", Peer: &v})
	})
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
