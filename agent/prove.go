package agent

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
)

// How sightings are greeted. The stagger is short because the first neighbour
// solicitation on a new link is often lost; strangers, of whom there may be
// hundreds, get one connection where one will do. A turn's time counts from when it
// begins, so that a queue delays but never starves; a sighting that did not answer
// gets more of it the next time, because it may be busy with many others.
const (
	greetTimeout   = 3 * time.Second
	greetStagger   = 150 * time.Millisecond
	lazyStagger    = 700 * time.Millisecond // the same for a stranger on a LAN
	greetRetryMin  = 200 * time.Millisecond
	greetRetryMax  = 10 * time.Second // of a device that says to be trusted
	strangerRetry  = time.Minute      // the same of a stranger
	greetsAtOnce   = 8                // of one lane
	greetsOfSource = 3                // of them, of one source
	greetAddresses = 4                // of a sighting in one turn; the next turn takes the next ones
	greetLinks     = 16               // links with lanes of their own; further ones share
	// Who came to a link less than arrival ago greets at once, all others after patience.
	arrival      = 3 * time.Second
	patienceMin  = 400 * time.Millisecond
	patienceMax  = 900 * time.Millisecond
	patienceEach = 5 * time.Millisecond // more for each device that is there
	metFor       = 10 * time.Second     // that a greeting of somebody who is not sighted yet counts
	maxMet       = 256                  // of them
	maxSources   = 2 * maxSightings     // whose last turn is remembered in one lane
)

// prover finds out the key behind every sighting: by greeting it, or because it
// greeted us.
//
// Anybody can announce a thousand devices that do not answer. Greetings therefore
// take turns in lanes: each link has its own, and on it sightings that say to be
// a trusted device, new ones, and those that did not answer before do not wait
// for each other. In a lane the sources of announcements take turns, and none has
// all the turns under way. A full prover gives up the stranger that did not answer
// most often.
type prover struct {
	log    *slog.Logger
	greet  func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error)
	proved func(sighting, identity.DeviceID, session.Hello) // called under mu; must not call the prover
	most   int                                              // sightings of strangers at once, and as many of known devices

	mu     sync.Mutex
	tasks  map[string]*proof   // by sighting key; guarded by mu
	lanes  [greetLinks][4]lane // guarded by mu
	met    map[doorway]greeter // who greeted us and is not sighted; guarded by mu
	since  map[int]time.Time   // when the first of the sightings of a link came, by ifindex; guarded by mu
	turns  int64               // that began; guarded by mu
	closed bool                // guarded by mu
	work   sync.WaitGroup      // turns under way
}

// proof is the work on one sighting; it stays until the sighting is gone. Its
// fields but s and ctx are guarded by prover.mu.
type proof struct {
	s        sighting
	ctx      context.Context
	stop     context.CancelFunc
	timer    *time.Timer // until it waits for a turn again
	since    time.Time   // when it began to wait for a turn
	failures int
	done     bool
	id       identity.DeviceID // when done
	hello    session.Hello     // when done
}

// lane bounds greetings under way and says whose turn is next.
type lane struct {
	waiting []*proof
	running int
	each    map[netip.Addr]int   // running, by source
	served  map[netip.Addr]int64 // prover.turns when a source had its last one
}

// doorway is where somebody listens: a link and an address on it, without the zone
// that is written in several ways.
type doorway struct {
	ifname string
	addr   netip.AddrPort
}

func doorwayOf(ifname string, a netip.AddrPort) doorway {
	return doorway{ifname, netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())}
}

// greeter is a device that greeted us.
type greeter struct {
	id    identity.DeviceID
	hello session.Hello
	when  time.Time
}

func newProver(log *slog.Logger, greet func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error), proved func(sighting, identity.DeviceID, session.Hello)) *prover {
	return &prover{log: log, greet: greet, proved: proved, most: maxSightings, tasks: map[string]*proof{}, met: map[doorway]greeter{}, since: map[int]time.Time{}}
}

// lane is where t waits for its turn.
func (p *prover) lane(t *proof) *lane {
	n := 0
	if t.s.known {
		n += 2
	}
	if t.failures > 0 {
		n++
	}
	return &p.lanes[uint(t.s.ifindex)%greetLinks][n]
}

// see starts to prove s, replacing what was known under the same key. What was
// proved stays so while the address where it was is among those of s. It reports
// false when there are too many sightings already or ctx ended.
func (p *prover) see(ctx context.Context, s sighting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || ctx.Err() != nil {
		return false
	}
	old := p.tasks[s.key]
	switch {
	case old == nil && !p.room(s):
		return false
	case old != nil && old.covers(s):
		s.at = old.s.at
		old.s = s
		if old.done {
			p.proved(s, old.id, old.hello)
		}
		return true
	case old != nil:
		p.drop(old)
	}
	t := &proof{s: s}
	t.ctx, t.stop = context.WithCancel(ctx)
	p.tasks[s.key] = t
	for _, addr := range s.addrs {
		door := doorwayOf(s.ifname, addr)
		if m, ok := p.met[door]; ok && time.Since(m.when) < metFor && s.maybe(m.id) {
			delete(p.met, door)
			p.prove(t, m.id, m.hello, addr)
			return true
		}
	}
	p.rest(t, max(s.later, p.patience(s)))
	return true
}

