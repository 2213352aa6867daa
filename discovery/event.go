package discovery

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Op says what an [Event] is about.
type Op int

// The operations.
const (
	Found     Op = iota + 1 // an instance that was not known on this link
	Changed                 // its TXT record, port or addresses differ now
	Gone                    // it said goodbye, its records expired, or the link is gone
	Clone                   // another device announces itself by our own names; Addrs is where it did so from, without a port
	CloneGone               // it was not heard any more, or the link is gone
)

// String returns the operation in lower case, such as "found".
func (o Op) String() string {
	switch o {
	case Found:
		return "found"
	case Changed:
		return "changed"
	case Gone:
		return "gone"
	case Clone:
		return "clone"
	case CloneGone:
		return "clone gone"
	}
	return "op?"
}

// Event is what is known of one service instance on one link. All text in it comes from the network: valid UTF-8 without
// control characters in Instance, but otherwise anything.
type Event struct {
	Op       Op
	Index    int    // ifindex of the link
	Ifname   string // its name
	Instance string // label of the instance, unescaped, such as "Kitchen Pi [7Q4K-M2XD]"
	Host     string // target of its SRV record in printed form without the final dot, such as "nigh-7q4k-m2xd.local"
	TXT      map[string]string
	Source   netip.Addr       // who announced it; a change of it alone is no event
	Addrs    []netip.AddrPort // sorted; at least one but after Gone the last known; fe80::/10 with the link's name as zone
}

func (e Event) equal(o Event) bool {
	return e.Index == o.Index && e.Ifname == o.Ifname && e.Instance == o.Instance && e.Host == o.Host &&
		maps.Equal(e.TXT, o.TXT) && slices.Equal(e.Addrs, o.Addrs)
}

// key tells sightings apart. Two devices may claim one instance name: then both are shown. With instance "" it is that of
// the device that uses our own names.
type key struct {
	index          int
	instance, host string // folded
}

// queueSlack is how many keys more than there are sightings may wait before those that are over already are dropped.
const queueSlack = 64

// queue holds what the reader of events has been told and what is true now, and tells it the difference. So it is bounded by
// the caches, a slow reader misses only what is over, and no one waits for it.
type queue struct {
	mu     sync.Mutex
	want   map[key]Event // guarded by mu
	told   map[key]Event // guarded by mu
	order  []key         // guarded by mu; keys that may differ, each once
	queued map[key]bool  // guarded by mu; the keys in order
	wake   chan struct{} // capacity 1
}

func newQueue() *queue {
	return &queue{want: map[key]Event{}, told: map[key]Event{}, queued: map[key]bool{}, wake: make(chan struct{}, 1)}
}

// set says what is true of k now; nil means gone.
func (q *queue) set(k key, e *Event) {
	q.mu.Lock()
	if e == nil {
		delete(q.want, k)
	} else {
		q.want[k] = *e
	}
	if !q.queued[k] {
		q.queued[k] = true
		q.order = append(q.order, k)
	}
	if len(q.order) > len(q.want)+len(q.told)+queueSlack {
		q.order = slices.DeleteFunc(q.order, q.over)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// over drops a key that the reader never heard of and need not any more. The caller holds mu.
func (q *queue) over(k key) bool {
	_, wanted := q.want[k]
	_, told := q.told[k]
	if wanted || told {
		return false
	}
	delete(q.queued, k)
	return true
}

// next returns the next difference and counts it as told.
func (q *queue) next() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) > 0 {
		k := q.order[0]
		q.order = q.order[1:]
		delete(q.queued, k)
		e, wanted := q.want[k]
		old, told := q.told[k]
		switch {
		case wanted && k.instance == "":
			if told {
				// Where it was heard last is no news.
				continue
			}
			e.Op = Clone
		case wanted && !told:
			e.Op = Found
		case wanted && !e.equal(old):
			e.Op = Changed
		case !wanted && told:
			delete(q.told, k)
			old.Op = Gone
			if k.instance == "" {
				old.Op = CloneGone
			}
			return old, true
		default:
			continue
		}
		q.told[k] = e
		e.TXT, e.Addrs = maps.Clone(e.TXT), slices.Clone(e.Addrs)
		return e, true
	}
	return Event{}, false
}

// deliver sends differences until ctx ends.
func (q *queue) deliver(ctx context.Context, out chan<- Event) {
	for {
		e, ok := q.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case out <- e:
		}
	}
}
