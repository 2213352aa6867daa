package discovery

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	cloneAsk    = time.Minute                 // from question to question whether the clone is still there
	cloneSilent = 2*cloneAsk + 10*time.Second // without a word from it, it is gone

	defendEvery = 100 * time.Millisecond // at most
	defendMax   = 6                      // in a minute: whoever forges a clone does not make us talk without end
)

// clone is another device on a link that announces itself by our own names: a copied card has the same key. Its zero value
// is none.
type clone struct {
	host    string    // target of its SRV record, printed form; our own when both names are taken
	heard   time.Time // last
	askAt   time.Time // when to ask next whether it is still there
	minute  time.Time // begin of the minute that defended counts
	defence time.Time // the last one
	defends int
}

// meet looks for the names that we announce in another device's response. What we said ourselves comes back on links that
// are joined, or repeated by a reflector: then its addresses are ours.
func (l *link) meet(now time.Time, rrs []dns.RR, source netip.Addr) {
	if l.said.name == "" {
		return
	}
	found, flushed := "", false
	for _, rr := range rrs {
		hdr := rr.Header()
		if hdr.Ttl == 0 || hdr.Class&classMask != dns.ClassINET {
			continue
		}
		other := ""
		switch rr := rr.(type) {
		case *dns.SRV:
			if strings.EqualFold(hdr.Name, l.said.name) && !strings.EqualFold(rr.Target, l.said.host) {
				other = rr.Target
			}
		case *dns.A:
			other = l.foreign(now, hdr, rr.A)
		case *dns.AAAA:
			other = l.foreign(now, hdr, rr.AAAA)
		}
		if other != "" {
			found, flushed = other, flushed || hdr.Class&cacheFlush != 0
		}
	}
	if found == "" || l.d.own(now, source) {
		return
	}
	c := &l.clone
	if c.heard.IsZero() {
		c.askAt = now.Add(cloneAsk)
	}
	c.host, c.heard = strings.TrimSuffix(found, "."), now
	if source.Is6() && source.IsLinkLocalUnicast() {
		source = source.WithZone(l.ifi.Name)
	}
	l.d.queue.set(key{index: l.ifi.Index}, &Event{
		Index: l.ifi.Index, Ifname: l.ifi.Name, Instance: l.said.instance, Host: c.host, Addrs: []netip.AddrPort{netip.AddrPortFrom(source, 0)},
	})
	// Its cache-flush bit withdraws our records from the other devices. What is said again within a second stays, and neither of
	// the two comes and goes.
	if flushed && c.mayDefend(now) {
		l.nudge(now, 0)
	}
}

// foreign returns our host's name when an address record gives it an address that is not ours.
func (l *link) foreign(now time.Time, hdr *dns.RR_Header, raw []byte) string {
	ip, ok := netip.AddrFromSlice(raw)
	if !ok || !strings.EqualFold(hdr.Name, l.said.host) || !dialable(ip.Unmap()) || l.d.own(now, ip.Unmap()) {
		return ""
	}
	return l.said.host
}

func (c *clone) mayDefend(now time.Time) bool {
	if now.Sub(c.minute) >= time.Minute {
		c.minute, c.defends = now, 0
	}
	if c.defends == defendMax || now.Sub(c.defence) < defendEvery {
		return false
	}
	c.defends++
	c.defence = now
	return true
}

// next returns when something is due.
func (c *clone) next() time.Time {
	if c.heard.IsZero() {
		return time.Time{}
	}
	if gone := c.heard.Add(cloneSilent); gone.Before(c.askAt) {
		return gone
	}
	return c.askAt
}

// watchClone asks whether a clone is still there: who asks for our own instance hears all that have its name.
func (l *link) watchClone(now time.Time) {
	c := &l.clone
	switch {
	case c.heard.IsZero():
	case now.Sub(c.heard) >= cloneSilent:
		*c = clone{}
		l.d.queue.set(key{index: l.ifi.Index}, nil)
	case !now.Before(c.askAt):
		c.askAt = now.Add(cloneAsk)
		l.nudge(now, 0)
	}
}
