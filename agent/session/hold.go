package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"time"

	"nigh/agent/clean"
	"nigh/agent/identity"
)

func (p *peer) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.release != nil
}

func (p *peer) startHolding() {
	p.mu.Lock()
	if p.release != nil {
		p.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(p.s.life)
	p.release = cancel
	p.mu.Unlock()
	p.s.run(func() { p.hold(ctx) })
}

func (p *peer) stopHolding() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.release != nil {
		p.release()
		p.release = nil
	}
}

// hold keeps the control connection until ctx ends.
//
//	state        event                          next
//	dialling     hello answered                 connected
//	dialling     failed                         waiting
//	waiting      back-off over, kick, the       dialling
//	             peer connected to us
//	connected    socket closed, hello failed    dialling
//	connected    kick and a better path         connected, on it
func (p *peer) hold(ctx context.Context) {
	p.holding.Lock() // until the one before it has ended
	defer p.holding.Unlock()
	var last PeerState
	report := func(state PeerState) {
		state.ID = p.id
		if ctx.Err() != nil || p.s.cfg.Changed == nil || same(last, state) {
			return
		}
		last = state
		p.s.cfg.Changed(state)
	}
	backoff := backoffMin
	for ctx.Err() == nil {
		kicked, changed := p.kicks(), p.changes()
		inBefore, _ := p.s.asksUs(p.id)
		c, state, err := p.hello(ctx, dialTimeout+helloTimeout)
		if err == nil {
			backoff = backoffMin
			report(state)
			err = p.stay(ctx, c, report)
			report(PeerState{Err: err})
			continue
		}
		report(PeerState{Err: err})
		p.wait(ctx, kicked, changed, backoff, inBefore, errors.Is(err, ErrNoAddress))
		backoff = min(2*backoff, backoffMax)
	}
}

// wait returns when the peer should be dialled again. While it has no address
// there is no use in trying by the clock.
func (p *peer) wait(ctx context.Context, kicked, changed <-chan struct{}, backoff time.Duration, in, noAddress bool) {
	var over <-chan time.Time
	if !noAddress {
		timer := time.NewTimer(backoff/2 + rand.N(backoff/2+1))
		defer timer.Stop()
		over = timer.C
	}
	for !p.hasParked() {
		arrived := p.arrivals()
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-kicked:
			return
		case <-changed:
			changed = p.changes()
			now, _ := p.s.asksUs(p.id)
			if now && !in {
				return
			}
			in = now
		case <-arrived:
			return
		}
	}
}

func same(a, b PeerState) bool {
	return a.ID == b.ID && a.Connected == b.Connected && a.Path == b.Path && a.RTT == b.RTT &&
		a.Hello == b.Hello && fmt.Sprint(a.Err) == fmt.Sprint(b.Err)
}

