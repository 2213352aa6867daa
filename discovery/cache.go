package discovery

import (
	"cmp"
	"maps"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	instancesMax = 512                    // of one link
	targetsMax   = 4                      // SRV records of one instance
	addressesMax = 16                     // of one host
	replaceMax   = 32                     // instances thrown out a second where all sources are equal
	settledAfter = 5 * time.Minute        // an instance is not thrown out then
	straysMax    = 64                     // addresses of hosts that no instance lives on
	strayLife    = 5 * time.Second        // for an instance to name their host
	againAfter   = 150 * time.Millisecond // what comes in both families, or as an answer to two, is heard once

	missingFirst = 100 * time.Millisecond // from the first record of an instance to the question for the others
	missingMax   = time.Minute            // between two questions for what an instance lacks
	heardWindow  = 4 * time.Second        // RFC 6762 7.3: as long as a question heard counts as asked by us

	classMask  = 0x7fff
	cacheFlush = 0x8000 // RFC 6762 18.13
)

type target struct {
	host string // printed form
	port uint16
	via  netip.Addr        // link-local address that the record came from, if it came from one
	from netip.Addr        // whom the record came from last
	txt  map[string]string // that came with it; nil when none did yet
	lease
}

type instance struct {
	name    string // printed form, whole
	label   string
	source  netip.Addr // who told us first
	since   time.Time
	again   bool // it was heard more than once
	ptr     lease
	targets map[string]*target // by folded host
	txt     map[string]string  // nil until one came; the last one is kept when it expires
	txtLife lease

	lacks   lack
	askAt   time.Time // when to ask for what is missing; zero when nothing is
	askWait time.Duration
	heard   time.Time // when somebody else asked for its SRV record
}

type host struct {
	users int // SRV records that name it
	addrs map[netip.Addr]*lease
	heard time.Time // when somebody else asked for its addresses
}

// A stray is an address of a host that no instance is known to live on, yet: a host may announce itself a moment before its
// service, and not repeat itself for a second when it is asked.
type stray struct {
	host string // folded
	addr netip.Addr
	lease
}

// lack is what an instance is incomplete by.
type lack int

const (
	lacksNothing lack = iota
	lacksRecords      // SRV or TXT
	lacksAddress      // of a host
)

// cache is what is known of one service type on one link. It belongs to one goroutine; time is given to it.
type cache struct {
	service   string // "_nigh._tcp.local."
	own       names  // what is our own, and was
	instances map[string]*instance
	hosts     map[string]*host   // by folded name; exactly those that instances live on
	sources   map[netip.Addr]int // how many instances each source told us
	strays    []stray            // the last ones
	strayed   int                // how many there ever were
	touched   bool               // something came since settle
	heard     time.Time          // when somebody else asked for the instances

	heardBefore time.Time  // the value of heard before asker's question
	asker       netip.Addr // whose question was the last one heard, while more known answers are to follow
	full        bool       // this packet's sender gets no more instances
	replacing   time.Time  // begin of the second that replaced counts
	replaced    int        // instances thrown out for newcomers although nobody told us too many
}

func newCache(service string) *cache {
	return &cache{service: service, instances: map[string]*instance{}, hosts: map[string]*host{}, sources: map[netip.Addr]int{}}
}

