package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

var (
	// ErrNoAddress is returned when a peer has no address and no connection to us.
	ErrNoAddress = errors.New("session: no address is known for the device")
	// ErrClosed is returned after Run has ended.
	ErrClosed = errors.New("session: closed")
	// ErrLost is the error of a held peer whose connection broke.
	ErrLost = errors.New("session: the connection was lost")
	// ErrRedirect is returned when a peer answers with a redirect.
	ErrRedirect = errors.New("session: the device answered with a redirect")
	// ErrUnreachable wraps what happened at every address of a peer.
	ErrUnreachable = errors.New("session: the device cannot be reached")
)

// Config is what [New] needs. Identity is required; everything else has a
// meaning when it is left out.
type Config struct {
	// Logger; nil discards.
	Logger *slog.Logger
	// Identity is this device's key.
	Identity *identity.Identity
	// Listen is the TCP address to listen on; "" means port 7421 of every address,
	// or the next free port.
	Listen string
	// Name is what this device calls itself to the peer that asks; nil or "" tells
	// no name.
	Name func(Peer) string
	// Hidden says of a device that it is not told where we listen when we greet it,
	// by which it would list us. It must not wait. nil: all are told.
	Hidden func(Peer) bool
	// Standing says what the user decided about a key; nil means all are new.
	// Blocked devices are refused. It is called for every request.
	Standing func(identity.DeviceID) trust.Standing
	// Addresses returns where a device may be reached, best first. It is called
	// whenever the device is dialled, and must not wait.
	Addresses func(identity.DeviceID) []Candidate
	// Handler gets the requests of peers, but for /v1/hello and /v1/dialback. What
	// a stranger may ask for is its decision ([PeerFrom]). The body of a request
	// was read before and is at most 1 MiB (64 KiB of a stranger). Requests must
	// end when their context does. nil answers 404.
	Handler http.Handler
	// Seen is told of every device that opens a connection to us, trusted or not.
	// Holding it works even when no address is known for it: a device that holds us
	// opens a connection for us to ask on. It must not wait.
	Seen func(Peer)
	// Greeted is told what a device says of itself when it asks us who we are. Only
	// its ID is proved. It must not wait.
	Greeted func(Peer, Greeting)
	// Granted says of a request of a stranger that the user allowed it, as the data
	// of an offer that was made to it: it does not count against its rate. It must
	// not wait.
	Granted func(Peer, *http.Request) bool
	// Question says of a request of a stranger that it becomes a question to the user:
	// of those there may be few. It must not wait. nil: none is.
	Question func(*http.Request) bool
	// Most is how many devices may be connected at once, 0 for no bound but those of
	// limits.go. Strangers give way to trusted devices. It must not wait. May be nil.
	Most func() int
	// Key is told the public key of every device that is met, on either side's
	// initiative, before the handshake ends. It must not wait. May be nil.
	Key func(identity.PublicKey)
	// Changed is told of held peers, one call at a time for each peer. It must not
	// wait, and may call any method.
	Changed func(PeerState)
}

// Candidate is one way to reach a device.
type Candidate struct {
	// Addr is the address, with the zone (interface name) of a link-local one.
	Addr netip.AddrPort
	// Kind is "direct", "lan" or "manual".
	Kind string
	// Ifname is the interface it was seen on.
	Ifname string
	// Cost orders ways: a connection moves to a candidate of lower cost when one
	// appears. Those of the same cost are as good as each other.
	Cost int
}

// PeerState is what is known about a held peer.
type PeerState struct {
	ID        identity.DeviceID
	Connected bool
	// Path is the way that the control connection takes, while Connected.
	Path Candidate
	// RTT is the time of the last small request and its answer, while Connected.
	RTT time.Duration
	// Hello is what the peer said about itself, while Connected.
	Hello Hello
	// Err says why not, while not Connected.
	Err error
}

// Peer is the device that sent a request.
type Peer struct {
	ID       identity.DeviceID
	Standing trust.Standing // when the request came
	Local    netip.AddrPort
	Remote   netip.AddrPort
	Ifname   string // of the interface that has Local; "" when it is gone
}

