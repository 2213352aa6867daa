package wpa

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"nigh/wpa/dbusapi"
)

// supplicant is what the machine needs of dbusapi.Client, so that tests can put message-level faults in its place.
type supplicant interface {
	Ready() <-chan struct{}
	Next() []dbusapi.Signal
	Close() error

	Present(ctx context.Context) (bool, error)
	HasOwner(ctx context.Context, name string) (bool, error)
	Instance(ctx context.Context) (string, error)
	Activate(ctx context.Context) error
	Capabilities(ctx context.Context) ([]string, error)
	Interfaces(ctx context.Context) ([]dbusapi.Path, error)
	GetInterface(ctx context.Context, ifname string) (dbusapi.Path, error)
	CreateInterface(ctx context.Context, ifname string) (dbusapi.Path, error)
	RemoveInterface(ctx context.Context, p dbusapi.Path) error
	Interface(ctx context.Context, p dbusapi.Path) (dbusapi.Interface, error)
	ConfigMethods(ctx context.Context, p dbusapi.Path) (string, error)
	SetConfigMethods(ctx context.Context, p dbusapi.Path, methods string) error
	Config(ctx context.Context, owner dbusapi.Path) (dbusapi.Config, error)
	SetConfig(ctx context.Context, owner dbusapi.Path, k dbusapi.Key) error
	Peers(ctx context.Context, owner dbusapi.Path) ([]dbusapi.Path, error)
	Peer(ctx context.Context, p dbusapi.Path) (dbusapi.Peer, error)
	GroupObject(ctx context.Context, iface dbusapi.Path) (dbusapi.Path, error)
	Group(ctx context.Context, p dbusapi.Path) (dbusapi.Group, error)
	Stations(ctx context.Context, iface dbusapi.Path) ([]net.HardwareAddr, error)
	CurrentBSS(ctx context.Context, iface dbusapi.Path) (net.HardwareAddr, int, error)
	AbortScan(ctx context.Context, iface dbusapi.Path) error
	PersistentGroups(ctx context.Context, owner dbusapi.Path) ([]dbusapi.Path, error)
	Persistent(ctx context.Context, p dbusapi.Path) (dbusapi.Persistent, error)
	AddPersistent(ctx context.Context, owner dbusapi.Path, p dbusapi.Persistent, peer net.HardwareAddr) (dbusapi.Path, error)
	RemovePersistent(ctx context.Context, owner, p dbusapi.Path) error
	Find(ctx context.Context, owner dbusapi.Path, kind string, seconds int) error
	StopFind(ctx context.Context, owner dbusapi.Path) error
	Listen(ctx context.Context, owner dbusapi.Path, seconds int) error
	ExtendedListen(ctx context.Context, owner dbusapi.Path, period, interval time.Duration) error
	Connect(ctx context.Context, owner dbusapi.Path, a dbusapi.ConnectArgs) (string, error)
	GroupAdd(ctx context.Context, owner dbusapi.Path, frequency int, persistent bool, profile dbusapi.Path) error
	Cancel(ctx context.Context, owner dbusapi.Path) error
	Invite(ctx context.Context, on, peer, profile dbusapi.Path) error
	Disconnect(ctx context.Context, group dbusapi.Path) error
	RejectPeer(ctx context.Context, owner, peer dbusapi.Path) error
	Flush(ctx context.Context, owner dbusapi.Path) error
	ProvisionDiscovery(ctx context.Context, owner, peer dbusapi.Path, method string) error
	AddService(ctx context.Context, owner dbusapi.Path, query, response []byte) error
	DeleteService(ctx context.Context, owner dbusapi.Path, query []byte) error
	ServiceUpdate(ctx context.Context, owner dbusapi.Path) error
	RequestServices(ctx context.Context, owner, peer dbusapi.Path, tlv []byte) (uint64, error)
	CancelServices(ctx context.Context, owner dbusapi.Path, request uint64) error
	OpenWPS(ctx context.Context, group dbusapi.Path, peer net.HardwareAddr, pin string) error
	CloseWPS(ctx context.Context, group dbusapi.Path) error
	SetGroupVendor(ctx context.Context, group dbusapi.Path, vendor [][]byte) error
}

