package dhcp

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"sort"
	"time"
)

const (
	leaseTime   = time.Hour
	offerTime   = 10 * time.Second
	declineTime = 10 * time.Minute
	declinesMax = 3    // addresses that one client has declined at a time
	poolMax     = 1024 // addresses of one pool
)

// Binding is an address that a device has, or had last.
type Binding struct {
	HardwareAddr net.HardwareAddr
	Addr         netip.Addr
}

type macAddr [6]byte

func mac(raw net.HardwareAddr) (m macAddr) {
	copy(m[:], raw)
	return m
}

// use is what became of an address.
type use struct {
	client macAddr   // zero while declined
	by     macAddr   // who declined it
	until  time.Time // end of the lease, the offer or the ban
	bound  bool      // was leased, and is remembered after its end; false: only offered, or declined
}

// pool knows who has which address. Time is given to it.
type pool struct {
	self        netip.Addr
	first, last netip.Addr
	size        int
	used        map[netip.Addr]use
	of          map[macAddr]netip.Addr // every client has one address at most
}

func newPool(own netip.Prefix, first, last netip.Addr, old []Binding) (*pool, error) {
	p := &pool{self: own.Addr(), first: first, last: last, used: map[netip.Addr]use{}, of: map[macAddr]netip.Addr{}}
	for a := first; a.Compare(last) <= 0; a = a.Next() {
		if p.size++; p.size > poolMax {
			return nil, fmt.Errorf("pool %v to %v has more than %d addresses: %w", first, last, poolMax, ErrConfig)
		}
	}
	for _, b := range old {
		// Remembered without a term: whoever comes back gets it, and any newcomer may when nothing else is free.
		m := mac(b.HardwareAddr)
		if _, twice := p.of[m]; !twice && len(b.HardwareAddr) == 6 && p.contains(b.Addr) && p.used[b.Addr].client == (macAddr{}) {
			p.used[b.Addr] = use{client: m, bound: true}
			p.of[m] = b.Addr
		}
	}
	return p, nil
}

func (p *pool) contains(a netip.Addr) bool {
	return a.IsValid() && a != p.self && a.Compare(p.first) >= 0 && a.Compare(p.last) <= 0
}

func (p *pool) list() []Binding {
	var out []Binding
	for a, u := range p.used {
		if u.bound {
			out = append(out, Binding{HardwareAddr: slices.Clone(u.client[:]), Addr: a})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		x, y := out[i], out[j]
		return x.Addr.Compare(y.Addr) < 0
	})
	return out
}

// offer reserves an address for a short time: the client's own, else the one it asks for, else one chosen by its hardware
// address, so that it is likely the same next time.
func (p *pool) offer(now time.Time, client macAddr, asked netip.Addr) (netip.Addr, bool) {
	a, ok := p.of[client]
	switch {
	case ok:
	case p.contains(asked) && p.free(now, asked, false):
		a = asked
	default:
		if a, ok = p.choose(now, client); !ok {
			return netip.Addr{}, false
		}
	}
	u := p.used[a]
	if u.client == client && u.bound {
		// The lease goes on as it is.
		return a, true
	}
	p.take(a, use{client: client, until: now.Add(offerTime)})
	return a, true
}

// choose prefers addresses that nobody had to those whose lease ended.
func (p *pool) choose(now time.Time, client macAddr) (netip.Addr, bool) {
	h := fnv.New32a()
	h.Write(client[:])
	start := int(h.Sum32() % uint32(p.size))
	for _, ended := range []bool{false, true} {
		a := p.first
		for range start {
			a = a.Next()
		}
		for range p.size {
			if p.contains(a) && p.free(now, a, ended) {
				return a, true
			}
			if a == p.last {
				a = p.first
			} else {
				a = a.Next()
			}
		}
	}
	return netip.Addr{}, false
}

// free says that an address may go to somebody new; ended says whether the end of a lease is enough.
func (p *pool) free(now time.Time, a netip.Addr, ended bool) bool {
	u, ok := p.used[a]
	return !ok || now.After(u.until) && (!u.bound || ended)
}

func (p *pool) take(a netip.Addr, u use) {
	delete(p.of, p.used[a].client)
	if old, ok := p.of[u.client]; ok && old != a {
		delete(p.used, old)
	}
	p.used[a] = u
	p.of[u.client] = a
}

// mayHave says whether a client may have the address it asks for: it is its own, or nobody's.
func (p *pool) mayHave(now time.Time, client macAddr, a netip.Addr) bool {
	if !p.contains(a) {
		return false
	}
	if u, ok := p.used[a]; ok && u.client == client {
		return true
	}
	return p.free(now, a, false)
}

// bind leases an address and reports whether it is another than the client had.
func (p *pool) bind(now time.Time, client macAddr, a netip.Addr) (changed bool) {
	before := p.used[a]
	p.take(a, use{client: client, until: now.Add(leaseTime), bound: true})
	return !before.bound || before.client != client
}

// withdraw takes back an offer.
func (p *pool) withdraw(client macAddr) {
	if a, ok := p.of[client]; ok && !p.used[a].bound {
		delete(p.used, a)
		delete(p.of, client)
	}
}

// decline bans an address that its client found taken, and reports whether a binding ended. Only the client that got it may
// say so, and not of one address after the other: it would empty the pool.
func (p *pool) decline(now time.Time, client macAddr, a netip.Addr) bool {
	if own, ok := p.of[client]; !ok || own != a {
		return false
	}
	bound := p.used[a].bound
	delete(p.of, client)
	delete(p.used, a)
	banned := 0
	for _, u := range p.used {
		if u.by == client && now.Before(u.until) {
			banned++
		}
	}
	if banned < declinesMax {
		p.used[a] = use{by: client, until: now.Add(declineTime)}
	}
	return bound
}

// release ends a lease early; the address stays remembered for its client.
func (p *pool) release(client macAddr, a netip.Addr) {
	if own, ok := p.of[client]; ok && own == a && p.used[a].bound {
		u := p.used[a]
		u.until = time.Time{}
		p.used[a] = u
	}
}
