package transfer

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
)

// MinRate is the lowest rate that is kept to, in bytes a second: with a lower one the patience of the other side would end.
const MinRate = 32 << 10

// Rates bound how fast content moves, in bytes a second; 0 is no bound. Lower ones than [MinRate] count as that.
type Rates struct {
	Up   int64 // to the other side
	Down int64 // from it
}

// Limits are what all transfers together keep to.
type Limits struct {
	Rates
	AtOnce  int   // transfers received at once; 0 means [MaxRunning]
	Sources int   // devices that one transfer is fetched from at once; 0 means [DefaultSources], at most [MaxSources]
	MinFree int64 // bytes that stay free on the disk that is received to; 0 means receive.Reserve
}

// What is let through at once is the bytes of rateSlice, within bounds: small pieces keep the rate even, large ones cost less.
const (
	rateSlice = 50 * time.Millisecond
	rateBurst = 100 * time.Millisecond // what a busy machine was late with may be made up for
	minPiece  = 4 << 10
	maxPiece  = 64 << 10
	maxGates  = 1024 // devices whose rates are remembered
)

// A valve lets bytes through at a rate. Safe for concurrent use.
type valve struct {
	size    atomic.Int64 // of a piece; 0 while all goes through
	limiter *rate.Limiter
}

func newValve(bytes int64) *valve {
	v := &valve{limiter: rate.NewLimiter(rate.Inf, 0)}
	v.set(bytes)
	return v
}

// set changes the rate; who waits, waits at most a slice of the old one more.
func (v *valve) set(bytes int64) {
	if bytes <= 0 {
		v.size.Store(0)
		v.limiter.SetLimit(rate.Inf)
		return
	}
	bytes = max(bytes, MinRate)
	piece := min(max(bytes*int64(rateSlice)/int64(time.Second), minPiece), maxPiece)
	if v.limiter.Limit() != rate.Limit(bytes) {
		now := time.Now()
		burst := int(max(maxPiece, bytes*int64(rateBurst)/int64(time.Second)))
		v.limiter.SetBurstAt(now, burst)
		v.limiter.SetLimitAt(now, rate.Limit(bytes))
		// It begins empty, or what it had saved would go beyond the new rate.
		v.limiter.AllowN(now, int(max(0, v.limiter.TokensAt(now))))
	}
	v.size.Store(piece)
}

// take waits until n bytes may go. It returns false when stop was closed before that.
func (v *valve) take(stop <-chan struct{}, n int) bool {
	if v.size.Load() == 0 {
		return true
	}
	r := v.limiter.ReserveN(time.Now(), min(n, maxPiece))
	wait := r.Delay()
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		r.Cancel()
		return false
	}
}

// A gate holds what one device gets or gives to its own rate and to that of all devices.
type gate struct {
	turn     chan struct{} // held while bytes are taken from all: devices share it alike, whatever they have under way
	own, all *valve
}

// piece returns how many of n bytes may pass at once. While there is a rate of all it is the same for all devices: they take turns.
func (g *gate) piece(n int) int {
	for _, v := range [...]*valve{g.all, g.own} {
		if size := v.size.Load(); size > 0 {
			return min(n, int(size))
		}
	}
	return n
}

// pass waits until a piece of n bytes may go. It returns false when stop was closed before that.
func (g *gate) pass(stop <-chan struct{}, n int) bool {
	if !g.own.take(stop, n) {
		return false
	}
	if g.all.size.Load() == 0 {
		return true
	}
	select {
	case g.turn <- struct{}{}:
	case <-stop:
		return false
	}
	defer func() { <-g.turn }()
	return g.all.take(stop, n)
}

// gates has one gate for each device and direction.
type gates struct {
	mu       sync.Mutex
	up, down *valve
	of       map[identity.DeviceID]*deviceGates // guarded by mu
}

type deviceGates struct{ up, down gate }

// gatesOf returns the gates of a device.
func (e *Engine) gatesOf(peer identity.DeviceID) *deviceGates {
	g := &e.gates
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.of[peer]
	if d == nil {
		if len(g.of) >= maxGates { // those in use go on with what they have
			clear(g.of)
		}
		r := e.cfg.Rates(peer)
		d = &deviceGates{
			gate{make(chan struct{}, 1), newValve(r.Up), g.up},
			gate{make(chan struct{}, 1), newValve(r.Down), g.down},
		}
		g.of[peer] = d
	}
	return d
}

// LimitsChanged says that Config.Limits or Config.Rates answer otherwise than before. What moves keeps to that within a fraction of a
// second.
func (e *Engine) LimitsChanged() {
	limits := e.cfg.Limits()
	g := &e.gates
	g.mu.Lock()
	g.up.set(limits.Up)
	g.down.set(limits.Down)
	for peer, d := range g.of {
		r := e.cfg.Rates(peer)
		d.up.own.set(r.Up)
		d.down.own.set(r.Down)
	}
	g.mu.Unlock()
	e.mu.Lock()
	e.limit(limits)
	e.mu.Unlock()
	signal(e.kick)
}

// limit takes other limits; with mu held or before anyone else has the engine.
func (e *Engine) limit(l Limits) {
	e.limits = l
	if l.Sources <= 0 {
		l.Sources = DefaultSources
	}
	e.sources.Store(int32(min(l.Sources, MaxSources)))
}
