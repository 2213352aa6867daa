package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"nigh/agent/trust"
)

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
	asking    int             // guarded by mu; requests whose answer is not whole
	asked     chan struct{}   // guarded by mu; closed and replaced by a request when there was none
}

func newLine(p *peer, urgent bool) *line {
	l := &line{p: p, urgent: urgent, asked: make(chan struct{})}
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
	l.p.talk.heard(r.URL.Path)
	l.mu.Lock()
	t := l.transport
	l.asking++
	if l.asking == 1 {
		close(l.asked)
		l.asked = make(chan struct{})
	}
	l.mu.Unlock()
	answer, err := t.RoundTrip(r)
	if err != nil {
		l.answered()
		return nil, err
	}
	answer.Body = &body{ReadCloser: answer.Body, over: sync.OnceFunc(l.answered)}
	return answer, nil
}

// answered ends what RoundTrip began.
func (l *line) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking--
}

// waits returns whether an answer is waited for, and what tells of the next one.
func (l *line) waits() (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asking > 0, l.asked
}

// body tells when an answer was read or given up.
type body struct {
	io.ReadCloser
	over func()
}

// Read reads the answer.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.over()
	}
	return n, err
}

// Close gives the answer up.
func (b *body) Close() error {
	b.over()
	return b.ReadCloser.Close()
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
	if c != nil { // data follows at once
		l.path, l.reversed = c.path, c.reverse
	}
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
	c.talk = &l.p.talk
	c.bulk.Store(!l.urgent)
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
