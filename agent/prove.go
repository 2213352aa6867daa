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
// solicitation on a new link is often lost. greetTimeout counts from when a
// greeting has its turn, so that a queue delays but never starves.
const (
	greetTimeout  = 3 * time.Second
	greetStagger  = 150 * time.Millisecond
	greetRetryMin = 200 * time.Millisecond
	greetRetryMax = 10 * time.Second
	greetsAtOnce  = 16 // of one lane
	greetLinks    = 16 // links with lanes of their own; further ones share
	greetFirst    = 2  // addresses of a sighting that take turns with new ones, the others with those that failed
)

// prover greets every sighting until the key behind it is known. One goroutine
// works on a sighting and ends when it is proved or gone.
//
// Anybody can announce a thousand devices that do not answer. Greetings therefore
// take turns in lanes: each link has its own, and on it sightings that say to be
// a trusted device, new ones, and those that did not answer before do not wait
// for each other. A full prover gives up the stranger that did not answer most
// often.
type prover struct {
	log    *slog.Logger
	greet  func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error)
	proved func(sighting, identity.DeviceID, session.Hello) // called under mu; must not call the prover
	lanes  [greetLinks][4]chan struct{}                     // each bounds the greetings under way
	most   int                                              // sightings of strangers at once, and as many of known devices

	mu     sync.Mutex
	tasks  map[string]*proof // by sighting key; guarded by mu
	closed bool              // guarded by mu
	work   sync.WaitGroup
}

// proof is the work on one sighting; it stays until the sighting is gone.
type proof struct {
	s        sighting
	stop     context.CancelFunc
	failures int  // guarded by prover.mu
	done     bool // guarded by prover.mu
}

func newProver(log *slog.Logger, greet func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error), proved func(sighting, identity.DeviceID, session.Hello)) *prover {
	p := &prover{log: log, greet: greet, proved: proved, most: maxSightings, tasks: map[string]*proof{}}
	for i := range p.lanes {
		for j := range p.lanes[i] {
			p.lanes[i][j] = make(chan struct{}, greetsAtOnce)
		}
	}
	return p
}

// lane is where greetings of s wait for their turn.
func (p *prover) lane(s sighting, again bool) chan struct{} {
	n := 0
	if s.known {
		n += 2
	}
	if again {
		n++
	}
	return p.lanes[uint(s.ifindex)%greetLinks][n]
}

// see starts to prove s, replacing what was known under the same key. It
// reports false when there are too many sightings already or ctx ended.
func (p *prover) see(ctx context.Context, s sighting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if old := p.tasks[s.key]; old != nil {
		old.stop()
	} else if !p.room(s) {
		return false
	}
	ctx, stop := context.WithCancel(ctx)
	t := &proof{s: s, stop: stop}
	p.tasks[s.key] = t
	p.work.Go(func() { p.prove(ctx, t) })
	return true
}

// room makes room for one more sighting like s if it can; p.mu is held.
func (p *prover) room(s sighting) bool {
	n := 0
	var worst *proof
	for _, t := range p.tasks {
		if t.s.known != s.known {
			continue
		}
		n++
		if !t.done && t.failures > 0 && (worst == nil || t.failures > worst.failures) {
			worst = t
		}
	}
	if n < p.most {
		return true
	}
	if worst == nil {
		return false
	}
	worst.stop()
	delete(p.tasks, worst.s.key)
	return true
}

// gone ends the work on a sighting and forgets it: when it returns, the sighting
// is not proved any more.
func (p *prover) gone(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tasks[key]; t != nil {
		t.stop()
		delete(p.tasks, key)
	}
}

// close ends all work and waits for it.
func (p *prover) close() {
	p.mu.Lock()
	p.closed = true
	for key, t := range p.tasks {
		t.stop()
		delete(p.tasks, key)
	}
	p.mu.Unlock()
	p.work.Wait()
}

// prove greets the addresses of a sighting until one answers with a key.
func (p *prover) prove(ctx context.Context, t *proof) {
	if t.s.later > 0 && !wait(ctx, t.s.later) {
		return
	}
	for wait := greetRetryMin; ; wait = min(2*wait, greetRetryMax) {
		id, hello, err := p.race(ctx, t.s, wait > greetRetryMin)
		p.mu.Lock()
		// Whoever ends the work does it under mu, so nothing is proved after that.
		if ctx.Err() != nil {
			p.mu.Unlock()
			return
		}
		if err == nil {
			t.done = true
			p.proved(t.s, id, hello)
			p.mu.Unlock()
			return
		}
		t.failures++
		p.mu.Unlock()
		p.log.Debug("Greeting failed", "ifname", t.s.ifname, "kind", t.s.kind, "err", err)
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
func (p *prover) race(ctx context.Context, s sighting, again bool) (identity.DeviceID, session.Hello, error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		id    identity.DeviceID
		hello session.Hello
		err   error
	}
	answers := make(chan answer, len(s.addrs))
	var runners sync.WaitGroup
	defer runners.Wait()
	defer cancel()
	for i, addr := range s.addrs {
		lane := p.lane(s, again || i >= greetFirst)
		runners.Go(func() {
			select {
			case <-ctx.Done():
				answers <- answer{err: ctx.Err()}
				return
			case <-time.After(time.Duration(i) * greetStagger):
			}
			select {
			case lane <- struct{}{}:
				defer func() { <-lane }()
			case <-ctx.Done():
				answers <- answer{err: ctx.Err()}
				return
			}
			turn, end := context.WithTimeout(ctx, greetTimeout)
			defer end()
			id, hello, err := p.greet(turn, addr)
			answers <- answer{id, hello, err}
		})
	}
	err := errNoAddress
	for range s.addrs {
		a := <-answers
		if a.err == nil {
			return a.id, a.hello, nil
		}
		err = a.err
	}
	return identity.DeviceID{}, session.Hello{}, err
}