// stay returns when c, or the connection that took its place, is lost.
func (p *peer) stay(ctx context.Context, c *conn, report func(PeerState)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ask := time.NewTicker(helloEvery)
	defer ask.Stop()
	back := time.NewTimer(reverseAfter)
	defer back.Stop()
	delay := reverseAfter
	var opening, improving, doubting <-chan dialled
	var suspect *conn     // whose path is in doubt
	trusting := func() {} // ends the doubt
	var doubted time.Time // when the path was last found to carry
	stalled := time.NewTicker(stallLook)
	stalled.Stop()
	defer stalled.Stop()
	waiting, asked := p.bulk.waits()
	if waiting {
		stalled.Reset(stallLook)
	}
	doubt := func() {
		if doubting == nil && time.Since(doubted) > doubtEvery {
			of := c
			dctx, end := context.WithCancel(ctx)
			suspect, trusting = of, end
			doubting = p.start(ctx, func(context.Context) (*conn, error) { return p.doubt(dctx, of) })
		}
	}
	moved := false // the connection that the peer asks us on takes the old path
	kicked, changed, arrived := p.kicks(), p.changes(), p.arrivals()
	p.moveBulk(c)
	for {
		hello := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return ErrLost
		case <-arrived:
			arrived = p.arrivals()
			if found := p.newer(c); found != nil {
				p.switchTo(found, c)
				hello = true
			}
		case <-kicked:
			kicked = p.kicks()
			improving = p.improve(ctx, c, improving)
			if !p.announced(c) {
				doubt()
			}
		case <-asked:
			_, asked = p.bulk.waits()
			stalled.Reset(stallLook)
		case <-stalled.C:
			if waiting, _ := p.bulk.waits(); !waiting {
				stalled.Stop()
			} else if p.stalled() {
				doubt()
			} else {
				doubted = time.Time{} // what stands still next is another matter
				p.dropSilent(c)
			}
		case r := <-doubting:
			doubting, doubted = nil, time.Now()
			switch {
			case errors.Is(r.err, errCarries):
				p.dropSilent(c)
			case r.err != nil:
			case suspect != c: // which was left for c meanwhile
				_ = r.conn.Close()
				p.dropSilent(c)
			default:
				p.s.log.Debug("A path is silent, another one answers", "peer", p.id.Short(), "silent", c.path.Ifname, "ifname", r.conn.path.Ifname)
				p.switchTo(r.conn, c)
				p.leave(c)
				hello = true
			}
			trusting()
		case <-ask.C:
			hello = true
			improving = p.improve(ctx, c, improving)
		case r := <-improving:
			improving = nil
			if r.err == nil {
				p.switchTo(r.conn, c)
				hello = true
			}
		case <-changed:
			changed = p.changes()
			back.Reset(delay)
			if p.cameElsewhere(c) {
				doubt()
			}
		case r := <-opening:
			opening = nil
			if r.err == nil {
				moved = false
				delay = reverseAfter
			} else {
				p.s.log.Debug("Cannot open a connection for the peer", "peer", p.id.Short(), "err", r.err)
				delay = min(2*delay, backoffMax)
				back.Reset(delay)
			}
		case <-back.C:
			in, out := p.s.asksUs(p.id)
			if !in && (!out || moved) && opening == nil {
				opening = p.start(ctx, func(ctx context.Context) (*conn, error) { return p.openReverse(ctx, true) })
			}
		}
		if !hello {
			continue
		}
		now, state, err := p.hello(ctx, helloTimeout)
		if err != nil {
			_ = c.Close()
			return err
		}
		if now != c {
			if !samePath(now.path, c.path) {
				moved = true
				back.Reset(delay)
			}
			c = now
			p.moveBulk(c)
		}
		report(state)
	}
}

// improve begins to dial the candidates that are better than the path of c, if
// there are any and that is not under way.
func (p *peer) improve(ctx context.Context, c *conn, underWay <-chan dialled) <-chan dialled {
	better := func() []Candidate {
		list := slices.Clone(p.candidates())
		known := p.announced(c)
		return slices.DeleteFunc(list, func(other Candidate) bool {
			return other.Cost > c.path.Cost || other.Cost == c.path.Cost && known
		})
	}
	if underWay != nil || len(better()) == 0 {
		return underWay
	}
	never := func() <-chan struct{} { return nil }
	return p.start(ctx, func(ctx context.Context) (*conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return p.s.race(ctx, better, never, purpose{want: p.id, urgent: true})
	})
}

// announced reports whether the address that c leads to is one that the peer is
// known to have.
func (p *peer) announced(c *conn) bool {
	return slices.ContainsFunc(p.candidates(), func(k Candidate) bool {
		return k.Addr == c.path.Addr || c.reverse && k.Addr.Addr() == c.path.Addr.Addr()
	})
}

// switchTo makes control requests use the connection found in place of old, which
// is closed when it is idle and the new one had time to answer.
func (p *peer) switchTo(found, old *conn) {
	closeOld := p.control.renew(found)
	p.s.run(func() {
		select {
		case <-old.done:
		case <-found.done:
		case <-time.After(retireAfter):
		}
		closeOld()
	})
}

// newer returns a connection that the peer opened for us, without being asked,
// while we use c, which it opened too: it has found a better path.
func (p *peer) newer(c *conn) *conn {
	if !c.reverse || p.isAsking() {
		return nil
	}
	return p.take()
}

// samePath reports whether two connections take the same way: the port of an
// accepted one is another each time.
func samePath(a, b Candidate) bool {
	return a.Kind == b.Kind && a.Ifname == b.Ifname && a.Addr.Addr() == b.Addr.Addr()
}