// apply takes the records of one response and says whether anything but a lifetime changed. Order in the packet does not
// matter: instances come first, then their records, then the addresses of the hosts these name. The work is bounded by the
// packet, not by the cache.
func (c *cache) apply(now time.Time, rrs []dns.RR, source netip.Addr) (changed bool) {
	c.full = false
	for _, rr := range rrs {
		if ptr, ok := rr.(*dns.PTR); ok && strings.EqualFold(ptr.Hdr.Name, c.service) {
			changed = c.applyPTR(now, ptr, source) || changed
		}
	}
	targets := map[string]string{} // of the instances in this packet
	for _, rr := range rrs {
		if srv, ok := rr.(*dns.SRV); ok {
			changed = c.applySRV(now, srv, source) || changed
			if srv.Hdr.Ttl > 0 {
				targets[fold(srv.Hdr.Name)] = fold(srv.Target)
			}
		}
	}
	for _, rr := range rrs {
		if txt, ok := rr.(*dns.TXT); ok {
			changed = c.applyTXT(now, txt, targets[fold(txt.Hdr.Name)], source) || changed
		}
	}
	for _, rr := range rrs {
		switch rr := rr.(type) {
		case *dns.A:
			changed = c.applyAddress(now, &rr.Hdr, rr.A) || changed
		case *dns.AAAA:
			changed = c.applyAddress(now, &rr.Hdr, rr.AAAA) || changed
		}
	}
	c.touched = true
	return changed
}

func (c *cache) applyPTR(now time.Time, rr *dns.PTR, source netip.Addr) bool {
	k := fold(rr.Ptr)
	if c.own.instance(k) || rr.Hdr.Class&classMask != dns.ClassINET {
		return false
	}
	in := c.instances[k]
	switch {
	case rr.Hdr.Ttl == 0:
		if in != nil {
			in.ptr.end(now)
		}
		return false
	case in != nil:
		in.ptr = newLease(now, rr.Hdr.Ttl)
		in.again = in.again || now.Sub(in.since) >= againAfter
		return false
	}
	label, ok := instanceOf(rr.Ptr, c.service)
	if !ok || c.full {
		return false
	}
	if len(c.instances) >= instancesMax && !c.makeRoom(now, source) {
		c.full = true
		return false
	}
	c.instances[k] = &instance{name: rr.Ptr, label: label, source: source, since: now, ptr: newLease(now, rr.Hdr.Ttl), targets: map[string]*target{}}
	c.sources[source]++
	return true
}

func (c *cache) remove(name string) {
	in := c.instances[name]
	for h := range in.targets {
		c.leave(h)
	}
	if c.sources[in.source]--; c.sources[in.source] == 0 {
		delete(c.sources, in.source)
	}
	delete(c.instances, name)
}

// leave forgets a host when no SRV record names it any more.
func (c *cache) leave(name string) {
	h := c.hosts[name]
	if h.users--; h.users == 0 {
		delete(c.hosts, name)
	}
}

// makeRoom throws out an instance of the source that told us most, so that one flooding device does not hide the others. Where
// each told us one, as with forged sources, one goes that was heard only once; or else, a few times a second, one that came
// lately. What has been here for long stays.
func (c *cache) makeRoom(now time.Time, newcomer netip.Addr) bool {
	most := newcomer
	for source, n := range c.sources {
		if n > c.sources[most] {
			most = source
		}
	}
	if c.sources[most] > c.sources[newcomer]+1 {
		for k, in := range c.instances {
			if in.source == most {
				c.remove(k)
				return true
			}
		}
	}
	if c.sources[newcomer] > 0 {
		return false
	}
	// A map gives its keys in no order.
	young := ""
	for k, in := range c.instances {
		if now.Sub(in.since) >= settledAfter {
			continue
		}
		if !in.again {
			c.remove(k)
			return true
		}
		young = k
	}
	if now.Sub(c.replacing) >= time.Second {
		c.replacing, c.replaced = now, 0
	}
	if young == "" || c.replaced == replaceMax {
		return false
	}
	c.replaced++
	c.remove(young)
	return true
}

