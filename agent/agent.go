package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/message"
	"nigh/agent/pairing"
	"nigh/agent/recognise"
	"nigh/agent/session"
	"nigh/agent/share"
	"nigh/agent/store"
	"nigh/agent/transfer"
	"nigh/agent/trust"
	"nigh/discovery"
	"nigh/link"
)

// Agent is one running device: its identity, peers, groups and transfers. Make
// it with [New], run it once with [Agent.Run].
type Agent struct {
	cfg     Config   // what the agent began with
	given   Settings // as they were given, before defaults and policy
	ruling  ruling   // what counts now
	log     *slog.Logger
	started time.Time

	id        *identity.Identity
	air       *recognise.Recogniser
	store     *store.Store
	trust     *trust.Book
	sessions  *session.Sessions
	transfers *transfer.Engine
	pairing   *pairing.Engine
	shares    *share.Shares
	asked     asked
	messages  *message.Engine
	links     *link.Monitor
	book      *link.Book
	cables    *link.Cables
	finder    *discovery.Discovery
	direct    *direct
	prover    *prover
	table     *table
	watchers  hub
	hooks     *hooks // nil while New makes the rest
	change    signal
	clones    clones
	namesakes namesakes
	inbound   *inbound
	typed     *typed
	waiting   waiting
	turns     *turns
	life      context.Context // ends with Run; for work that a callback begins
	end       context.CancelFunc
	ending    sync.Mutex              // taken to end life, and to add to work
	work      sync.WaitGroup          // begun by callbacks; Run waits for it
	keys      chan identity.PublicKey // of trusted devices, not in the book
	learning  sync.Mutex              // held from a key's way into the book until friends are recognised by it
	nameless  chan identity.DeviceID  // trusted, near, and without a name in the book
	command   atomic.Value            // time.Time of the last command that steps count from
	server    *control.Server
	socket    net.Listener
	ring      *logRing
	metering  metering     //nolint:unused // what the tag metrics adds
	notices   []string     // set by New only
	loose     atomic.Value // string: why there is no sandbox, one sentence; set by Run before it runs anything
	ran       bool         // set by Run only
}

