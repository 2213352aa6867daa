package wpa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a Radio.
type Config struct {
	Logger *slog.Logger // nil = discard
	Bus    string       // D-Bus address of the bus that stands for the system bus; empty = the system bus
	Engine Engine       // empty = choose by what is found; see Choose
	Killed bool         // NetworkManager removed a group in spite of our policy, so do not rely on that
	// Folder is where EnginePrivate keeps its bus, private to this user and gone with a reboot; empty = no such engine.
	Folder  string
	Address net.HardwareAddr // P2P device address for EnginePrivate, so that persistent groups last; nil = the radio's own
	Ifname  string           // interface whose supplicant owns P2P; empty = find it
	// DeviceName, Vendor and Visible are what Advertise can change later.
	DeviceName string       // what other devices see, at most 32 bytes; empty = leave it as it is
	DeviceType [8]byte      // WPS primary device type; zero = computer
	Intent     int          // GO intent 0..15; negative = 7
	Vendor     [][]byte     // WPS vendor extensions that other devices see: vendor ID and data, at most 10
	Pool       netip.Prefix // IPv4 subnet that a group owned here gives addresses from in the handshake; zero = none
	Groups     []Persistent // persistent groups from earlier runs
	Visible    bool         // be found by others while idle, without searching (extended listening)
	// Record is the path of a file that keeps what the supplicant had before its settings were changed, for the next run to put
	// back if this one dies; empty = none. It is there while Run runs.
	Record string
	// GroupIdle is how long a group formed with a peer lives here, as its owner, without any client; zero = 120 s,
	// negative = for ever. Groups made by StartGroup always live until Leave.
	GroupIdle time.Duration

	unmanaged bool // see Choice
}

const (
	defaultIntent    = 7
	defaultGroupIdle = 120 * time.Second
	maxNameBytes     = 32  // of a device name (Wi-Fi Simple Configuration 2.0.8, table 28)
	maxVendor        = 10  // vendor extensions of ours
	maxVendorBytes   = 120 // together: with a name of 32 bytes the WPS element has no room for more, and 2.10 does not check
)

// computer is the WPS primary device type 1-0050F204-1.
var computer = [8]byte{0x00, 0x01, 0x00, 0x50, 0xf2, 0x04, 0x00, 0x01}

// check fills in defaults and refuses what the supplicant would refuse later and less clearly.
func (c *Config) check() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Intent < 0 {
		c.Intent = defaultIntent
	}
	if c.DeviceType == ([8]byte{}) {
		c.DeviceType = computer
	}
	if c.GroupIdle == 0 {
		c.GroupIdle = defaultGroupIdle
	}
	switch {
	case c.Intent > 15:
		return fmt.Errorf("%w: GO intent %d is not 0 to 15", ErrConfig, c.Intent)
	case c.Pool.IsValid() && (!c.Pool.Addr().Is4() || c.Pool.Bits() > 28):
		return fmt.Errorf("%w: the pool %s is not an IPv4 subnet of 16 or more addresses", ErrConfig, c.Pool)
	}
	return c.advert().check()
}

// Radio is the P2P side of one wpa_supplicant. Its methods are safe for concurrent use. Those that change something need
// Run to be running: they block until it has carried them out, and return ErrClosed after it returned.
//
// The behaviour is that of four state machines; the package documentation has them as a table.
type Radio struct {
	cfg    Config
	choice Choice
	engine engine
	api    supplicant
	in     *inbox
	events chan Event
	done   chan struct{} // closed when Run returned
	ran    atomic.Bool

	watches bool // follow the kernel, too

	mu     sync.Mutex
	status Status // guarded by mu
	peers  []Peer // guarded by mu
}