func (c *cache) applySRV(now time.Time, rr *dns.SRV, source netip.Addr) bool {
	in := c.instances[fold(rr.Hdr.Name)]
	name := fold(rr.Target)
	// Nobody else's service is on our own host.
	if in == nil || c.own.host(name) || rr.Port == 0 && rr.Hdr.Ttl != 0 || len(name) < 2 {
		return false
	}
	if rr.Hdr.Class&cacheFlush != 0 {
		for h, t := range in.targets {
			if h != name && now.Sub(t.got) > grace {
				t.end(now)
			}
		}
	}
	t := in.targets[name]
	switch {
	case rr.Hdr.Ttl == 0:
		if t != nil {
			t.end(now)
		}
		return false
	case t == nil && len(in.targets) >= targetsMax:
		return false
	}
	changed := t == nil || t.port != rr.Port
	if t == nil {
		if c.hosts[name] == nil {
			c.hosts[name] = &host{addrs: c.found(now, name)}
		}
		c.hosts[name].users++
	}
	fresh := &target{host: strings.TrimSuffix(rr.Target, "."), port: rr.Port, from: source, lease: newLease(now, rr.Hdr.Ttl)}
	if t != nil {
		fresh.txt = t.txt
	}
	switch {
	case source.Is6() && source.IsLinkLocalUnicast():
		fresh.via = source
		changed = changed || t.via != source
	case t != nil:
		fresh.via = t.via
	}
	in.targets[name] = fresh
	return changed
}

// applyTXT takes a TXT record. Where two devices have one name, host says whose it is, or else who sent it.
func (c *cache) applyTXT(now time.Time, rr *dns.TXT, host string, source netip.Addr) bool {
	in := c.instances[fold(rr.Hdr.Name)]
	switch {
	case in == nil:
		return false
	case rr.Hdr.Ttl == 0:
		in.txtLife.end(now)
		return false
	}
	txt := parseTXT(rr.Txt)
	same := in.txt != nil && maps.Equal(in.txt, txt)
	in.txt, in.txtLife = txt, newLease(now, rr.Hdr.Ttl)
	changed := len(in.targets) == 0 && !same
	for h, t := range in.targets {
		if h == host || host == "" && (len(in.targets) == 1 || t.from == source) {
			changed = changed || t.txt == nil && !same || t.txt != nil && !maps.Equal(t.txt, txt)
			t.txt = txt
		} else if t.txt == nil {
			changed = changed || !same
		}
	}
	return changed
}

func (c *cache) applyAddress(now time.Time, hdr *dns.RR_Header, raw []byte) bool {
	name := fold(hdr.Name)
	h := c.hosts[name]
	ip, ok := netip.AddrFromSlice(raw)
	if ip = ip.Unmap(); !ok || !dialable(ip) {
		return false
	}
	if h == nil {
		if hdr.Ttl > 0 && !c.own.host(name) {
			c.lose(stray{name, ip, newLease(now, hdr.Ttl)})
		}
		return false
	}
	addrs := h.addrs
	if hdr.Class&cacheFlush != 0 {
		for a, l := range addrs {
			if a != ip && a.Is4() == ip.Is4() && now.Sub(l.got) > grace {
				l.end(now)
			}
		}
	}
	l := addrs[ip]
	switch {
	case hdr.Ttl == 0:
		if l != nil {
			l.end(now)
		}
		return false
	case l == nil && len(addrs) >= addressesMax:
		return false
	}
	fresh := newLease(now, hdr.Ttl)
	addrs[ip] = &fresh
	return l == nil
}

// lose keeps an address that may find its host later, in the place of the oldest one.
func (c *cache) lose(s stray) {
	if len(c.strays) < straysMax {
		c.strays = append(c.strays, s)
	} else {
		c.strays[c.strayed%straysMax] = s
	}
	c.strayed++
}

// found returns the addresses that came a moment before the first instance on a host.
func (c *cache) found(now time.Time, host string) map[netip.Addr]*lease {
	addrs := map[netip.Addr]*lease{}
	for _, s := range c.strays {
		if s.host == host && now.Sub(s.got) < strayLife && s.live(now) && len(addrs) < addressesMax {
			addrs[s.addr] = &s.lease
		}
	}
	return addrs
}