// New opens the state folder, takes its lock, makes the device key at the first
// start, and listens for sessions and for the faces. It returns an error that
// wraps [ErrConfig], [store.ErrLocked] (another agent has this state),
// [identity.ErrDamaged], or what the system said. The caller runs the agent
// with [Agent.Run], which also closes it.
func New(cfg Config) (_ *Agent, err error) {
	given := cfg.Settings
	now, err := completeRules(&cfg)
	if err != nil {
		return nil, err // never looser than the policy
	}
	ring := newLogRing()
	cfg.Logger = slog.New(ringHandler{Handler: cfg.Logger.Handler(), ring: ring})
	a := &Agent{cfg: cfg, given: given, log: cfg.Logger, ring: ring, started: time.Now(), nameless: make(chan identity.DeviceID, 16), keys: make(chan identity.PublicKey, 16)}
	a.watchers.ring = ring
	a.ruling.now.Store(now)
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	a.life, a.end = context.WithCancel(context.Background())
	if a.store, err = store.Open(cfg.State); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	first := a.readBoot()
	if a.id, err = identity.Load(cfg.State); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.nameByID()
	if first != nil && !a.bootSettings(first) {
		first = nil
	}
	cfg, now = a.cfg, a.now()
	if a.trust, err = trust.Open(a.store); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.restoreTrust()
	a.trust.Rule(now.trust())
	if first != nil {
		a.bootTrust(first)
	}
	if err := os.MkdirAll(cfg.Inbox, 0o755); err != nil {
		return nil, fmt.Errorf("%w: inbox: %w", ErrConfig, err)
	}
	a.air = recognise.New(a.id, cfg.Visibility == VisibleEveryone)
	a.air.Befriend(a.friends())
	a.turns = followTurns(a.trust)
	a.table = newTable(a.record)
	a.table.warning = a.warning
	for _, r := range a.trust.List() {
		a.table.know(r.ID)
	}
	mux := http.NewServeMux()
	a.sessions, err = session.New(session.Config{
		Logger: a.log, Identity: a.id, Listen: cfg.Listen,
		Name:      a.nameFor,
		Hidden:    a.hiddenFrom,
		Key:       a.met,
		Standing:  func(id identity.DeviceID) trust.Standing { return a.trust.Standing(id) },
		Addresses: a.table.candidates,
		Handler:   mux,
		Most:      func() int { return a.now().Peers.Max },
		Seen:      a.dialledUs,
		Greeted:   a.greeted,
		Question:  a.isQuestion,
		Granted:   func(p session.Peer, r *http.Request) bool { return a.transfers.Granted(p.ID, r) },
		Changed:   a.sessionChanged,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.transfers, err = transfer.New(transfer.Config{
		Logger: a.log, Store: a.store, Self: a.id.ID, Peers: a.sessions, Inbox: cfg.Inbox,
		Name:   a.peerName,
		Caller: func(r *http.Request) (identity.DeviceID, bool) { return session.PeerFrom(r.Context()).ID, true },
		Decide: a.decide,
		Limits: a.transferLimits, Rates: a.transferRates,
		Permit: a.permit, Received: a.received,
		Changed: a.transferChanged,
		Near:    a.near, Trusted: a.mayAskContent, Held: a.held,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if a.messages, err = a.newMessages(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	for _, t := range a.transfers.Transfers() {
		a.waiting.changed(t.ID, t.Direction == transfer.Receive && t.State == transfer.Waiting)
	}
	mux.Handle("/", a.transfers.Handler())
	if a.pairing, err = a.newPairing(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if cfg.SetupCodeFile != "" {
		if err := a.pairing.Provision(cfg.SetupCodeFile); err != nil {
			return nil, fmt.Errorf("%w: setup code: %w", ErrConfig, err)
		}
	}
	if first != nil {
		if err := a.bootDone(first); err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
	}
	mux.Handle("/v1/pair/", a.pairing.Handler())
	if a.shares, err = a.newShares(mux); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	mux.Handle("POST /v1/msg", a.messages.Handler())
	a.links = link.NewMonitor(link.Config{Logger: a.log, Only: cfg.Interfaces})
	if a.book, err = link.OpenBook(cfg.State); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.cables = link.NewCables(a.book, a.log)
	discovery.RedirectLog(a.log)
	said := a.announcement()
	said.Logger, said.Port = a.log, a.sessions.Port()
	if a.finder, err = discovery.New(said); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.prover = newProver(a.log, a.greet, a.proved)
	a.direct = newDirect(a)
	a.inbound = newInbound(a)
	if a.typed, err = newTyped(a); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if cfg.Socket == "" {
		cfg.Socket = control.SocketPath()
		a.cfg.Socket = cfg.Socket
	}
	if a.hooks, err = newHooks(a); err == nil {
		a.socket, err = control.Listen(cfg.Socket)
	}
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.server = control.NewServer(control.Config{Logger: a.log, Backend: backend{a}, Metrics: a.metricsHandler()})
	return a, nil
}

// close releases what New opened, in reverse; it is safe on a half-made agent.
func (a *Agent) close() {
	a.end()
	if a.turns != nil {
		a.turns.cancel()
	}
	if a.socket != nil {
		_ = a.socket.Close()
	}
	if a.sessions != nil && !a.ran {
		// Run closes the listener, even when it ends at once.
		ended, end := context.WithCancel(context.Background())
		end()
		_ = a.sessions.Run(ended)
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Error("Closing the database failed", "err", err)
		}
	}
}

// ID returns the device's own identity.
func (a *Agent) ID() identity.DeviceID { return a.id.ID }

// Socket returns the path of the socket for the faces.
func (a *Agent) Socket() string { return a.cfg.Socket }

// Run works until ctx ends and then puts back everything it changed: groups,
// addresses, announcements. It returns nil after a clean stop, else what broke.
func (a *Agent) Run(ctx context.Context) error {
	a.ran = true
	defer a.close()
	a.confine()
	if err := a.book.Cleanup(); err != nil {
		// Without the rights for it there is also nothing that was added.
		a.log.Debug("Cleaning up after an earlier run failed", "err", err)
	}
	a.log.Info("Agent starts", "id", a.id.ID.Short(), "name", clean.Name(a.now().Name, maxNameBytes), "port", a.sessions.Port(), "version", a.cfg.Version, "mode", a.cfg.Mode)
	group, ctx := errgroup.WithContext(ctx)
	run := func(name string, f func(context.Context) error) {
		group.Go(func() error {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("agent: %s: %w", name, err)
			}
			return nil
		})
	}
	run("sessions", a.sessions.Run)
	run("transfers", a.transfers.Run)
	run("pairing", a.pairing.Run)
	run("shares", a.shares.Run)
	run("messages", a.messages.Run)
	run("links", a.links.Run)
	run("cables", a.cables.Run)
	run("discovery", a.finder.Run)
	run("control", func(ctx context.Context) error { return a.server.Serve(ctx, a.socket) })
	run("link changes", a.followLinks)
	run("sightings", a.followSightings)
	run("trust", a.followTrust)
	run("inbound", a.inbound.run)
	run("typed addresses", a.typed.run)
	run("direct", a.runDirect)
	run("log", a.followLog)
	run("metrics", a.followMetrics)
	run("hooks", a.hooks.run)
	run("watchdog", a.notify)
	run("sandbox", a.followBroker)
	<-ctx.Done()
	a.watchers.close("the agent stops")
	a.ending.Lock()
	a.end()
	a.ending.Unlock()
	a.prover.close()
	err := group.Wait()
	a.work.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	a.log.Info("Agent stopped", "err", err)
	return err
}

// followSightings hands every mDNS instance to the prover and takes away what
// is gone.
func (a *Agent) followSightings(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-a.finder.Events():
			if !ok {
				return nil
			}
			if e.Op == discovery.Clone || e.Op == discovery.CloneGone {
				a.cloneAnnounced(e)
				continue
			}
			s := sighting{
				key: instanceKey(e), kind: kindLAN,
				ifindex: e.Index, ifname: e.Ifname, addrs: e.Addrs, known: a.announced(e.TXT),
				short: e.TXT["id"], source: e.Source, order: follows(a.finder.Name(), e.Instance),
			}
			if a.direct.isGroup(e.Ifname) {
				s.kind = kindDirect
				if s.known && a.table.expectsOn(e.Ifname) {
					s.later = expectLimit // it is probably being dialled already
				}
			}
			if e.Op == discovery.Gone {
				a.inbound.gone(e.Addrs)
				a.lose(s.key)
				continue
			}
			if len(e.Addrs) > 0 && !a.prover.see(ctx, s) {
				a.log.Debug("Too many sightings, one ignored", "ifname", e.Ifname)
			}
		}
	}
}

// announcedKey begins the key of every sighting that mDNS gives.
const announcedKey = "mdns/"

// instanceKey tells mDNS instances apart as package discovery does, which
// ignores case: a changed case must not leave a sighting behind.
func instanceKey(e discovery.Event) string {
	return fmt.Sprintf("%s%d/%q/%q", announcedKey, e.Index, strings.ToLower(e.Instance), strings.ToLower(e.Host))
}

// follows says how far after one name another comes on a ring of all names, by their
// hashes. When each of many devices that come together greets first
// those that follow it, hardly two greet each other at once, and none is greeted by all.
func follows(own, other string) uint64 {
	place := func(name string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(name))
		return h.Sum64()
	}
	return place(other) - place(own)
}

// lose forgets a sighting and what the table built on it.
func (a *Agent) lose(key string) {
	a.prover.gone(key)
	if a.clones.gone(key) {
		a.publishStatus()
	}
	if id, ok := a.table.detach(key); ok {
		a.sessions.Kick(id)
		a.publishPeer(id)
	}
}

// proved is the prover's word that the device behind s holds the key id.
func (a *Agent) proved(s sighting, id identity.DeviceID, hello session.Hello) {
	if id == a.id.ID {
		a.cloneProved(s)
		return
	}
	if a.trust.Standing(id) == trust.Blocked && !a.table.know(id) {
		return
	}
	if !a.table.attach(id, hello.Name, s) {
		a.log.Debug("The peer table is full, one device ignored", "peer", id.Short())
		return
	}
	for _, other := range a.table.gaveWay() {
		a.publishPeer(other)
	}
	a.lookAtName(id, hello.Name)
	a.log.Info("Device is near", "peer", id.Short(), "path", s.kind, "ifname", s.ifname)
	a.direct.joined(id, s.ifname)
	a.inbound.near(id, s)
	a.sessions.Kick(id)
	// A stranger with whom something is open is reached by now, too; a trusted
	// device wakes again when its session stands.
	a.transfers.Wake(id)
	a.messages.Wake(id)
	a.publishPeer(id)
}

// recheck has the announcements of a peer on a link that its session had to leave
// proved again; until then they are no path.
func (a *Agent) recheck(id identity.DeviceID, left session.Candidate) {
	for _, s := range a.table.unproved(id, left.Ifname) {
		a.log.Info("A path leads nowhere any more", "peer", id.Short(), "ifname", left.Ifname)
		a.prover.gone(s.key)
		a.prover.see(a.life, s)
	}
}

// background runs fn in a goroutine that Run waits for; its context ends with Run.
// It does nothing when Run has ended.
func (a *Agent) background(fn func(context.Context)) {
	a.ending.Lock()
	defer a.ending.Unlock()
	if a.life.Err() == nil {
		a.work.Go(func() { fn(a.life) })
	}
}

// sessionChanged takes what the session layer says about a peer.
func (a *Agent) sessionChanged(s session.PeerState) {
	// The session layer cannot know that an interface is a group's before the
	// peer was sighted on it.
	if a.direct.isGroup(s.Path.Ifname) {
		s.Path.Kind = kindDirect
		if s.Connected {
			a.reachedOn(s.ID, s.Path.Ifname, s.Path.Addr.Addr())
		}
	}
	up, left := a.table.session(s)
	if left != (session.Candidate{}) {
		a.recheck(s.ID, left)
	}
	if s.Connected {
		a.inbound.connected(s.ID, s.Path)
	} else {
		a.typed.lost(s.ID)
	}
	if up {
		a.log.Info("Session is up", "peer", s.ID.Short(), "path", s.Path.Kind, "ifname", s.Path.Ifname, "rtt", s.RTT)
		a.transfers.Wake(s.ID)
		a.messages.Wake(s.ID)
	}
	if errors.Is(s.Err, session.ErrUnreachable) {
		a.direct.unreached()
	}
	if a.trust.Standing(s.ID) == trust.Trusted && a.record(s.ID).Name == "" {
		select {
		case a.nameless <- s.ID:
		default: // it is reported again
		}
	}
	a.publishPeer(s.ID)
}

// nameFor is what this device calls itself to another one.
func (a *Agent) nameFor(p session.Peer) string {
	if r := a.now(); r.Visibility == VisibleEveryone || p.Standing == trust.Trusted {
		return r.Name
	}
	return ""
}

// peerName is the name that texts about a device use.
func (a *Agent) peerName(id identity.DeviceID) string {
	if v, ok := a.table.one(id); ok {
		return v.Name
	}
	return cmp.Or(a.record(id).Name, id.Short())
}

// record is the trust record of a device; of one that is not in the book it
// says so by its standing, trust.New.
func (a *Agent) record(id identity.DeviceID) trust.Record {
	r, _ := a.trust.Record(id)
	return r
}
