package discovery

import (
	"math/rand/v2"
	"time"
)

const (
	ttlMin = time.Second
	ttlMax = 120 * time.Second // that a record is believed without being heard again
	grace  = time.Second       // RFC 6762 10.1, 10.2: what is withdrawn may still be rescued
)

// refreshAt are the ages, in percent of its lifetime, at which a record is asked for again (RFC 6762 5.2).
var refreshAt = [...]int{80, 85, 90, 95}

// jitterPart spreads the refresh questions of many devices over a thirtieth of the lifetime: 4 s of 120 s.
const jitterPart = 30

// lease is the lifetime of one record.
type lease struct {
	got     time.Time
	ttl     time.Duration // as we count it, within ttlMin and ttlMax
	sent    time.Duration // as its sender said
	expires time.Time
	asked   int       // refresh questions asked
	refresh time.Time // when to ask the next one; zero when there is none
}

func newLease(now time.Time, ttl uint32) lease {
	l := lease{got: now, sent: time.Duration(ttl) * time.Second}
	l.ttl = min(max(l.sent, ttlMin), ttlMax)
	l.expires = now.Add(l.ttl)
	l.plan()
	return l
}

func (l *lease) plan() {
	if l.asked == len(refreshAt) {
		l.refresh = time.Time{}
		return
	}
	l.refresh = l.got.Add(l.ttl*time.Duration(refreshAt[l.asked])/100 + rand.N(l.ttl/jitterPart+1))
}

func (l *lease) live(now time.Time) bool { return now.Before(l.expires) }

// known says that the record is fresh enough to be listed as a known answer: more than half of its life is left.
func (l *lease) known(now time.Time) bool { return l.expires.Sub(now) > l.ttl/2 }

// end lets the record die after the grace time, unless it comes again.
func (l *lease) end(now time.Time) {
	if e := now.Add(grace); e.Before(l.expires) {
		l.expires, l.refresh = e, time.Time{}
	}
}

// due says that a refresh question is due, and counts it as asked.
func (l *lease) due(now time.Time) bool {
	if l.refresh.IsZero() || now.Before(l.refresh) {
		return false
	}
	if !l.live(now) {
		// The machine slept over it.
		l.refresh = time.Time{}
		return false
	}
	// Moments that were missed are not made up for.
	for !l.refresh.IsZero() && !now.Before(l.refresh) {
		l.asked++
		l.plan()
	}
	return true
}
