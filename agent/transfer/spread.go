package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nigh/agent/content"
)

// A board is where the planner of a pull lays down what is missing, and the workers of all holders take it from. What a holder that was
// lost did not bring is laid down again.
type board struct {
	p    *pull
	done chan struct{} // closed when everything has come

	mu      sync.Mutex
	news    chan struct{} // closed and renewed when something changed for those who wait
	queue   []job         // one for a large file stays until all its groups were asked for, and keeps a reference to it
	active  []*task
	planned bool // nothing more will be laid down by the planner
	proving int  // files whose leaves are being fetched
	closed  bool // done is closed
	holders []*holder
	window  window
	moved   time.Time // when content last came
}

// A task is a job while a holder is asked for it.
type task struct {
	job
	h      *holder
	given  bool   // the sender chooses the groups, of those in lack
	lack   bitmap // with given
	drop   bool   // the queue's reference to the file is to be released too
	began  time.Time
	at     atomic.Int64 // the group that is coming
	limit  atomic.Int64 // groups from here on were given to another holder
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// errTaken ends a request whose groups another holder was asked for.
var errTaken = errors.New("transfer: taken over by another holder")

func newBoard(p *pull) *board {
	return &board{p: p, news: make(chan struct{}), done: make(chan struct{}), moved: time.Now()}
}

// tell wakes all who wait; with mu held.
func (b *board) tell() {
	close(b.news)
	b.news = make(chan struct{})
}

// put lays down a job of the planner, when there is room, and returns when that was taken. What belongs to a large file is laid down
// with a reference of its own.
func (b *board) put(ctx context.Context, j job) error {
	b.mu.Lock()
	b.queue = append(b.queue, j)
	b.tell()
	for {
		room := len(b.queue) == 0
		if j.large != nil {
			room = !slices.ContainsFunc(b.queue, func(o job) bool { return o.large == j.large })
		}
		if room {
			b.mu.Unlock()
			return nil
		}
		news := b.news
		b.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b.mu.Lock()
	}
}

// finish says that the planner has come to its end.
func (b *board) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.planned = true
	b.tell()
}

// drain gives back what was never taken.
func (b *board) drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, j := range b.queue {
		if j.large != nil {
			j.large.unref()
		}
	}
	b.queue = nil
}

