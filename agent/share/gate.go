package share

import (
	"sync"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
)

// A gate bounds how often devices ask, each by itself, and how many searches run. The zero value is open.
type gate struct {
	mu        sync.Mutex
	callers   map[identity.DeviceID]*caller
	searching int
}

type caller struct{ requests, searches *rate.Limiter }

// request reports whether a device may make one more request.
func (g *gate) request(id identity.DeviceID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.of(id).requests.Allow()
}

// search reports whether a device may search now; done must be called after it, and reports whether no other search goes on.
func (g *gate) search(id identity.DeviceID) (done func() (last bool), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.searching >= maxSearching || !g.of(id).searches.Allow() {
		return nil, false
	}
	g.searching++
	return func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.searching--
		return g.searching == 0
	}, true
}

// of returns the limits of a device; with mu held. When there are too many, those that have been quiet begin anew.
func (g *gate) of(id identity.DeviceID) *caller {
	if c := g.callers[id]; c != nil {
		return c
	}
	if len(g.callers) >= maxCallers {
		for old, c := range g.callers {
			if c.requests.Tokens() >= requestBurst && c.searches.Tokens() >= searchBurst {
				delete(g.callers, old)
			}
		}
	}
	if g.callers == nil {
		g.callers = map[identity.DeviceID]*caller{}
	}
	c := &caller{rate.NewLimiter(requestRate, requestBurst), rate.NewLimiter(searchRate, searchBurst)}
	g.callers[id] = c
	return c
}
