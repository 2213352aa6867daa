package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// inbox is the listener of the HTTP server: it gets connections that are
// authenticated already.
type inbox struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func newInbox(addr net.Addr) inbox {
	return inbox{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{}), once: new(sync.Once)}
}

func (b inbox) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b inbox) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func (b inbox) Addr() net.Addr { return b.addr }

func (b inbox) put(c *conn) {
	select {
	case b.conns <- c:
	case <-b.closed:
		_ = c.Close()
	case <-c.done:
	}
}

// gate bounds the connections that have proved nothing yet. When it is full a
// newcomer replaces the oldest of the address that has most of them, so that
// whoever leaves handshakes half open only gets in his own way.
type gate struct {
	mu      *sync.Mutex
	waiting []*arrival                  // guarded by mu; oldest first
	rates   map[netip.Prefix]*allowance // guarded by mu
	clock   int                         // guarded by mu; counts arrivals
}

type arrival struct {
	conn *net.TCPConn
	from netip.Prefix
}

type allowance struct {
	limiter *rate.Limiter
	used    int // gate.clock at the last arrival
}

func newGate() gate {
	return gate{mu: new(sync.Mutex), rates: make(map[netip.Prefix]*allowance)}
}

// origin is what counts as one address: a global IPv6 host has its whole /64.
func origin(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLinkLocalUnicast() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// admit lets c in and returns nil when its address comes too often.
func (g *gate) admit(c *net.TCPConn) *arrival {
	from := origin(addrPort(c.RemoteAddr()).Addr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.allowed(from) {
		return nil
	}
	if len(g.waiting) >= maxHandshakes {
		g.dropOne()
	}
	a := &arrival{conn: c, from: from}
	g.waiting = append(g.waiting, a)
	return a
}

func (g *gate) allowed(from netip.Prefix) bool {
	g.clock++
	a := g.rates[from]
	if a == nil {
		if len(g.rates) >= maxAddresses {
			var oldest netip.Prefix
			for p, other := range g.rates {
				if old := g.rates[oldest]; old == nil || other.used < old.used {
					oldest = p
				}
			}
			delete(g.rates, oldest)
		}
		a = &allowance{limiter: rate.NewLimiter(acceptRate, acceptBurst)}
		g.rates[from] = a
	}
	a.used = g.clock
	return a.limiter.Allow()
}

func (g *gate) dropOne() {
	count := make(map[netip.Prefix]int)
	for _, a := range g.waiting {
		count[a.from]++
	}
	victim := 0
	for i, a := range g.waiting {
		if count[a.from] > count[g.waiting[victim].from] {
			victim = i
		}
	}
	_ = g.waiting[victim].conn.Close()
	g.waiting = append(g.waiting[:victim], g.waiting[victim+1:]...)
}

// leave tells that a's handshake is over.
func (g *gate) leave(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.waiting {
		if other == a {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
}

func (g *gate) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.waiting {
		_ = a.conn.Close()
	}
}

// accept takes connections until the listener is closed.
func (s *Sessions) accept(ctx context.Context) error {
	for {
		c, err := s.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Out of descriptors or the like: others may give some back.
			s.log.Warn("Cannot accept connections", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(dialRetry):
			}
			continue
		}
		a := s.gate.admit(c)
		if a == nil {
			_ = c.SetLinger(0)
			_ = c.Close()
			continue
		}
		s.run(func() { s.welcome(a) })
	}
}

// welcome makes a connection's handshake and hands it to whom it is for.
func (s *Sessions) welcome(a *arrival) {
	defer s.gate.leave(a)
	tune(a.conn, true, false)
	r := &records{TCPConn: a.conn}
	t := tls.Server(r, s.tls)
	ctx, cancel := context.WithTimeout(s.life, handshakeTimeout)
	defer cancel()
	remote := addrPort(a.conn.RemoteAddr())
	err := t.HandshakeContext(ctx)
	var id identity.DeviceID
	if err == nil {
		id, err = peerID(t.ConnectionState())
	}
	if err != nil {
		s.log.Debug("Refused a connection", "address", remote, "err", err)
		_ = a.conn.Close()
		return
	}
	c := s.newConn(t, r, id)
	c.path = s.inboundPath(c)
	c.reverse = t.ConnectionState().NegotiatedProtocol == protoReverse
	c.serving = !c.reverse
	if !s.admitConn(c) {
		s.log.Warn("Too many connections", "peer", id.Short(), "address", remote)
		_ = c.Close()
		return
	}
	p := s.peer(id)
	if c.reverse {
		p.park(c)
	} else {
		p.connsChanged()
		s.run(func() { s.inbox.put(c) })
	}
	if s.cfg.Seen != nil {
		s.cfg.Seen(s.peerOf(c))
	}
}

func (s *Sessions) newConn(t *tls.Conn, r *records, id identity.DeviceID) *conn {
	c := &conn{
		Conn:     t,
		records:  r,
		id:       id,
		local:    addrPort(r.LocalAddr()),
		requests: rate.NewLimiter(strangerRequestRate, strangerBurst),
		made:     time.Now(),
		done:     make(chan struct{}),
		onClosed: s.closed,
	}
	c.touch()
	return c
}

// track remembers c for as long as it is open; it returns false, and closes c,
// when Run has ended.
func (s *Sessions) track(c *conn) bool {
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.active[c] = struct{}{}
	}
	s.mu.Unlock()
	if ended {
		_ = c.Close()
	}
	return !ended
}

// admitConn is track for a connection that the peer may make us bear: it applies
// the bounds. A device that has too many loses its quietest; so do all trusted
// devices together, and all strangers.
func (s *Sessions) admitConn(c *conn) bool {
	trusted := s.standing(c.id) == trust.Trusted
	each, all := maxStrangerEach, maxStrangerConns
	if trusted {
		each, all = maxPeerConns, maxTrustedConns
	}
	standing := make(map[identity.DeviceID]bool)
	s.mu.Lock()
	for other := range s.active {
		standing[other.id] = false
	}
	s.mu.Unlock()
	for id := range standing { // outside the lock: Standing belongs to the agent
		standing[id] = s.standing(id) == trust.Trusted
	}

	var own, like, quietOwn, quietLike = 0, 0, (*conn)(nil), (*conn)(nil)
	s.mu.Lock()
	for other := range s.active {
		if other.dialled && !other.serving {
			continue // ours
		}
		if standing[other.id] == trusted {
			like++
			quietLike = quieter(quietLike, other)
		}
		if other.id == c.id {
			own++
			quietOwn = quieter(quietOwn, other)
		}
	}
	s.mu.Unlock()
	switch {
	case own >= each && quietOwn != nil:
		_ = quietOwn.Close()
	case own >= each, like >= all && quietLike == nil:
		return false
	case like >= all:
		_ = quietLike.Close()
	}
	return s.track(c)
}

func quieter(a, b *conn) *conn {
	if b.protected.Load() {
		return a
	}
	if a == nil || b.quiet.Load() < a.quiet.Load() {
		return b
	}
	return a
}

// closed is told by every connection that it was closed.
func (s *Sessions) closed(c *conn) {
	s.mu.Lock()
	delete(s.active, c)
	p := s.peers[c.id]
	s.mu.Unlock()
	if p != nil {
		p.connsChanged()
	}
}

// addrPort returns a TCP address as its own family, with its zone.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