// inbox carries everything but signals into the machine's goroutine: commands, results of calls and timers. It has no
// bound of its own: callers wait for their command's reply, and there is one call at a time.
type inbox struct {
	ready chan struct{} // capacity 1
	mu    sync.Mutex
	queue []func(*machine) // guarded by mu
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

func (in *inbox) command(f func(*machine)) {
	in.mu.Lock()
	in.queue = append(in.queue, f)
	in.mu.Unlock()
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

func (in *inbox) take() []func(*machine) {
	in.mu.Lock()
	defer in.mu.Unlock()
	q := in.queue
	in.queue = nil
	return q
}

// jobs is the line of calls to the supplicant: strictly one at a time, because 2.11 crashes when some are mixed fast, and
// never on the machine's goroutine, which must keep taking signals.
type jobs struct {
	ready chan struct{} // capacity 1
	mu    sync.Mutex
	queue []func(context.Context) func(*machine) // guarded by mu
}

func (j *jobs) push(f func(context.Context) func(*machine)) {
	j.mu.Lock()
	j.queue = append(j.queue, f)
	j.mu.Unlock()
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// run carries out jobs until ctx ends and posts what they return to in.
func (j *jobs) run(ctx context.Context, in *inbox) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.ready:
		}
		for {
			j.mu.Lock()
			if len(j.queue) == 0 || ctx.Err() != nil {
				j.mu.Unlock()
				break
			}
			f := j.queue[0]
			j.queue = j.queue[1:]
			j.mu.Unlock()
			in.command(f(ctx))
		}
	}
}

// machine is the four state machines of the package documentation. All of it belongs to one goroutine, that of loop.
type machine struct {
	cfg    Config
	choice Choice
	log    *slog.Logger
	api    supplicant
	in     *inbox
	jobs   *jobs
	out    *outbox
	show   func(Status, []Peer)

	// Supplicant.
	state     State
	err       error // why state is not Ready
	life      int   // counts supplicants: results of calls to an earlier one are void
	preparing bool
	again     bool // something changed while preparing
	owner     dbusapi.Path
	ifname    string
	phy       string // radio of ifname, when this process can see it
	seat      seat   // of ifname, as far as this process can see it
	address   net.HardwareAddr
	before    *settings               // what to put back; nil when nothing was changed
	ifaces    map[dbusapi.Path]string // interface names as far as InterfaceAdded told them

	peers       map[dbusapi.Path]*Peer
	displaced   map[string]bool      // by device address; see displace
	quit        map[string]time.Time // owners that ended a group with us, by device address
	requests    map[string]*request  // by device address
	crowded     time.Time            // when the last one was told while there were too many
	disc        discovery
	connected   bool          // the interface that owns P2P has a Wi-Fi connection
	listening   time.Duration // interval of extended listening; 0 = off
	shown       Advert        // what the supplicant was told
	looks       []*lookout
	form        *formation            // nil = idle
	ending      []*formation          // failed, and told when they are cleaned up
	haunted     *timer                // not nil while a join that was given up may still happen
	unwanted    map[dbusapi.Path]bool // interfaces of such joins
	searched    bool                  // a search may be going on
	quiet       *timer                // of endScans
	provisioned map[string]bool       // by device address: the supplicant remembers the peer's provision discovery
	flushed     map[dbusapi.Path]bool // peers that the supplicant had to forget
	groups      map[dbusapi.Path]*group
	lastGroup   int
	admissions  map[string]*admission // by device address
	invited     *invitation
	profiles    map[dbusapi.Path]Persistent
	known       []Persistent // survives a restart of the supplicant
	services    services     // survives it, too

	lost     <-chan struct{} // closed when the engine is of no more use; nil = never
	stopping bool
	finished bool
	result   error

	dirty      bool // the status changed
	peersDirty bool
	pending    []Event  // to tell at the end of this turn
	answers    []func() // to callers, after the snapshot that they will look at

	waiters    map[int]func(error) // commands that wait for their reply
	lastWaiter int
}

func newMachine(r *Radio) *machine {
	m := &machine{
		cfg: r.cfg, choice: r.choice, log: r.cfg.Logger, api: r.api, in: r.in, show: r.publish,
		jobs: &jobs{ready: make(chan struct{}, 1)}, out: newOutbox(),
		state: Starting, known: slices.Clone(r.cfg.Groups), services: services{queries: map[QueryID]*query{}},
		waiters: map[int]func(error){},
	}
	if m.choice.Engine.limits().NoPersistent {
		m.known = nil
	}
	m.lost = r.engine.lost()
	m.forget()
	return m
}

