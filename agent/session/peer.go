package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// peer is a device that we talk to: its clients, what waits for use, and whether
// it is held.
type peer struct {
	s       *Sessions
	id      identity.DeviceID
	control *line
	bulk    *line

	holding sync.Mutex // held by the goroutine that holds the peer

	mu        sync.Mutex
	release   context.CancelFunc // guarded by mu; not nil while held
	parked    []*conn            // guarded by mu; nigh/1r connections nobody asks on yet, oldest first
	dialBacks int                // guarded by mu; the peer asked for
	asking    int                // guarded by mu; we asked for
	kicked    chan struct{}      // guarded by mu; closed and replaced by kick
	arrived   chan struct{}      // guarded by mu; the same by park
	changed   chan struct{}      // guarded by mu; the same when a connection ended or came in
}

func newPeer(s *Sessions, id identity.DeviceID) *peer {
	p := &peer{
		s: s, id: id,
		kicked:  make(chan struct{}),
		arrived: make(chan struct{}),
		changed: make(chan struct{}),
	}
	p.control = newLine(p, true)
	p.bulk = newLine(p, false)
	return p
}

// line is the HTTP client for one kind of traffic. Its transport is replaced when
// a better path is found: requests that run end on the old one, new ones go over
// the new.
type line struct {
	p      *peer
	urgent bool
	client *http.Client

	mu        sync.Mutex
	transport *http.Transport // guarded by mu
	spare     *conn           // guarded by mu; the next connection to use
	warming   chan struct{}   // guarded by mu; closed when warm's dial is over; nil when there is none
	path      Candidate       // guarded by mu; of the last connection
	reversed  bool            // guarded by mu; the peer opened the last connection
}

func newLine(p *peer, urgent bool) *line {
	l := &line{p: p, urgent: urgent}
	l.transport = l.newTransport()
	l.client = &http.Client{
		Transport:     l,
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect },
	}
	return l
}

func (l *line) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t := &http.Transport{
		Proxy:                  nil, // never the environment's
		Protocols:              protocols,
		DisableCompression:     true,
		MaxConnsPerHost:        maxBulkConns,
		MaxIdleConnsPerHost:    maxBulkConns,
		IdleConnTimeout:        bulkIdle,
		ResponseHeaderTimeout:  responseHeaderTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// The URL's scheme is http, so this is asked; what it returns is encrypted.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := l.connect(ctx)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
	}
	if l.urgent {
		t.MaxConnsPerHost = maxControlConns
		t.MaxIdleConnsPerHost = maxControlConns
		t.IdleConnTimeout = idleTimeout
	}
	return t
}

// RoundTrip implements http.RoundTripper; it takes URLs of [Host] only.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" || r.URL.Host != Host {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, fmt.Errorf("session: the URL of a request to a device begins with http://%s/, not %s://%s/", Host, r.URL.Scheme, r.URL.Host)
	}
	l.mu.Lock()
	t := l.transport
	l.mu.Unlock()
	return t.RoundTrip(r)
}

// CloseIdleConnections is called by http.Client.
func (l *line) CloseIdleConnections() {
	l.mu.Lock()
	t := l.transport
	l.mu.Unlock()
	t.CloseIdleConnections()
}

// renew makes later requests use new connections, c first when it is not nil.
// Connections without a request are closed by the returned function.
func (l *line) renew(c *conn) (closeOld func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, unused := l.transport, l.spare
	l.transport = l.newTransport()
	l.spare = c
	return func() {
		old.CloseIdleConnections()
		if unused != nil {
			_ = unused.Close()
		}
	}
}

// warm opens the connection that the next request will need before there is one.
// It does nothing while one is being opened or waits for use.
func (l *line) warm() {
	l.mu.Lock()
	if l.warming != nil || l.spare != nil {
		l.mu.Unlock()
		return
	}
	if !l.p.s.begin() {
		l.mu.Unlock()
		return
	}
	over := make(chan struct{})
	l.warming = over
	l.mu.Unlock()
	go func() {
		defer l.p.s.work.Done()
		ctx, cancel := l.p.s.bound(context.Background(), warmTimeout)
		defer cancel()
		c, err := l.p.dialDirect(l.urgent)(ctx)
		l.mu.Lock()
		l.warming = nil
		if err == nil {
			l.spare, l.path, l.reversed = c, c.path, false
		}
		l.mu.Unlock()
		close(over)
		if err != nil {
			return
		}
		// The other side closes a connection on which it is asked nothing.
		timer := time.NewTimer(warmLife)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.done:
		case <-l.p.s.life.Done():
		}
		l.mu.Lock()
		unused := l.spare == c
		if unused {
			l.spare = nil
		}
		l.mu.Unlock()
		if unused {
			_ = c.Close()
		}
	}()
}

// warmed waits for a connection that is being opened in advance, if there is one.
func (l *line) warmed(ctx context.Context) {
	l.mu.Lock()
	over := l.warming
	l.mu.Unlock()
	if over == nil {
		return
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
}

func (l *line) use(c *conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.path, l.reversed = c.path, c.reverse
	return c
}

// dialledPath returns the path of the last connection, if we dialled it.
func (l *line) dialledPath() (Candidate, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.path, !l.reversed && l.path != Candidate{}
}

func (l *line) isReversed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reversed
}

func (l *line) takeSpare() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.spare
	l.spare = nil
	return c
}

// connect finds a connection: one that is there already, else by dialling or by
// having the peer dial, whichever is first.
func (l *line) connect(ctx context.Context) (*conn, error) {
	p := l.p
	if p.s.standing(p.id) == trust.Blocked {
		return nil, ErrBlocked
	}
	ctx, cancel := p.s.bound(ctx, dialTimeout)
	defer cancel()
	l.warmed(ctx)
	if c := l.takeSpare(); c != nil {
		if c.alive() {
			return l.use(c), nil
		}
		_ = c.Close()
	}
	if l.urgent {
		c, err := l.connectControl(ctx)
		if err != nil {
			return nil, err
		}
		return l.use(c), nil
	}
	c, err := l.connectBulk(ctx)
	if err != nil {
		return nil, err
	}
	return l.use(c), nil
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
		return p.s.race(ctx, p.candidates, p.kicks, purpose{want: p.id, urgent: urgent})
	}
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

// askDialBack asks the peer to open a connection to us and waits for it.
func (p *peer) askDialBack(ctx context.Context) (*conn, error) {
	p.ask(1)
	defer p.ask(-1)
	arrived := p.arrivals()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+Host+"/v1/dialback", nil)
	if err != nil {
		return nil, err
	}
	answer, err := p.control.client.Do(r)
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
