package session

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// gate keeps the budget of strangers: what those who have proved nothing yet, or are
// not trusted, may take of this device, from each address and together. Nothing in it
// is taken from trusted devices: those that come from where a trusted key was proved
// before wait in a lane of their own, and what they ask for is not counted.
//
// When a lane is full a newcomer replaces the oldest of the address that has most in
// it, so that whoever leaves handshakes half open only gets in his own way.
type gate struct {
	arrivals, requests, bytes, questions *rate.Limiter // of strangers together

	mu      *sync.Mutex
	waiting []*arrival                  // guarded by mu; oldest first
	rates   map[netip.Prefix]*allowance // guarded by mu
	friends map[netip.Prefix]friend     // guarded by mu; who proved a trusted key there last
	clock   int                         // guarded by mu; counts uses of rates and friends
}

// arrival is a connection whose handshake is not over.
type arrival struct {
	conn     *net.TCPConn
	from     netip.Prefix
	familiar bool // a trusted device was there: the lane
}

// allowance is what one address may take.
type allowance struct {
	arrivals, requests, bytes, questions *rate.Limiter
	used                                 int // gate.clock at the last use
}

type friend struct {
	id   identity.DeviceID
	used int // gate.clock when it was met
}

func newGate() gate {
	return gate{
		arrivals:  rate.NewLimiter(strangersArrivalRate, strangersArrivalBurst),
		requests:  rate.NewLimiter(strangersRequestRate, strangersRequestBurst),
		bytes:     rate.NewLimiter(strangersByteRate, strangersByteBurst),
		questions: rate.NewLimiter(rate.Every(strangersQuestionPause), strangersQuestionBurst),
		mu:        new(sync.Mutex),
		rates:     make(map[netip.Prefix]*allowance),
		friends:   make(map[netip.Prefix]friend),
	}
}

// origin is what counts as one address: a global IPv6 host has its whole /64.
func origin(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLinkLocalUnicast() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// meet notes where a trusted device proved its key.
func (s *Sessions) meet(at netip.Addr, id identity.DeviceID) {
	if s.standing(id) == trust.Trusted {
		s.gate.meet(origin(at), id)
	}
}

// familiar reports whether a trusted device was at the other end's address last.
func (s *Sessions) familiar(c *net.TCPConn) bool {
	s.gate.mu.Lock()
	f, ok := s.gate.friends[origin(addrPort(c.RemoteAddr()).Addr())]
	s.gate.mu.Unlock()
	return ok && s.standing(f.id) == trust.Trusted
}

func (g *gate) meet(at netip.Prefix, id identity.DeviceID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.friends[at]; !ok && len(g.friends) >= maxFriendAddresses {
		first := true
		var oldest netip.Prefix
		for p, f := range g.friends {
			if first || f.used < g.friends[oldest].used {
				oldest, first = p, false
			}
		}
		delete(g.friends, oldest)
	}
	g.clock++
	g.friends[at] = friend{id, g.clock}
}

// admit lets c in and returns nil when its address comes too often, or strangers do.
func (g *gate) admit(c *net.TCPConn, familiar bool) *arrival {
	from := origin(addrPort(c.RemoteAddr()).Addr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.allowed(from) || !familiar && !g.arrivals.Allow() {
		return nil
	}
	g.makeRoom(familiar)
	a := &arrival{conn: c, from: from, familiar: familiar}
	g.waiting = append(g.waiting, a)
	return a
}

// spend takes what a stranger's request with a body of n bytes costs.
func (g *gate) spend(from netip.Prefix, n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, now := g.allowance(from), time.Now()
	return a.requests.AllowN(now, 1) && a.bytes.AllowN(now, int(n)) && g.requests.AllowN(now, 1) && g.bytes.AllowN(now, int(n))
}

// ask takes the right to one question of a stranger.
func (g *gate) ask(from netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allowance(from).questions.Allow() && g.questions.Allow()
}

func (g *gate) allowed(from netip.Prefix) bool { return g.allowance(from).arrivals.Allow() }

// allowance returns that of an address; a full memory forgets who came longest ago.
func (g *gate) allowance(from netip.Prefix) *allowance {
	g.clock++
	a := g.rates[from]
	if a == nil {
		if len(g.rates) >= maxAddresses {
			var oldest netip.Prefix
			for p, other := range g.rates {
				if old := g.rates[oldest]; old == nil || other.used < old.used {
					oldest = p
				}
			}
			delete(g.rates, oldest)
		}
		a = &allowance{
			arrivals:  rate.NewLimiter(acceptRate, acceptBurst),
			requests:  rate.NewLimiter(addressRequestRate, addressRequestBurst),
			bytes:     rate.NewLimiter(addressByteRate, addressByteBurst),
			questions: rate.NewLimiter(rate.Every(addressQuestionPause), addressQuestionBurst),
		}
		g.rates[from] = a
	}
	a.used = g.clock
	return a
}

// makeRoom drops one of a full lane.
func (g *gate) makeRoom(familiar bool) {
	count, all := make(map[netip.Prefix]int), 0
	for _, a := range g.waiting {
		if a.familiar == familiar {
			count[a.from]++
			all++
		}
	}
	if all < maxHandshakes {
		return
	}
	victim := -1
	for i, a := range g.waiting {
		if a.familiar == familiar && (victim < 0 || count[a.from] > count[g.waiting[victim].from]) {
			victim = i
		}
	}
	_ = g.waiting[victim].conn.Close()
	g.waiting = append(g.waiting[:victim], g.waiting[victim+1:]...)
}

// leave tells that a's handshake is over.
func (g *gate) leave(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.waiting {
		if other == a {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
}

func (g *gate) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.waiting {
		_ = a.conn.Close()
	}
}
