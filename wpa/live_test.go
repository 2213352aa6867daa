package wpa

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
	"nigh/wpa/wpatest"
)

// live is a Radio that runs on a scripted supplicant, with what it told.
type live struct {
	*Radio
	t    *testing.T
	stop context.CancelFunc
	ran  chan error

	mu      sync.Mutex
	told    []Event       // guarded by mu
	changed chan struct{} // closed and replaced at every event; guarded by mu
}

// runLive runs a Radio on a bus until the test ends.
func runLive(t *testing.T, bus, name string) *live {
	t.Helper()
	r, err := Open(t.Context(), Config{Bus: bus, DeviceName: name, GroupIdle: -1, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("radio", name)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{Radio: r, t: t, stop: cancel, ran: make(chan error, 1), changed: make(chan struct{})}
	var reads sync.WaitGroup
	reads.Go(func() {
		for e := range r.Events() {
			l.mu.Lock()
			l.told = append(l.told, e)
			close(l.changed)
			l.changed = make(chan struct{})
			l.mu.Unlock()
		}
	})
	go func() { l.ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-l.ran:
			if err != nil && !errors.Is(err, ErrNoBus) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(busLimit):
			t.Error("Run does not return")
		}
		reads.Wait()
	})
	return l
}

// impatient makes calls end after a second instead of ten, to get through more of them.
func (l *live) impatient(t *testing.T) {
	t.Helper()
	c, ok := l.api.(*dbusapi.Client)
	if !ok {
		t.Fatalf("the supplicant is a %T", l.api)
	}
	c.SetTimeout(time.Second)
}

// until waits for something to be so.
func (l *live) until(what string, ok func() bool) {
	l.t.Helper()
	deadline := time.After(busLimit)
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			l.t.Fatalf("no %s; status is %+v", what, l.Status())
		}
	}
}

func (l *live) ready() {
	l.t.Helper()
	l.until("readiness", func() bool { return l.Status().State == Ready })
}

// events returns what was told since a mark.
func (l *live) events(mark int) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told[mark:])
}

func (l *live) mark() int { return len(l.events(0)) }

// pair is two scripted supplicants with a Radio each.
type pair struct {
	air  *wpatest.Air
	sa   *wpatest.Supplicant
	sb   *wpatest.Supplicant
	a, b *live
}

func newPair(t *testing.T) *pair {
	t.Helper()
	air := wpatest.NewAir(t, 2)
	p := &pair{air: air, sa: air.Nodes[0], sb: air.Nodes[1]}
	p.a, p.b = runLive(t, p.sa.Bus.Address, "a"), runLive(t, p.sb.Bus.Address, "b")
	p.a.ready()
	p.b.ready()
	return p
}

// ends are what two sides of a formation got.
type ends struct {
	a, b       Group
	errA, errB error
}

// form has a ask and b accept, and waits for both to end.
func (p *pair) form(t *testing.T, limit time.Duration) ends {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var e ends
	if e.errB = p.b.Listen(ctx, time.Minute); e.errB != nil {
		return e
	}
	mark := p.b.mark()
	var wait sync.WaitGroup
	wait.Go(func() { e.a, e.errA = p.a.Connect(ctx, p.sb.Address, PBC(), ConnectOptions{Intent: 15}) })
	var req *Request
	for req == nil && ctx.Err() == nil {
		p.b.mu.Lock()
		changed := p.b.changed
		p.b.mu.Unlock()
		for _, x := range p.b.events(mark) {
			if r, ok := x.(RequestReceived); ok {
				req = &r.Request
			}
		}
		if req == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
	if req == nil {
		e.errB = ctx.Err()
	} else {
		e.b, e.errB = p.b.Accept(ctx, *req, PBC(), ConnectOptions{Intent: 0})
	}
	wait.Wait()
	return e
}

// leave ends all groups of both sides, and what comes up late, until both have none.
func (p *pair) leave(t *testing.T) {
	t.Helper()
	for _, l := range []*live{p.a, p.b} {
		if l.Find(t.Context(), time.Second) == nil { // which comes after all that is being read
			_ = l.StopFind(t.Context()) // as good as having ended by itself
		}
		tried := map[GroupID]bool{}
		l.until("end of the groups", func() bool {
			groups := l.Status().Groups
			for _, g := range groups {
				if tried[g.ID] {
					continue
				}
				tried[g.ID] = true
				if err := l.Leave(t.Context(), g.ID); err != nil && !errors.Is(err, ErrNoGroup) {
					t.Errorf("leave: %v", err)
				}
			}
			return len(groups) == 0
		})
	}
}

// typed reports whether an error is one that a caller can tell apart.
func typed(err error) bool {
	if _, ok := errors.AsType[*CallError](err); ok {
		return true
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return true
		}
	}
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrNoGroup) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// works checks that two devices form a group and leave it: whatever went wrong before has left nothing behind.
func (p *pair) works(t *testing.T) {
	t.Helper()
	p.a.ready()
	p.b.ready()
	e := p.form(t, busLimit)
	if e.errA != nil || e.errB != nil || e.a.Role != Owner || e.b.Role != Client || e.a.SSID != e.b.SSID {
		t.Fatalf("formation gave %s, %v and %s, %v", e.a, e.errA, e.b, e.errB)
	}
	p.leave(t)
}