// covers reports whether the work on t serves for s too, which has the same key:
// what was proved is at an address that s has, or s is not more than what is being
// greeted.
func (t *proof) covers(s sighting) bool {
	if t.s.short != s.short || t.s.known != s.known || t.s.ifindex != s.ifindex {
		return false
	}
	if t.done {
		return slices.Contains(s.addrs, t.s.at)
	}
	return len(s.addrs) == len(t.s.addrs) && !slices.ContainsFunc(s.addrs, func(a netip.AddrPort) bool { return !slices.Contains(t.s.addrs, a) })
}

// patience is how long a stranger has to greet us before we greet it. Who comes to
// a link greets all who are there, who therefore need not greet him. When he does
// not, because he cannot reach us, we do; so do those who missed each other's
// coming, the nearer one in the order of names first. p.mu is held.
func (p *prover) patience(s sighting) time.Duration {
	now := time.Now()
	since, ok := p.since[s.ifindex]
	if !ok {
		since = now
		p.since[s.ifindex] = now
	}
	if !s.lazy() || now.Sub(since) < arrival {
		return 0
	}
	// It is busy with all the others, too.
	return patienceMin + time.Duration(len(p.tasks))*patienceEach + time.Duration(float64(patienceMax-patienceMin)*float64(s.order)/math.MaxUint64)
}

// settle takes the word of the session layer that the device id, whose key is
// proved, greeted us from an address on a link and says that it listens there. It
// reports whether a sighting is of it: that one need not be greeted. If there is
// none, one that comes within seconds is.
func (p *prover) settle(ifname string, from netip.AddrPort, id identity.DeviceID, hello session.Hello) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	door, sighted := doorwayOf(ifname, from), false
	for _, t := range p.tasks {
		i := slices.IndexFunc(t.s.addrs, func(a netip.AddrPort) bool { return doorwayOf(t.s.ifname, a) == door })
		if i < 0 || !t.s.maybe(id) {
			continue
		}
		sighted = true
		if !t.done {
			p.prove(t, id, hello, t.s.addrs[i])
		}
	}
	if sighted {
		return true
	}
	if len(p.met) >= maxMet {
		var oldest doorway
		for d, m := range p.met {
			if o, ok := p.met[oldest]; !ok || m.when.Before(o.when) {
				oldest = d
			}
		}
		delete(p.met, oldest)
	}
	p.met[door] = greeter{id, hello, time.Now()}
	return false
}

// lazy reports whether nobody waits for s to be greeted.
func (s sighting) lazy() bool { return s.kind == kindLAN && !s.known && s.ifindex != 0 }

// maybe reports whether s may be of the device id by what it says.
func (s sighting) maybe(id identity.DeviceID) bool { return s.short == "" || s.short == id.Short() }

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
	p.drop(worst)
	return true
}

// gone ends the work on a sighting and forgets it: when it returns, the sighting
// is not proved any more.
func (p *prover) gone(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tasks[key]; t != nil {
		p.drop(t)
	}
}

// close ends all work and waits for it.
func (p *prover) close() {
	p.mu.Lock()
	p.closed = true
	for _, t := range p.tasks {
		p.drop(t)
	}
	p.mu.Unlock()
	p.work.Wait()
}

// drop ends the work on a sighting and forgets it; p.mu is held.
func (p *prover) drop(t *proof) {
	p.idle(t)
	delete(p.tasks, t.s.key)
	for _, other := range p.tasks {
		if other.s.ifindex == t.s.ifindex {
			return
		}
	}
	delete(p.since, t.s.ifindex) // who is alone on a link comes to it anew
}

// idle ends the work on a sighting; p.mu is held.
func (p *prover) idle(t *proof) {
	t.stop()
	if t.timer != nil {
		t.timer.Stop()
	}
	l := p.lane(t)
	if i := slices.Index(l.waiting, t); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// prove ends the work on a sighting whose key is known now; p.mu is held.
func (p *prover) prove(t *proof, id identity.DeviceID, hello session.Hello, at netip.AddrPort) {
	p.idle(t)
	t.done, t.id, t.hello, t.s.at = true, id, hello, at
	p.proved(t.s, id, hello)
}

// rest has t wait for a turn after d; p.mu is held.
func (p *prover) rest(t *proof, d time.Duration) {
	if d <= 0 {
		p.queue(t)
		return
	}
	t.timer = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.ctx.Err() == nil && !t.done {
			p.queue(t)
		}
	})
}

