package agent

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"nigh/link"
)

// How often a device that tells strangers no name goes by new ones.
const (
	renameAfter  = 4 * time.Hour // on the links where it is, and up to renameSpread later
	renameSpread = time.Hour
	renameBurst  = 3 // on links that come one after the other
	renamePause  = time.Minute
)

// renaming decides when the random names and tags in mDNS give way to new ones: whenever this device comes to another
// network, so that nobody there knows it by what was said elsewhere. A link that comes and goes, or links by the
// hundred, do not make it change more often than renamePause says. Its methods are for one goroutine.
type renaming struct {
	limit *rate.Limiter
	here  map[int][]netip.Prefix // the networks of each link in use but groups, by ifindex
	said  bool                   // the names of now were on a link
}

func newRenaming() *renaming {
	return &renaming{limit: rate.NewLimiter(rate.Every(renamePause), renameBurst)}
}

// arrived takes the links as they are now and reports whether new names are to be used from here on.
func (r *renaming) arrived(links []link.Link) bool {
	before := r.here
	r.here = map[int][]netip.Prefix{}
	elsewhere := false
	for _, l := range links {
		// Who is in a group knows us, or our user was asked about it.
		if !l.Usable || l.Kind == link.Direct {
			continue
		}
		nets := networks(l.Prefixes)
		old, known := before[l.Index]
		elsewhere = elsewhere || !known || len(old) > 0 && len(nets) > 0 && !overlap(old, nets)
		if len(nets) == 0 {
			nets = old // between two networks a link has none
		}
		r.here[l.Index] = nets
	}
	if !elsewhere {
		return false
	}
	again := r.said
	r.said = true
	return again && r.limit.Allow()
}

// again is when names that are in use give way although nothing happened.
func (r *renaming) again() time.Duration { return renameAfter + rand.N(renameSpread) }

// networks are those of addresses that are not the same on every link.
func networks(addrs []netip.Prefix) (nets []netip.Prefix) {
	for _, p := range addrs {
		if !p.Addr().IsLinkLocalUnicast() {
			nets = append(nets, p.Masked())
		}
	}
	return nets
}

func overlap(a, b []netip.Prefix) bool {
	for _, p := range a {
		for _, q := range b {
			if p.Overlaps(q) {
				return true
			}
		}
	}
	return false
}