// next returns what to ask the holder for, nil when there is nothing any more. It waits.
func (b *board) next(ctx context.Context, h *holder) (*task, error) {
	for {
		b.mu.Lock()
		now := time.Now()
		if h.dropped != nil && !h.origin {
			b.mu.Unlock()
			return nil, nil
		}
		if h.live(now) && b.mayAsk(h) {
			if k := b.pick(h, now); k != nil {
				k.h, k.began = h, now
				k.ctx, k.cancel = context.WithCancelCause(ctx)
				b.active = append(b.active, k)
				h.running++
				b.tell() // the planner may lay down more
				b.mu.Unlock()
				return k, nil
			}
		}
		if b.planned && len(b.queue) == 0 && len(b.active) == 0 && b.proving == 0 {
			if !b.closed {
				b.closed = true
				close(b.done)
				b.tell()
			}
			b.mu.Unlock()
			return nil, nil
		}
		if h.dropped != nil && len(b.active) == 0 && (!b.othersLocked(h) || now.Sub(b.moved) > stuckAfter) {
			err := h.dropped
			b.mu.Unlock()
			return nil, err
		}
		news := b.news
		wait := b.lookAgain(h, now)
		b.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// lookAgain is how long a worker waits at most when there was nothing to take; with mu held.
func (b *board) lookAgain(h *holder, now time.Time) time.Duration {
	wait := time.Minute
	if !h.away.IsZero() && h.dropped == nil {
		wait = max(h.away.Sub(now), time.Millisecond)
	}
	if b.several() || b.p.t.rec.Offer.Swarm != "" {
		wait = min(wait, takeLook)
	}
	return wait
}

// mayAsk reports whether one more holder may be asked now; with mu held. The transfer's own peer always may.
func (b *board) mayAsk(h *holder) bool {
	if h.running > 0 || h.origin {
		return true
	}
	n := 0
	for _, o := range b.holders {
		if o.running > 0 || o.origin {
			n++
		}
	}
	return n < int(b.p.e.sources.Load())
}

// othersLocked reports whether a holder beside h may still bring something; with mu held.
func (b *board) othersLocked(h *holder) bool {
	now := time.Now()
	return slices.ContainsFunc(b.holders, func(o *holder) bool { return o != h && o.useful() && o.live(now) })
}

// several reports whether a holder beside the transfer's own peer has something of it; with mu held.
func (b *board) several() bool {
	return slices.ContainsFunc(b.holders, func(o *holder) bool { return !o.origin && o.useful() })
}

func (b *board) others(h *holder) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.othersLocked(h)
}

// pick takes something that h can bring; with mu held.
func (b *board) pick(h *holder, now time.Time) *task {
	for i := 0; i < len(b.queue); i++ {
		j := b.queue[i]
		if j.large == nil {
			if mine, rest := b.split(h, j, now); len(mine.batch) > 0 {
				if len(rest.batch) > 0 {
					b.queue[i] = rest
				} else {
					b.queue = slices.Delete(b.queue, i, i+1)
				}
				return &task{job: mine}
			}
			continue
		}
		k, left := b.groups(h, j.large, now)
		if !left {
			b.queue = slices.Delete(b.queue, i, i+1)
			if k == nil {
				k = &task{job: job{large: j.large}}
				j.large.ref()
			}
			k.drop = true
		}
		if k != nil {
			return k
		}
	}
	return b.take(h, now)
}

// split parts the small files that h can be asked for from the others: all for the transfer's own peer, and while that is away those
// whose content h holds; with mu held.
func (b *board) split(h *holder, j job, now time.Time) (mine, rest job) {
	if h.origin {
		return j, job{}
	}
	if b.p.origin.live(now) {
		return job{}, j
	}
	mine.there, rest.there = j.there, j.there
	for _, f := range j.batch {
		if h.roots[f.Hash] && !f.Hash.IsZero() {
			mine.batch = append(mine.batch, f)
		} else {
			rest.batch = append(rest.batch, f)
		}
	}
	return mine, rest
}

// alone reports whether the sender need not be spared: no other receiver of the same is known; with mu held.
func (b *board) alone(now time.Time) bool {
	if b.p.t.rec.Offer.Swarm == "" || len(b.holders) == 1 {
		return true
	}
	return now.Sub(b.p.started) > swarmPatience && !slices.ContainsFunc(b.holders, func(o *holder) bool { return !o.origin && o.useful() })
}

// groups takes groups of a large file for h, with a reference to it, and reports whether there are groups left that nobody was asked for;
// with mu held.
func (b *board) groups(h *holder, l *largeFile, now time.Time) (k *task, left bool) {
	alone := b.alone(now)
	most := b.most(h, l)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.leaves)
	if l.failed != nil || l.missing == 0 {
		return nil, false
	}
	if l.refused[h] {
		return nil, true
	}
	free := func(i int) bool { return !l.have.has(i) && !l.asked.has(i) }
	switch {
	case h.origin && alone, h.roots[l.Hash] && !l.Hash.IsZero():
		for l.next < n && !free(l.next) {
			l.next++
		}
		k = l.take(l.next, most, free)
	case h.origin:
		if k = b.lacking(h, l, now, free); k != nil {
			return k, true
		}
	case h.swarm != "":
		proving := b.p.origin.live(now)
		groups := h.maps[l.Index]
		can := func(i int) bool { return groups.has(i) && free(i) && (proving || l.proved.has(i)) }
		first := rand.IntN(n)
		for i := range n {
			if g := (first + i) % n; can(g) {
				k = l.take(g, most, can)
				break
			}
		}
	}
	for i := l.next; i < n; i++ {
		if free(i) {
			return k, true
		}
	}
	return k, false
}

// take marks a run of groups as asked for; with l.mu held.
func (l *largeFile) take(from, most int, can func(int) bool) *task {
	to := from
	for to < len(l.leaves) && to-from < most && can(to) {
		l.asked.set(to)
		to++
	}
	if to == from {
		return nil
	}
	l.refs++
	k := &task{job: job{large: l, from: from, to: to}}
	k.at.Store(int64(from))
	k.limit.Store(int64(to))
	return k
}

