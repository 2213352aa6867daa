package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
)

// peer is a device that we talk to: its clients, what waits for use, and whether
// it is held.
type peer struct {
	s       *Sessions
	id      identity.DeviceID
	control *line
	bulk    *line
	talk    talk

	holding sync.Mutex // held by the goroutine that holds the peer

	mu        sync.Mutex
	release   context.CancelFunc // guarded by mu; not nil while held
	parked    []*conn            // guarded by mu; nigh/1r connections nobody asks on yet, oldest first
	dialBacks int                // guarded by mu; the peer asked for
	asking    int                // guarded by mu; we asked for
	kicked    chan struct{}      // guarded by mu; closed and replaced by kick
	arrived   chan struct{}      // guarded by mu; the same by park
	changed   chan struct{}      // guarded by mu; the same when a connection ended or came in
	inbound   *rate.Limiter      // of the checks that the peer asks for
}

func newPeer(s *Sessions, id identity.DeviceID) *peer {
	p := &peer{
		s: s, id: id,
		kicked:  make(chan struct{}),
		arrived: make(chan struct{}),
		changed: make(chan struct{}),
	}
	p.inbound = rate.NewLimiter(rate.Every(inboundEvery), inboundBurst)
	p.control = newLine(p, true)
	p.bulk = newLine(p, false)
	return p
}

type dialled struct {
	conn *conn
	err  error
}

// start runs dial in a goroutine. The caller gets one result, or leaves it and a
// connection that comes too late is closed.
func (p *peer) start(ctx context.Context, dial func(context.Context) (*conn, error)) <-chan dialled {
	results := make(chan dialled)
	p.s.run(func() {
		c, err := dial(ctx)
		select {
		case results <- dialled{c, err}:
		case <-ctx.Done():
			if c != nil {
				_ = c.Close()
			}
		}
	})
	return results
}

func (p *peer) dialDirect(urgent bool) func(context.Context) (*conn, error) {
	return func(ctx context.Context) (*conn, error) {
		candidates := p.candidates
		if !urgent {
			candidates = p.bulkCandidates
		}
		return p.s.race(ctx, candidates, p.kicks, purpose{want: p.id, urgent: urgent})
	}
}

// bulkCandidates has the link of the control connection first: it carries now,
// and what is better is for that connection to find out.
func (p *peer) bulkCandidates() []Candidate {
	list := slices.Clone(p.candidates())
	p.control.mu.Lock()
	path := p.control.path
	p.control.mu.Unlock()
	if path == (Candidate{}) {
		return list
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return cmp.Compare(distance(path, a), distance(path, b)) < 0
	})
	return list
}

// distance is how far c is from path: 0 for its address, 1 for its link.
func distance(path, c Candidate) int {
	switch {
	case c.Addr.Addr() == path.Addr.Addr():
		return 0
	case sameLink(c, path):
		return 1
	}
	return 2
}

func (p *peer) candidates() []Candidate { return p.s.addresses(p.id) }

// connectControl dials, and takes a connection that the peer opened for us. When
// dialling fails it waits a little for one, if the peer has us on the line.
func (l *line) connectControl(ctx context.Context) (*conn, error) {
	p := l.p
	direct := p.start(ctx, p.dialDirect(true))
	var failed error
	for {
		arrived := p.arrivals()
		if c := p.take(); c != nil {
			return c, nil
		}
		select {
		case <-arrived:
		case r := <-direct:
			if r.err == nil {
				return r.conn, nil
			}
			failed, direct = r.err, nil
			if in, _ := p.s.asksUs(p.id); !in {
				return nil, failed
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, reverseWait)
			defer cancel()
		case <-ctx.Done():
			return nil, p.failure(failed, ctx.Err())
		}
	}
}

// connectBulk dials, and after a moment asks the peer to dial us. It asks at once
// when the peer had to open the control connection too.
func (l *line) connectBulk(ctx context.Context) (*conn, error) {
	p := l.p
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var direct, asked <-chan dialled
	var errs []error
	wait := time.Duration(0)
	if !p.control.isReversed() {
		direct = p.start(ctx, p.dialDirect(false))
		wait = dialBackAfter
	}
	askNow := time.NewTimer(wait)
	defer askNow.Stop()
	mayAsk := p.hasControl()
	for {
		select {
		case r := <-direct:
			if r.err == nil {
				return r.conn, nil
			}
			direct = nil
			errs = append(errs, r.err)
			askNow.Reset(0)
		case <-askNow.C:
			if mayAsk {
				mayAsk = false
				asked = p.start(ctx, p.askDialBack)
			}
		case r := <-asked:
			if r.err == nil {
				return r.conn, nil
			}
			asked = nil
			errs = append(errs, r.err)
			if p.control.isReversed() && len(errs) == 1 {
				direct = p.start(ctx, p.dialDirect(false))
			}
		case <-ctx.Done():
			return nil, p.failure(append(errs, ctx.Err())...)
		}
		if direct == nil && asked == nil && !mayAsk {
			return nil, p.failure(errs...)
		}
	}
}

// failure joins what went wrong; without an error of ours it is ErrUnreachable.
func (p *peer) failure(errs ...error) error {
	if p.s.life.Err() != nil {
		return ErrClosed
	}
	err := errors.Join(errs...)
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNoAddress) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// hasControl reports whether we have a connection to ask the peer on.
func (p *peer) hasControl() bool {
	for _, c := range p.s.connsOf(p.id) {
		if !c.serving {
			return true
		}
	}
	return false
}

// post makes a request of one of the endpoints of this package.
func post(ctx context.Context, client *http.Client, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+Host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return client.Do(r)
}

// askDialBack asks the peer to open a connection to us and waits for it.
func (p *peer) askDialBack(ctx context.Context) (*conn, error) {
	p.ask(1)
	defer p.ask(-1)
	arrived := p.arrivals()
	answer, err := post(ctx, p.control.client, "/v1/dialback", nil)
	if err != nil {
		return nil, fmt.Errorf("ask to be dialled: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxHello))
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		return nil, fmt.Errorf("ask to be dialled: status %d", answer.StatusCode)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	for {
		if c := p.take(); c != nil {
			return c, nil
		}
		select {
		case <-arrived:
			arrived = p.arrivals()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait to be dialled: %w", ctx.Err())
		}
	}
}

// park keeps a connection that the peer opened for us to ask on, until somebody
// wants one. The newest are kept.
func (p *peer) park(c *conn) {
	p.mu.Lock()
	p.parked = append(p.parked, c)
	var drop *conn
	if len(p.parked) > maxParked {
		drop = p.parked[0]
		p.parked = p.parked[1:]
	}
	close(p.arrived)
	p.arrived = make(chan struct{})
	p.mu.Unlock()
	if drop != nil {
		_ = drop.Close()
	}
}

// take returns the newest parked connection that is alive, nil when there is none.
func (p *peer) take() *conn {
	for {
		p.mu.Lock()
		n := len(p.parked)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.parked[n-1]
		p.parked = p.parked[:n-1]
		p.mu.Unlock()
		if c.alive() {
			return c
		}
		_ = c.Close()
	}
}

func (p *peer) ask(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking += n
}

func (p *peer) isAsking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asking > 0
}

func (p *peer) hasParked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked) > 0
}

func (p *peer) arrivals() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.arrived
}

func (p *peer) kicks() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kicked
}

func (p *peer) changes() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *peer) kick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.kicked)
	p.kicked = make(chan struct{})
}

// connsChanged tells that a connection with the peer was closed, or that it opened
// one to ask us on.
func (p *peer) connsChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}