// Open chooses an engine (see Choose), starts what it needs and connects to its bus. It returns ErrNoBus, ErrDenied (the
// bus refuses us), ErrEngine or ErrConfig. A supplicant that is not there, has no interface or cannot do P2P is no error
// here: Run waits for one that can, and Status says what is wrong meanwhile. The caller must call Run, or Close when it
// does not.
func Open(ctx context.Context, cfg Config) (*Radio, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("wpa: open: %w", err)
	}
	choice, err := Choose(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("wpa: open: %w", err)
	}
	cfg.Ifname, cfg.unmanaged = choice.Ifname, choice.unmanaged
	e := newEngine(choice)
	api, err := e.dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("wpa: open: %w", err)
	}
	r := newRadio(cfg, choice, api)
	r.engine = e
	r.watches = true
	cfg.Logger.Info("Engine was chosen", "engine", string(choice.Engine), "ifname", choice.Ifname, "why", choice.Why)
	return r, nil
}

func newRadio(cfg Config, choice Choice, api supplicant) *Radio {
	r := &Radio{
		cfg: cfg, choice: choice, engine: systemEngine{}, api: api,
		in: newInbox(), events: make(chan Event, eventBuffer), done: make(chan struct{}),
	}
	r.status = Status{State: Starting, Ifname: cfg.Ifname, Engine: choice.Engine, Why: choice.Why, Hint: choice.Fix}
	return r
}

// Close closes the connection of a Radio whose Run was never called. After Run it does nothing.
func (r *Radio) Close() error {
	if r.ran.Swap(true) {
		return nil
	}
	close(r.events)
	close(r.done)
	err := r.api.Close()
	r.engine.close()
	return err
}

// Run carries out commands and follows the radio until ctx ends. Then it ends the groups it formed, puts back the
// settings it changed, closes Events and the connection, and returns nil. It returns ErrNoBus early when the connection
// to the bus is lost; a new Radio is needed then. It may be called once.
func (r *Radio) Run(ctx context.Context) error {
	if r.ran.Swap(true) {
		return fmt.Errorf("wpa: run: %w", ErrClosed)
	}
	defer close(r.done)
	defer close(r.events)
	defer r.engine.close()
	defer func() { _ = r.api.Close() }() // everything was put back before

	m := newMachine(r)
	var workers sync.WaitGroup
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	workers.Go(func() { m.jobs.run(life, m.in) })
	workers.Go(func() { m.out.run(life, r.events) })
	unwatch := func() {}
	if r.watches {
		unwatch = r.watch(&workers)
	}
	err := m.loop(ctx)
	end()
	unwatch()
	workers.Wait()
	m.out.drain(r.events)
	if err != nil {
		return fmt.Errorf("wpa: run: %w", err)
	}
	return nil
}

// watch follows what the supplicant does not tell, each where the system lets us. The function that it returns ends that.
func (r *Radio) watch(workers *sync.WaitGroup) func() {
	var ends []func()
	if w := watchRfkill(); w != nil {
		workers.Go(func() { w.run(func() { r.in.command((*machine).switched) }) })
		ends = append(ends, w.close)
	}
	if w := watchSleep(); w != nil {
		workers.Go(func() { w.run(func() { r.in.command((*machine).woke) }) })
		ends = append(ends, w.close)
	}
	if w := watchKernel(); w != nil {
		workers.Go(func() {
			w.run(func(index, frequency int) { r.in.command(func(m *machine) { m.moving(index, frequency) }) },
				func(index, frequency int) { r.in.command(func(m *machine) { m.moved(index, frequency) }) })
		})
		ends = append(ends, w.close)
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// Reconsider looks again at what the choice of the engine depends on, such as the D-Bus policy that a person has just put in
// place, and has Status say what is so now. It returns what would be chosen now: when that is another engine, it needs a Radio
// of its own. An engine that has the radio to itself stays. It blocks like Choose.
func (r *Radio) Reconsider(ctx context.Context) (Choice, error) {
	if r.choice.Engine == EnginePrivate {
		return r.choice, nil
	}
	choice, err := Choose(ctx, r.cfg)
	if err != nil {
		return Choice{}, fmt.Errorf("wpa: reconsider: %w", err)
	}
	if choice.Engine == r.choice.Engine {
		r.in.command(func(m *machine) {
			if m.choice.Why != choice.Why || m.choice.Fix != choice.Fix {
				m.choice.Why, m.choice.Fix = choice.Why, choice.Fix
				m.dirty = true
			}
		})
	}
	return choice, nil
}

// Events returns the channel of events. It never holds the radio up: changes of the same thing that were not taken yet
// become one. It is closed when Run returned.
func (r *Radio) Events() <-chan Event { return r.events }

// Status returns a snapshot.
func (r *Radio) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Groups = slices.Clone(s.Groups)
	return s
}

// Peers returns the devices that are near, by address.
func (r *Radio) Peers() []Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.peers)
}

