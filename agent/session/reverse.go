package session

import (
	"context"
	"io"
)

// openReverse opens a connection on which the peer can ask us, and serves it. It
// prefers the path that our own control connection takes, which is known to work.
func (p *peer) openReverse(ctx context.Context, urgent bool) (*conn, error) {
	ctx, cancel := p.s.bound(ctx, dialTimeout)
	defer cancel()
	candidates := func() []Candidate {
		list := p.candidates()
		if path, ok := p.control.dialledPath(); ok {
			list = append([]Candidate{path}, list...)
		}
		return list
	}
	c, err := p.s.race(ctx, candidates, p.kicks, purpose{want: p.id, reverse: true, urgent: urgent})
	if err != nil {
		return nil, err
	}
	p.s.run(func() { p.s.serveWhenAsked(c) })
	return c, nil
}

// serveWhenAsked waits for the first byte of the first request before it gives c
// to the HTTP server, whose patience for that byte is short; the peer may keep the
// connection for later.
func (s *Sessions) serveWhenAsked(c *conn) {
	var first [1]byte
	if _, err := io.ReadFull(c.Conn, first[:]); err != nil {
		_ = c.Close()
		return
	}
	c.ahead = first[:]
	s.inbox.put(c)
}

func (p *peer) beginDialBack() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialBacks >= maxDialBack {
		return false
	}
	p.dialBacks++
	return true
}

func (p *peer) endDialBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialBacks--
}
