package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
)

// How sightings are greeted. The stagger is short because the first neighbour
// solicitation on a new link is often lost.
const (
	greetTimeout  = 3 * time.Second
	greetStagger  = 150 * time.Millisecond
	greetRetryMin = 200 * time.Millisecond
	greetRetryMax = 10 * time.Second
	greetsAtOnce  = 8
)

// prover greets every sighting until the key behind it is known. One goroutine
// works on a sighting and ends when it is proved or gone.
type prover struct {
	log    *slog.Logger
	greet  func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error)
	proved func(sighting, identity.DeviceID, session.Hello)
	slots  chan struct{} // bounds the greetings under way
	most   int           // sightings at once

	mu      sync.Mutex
	cancels map[string]context.CancelFunc // by sighting key; guarded by mu
	closed  bool                          // guarded by mu
	work    sync.WaitGroup
}

func newProver(log *slog.Logger, greet func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error), proved func(sighting, identity.DeviceID, session.Hello)) *prover {
	return &prover{
		log: log, greet: greet, proved: proved,
		slots:   make(chan struct{}, greetsAtOnce),
		most:    maxSightings,
		cancels: map[string]context.CancelFunc{},
	}
}

// see starts to prove s, replacing what was known under the same key. It
// reports false when there are too many sightings already or ctx ended.
func (p *prover) see(ctx context.Context, s sighting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stop := p.cancels[s.key]; stop != nil {
		stop()
	} else if len(p.cancels) >= p.most {
		return false
	}
	if p.closed {
		return false
	}
	ctx, stop := context.WithCancel(ctx)
	p.cancels[s.key] = stop
	p.work.Go(func() { p.prove(ctx, s) })
	return true
}

// gone ends the work on a sighting and forgets it.
func (p *prover) gone(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stop := p.cancels[key]; stop != nil {
		stop()
		delete(p.cancels, key)
	}
}

// close ends all work and waits for it.
func (p *prover) close() {
	p.mu.Lock()
	p.closed = true
	for key, stop := range p.cancels {
		stop()
		delete(p.cancels, key)
	}
	p.mu.Unlock()
	p.work.Wait()
}

// prove greets the addresses of s until one answers with a key.
func (p *prover) prove(ctx context.Context, s sighting) {
	for wait := greetRetryMin; ; wait = min(2*wait, greetRetryMax) {
		id, hello, err := p.race(ctx, s.addrs)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			p.proved(s, id, hello)
			return
		}
		p.log.Debug("Greeting failed", "ifname", s.ifname, "kind", s.kind, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// errNoAddress ends a race without runners.
var errNoAddress = errors.New("agent: no address to greet")

// race greets all addresses, each a little after the one before, and returns
// the first answer.
func (p *prover) race(ctx context.Context, addrs []netip.AddrPort) (identity.DeviceID, session.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	type answer struct {
		id    identity.DeviceID
		hello session.Hello
		err   error
	}
	answers := make(chan answer, len(addrs))
	var runners sync.WaitGroup
	defer runners.Wait()
	defer cancel()
	for i, addr := range addrs {
		runners.Go(func() {
			select {
			case <-ctx.Done():
				answers <- answer{err: ctx.Err()}
				return
			case <-time.After(time.Duration(i) * greetStagger):
			}
			select {
			case p.slots <- struct{}{}:
				defer func() { <-p.slots }()
			case <-ctx.Done():
				answers <- answer{err: ctx.Err()}
				return
			}
			id, hello, err := p.greet(ctx, addr)
			answers <- answer{id, hello, err}
		})
	}
	err := errNoAddress
	for range addrs {
		a := <-answers
		if a.err == nil {
			return a.id, a.hello, nil
		}
		err = a.err
	}
	return identity.DeviceID{}, session.Hello{}, err
}