func (r *Radio) publish(s Status, peers []Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = s
	if peers != nil {
		r.peers = peers
	}
}

// Find searches for d (at most 10 minutes; zero or less means 30 s): first on the social channels, then on all. It
// returns when the search has begun. The search pauses while a group is being formed or has just been, and survives a
// restart of the supplicant.
func (r *Radio) Find(ctx context.Context, d time.Duration) error {
	return r.command(ctx, "find", func(m *machine, reply func(error)) { m.find(bounded(d, defaultFind), reply) })
}

// StopFind ends a search, and a Listen.
func (r *Radio) StopFind(ctx context.Context) error {
	return r.command(ctx, "stop find", func(m *machine, reply func(error)) { m.stopFind(reply) })
}

// Listen makes this device visible to others without searching, for d (at most one hour; zero or less means 2 minutes).
// It returns when it has begun. Between searches and formations it goes on by itself.
func (r *Radio) Listen(ctx context.Context, d time.Duration) error {
	return r.command(ctx, "listen", func(m *machine, reply func(error)) { m.listen(bounded(d, defaultListen), reply) })
}

// StartGroup starts a group with this device as its owner and returns when it is up. ErrChannel (a [ChannelError]) means that
// the frequency cannot be used, ErrBusy that a group is there or being formed.
func (r *Radio) StartGroup(ctx context.Context, o GroupOptions) (Group, error) {
	if len(o.SSIDPostfix) > maxPostfix {
		return Group{}, fmt.Errorf("wpa: start group: %w: the SSID postfix has more than %d bytes", ErrConfig, maxPostfix)
	}
	if r.choice.Engine.limits().NoOwnGroup {
		return Group{}, fmt.Errorf("wpa: start group: %w", limited("a group without another device"))
	}
	return r.formation(ctx, "start group", func(m *machine, reply func(Group, error)) func(error) {
		return m.startGroup(o, reply)
	})
}

// Connect forms a group with a peer and returns when it is up: a client when it has joined, a group owner when the peer
// has. It picks the way by itself: a persistent group with that peer is started again, a group that the peer owns is
// joined, a group that we own gets the peer as a new client by invitation, everything else is GO negotiation. A peer that
// is not in Peers is looked for first. If both devices share a group already, that is returned.
//
// Errors are ErrBusy, ErrPeerGone, ErrTimeout, ErrRejected, ErrWrongPIN, ErrOverlap, ErrChannel (a [ChannelError]), ErrMethod,
// ErrFormation, ErrKilledByNetworkManager, ErrSupplicantGone, those of a radio that is not Ready, and ctx's. When ctx ends the formation
// is cancelled first, which takes up to 3 s.
func (r *Radio) Connect(ctx context.Context, peer net.HardwareAddr, method Method, o ConnectOptions) (Group, error) {
	name := "connect to " + peer.String()
	if err := errors.Join(checkConnect(peer, method, o), r.limits(peer, method)); err != nil {
		return Group{}, fmt.Errorf("wpa: %s: %w", name, err)
	}
	return r.formation(ctx, name, func(m *machine, reply func(Group, error)) func(error) {
		return m.connect(peer, method, o, reply)
	})
}

// Accept answers a Request with yes and returns like Connect.
func (r *Radio) Accept(ctx context.Context, req Request, method Method, o ConnectOptions) (Group, error) {
	name := "accept " + req.Peer.Address.String()
	if err := errors.Join(checkConnect(req.Peer.Address, method, o), r.limits(nil, method)); err != nil {
		return Group{}, fmt.Errorf("wpa: %s: %w", name, err)
	}
	return r.formation(ctx, name, func(m *machine, reply func(Group, error)) func(error) {
		return m.accept(req, method, o, reply)
	})
}

