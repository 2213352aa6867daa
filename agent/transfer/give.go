package transfer

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// given is what is remembered of a file that is served to several devices: its leaves, so that each is made once, and which device was
// given which group when. It is made with sized.
type given struct {
	leaves leaves
	mu     sync.Mutex
	when   []int64             // by group: the last time that it left, or was about to, since clock; 0 never
	whom   []uint8             // by group: place in peers
	peers  []identity.DeviceID // at most maxGiven
	out    int                 // groups that were given, repeats included
}

// sized makes g ready for a file of size bytes.
func (g *given) sized(size int64) *given {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := content.Groups(size); len(g.when) != n {
		g.leaves.sized(n)
		g.when, g.whom = make([]int64, n), make([]uint8, n)
	}
	return g
}

// known returns the leaves that are remembered, nil when none are.
func (g *given) known() *leaves {
	if g == nil {
		return nil
	}
	return &g.leaves
}

// choose takes a run of at most most groups out of lack for a peer: such as no other device was given, else those that were given so long
// ago that their receiver seems not to hand them on. to is 0 when there is none.
func (g *given) choose(peer identity.DeviceID, lack bitmap, most int, now time.Time) (from, to int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	me := slices.Index(g.peers, peer)
	if me < 0 {
		if len(g.peers) < maxGiven {
			g.peers = append(g.peers, peer)
		}
		me = len(g.peers) - 1
	}
	at := max(1, int64(now.Sub(clock)))
	old := int64(-1)
	for i, when := range g.when {
		if !lack.has(i) {
			continue
		}
		if when != 0 && at-when < g.patience(i, me) {
			continue
		}
		if old < 0 || when < old {
			from, old = i, when
		}
		if old == 0 {
			break
		}
	}
	if old < 0 {
		return 0, 0
	}
	for to = from; to < len(g.when) && to-from < most && lack.has(to); to++ {
		if when := g.when[to]; when != 0 && (old == 0 || at-when < g.patience(to, me)) {
			break
		}
		g.when[to], g.whom[to] = at, uint8(me)
		g.out++
	}
	return from, to
}

// patience is how long group i is not given again: its receiver hands it on, or asks once more because it did not arrive.
func (g *given) patience(i, me int) int64 {
	if int(g.whom[i]) == me {
		return int64(giveOnce)
	}
	if 2*g.out > 3*len(g.when) {
		return int64(giveLate) // they pass it on, but slowly
	}
	return int64(giveAgain)
}

// leaving notes that the groups [from, to) are still on their way.
func (g *given) leaving(from, to int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := max(1, int64(time.Since(clock)))
	for i := from; i < to; i++ {
		g.when[i] = at
	}
}

// back notes that the groups [from, to) did not leave.
func (g *given) back(from, to int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.when[from:to])
	g.out -= to - from
}

// givings are the files of one source that are sent to several devices.
type givings struct {
	mu    sync.Mutex
	files map[int]*given
	order []int // of files, the one begun first first
}

func (g *givings) of(e *Entry) *given {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[e.Index]
	if f == nil {
		if g.files == nil {
			g.files = map[int]*given{}
		}
		if len(g.order) >= maxGivings {
			delete(g.files, g.order[0])
			g.order = g.order[1:]
		}
		f = &given{}
		g.files[e.Index] = f
		g.order = append(g.order, e.Index)
	}
	return f.sized(e.Size)
}

// givingsOf returns those of the source of t, nil when it goes to one device.
func (e *Engine) givingsOf(t *transfer) *givings {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.rec.Offer.Swarm == "" {
		return nil
	}
	if e.givings == nil {
		e.givings = map[string]*givings{}
	}
	g := e.givings[t.rec.Source]
	if g == nil {
		g = &givings{}
		e.givings[t.rec.Source] = g
	}
	return g
}

// giveRequest is the body of POST /v1/x/{x}/file/{i}.
type giveRequest struct {
	Lack  bitmap `json:"lack"`  // groups that neither the caller nor those of the other receivers that it knows have
	Bytes int64  `json:"bytes"` // wanted at once
}

// serveGive answers groups that the caller lacks and that went to nobody else, or 204 when there are none now.
func (e *Engine) serveGive(q *request) error {
	entry, err := q.entry()
	if err != nil {
		return err
	}
	if q.files == nil || entry.Dir || entry.Size <= batchFile {
		return fmt.Errorf("%w: entry", ErrProtocol)
	}
	var req giveRequest
	if err := readJSON(q.r.Body, maxGiveBody, &req); err != nil {
		return err
	}
	group := content.GroupSize(entry.Size)
	most := max(1, int(min(req.Bytes, maxRange)/group))
	g := q.files.of(&entry)
	from, to := g.choose(q.peer, req.Lack, most, time.Now())
	if to == 0 {
		q.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	left := from
	defer func() { g.back(left, to) }()
	return q.file(&entry, from, to, g, func(i int) {
		left = i + 1
		g.leaving(i, to)
	})
}