// sameLink reports whether two ways take the same link. Of a typed address the
// link is not known before it is dialled.
func sameLink(a, b Candidate) bool {
	if a.Ifname == "" || b.Ifname == "" {
		return a.Addr.Addr() == b.Addr.Addr()
	}
	return a.Ifname == b.Ifname
}

// moveBulk makes new bulk connections when the control connection has taken
// another path than the bulk connections have.
func (p *peer) moveBulk(c *conn) {
	p.bulk.mu.Lock()
	stays := samePath(p.bulk.path, c.path) || p.bulk.path == Candidate{}
	p.bulk.mu.Unlock()
	if !stays {
		p.bulk.renew(nil)()
	}
}

// hello asks the peer who it is, on the control connection, and returns that
// connection.
func (p *peer) hello(ctx context.Context, patience time.Duration) (*conn, PeerState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var c *conn
	var asked time.Time
	hello, err := askHello(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { c, _ = info.Conn.(*conn); asked = time.Now() },
	}), p.control.client, p.id, p.s.greeting(p.id))
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		return nil, PeerState{}, err
	}
	return c, PeerState{Connected: true, Path: c.path, RTT: time.Since(asked), Hello: hello}, nil
}

// askHello makes the request, with what we say of ourselves, and checks that the
// answer is of the device id.
func askHello(ctx context.Context, client *http.Client, id identity.DeviceID, greeting string) (Hello, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Host+"/v1/hello", nil)
	if err != nil {
		return Hello{}, err
	}
	r.Header.Set(greetingHeader, greeting)
	answer, err := client.Do(r)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		// In TLS 1.3 the other side judges our key after our handshake is over.
		return Hello{}, fmt.Errorf("%w: %w", ErrRefused, op)
	}
	if err != nil {
		return Hello{}, fmt.Errorf("session: hello: %w", err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxHello+1))
	if err != nil {
		return Hello{}, fmt.Errorf("session: hello: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return Hello{}, fmt.Errorf("%w: hello answered with status %d", ErrNotNigh, answer.StatusCode)
	}
	var hello Hello
	if len(raw) > maxHello || json.Unmarshal(raw, &hello) != nil || hello.Version < 1 {
		return Hello{}, fmt.Errorf("%w: bad hello", ErrNotNigh)
	}
	if hello.ID != id {
		return Hello{}, fmt.Errorf("%w: it says %s, its key is %s", ErrWrongDevice, hello.ID.Short(), id.Short())
	}
	hello.Name = clean.Name(hello.Name, maxHelloName)
	return hello, nil
}

// Greet dials addr without knowing who is there, and returns the device that
// answers and what it says about itself. The key is proved; whether it is the one
// that the user means is for the caller to find out. It waits at most 10 s for the
// connection and as long for the answer. It returns an error wrapping
// [ErrUnreachable], [ErrNotNigh], [ErrSelf], [ErrBlocked] or [ErrWrongDevice].
func (s *Sessions) Greet(ctx context.Context, addr netip.AddrPort) (identity.DeviceID, Hello, error) {
	ctx, cancel := s.bound(ctx, dialTimeout+helloTimeout)
	defer cancel()
	if !s.begin() {
		return identity.DeviceID{}, Hello{}, ErrClosed
	}
	defer s.work.Done()
	dctx, cancelDial := context.WithTimeout(ctx, dialTimeout)
	defer cancelDial()
	there := func() []Candidate { return []Candidate{{Addr: addr, Kind: "manual"}} }
	never := func() <-chan struct{} { return nil }
	c, err := s.race(dctx, there, never, purpose{urgent: true})
	if err != nil {
		return identity.DeviceID{}, Hello{}, err
	}
	defer func() { _ = c.Close() }() // the answer was read or never will be
	once := newLine(newPeer(s, c.id), true)
	once.spare = c
	defer once.CloseIdleConnections()
	hello, err := askHello(ctx, once.client, c.id, s.greeting(c.id))
	if err != nil {
		return identity.DeviceID{}, Hello{}, err
	}
	return c.id, hello, nil
}