// dialable leaves out what cannot be another device's address.
func dialable(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsLoopback() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// settle plans the questions for what is missing, once for all packets that came together.
func (c *cache) settle(now time.Time) {
	if !c.touched {
		return
	}
	c.touched = false
	for _, in := range c.instances {
		c.watch(now, in)
	}
}

// watch plans the question for what an instance lacks, soon again when that is something else than before.
func (c *cache) watch(now time.Time, in *instance) {
	switch lacks := c.lacks(now, in); {
	case lacks == lacksNothing:
		in.lacks, in.askAt, in.askWait = lacksNothing, time.Time{}, 0
	case lacks != in.lacks:
		in.lacks, in.askWait = lacks, missingFirst
		in.askAt = now.Add(missingFirst)
	}
}

func (c *cache) lacks(now time.Time, in *instance) lack {
	if len(in.targets) == 0 || in.txt == nil || !in.txtLife.live(now) {
		return lacksRecords
	}
	for h := range in.targets {
		if len(c.hosts[h].addrs) == 0 {
			return lacksAddress
		}
	}
	return lacksNothing
}

// expire removes what is over and says whether anything was.
func (c *cache) expire(now time.Time) (changed bool) {
	for k, in := range c.instances {
		if !in.ptr.live(now) {
			c.remove(k)
			changed = true
			continue
		}
		for h, t := range in.targets {
			if !t.live(now) {
				delete(in.targets, h)
				c.leave(h)
				changed = true
			}
		}
	}
	for _, h := range c.hosts {
		for a, l := range h.addrs {
			if !l.live(now) {
				delete(h.addrs, a)
				changed = true
			}
		}
	}
	c.touched = c.touched || changed
	c.settle(now)
	return changed
}

// next returns when something is due: a record to expire, or a question to ask.
func (c *cache) next() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	life := func(l *lease) { sooner(l.expires); sooner(l.refresh) }
	for _, in := range c.instances {
		life(&in.ptr)
		// An expired TXT record is kept; only its refreshing is due.
		sooner(in.txtLife.refresh)
		sooner(in.askAt)
		for _, t := range in.targets {
			life(&t.lease)
		}
	}
	for _, h := range c.hosts {
		for _, l := range h.addrs {
			life(l)
		}
	}
	return at
}

// view returns what can be reached, by (instance, host). old is the view before: where the addresses of a living
// instance ran out, the last ones stay until new ones come or the instance goes.
func (c *cache) view(ifi Interface, old map[key]Event) map[key]Event {
	out := make(map[key]Event, len(c.instances))
	for name, in := range c.instances {
		if in.txt == nil {
			continue
		}
		for host, t := range in.targets {
			k := key{ifi.Index, name, host}
			e := Event{Index: ifi.Index, Ifname: ifi.Name, Instance: in.label, Host: t.host, TXT: t.txt, Source: t.from}
			if t.txt == nil {
				e.TXT = in.txt
			}
			add := func(a netip.Addr) {
				if a.Is6() && a.IsLinkLocalUnicast() {
					a = a.WithZone(ifi.Name)
				}
				e.Addrs = append(e.Addrs, netip.AddrPortFrom(a, t.port))
			}
			for a := range c.hosts[host].addrs {
				if ifi.onLink(a) {
					add(a)
				}
			}
			if len(e.Addrs) == 0 && t.via.IsValid() && len(c.hosts[host].addrs) > 0 {
				// The zeroconf library leaves the link-local address out when there is another, which may be of a network that
				// we are not in.
				add(t.via)
			}
			sort.Slice(e.Addrs, func(i, j int) bool {
				x, y := e.Addrs[i], e.Addrs[j]
				return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Port(), y.Port())) < 0
			})
			if len(e.Addrs) == 0 {
				if e.Addrs = old[k].Addrs; len(e.Addrs) == 0 {
					continue
				}
			}
			out[k] = e
		}
	}
	return out
}