// lacking asks the sender, of a content that goes to several devices, for groups that none of the others has. So each group leaves
// it about once; with the mutexes held.
func (b *board) lacking(h *holder, l *largeFile, now time.Time, free func(int) bool) *task {
	if now.Before(h.full) {
		return nil
	}
	dry := now.Sub(b.moved) > swarmDry // nobody brings what somebody has
	var theirs []bitmap
	for _, o := range b.holders {
		if m := o.maps[l.Index]; m != nil && !dry && o.dropped == nil {
			theirs = append(theirs, m)
		}
	}
	lack, any := newBitmap(len(l.leaves)), false
	for i := range l.leaves {
		if free(i) && !slices.ContainsFunc(theirs, func(m bitmap) bool { return m.has(i) }) {
			lack.set(i)
			any = true
		}
	}
	if !any {
		return nil
	}
	l.refs++
	return &task{job: job{large: l}, given: true, lack: lack}
}

// most is how many groups of l are asked of h at once: what it brings in some time, so that the holders end together.
func (b *board) most(h *holder, l *largeFile) int {
	bytes := b.p.portion.Load()
	if b.several() {
		if bytes = askMin; h.speed > 0 {
			bytes = min(b.p.usual(), int64(h.speed*askTime.Seconds()))
		}
	}
	return max(1, int(bytes/content.GroupSize(l.Size)))
}

// take hands to h, which has nothing else to do, groups that another holder was asked for and is slow to bring; with mu held.
func (b *board) take(h *holder, now time.Time) *task {
	if !b.planned && len(b.queue) == 0 || h.origin && !b.alone(now) && now.Sub(b.moved) < swarmDry {
		return nil
	}
	var from *task
	var longest float64
	for _, k := range b.active {
		if k.h == h || k.large == nil || k.given || k.limit.Load() <= k.at.Load() {
			continue
		}
		silent := now.Sub(k.heard()) > takeSilent
		left := float64((k.limit.Load() - k.at.Load()) * content.GroupSize(k.large.Size))
		needs := left / max(k.h.speed, 1)
		if !silent && (h.speed == 0 || needs < 2*takeLook.Seconds() || needs < 2*left/h.speed || k.limit.Load()-k.at.Load() < 2) {
			continue
		}
		if silent {
			needs = 1e9
		}
		if from == nil || needs > longest {
			from, longest = k, needs
		}
	}
	if from == nil {
		return nil
	}
	l := from.large
	at, limit := int(from.at.Load()), int(from.limit.Load())
	begin := at
	if longest < 1e9 {
		begin = at + (limit-at+1)/2
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil || l.refused[h] {
		return nil
	}
	can := func(i int) bool {
		if i >= limit || l.have.has(i) {
			return false
		}
		return h.origin || h.roots[l.Hash] && !l.Hash.IsZero() || h.maps[l.Index].has(i) && (l.proved.has(i) || b.p.origin.live(now))
	}
	for begin < limit && !can(begin) {
		begin++
	}
	k := l.take(begin, limit-begin, can)
	if k == nil {
		return nil
	}
	if k.to == limit {
		from.limit.Store(int64(begin))
	}
	if begin == at && k.to == limit {
		from.cancel(errTaken)
	}
	return k
}

// heard is when the holder of k was last heard of.
func (k *task) heard() time.Time {
	if t := clock.Add(time.Duration(k.h.heard.Load())); t.After(k.began) {
		return t
	}
	return k.began
}

// over ends k: groups that did not come are laid down again, as are the small files in again.
func (b *board) over(k *task, again []smallFile) {
	k.cancel(nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	k.h.running--
	b.active = slices.DeleteFunc(b.active, func(o *task) bool { return o == k })
	if len(again) > 0 {
		b.queue = slices.Insert(b.queue, 0, job{batch: again, there: k.there})
	}
	if l := k.large; l != nil {
		l.mu.Lock()
		for i := k.from; i < int(k.limit.Load()); i++ {
			if _, waits := l.unproved[i]; !waits {
				l.asked.clear(i)
			}
		}
		l.mu.Unlock()
		b.again(l)
	}
	b.tell()
}

// again lays a large file down that has groups nobody is asked for; with mu held.
func (b *board) again(l *largeFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = 0
	if l.failed != nil || l.missing == 0 || slices.ContainsFunc(b.queue, func(j job) bool { return j.large == l }) {
		return
	}
	for i := range l.leaves {
		if !l.have.has(i) && !l.asked.has(i) {
			l.refs++
			b.queue = slices.Insert(b.queue, 0, job{large: l})
			return
		}
	}
}
