package discovery

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// ownMemory is how long an address that is no more counts as ours: others may still repeat what we said from it.
	ownMemory = ttlMax + 30*time.Second
	ownEvery  = time.Second // at most, the host's addresses are read

	// doubtWait is how long we wait to be told of an address that our Server announces already. Netlink is as fast as the
	// Server; whoever watches it collects for some 30 ms.
	doubtWait = 300 * time.Millisecond

	withdrawAgain = 250 * time.Millisecond
)

// ownAddresses knows the addresses of this host on all its links, also those that nothing is announced on.
type ownAddresses struct {
	read  time.Time
	until map[netip.Addr]time.Time
}

func (o *ownAddresses) keep(now time.Time, a netip.Addr) { o.until[a] = now.Add(ownMemory) }

// own says whether an address is this host's, on whatever link, or was until a short time ago.
func (d *Discovery) own(now time.Time, a netip.Addr) bool {
	d.mu.Lock()
	known := now.Before(d.addresses.until[a])
	stale := !known && now.Sub(d.addresses.read) >= ownEvery
	d.mu.Unlock()
	if !stale {
		return known
	}
	// The kernel may take its time, so not with the lock held. When it fails, what was said of the links is left.
	addrs, _ := net.InterfaceAddrs()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses.read = now
	maps.DeleteFunc(d.addresses.until, func(_ netip.Addr, until time.Time) bool { return !now.Before(until) })
	for _, addr := range addrs {
		if n, ok := addr.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				d.addresses.keep(now, ip.Unmap())
			}
		}
	}
	return now.Before(d.addresses.until[a])
}

// withdraw tells the others at once that addresses are not ours any more: the Server's announcement spares, in their caches, what
// is younger than a second, and says nothing of a family that has no address left. It is said once more a moment later: one
// packet is easily lost.
func (l *link) withdraw(now time.Time) {
	l.lost = slices.DeleteFunc(l.lost, func(a netip.Addr) bool { return l.ifi.own(a) })
	if len(l.lost) == 0 || l.said.name == "" {
		l.lostAt = time.Time{}
		return
	}
	l.lostAt = now.Add(withdrawAgain)
	rrs := make([]dns.RR, 0, len(l.lost))
	for _, a := range l.lost {
		rrs = append(rrs, addressRecord(l.said.host, a, 0))
	}
	l.reply(rrs)
}

// hearOwn looks for addresses in what our own Server says that we have not been told of: it reads them anew for each packet. What
// we are not told of soon was there for a moment only, or cannot be used, and is withdrawn, once.
func (l *link) hearOwn(now time.Time, rrs []dns.RR) {
	for _, rr := range rrs {
		a, ok := netip.AddrFromSlice(rawAddress(rr))
		if a = a.Unmap(); !ok || rr.Header().Ttl == 0 || l.ifi.own(a) || !strings.EqualFold(rr.Header().Name, l.said.host) {
			continue
		}
		if _, known := l.doubts[a]; !known && len(l.doubts) < addressesMax {
			l.doubts[a] = now.Add(doubtWait)
		}
	}
}

// nextDoubt returns when an address that was not confirmed is to be withdrawn.
func (l *link) nextDoubt() (at time.Time) {
	for _, t := range l.doubts {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// settleDoubts withdraws what was not confirmed in time.
func (l *link) settleDoubts(now time.Time) {
	for a, t := range l.doubts {
		if t.IsZero() || now.Before(t) {
			continue
		}
		l.doubts[a] = time.Time{}
		l.lose(a)
		l.withdraw(now)
	}
}

// lose notes that an address is to be withdrawn.
func (l *link) lose(a netip.Addr) {
	if !slices.Contains(l.lost, a) && len(l.lost) < addressesMax {
		l.lost = append(l.lost, a)
	}
}

// names are the folded names that we have on a link, the latest first; those before it may still be repeated by others. Its zero
// value has none.
type names [formerNames]struct{ instance, host string }

// formerNames is how many names are remembered, with those of now.
const formerNames = 4

// now takes the names that are announced from now on.
func (n *names) now(s said) {
	fresh := *n
	copy(fresh[1:], n[:])
	fresh[0].instance, fresh[0].host = fold(s.name), fold(s.host)
	if fresh[0] != n[0] {
		*n = fresh
	}
}

func (n *names) instance(name string) bool {
	for _, own := range n {
		if name != "" && own.instance == name {
			return true
		}
	}
	return false
}

func (n *names) host(name string) bool {
	for _, own := range n {
		if name != "" && own.host == name {
			return true
		}
	}
	return false
}
