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
		a := s.gate.admit(c, s.familiar(c))
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
	s.meet(remote.Addr(), id)
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
	return s.enter(c)
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
