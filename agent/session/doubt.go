package session

import (
	"context"
	"errors"
	"net/http/httptrace"
	"slices"
	"time"
)

// errCarries ends a doubt: the path carries, or there is no other.
var errCarries = errors.New("session: the path carries")

// stalled reports whether data is waited for on open connections, and none of
// them has moved a byte for a while. Who is still dialling does not stall.
func (p *peer) stalled() bool {
	open, moves := false, false
	for _, c := range p.s.connsOf(p.id) {
		if c.serving || !c.bulk.Load() {
			continue
		}
		moves = !c.silent() || moves // each is looked at, so that it is known when it last heard something
		open = true
	}
	return open && !moves
}

// silent reports whether we ask for data on c, and for a while no byte moved and
// nothing at all came: behind a lost segment or in a full queue bytes may wait for
// long, but segments come.
func (c *conn) silent() bool {
	if c.serving || !c.bulk.Load() {
		return false
	}
	now := time.Since(start)
	if n := segmentsIn(c); c.segments.Swap(n) != n {
		c.segmentAt.Store(int64(now))
	}
	return now-time.Duration(max(c.quiet.Load(), c.segmentAt.Load())) >= stallAfter
}

// cameElsewhere reports whether the last connection that the peer opened came over
// another link than c takes: it may have seen that c's is gone.
func (p *peer) cameElsewhere(c *conn) bool {
	var last *conn
	for _, other := range p.s.connsOf(p.id) {
		if !other.dialled && (last == nil || other.made.After(last.made)) {
			last = other
		}
	}
	return last != nil && last.made.After(c.made) && last.path.Ifname != c.path.Ifname
}

// doubt returns a connection over another way than c takes when that one is made
// and c's does not answer. While c answers, or there is no other way, it returns
// [errCarries] or what failed, and c stays. The question on c goes on until ctx ends,
// which closes c: the caller ends it when it has left c's way.
func (p *peer) doubt(ctx context.Context, c *conn) (*conn, error) {
	announced := p.announced(c)
	others := func() []Candidate {
		return slices.DeleteFunc(slices.Clone(p.candidates()), func(k Candidate) bool {
			if announced {
				return sameLink(k, c.path)
			}
			return k.Addr.Addr() == c.path.Addr.Addr()
		})
	}
	if len(others()) == 0 {
		return nil, errCarries
	}
	asking := ctx
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	patience := time.NewTimer(doubtPatience)
	defer patience.Stop()

	answered := make(chan error, 1)
	if !p.s.begin() {
		return nil, ErrClosed
	}
	go func() { // ends with asking, and after helloTimeout at the latest
		defer p.s.work.Done()
		ctx, cancel := context.WithTimeout(asking, helloTimeout)
		defer cancel()
		var on *conn
		_, err := askHello(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { on, _ = info.Conn.(*conn) },
		}), p.control.client, p.id, p.s.greeting(p.id))
		if err == nil && (on == nil || !sameLink(on.path, c.path)) {
			err = errors.New("session: another path answered")
		}
		answered <- err
	}()
	never := func() <-chan struct{} { return nil }
	dial := func(ctx context.Context) (*conn, error) {
		return p.s.race(ctx, others, never, purpose{want: p.id, urgent: true})
	}
	kicked := p.kicks()
	other := p.start(ctx, dial)
	var found *conn
	var again <-chan struct{}
	late, broken := false, false
	for {
		select {
		case err := <-answered:
			if err == nil {
				if found != nil {
					_ = found.Close()
				}
				return nil, errCarries
			}
			broken = true
		case r := <-other:
			if other = nil; r.err == nil {
				found = r.conn
			} else if broken {
				return nil, r.err
			}
			again = kicked
		case <-again:
			// The question on c stays: to give it up would close c.
			again, kicked = nil, p.kicks()
			other = p.start(ctx, dial)
		case <-patience.C:
			late = true
		case <-ctx.Done():
			if found != nil {
				_ = found.Close()
			}
			return nil, ctx.Err()
		}
		if found != nil && (late || broken) {
			return found, nil
		}
	}
}

// leave closes the connections that c's trouble is of: those to its address, and
// when that is still the peer's, all of its link. What waits on them is asked for
// again elsewhere.
func (p *peer) leave(c *conn) {
	link := p.announced(c)
	for _, other := range p.s.connsOf(p.id) {
		if other == c || other.path.Addr.Addr() == c.path.Addr.Addr() || link && sameLink(other.path, c.path) {
			_ = other.Close()
		}
	}
}

// dropSilent closes the connections for data that are silent and take another way
// than c, which answers: what waits on them is asked for again over c's way.
func (p *peer) dropSilent(c *conn) {
	for _, other := range p.s.connsOf(p.id) {
		if other.silent() && !sameLink(other.path, c.path) {
			p.s.log.Debug("Closing a connection that is silent", "peer", p.id.Short(), "silent", other.path.Ifname, "ifname", c.path.Ifname)
			_ = other.Close()
		}
	}
}