// queue has t wait for its turn, which may be now; p.mu is held.
func (p *prover) queue(t *proof) {
	t.since = time.Now()
	l := p.lane(t)
	l.waiting = append(l.waiting, t)
	p.fill(l)
}

// fill begins turns while the lane has some; p.mu is held.
func (p *prover) fill(l *lane) {
	for !p.closed && l.running < greetsAtOnce {
		i := l.next()
		if i < 0 {
			break
		}
		t := l.waiting[i]
		l.waiting = slices.Delete(l.waiting, i, i+1)
		if t.ctx.Err() != nil {
			continue
		}
		if l.each == nil || len(l.served) >= maxSources {
			l.served = map[netip.Addr]int64{}
		}
		if l.each == nil {
			l.each = map[netip.Addr]int{}
		}
		from, addrs, tries, stagger := t.s.from(), t.s.addrs, t.failures, greetStagger
		if t.s.lazy() {
			stagger = lazyStagger
		}
		p.turns++
		l.running++
		l.each[from]++
		l.served[from] = p.turns
		p.work.Go(func() {
			patience := greetTimeout * time.Duration(1+min(tries, 2))
			ctx, cancel := context.WithTimeout(t.ctx, patience)
			id, hello, at, err := p.race(ctx, addrs, tries*greetAddresses, stagger)
			cancel()
			p.mu.Lock()
			defer p.mu.Unlock()
			l.running--
			if l.each[from]--; l.each[from] == 0 {
				delete(l.each, from)
			}
			p.judge(t, id, hello, at, err)
			p.fill(l)
		})
	}
	if l.running == 0 && len(l.waiting) == 0 {
		l.served = nil
		l.each = nil
	}
}

// next returns whose turn it is, -1 when it is nobody's: of the sources that had no
// turn for longest, who waits for seconds, else who comes first in our order.
func (l *lane) next() int {
	best := -1
	for i, t := range l.waiting {
		if l.each[t.s.from()] < greetsOfSource && (best < 0 || l.before(t, l.waiting[best])) {
			best = i
		}
	}
	return best
}

func (l *lane) before(a, b *proof) bool {
	if x, y := l.served[a.s.from()], l.served[b.s.from()]; x != y {
		return x < y
	}
	if wait := b.since.Sub(a.since); wait > time.Second || wait < -time.Second {
		return wait > 0
	}
	return a.s.order < b.s.order
}

// from is who counts as the source of s.
func (s sighting) from() netip.Addr {
	if !s.source.IsValid() && len(s.addrs) > 0 {
		return s.addrs[0].Addr()
	}
	return s.source
}

// judge says what comes of a turn; p.mu is held. Whoever ends the work on a sighting
// does it under mu, so nothing is proved after that.
func (p *prover) judge(t *proof, id identity.DeviceID, hello session.Hello, at netip.AddrPort, err error) {
	if t.ctx.Err() != nil {
		return
	}
	if err == nil {
		p.prove(t, id, hello, at)
		return
	}
	p.log.Debug("Greeting failed", "ifname", t.s.ifname, "kind", t.s.kind, "err", err)
	most := strangerRetry
	if t.s.known {
		most = greetRetryMax
	}
	pause := min(greetRetryMin<<min(t.failures, 20), most)
	t.failures++
	p.rest(t, pause/2+rand.N(pause/2+1))
}

// errNoAddress ends a race without runners.
var errNoAddress = errors.New("agent: no address to greet")

// race greets some addresses from the one with index first, each a little after
// the one before, and returns the first answer.
func (p *prover) race(ctx context.Context, addrs []netip.AddrPort, first int, stagger time.Duration) (identity.DeviceID, session.Hello, netip.AddrPort, error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		id    identity.DeviceID
		hello session.Hello
		at    netip.AddrPort
		err   error
	}
	n := min(len(addrs), greetAddresses)
	answers := make(chan answer, n)
	var runners sync.WaitGroup
	defer runners.Wait()
	defer cancel()
	for i := range n {
		addr := addrs[(first+i)%len(addrs)]
		runners.Go(func() {
			if i > 0 && !wait(ctx, time.Duration(i)*stagger) {
				answers <- answer{err: ctx.Err()}
				return
			}
			id, hello, err := p.greet(ctx, addr)
			answers <- answer{id, hello, addr, err}
		})
	}
	err := errNoAddress
	for range n {
		a := <-answers
		if a.err == nil {
			return a.id, a.hello, a.at, nil
		}
		err = a.err
	}
	return identity.DeviceID{}, session.Hello{}, netip.AddrPort{}, err
}