// Sessions are the connections of this device to others. All methods may be
// called by several goroutines.
type Sessions struct {
	cfg      Config
	log      *slog.Logger
	listener *net.TCPListener
	server   *http.Server
	inbox    inbox
	tls      *tls.Config // of accepted connections
	gate     gate
	checks   chan struct{} // bounds the inbound checks under way
	strange  *rate.Limiter // of inbound checks for strangers

	entering sync.Mutex // orders the connections that Config.Most bounds

	// life ends when Run does; end ends it. They bound work that outlives the call
	// which began it: holding, serving, dialling for a pooled connection.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	ended  bool                        // guarded by mu; no more work may be added
	peers  map[identity.DeviceID]*peer // guarded by mu
	active map[*conn]struct{}          // guarded by mu
}

// New listens and returns; connections are taken once [Sessions.Run] runs, which
// also closes everything. Call Run even when it is to end at once.
func New(cfg Config) (*Sessions, error) {
	if cfg.Identity == nil {
		return nil, errors.New("session: no identity")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	listener, err := listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("session: listen: %w", err)
	}
	s := &Sessions{
		cfg:      cfg,
		log:      cfg.Logger,
		listener: listener,
		inbox:    newInbox(listener.Addr()),
		gate:     newGate(),
		checks:   make(chan struct{}, inboundAtOnce),
		strange:  rate.NewLimiter(rate.Every(inboundStranger), inboundBurst),
		peers:    make(map[identity.DeviceID]*peer),
		active:   make(map[*conn]struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.tls = tlsConfig(cfg.Identity, []string{protoDirect, protoReverse}, s.accepted, cfg.Key)
	s.server = s.newServer()
	return s, nil
}

func listen(addr string) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: prepare}
	lc.SetMultipathTCP(false)
	try := func(addr string) (*net.TCPListener, error) {
		l, err := lc.Listen(context.Background(), "tcp", addr)
		if err != nil {
			return nil, err
		}
		return l.(*net.TCPListener), nil
	}
	if addr != "" {
		return try(addr)
	}
	for port := defaultPort; port < defaultPort+portTries; port++ {
		l, err := try(":" + strconv.Itoa(port))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return try(":0")
}

// Run takes connections and serves them until ctx ends. Then it closes every
// connection, waits for all that it started, and returns nil.
func (s *Sessions) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	g, gctx := errgroup.WithContext(s.life)
	g.Go(func() error { return s.accept(gctx) })
	g.Go(func() error {
		if err := s.server.Serve(s.inbox); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("session: serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		s.shut()
		return nil
	})
	err := g.Wait()
	s.end()
	s.work.Wait()
	return err
}

// shut closes the listener and every connection.
func (s *Sessions) shut() {
	s.mu.Lock()
	s.ended = true
	conns := make([]*conn, 0, len(s.active))
	for c := range s.active {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	_ = s.listener.Close()
	s.gate.closeAll()
	_ = s.server.Close()
	for _, c := range conns {
		_ = c.Close()
	}
}

// begin adds one piece of work that Run waits for; it returns false when Run has
// ended. Call s.work.Done after it.
func (s *Sessions) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.work.Add(1)
	return true
}

// run runs fn in a goroutine that Run waits for; it does nothing when Run has
// ended.
func (s *Sessions) run(fn func()) {
	if s.begin() {
		go func() {
			defer s.work.Done()
			fn()
		}()
	}
}

// bound returns ctx limited to d and to the life of s.
func (s *Sessions) bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// Port returns the TCP port that s listens on.
func (s *Sessions) Port() uint16 {
	return s.listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Control returns the client for small requests to the device id: requests of it
// are never behind bulk data. URLs are "http://nigh/v1/…"; the connection is made
// when it is needed, to that key and no other. Redirects are an error
// ([ErrRedirect]), proxies are not used, and an answer has to begin within 30 s.
func (s *Sessions) Control(id identity.DeviceID) *http.Client { return s.peer(id).control.client }

// Bulk returns the client for data from the device id, over at most two
// connections of its own. When a device cannot be dialled it is asked, on the
// control connection, to dial us.
func (s *Sessions) Bulk(id identity.DeviceID) *http.Client { return s.peer(id).bulk.client }

// Hold keeps a control connection to the device id for as long as it has
// addresses, or connects to us, and reports to Config.Changed. It returns at
// once. Holding twice is holding once.
func (s *Sessions) Hold(id identity.DeviceID) { s.peer(id).startHolding() }

// Release ends [Sessions.Hold]: nothing more is reported about id, and its
// connections stay until they are idle.
func (s *Sessions) Release(id identity.DeviceID) {
	if p := s.known(id); p != nil {
		p.stopHolding()
	}
}

// Kick says that the addresses of id, or our own, changed: connections from an
// address that we no longer have are closed, a lost peer is dialled at once, and
// a better path is tried.
func (s *Sessions) Kick(id identity.DeviceID) {
	s.closeStranded(id)
	if p := s.known(id); p != nil {
		p.kick()
	}
}

// Expect is [Sessions.Kick] for a device that is about to be reached and probably
// to be asked for data: its bulk connection is opened beside the control
// connection, not after the first request that needs it.
func (s *Sessions) Expect(id identity.DeviceID) {
	p := s.peer(id)
	p.bulk.warm()
	s.Kick(id)
}

// Close closes all connections with the device id, in both directions, before it
// returns. A held device is dialled again: release it first to be rid of it.
func (s *Sessions) Close(id identity.DeviceID) {
	for _, c := range s.connsOf(id) {
		_ = c.Close()
	}
}

// peer returns the entry of id and makes it when there is none.
func (s *Sessions) peer(id identity.DeviceID) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[id]
	if p == nil {
		if len(s.peers) >= maxPeers {
			s.prune()
		}
		p = newPeer(s, id)
		s.peers[id] = p
	}
	return p
}

// prune forgets peers that are not held and have no connection. A client that was
// given out for one keeps working.
func (s *Sessions) prune() {
	busy := make(map[identity.DeviceID]bool)
	for c := range s.active {
		busy[c.id] = true
	}
	for id, p := range s.peers {
		if !busy[id] && !p.isHeld() {
			delete(s.peers, id)
		}
	}
}

func (s *Sessions) known(id identity.DeviceID) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[id]
}