// limits says whether the engine can form a group with a peer in this way; a peer that asked for it is nil.
func (r *Radio) limits(peer net.HardwareAddr, method Method) error {
	l := r.choice.Engine.limits()
	if l.NoJoin && slices.ContainsFunc(r.Peers(), func(p Peer) bool { return p.IsGO && slices.Equal(p.Address, peer) }) {
		return limited("joining a running group")
	}
	return l.connect(method)
}

func checkConnect(peer net.HardwareAddr, method Method, o ConnectOptions) error {
	if len(peer) != 6 {
		return fmt.Errorf("%w: not a device address", ErrConfig)
	}
	if o.Intent > 15 {
		return fmt.Errorf("%w: GO intent %d is not 0 to 15", ErrConfig, o.Intent)
	}
	return method.check()
}

// Reject answers a Request with no. The peer is refused until the next Connect to it.
func (r *Radio) Reject(ctx context.Context, req Request) error {
	return r.command(ctx, "reject "+req.Peer.Address.String(), func(m *machine, reply func(error)) { m.reject(req, reply) })
}

// Invite invites a peer to a running group and returns when it answered: nil when it accepted or asks its user. A group
// owned here then lets it in without another question.
func (r *Radio) Invite(ctx context.Context, group GroupID, peer net.HardwareAddr) error {
	if r.choice.Engine.limits().NoJoin {
		return fmt.Errorf("wpa: invite %s: %w", peer, limited("an invitation"))
	}
	return r.command(ctx, "invite "+peer.String(), func(m *machine, reply func(error)) { m.invite(group, peer, reply) })
}

// Leave ends our part in a group: a group owner ends it for all. It returns when the interface is gone, at most 5 s, and
// ErrNoGroup when there is no such group.
func (r *Radio) Leave(ctx context.Context, group GroupID) error {
	return r.command(ctx, "leave group "+string(group), func(m *machine, reply func(error)) { m.leave(group, reply) })
}

// command has the machine carry out start and waits for its reply. When ctx ends it does not wait any longer.
func (r *Radio) command(ctx context.Context, name string, start func(*machine, func(error))) error {
	answer := make(chan error, 1)
	r.in.command(func(m *machine) {
		start(m, m.waiter(func(err error) {
			m.answers = append(m.answers, func() { answer <- err })
		}))
	})
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	case <-r.done:
		err = ErrClosed
	}
	if err != nil {
		return fmt.Errorf("wpa: %s: %w", name, err)
	}
	return nil
}

// formation is command for what ends with a group. When ctx ends it has the formation cancelled and waits for that.
func (r *Radio) formation(ctx context.Context, name string, start func(*machine, func(Group, error)) (cancel func(error))) (Group, error) {
	type result struct {
		group Group
		err   error
	}
	answer := make(chan result, 1)
	var cancel func(error) // belongs to the machine; nil when there is nothing to cancel
	r.in.command(func(m *machine) {
		if ctx.Err() != nil {
			return
		}
		cancel = start(m, func(g Group, err error) {
			m.answers = append(m.answers, func() {
				select {
				case answer <- result{g, err}:
				default:
				}
			})
		})
	})
	var res result
	select {
	case res = <-answer:
	case <-r.done:
		res.err = ErrClosed
	case <-ctx.Done():
		r.in.command(func(*machine) {
			if cancel != nil {
				cancel(ctx.Err())
			}
		})
		grace := time.NewTimer(cancelLimit + time.Second)
		defer grace.Stop()
		select {
		case res = <-answer:
		case <-r.done:
			res.err = ctx.Err()
		case <-grace.C: // Run is not running
			res.err = ctx.Err()
		}
	}
	if res.err != nil {
		return Group{}, fmt.Errorf("wpa: %s: %w", name, res.err)
	}
	return res.group, nil
}

func bounded(d, standard time.Duration) time.Duration {
	if d <= 0 {
		return standard
	}
	return d
}