// loop runs the machine until it has shut down after the end of ctx, or the bus is lost.
func (m *machine) loop(ctx context.Context) error {
	m.start()
	stop := ctx.Done()
	lost := m.lost
	for !m.finished {
		select {
		case <-stop:
			stop = nil
			m.shutdown()
		case <-lost:
			lost = nil
			m.result = ErrEngine
			m.shutdown()
		case <-m.api.Ready():
			for _, s := range m.api.Next() {
				m.signal(s)
			}
		case <-m.in.ready:
			for _, f := range m.in.take() {
				f(m)
			}
		}
		m.flush()
	}
	m.closeAll(ErrClosed)
	m.flush()
	return m.result
}

// flush shows what changed.
func (m *machine) flush() {
	defer func() {
		for _, e := range m.pending {
			m.out.push(e)
		}
		for _, f := range m.answers {
			f()
		}
		m.pending, m.answers = nil, nil
	}()
	if m.peersDirty {
		m.peersDirty = false
		peers := make([]Peer, 0, len(m.peers))
		for _, p := range m.peers {
			peers = append(peers, *p)
		}
		sort.Slice(peers, func(i, j int) bool {
			a, b := peers[i], peers[j]
			return slices.Compare(a.Address, b.Address) < 0
		})
		m.show(m.status(), peers)
	}
	if m.dirty {
		m.dirty = false
		s := m.status()
		m.show(s, nil)
		m.pending = append(m.pending, StateChanged{s})
	}
}

func (m *machine) status() Status {
	s := Status{
		State: m.state, Ifname: m.ifname, Engine: m.choice.Engine, Why: m.choice.Why, Limits: m.choice.Engine.limits(), Address: m.address,
		Finding: m.disc.stage == discSocial || m.disc.stage == discProgressive, Err: m.err, Hint: Hint(m.err),
	}
	if s.Hint == "" {
		s.Hint = m.choice.Fix
	}
	for _, g := range m.groups {
		if g.up {
			s.Groups = append(s.Groups, g.clone())
		}
	}
	sort.Slice(s.Groups, func(i, j int) bool {
		a, b := s.Groups[i], s.Groups[j]
		return strings.Compare(a.Ifname, b.Ifname) < 0
	})
	return s
}

// emit tells an event, after the snapshot that it belongs to has been published.
func (m *machine) emit(e Event) {
	switch e.(type) {
	case GroupUp, GroupChanged, GroupGone:
		m.dirty = true
	}
	m.pending = append(m.pending, e)
}

// waiter returns a reply that is given once: by the command, or with the error of a supplicant that is gone before.
func (m *machine) waiter(reply func(error)) func(error) {
	m.lastWaiter++
	n := m.lastWaiter
	m.waiters[n] = reply
	return func(err error) {
		if m.waiters[n] != nil {
			delete(m.waiters, n)
			reply(err)
		}
	}
}

// do runs a call, or several in a row, on the line of calls, and then, with their result, on the machine's goroutine. The
// result is dropped when the supplicant is another one by then: what waited for it has been told.
func do[T any](m *machine, run func(context.Context) (T, error), then func(T, error)) {
	life := m.life
	m.jobs.push(func(ctx context.Context) func(*machine) {
		v, err := run(ctx)
		return func(m *machine) {
			if m.life == life {
				then(v, err)
			}
		}
	})
}

// order is do for a call without a result.
func (m *machine) order(run func(context.Context) error, then func(error)) {
	do(m, func(ctx context.Context) (struct{}, error) { return struct{}{}, run(ctx) }, func(_ struct{}, err error) {
		if then != nil {
			then(err)
		}
	})
}

// timer is a deadline of a state. Stop it when the state is left.
type timer struct {
	t    *time.Timer
	dead bool
}

// after calls f on the machine's goroutine after d, unless the timer is stopped before.
func (m *machine) after(d time.Duration, f func()) *timer {
	t := &timer{}
	in := m.in
	t.t = time.AfterFunc(d, func() {
		in.command(func(*machine) {
			if !t.dead {
				t.dead = true
				f()
			}
		})
	})
	return t
}

// stop stops a timer; nil is fine.
func (t *timer) stop() {
	if t != nil {
		t.dead = true
		t.t.Stop()
	}
}