func (s *Sessions) standing(id identity.DeviceID) trust.Standing {
	if s.cfg.Standing == nil {
		return trust.New
	}
	return s.cfg.Standing(id)
}

func (s *Sessions) connsOf(id identity.DeviceID) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var conns []*conn
	for c := range s.active {
		if c.id == id {
			conns = append(conns, c)
		}
	}
	return conns
}

// asksUs reports whether the device has a connection on which it asks us that it
// opened itself, or one that we opened for it.
func (s *Sessions) asksUs(id identity.DeviceID) (dialledByPeer, dialledByUs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.active {
		if c.id == id && c.serving {
			dialledByPeer = dialledByPeer || !c.dialled
			dialledByUs = dialledByUs || c.dialled
		}
	}
	return dialledByPeer, dialledByUs
}

// Check closes every connection whose local address this device does not have any
// more, and those over a link without a carrier when there is another way: a cable
// may come back. Call it when a link or an address was lost.
func (s *Sessions) Check() {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.active))
	for c := range s.active {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	s.closeGone(conns)
}

// closeStranded closes the connections of id whose local address is gone: nothing
// will arrive on them any more, and the kernel takes seconds to find out.
func (s *Sessions) closeStranded(id identity.DeviceID) {
	s.closeGone(s.connsOf(id))
}

func (s *Sessions) closeGone(conns []*conn) {
	if len(conns) == 0 {
		return
	}
	names, err := interfaceNames()
	if err != nil {
		return
	}
	for _, c := range conns {
		switch ifname := names.of(c.local.Addr()); {
		case ifname == "":
			s.log.Debug("Closing a connection whose local address is gone", "peer", c.id.Short(), "address", c.local.Addr())
		case names.dead[ifname] && slices.ContainsFunc(s.addresses(c.id), func(k Candidate) bool { return k.Ifname != ifname }):
			s.log.Debug("Closing a connection over a link that carries no more", "peer", c.id.Short(), "ifname", ifname)
		default:
			continue
		}
		_ = c.Close()
	}
}
