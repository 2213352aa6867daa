package transfer

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// clock is the zero of times that are kept as numbers.
var clock = time.Now()

// A holder is a device that content of a transfer is asked of: its own peer, or another one that has the same.
type holder struct {
	peer   identity.DeviceID
	origin bool         // the transfer's own peer
	heard  atomic.Int64 // when it last sent something, since clock

	// Guarded by board.mu.
	running int                   // tasks
	tries   int                   // that failed, one after the other
	away    time.Time             // it is not asked before
	dropped error                 // why it is asked for nothing any more
	speed   float64               // bytes a second of one request, lately
	full    time.Time             // swarm: the sender has given all that we lack to others; it is not asked for more before
	roots   map[content.Hash]bool // what it shares with us
	swarm   string                // name of the content between us and it, which goes to both; "" when it has not said that it has it
	maps    map[int]bitmap        // swarm: by entry, the groups that it has
	asked   bool                  // it has answered, or not, once
}

// A HolderShare is what came from one device.
type HolderShare struct {
	Peer    identity.DeviceID `json:"peer"`
	Bytes   int64             `json:"bytes"`             // verified
	Dropped string            `json:"dropped,omitempty"` // word of the error for which it was asked no more, see Code
	Active  bool              `json:"-"`                 // it is being asked
}

func (h *holder) live(now time.Time) bool { return h.dropped == nil && !now.Before(h.away) }

// useful reports whether it has said that it has something.
func (h *holder) useful() bool {
	return h.dropped == nil && (h.origin || len(h.roots) > 0 || h.swarm != "")
}

// work asks one holder for what is missing, until there is nothing.
func (p *pull) work(ctx context.Context, h *holder) error {
	w := p.folder.NewWriter()
	defer w.Close()
	for {
		k, err := p.board.next(ctx, h)
		if k == nil {
			return err
		}
		p.asks(h)
		var again []smallFile
		switch {
		case !p.room(k):
		case k.large != nil:
			err = p.fetchGroups(k.ctx, k)
		case !h.origin:
			err = p.fetchByRoot(k.ctx, w, h, k.batch, k.there)
		case k.there:
			err = p.keepBatch(k.ctx, w, k.batch)
		default:
			err = p.fetchBatch(k.ctx, w, k.batch)
		}
		taken := errors.Is(context.Cause(k.ctx), errTaken)
		if err != nil && k.large == nil {
			for _, f := range k.batch {
				if !p.isSettled(f.Index) {
					again = append(again, f)
				}
			}
		}
		p.board.over(k, again)
		if k.large != nil {
			p.release(w, k.large)
			if k.drop {
				p.release(w, k.large)
			}
		}
		p.asks(h)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if taken {
			p.rest(h, ErrPeerGone)
			continue
		}
		if err == nil && h.origin && (len(k.batch) > 0 || k.to > k.from) {
			p.adapt(time.Since(k.began))
		}
		if err := p.judge(ctx, k, err); err != nil {
			return err
		}
	}
}

// judge decides what an error of a task means for its holder; the error that it returns ends the pull.
func (p *pull) judge(ctx context.Context, k *task, err error) error {
	b, h := p.board, k.h
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		h.tries, h.away = 0, time.Time{}
		if n := k.at.Load() - int64(k.from); k.large != nil && n > 0 {
			speed := float64(n*content.GroupSize(k.large.Size)) / max(time.Since(k.began).Seconds(), 1e-3)
			if h.speed > 0 {
				speed = (h.speed + speed) / 2
			}
			h.speed = speed
		}
		return nil
	}
	word := Code(err)
	lost := word == Code(ErrPeerGone) || word == Code(ErrBusy)
	if h.origin {
		if lost || word == Code(ErrVerify) {
			p.firstAsked(ctx)
		}
		switch {
		case !b.others(h), !lost && word != Code(ErrVerify):
			return err
		case word == Code(ErrVerify):
			p.drop(h, err)
			return nil
		}
		if p.rest(h, err) > retries && b.stuck() {
			return err
		}
		return nil
	}
	switch {
	case lost, errors.Is(err, errUnproved):
		p.rest(h, err)
	case word == Code(ErrWithdrawn), word == Code(ErrNotFound), word == Code(ErrChanged), word == Code(ErrUnreadable):
		p.rest(h, err)
		if k.large != nil && h.roots[k.large.Hash] {
			k.large.refuse(h)
		} else if k.large == nil {
			b.forget(h, k.batch)
		}
	case word == Code(ErrVerify), word == Code(ErrProtocol), word == Code(ErrTooLarge), word == Code(ErrRefused):
		p.drop(h, err)
	default:
		return err // of this device: its disk
	}
	return nil
}

// rest leaves a holder alone for a while, longer each time, and returns how often it was so.
func (p *pull) rest(h *holder, why error) int {
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	h.away = time.Now().Add(min(retryLast, retryFirst<<min(h.tries, 10)))
	h.tries++
	b.tell()
	p.e.log.Debug("Holder is asked again later", "transfer", p.t.rec.ID, "holder", h.peer.Short(), "err", why)
	return h.tries
}

// stuck reports whether nothing has come for long and nothing is under way.
func (b *board) stuck() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.active) == 0 && time.Since(b.moved) > stuckAfter
}

// forget notes that h does not have the content of some files any more.
func (b *board) forget(h *holder, batch []smallFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range batch {
		delete(h.roots, batch[i].Hash)
	}
}

// drop asks a holder for nothing any more, and names it.
func (p *pull) drop(h *holder, why error) {
	b := p.board
	b.mu.Lock()
	first := h.dropped == nil
	if first {
		h.dropped = why
	}
	b.tell()
	b.mu.Unlock()
	if !first {
		return
	}
	p.e.log.Warn("Holder dropped", "transfer", p.t.rec.ID, "holder", h.peer, "name", p.e.cfg.Name(h.peer), "err", why)
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.t.holder(h.peer).Dropped = Code(why)
	p.e.changedLocked(p.t)
}

// holder returns what is known of the bytes of a device; with Engine.mu held.
func (t *transfer) holder(peer identity.DeviceID) *HolderShare {
	for i := range t.rec.Holders {
		if t.rec.Holders[i].Peer == peer {
			return &t.rec.Holders[i]
		}
	}
	t.rec.Holders = append(t.rec.Holders, HolderShare{Peer: peer})
	return &t.rec.Holders[len(t.rec.Holders)-1]
}

// asks notes whether a holder is being asked, for showing.
func (p *pull) asks(h *holder) {
	p.board.mu.Lock()
	running, n := h.running > 0, 0
	for _, o := range p.board.holders {
		if o.running > 0 {
			n++
		}
	}
	p.board.mu.Unlock()
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if !h.origin || n > 1 || len(p.t.rec.Holders) > 0 {
		p.t.holder(h.peer).Active = running
	}
	p.t.sources = max(1, n)
}

// counted reports bytes of a holder that were verified and written.
func (p *pull) counted(h *holder, n int64) {
	p.board.mu.Lock()
	p.board.moved = time.Now()
	p.board.mu.Unlock()
	p.e.mu.Lock()
	p.t.holder(h.peer).Bytes += n
	p.e.mu.Unlock()
	p.e.progressed(p.t, n, n)
	if p.unjournaled.Add(n) >= journalBytes {
		signal(p.due)
	}
}

// seek finds other holders while content is fetched: it asks the devices that are near whether they have it, and again as they come. g
// gets the workers.
func (p *pull) seek(ctx context.Context, g *errgroup.Group) error {
	tick := time.NewTicker(nearEvery)
	defer tick.Stop()
	told := int64(0)
	for {
		select {
		case <-p.board.done:
			return nil
		case <-ctx.Done():
			return nil // the worker that failed says why
		case <-tick.C:
		case <-p.woken:
		}
		for _, h := range p.addNear() {
			g.Go(func() error { return p.follow(ctx, g, h) })
		}
		if p.t.rec.Offer.Swarm == "" {
			continue
		}
		// The sender sees only what it sends itself.
		p.e.mu.Lock()
		done := p.t.rec.Done
		p.e.mu.Unlock()
		if done != told {
			told = done
			p.e.tellRunning(p.t, done)
		}
	}
}

// addNear returns devices that are near and not followed yet.
func (p *pull) addNear() (found []*holder) {
	if !p.shared {
		return nil
	}
	b := p.board
	for _, peer := range p.e.cfg.Near() {
		b.mu.Lock()
		if peer != p.t.rec.Peer && len(b.holders) <= maxAsked && !slices.ContainsFunc(b.holders, func(h *holder) bool { return h.peer == peer }) {
			h := &holder{peer: peer, maps: map[int]bitmap{}, roots: map[content.Hash]bool{}}
			b.holders = append(b.holders, h)
			found = append(found, h)
		}
		b.mu.Unlock()
	}
	return found
}

// hashed reports whether the hash of a file is known.
func (m *manifest) hashed() bool {
	for c := m.from(0); ; {
		e, ok := c.next()
		if !ok || !e.Hash.IsZero() {
			return ok
		}
	}
}

// A window is the next hashes of the manifest, which other devices are asked for.
type window struct {
	number int // of windows
	last   int // entry at which the next one begins
	roots  []content.Hash
}

// look moves the window when the planner comes to its end.
func (p *pull) look(entry int) {
	if !p.shared || p.t.rec.Offer.Swarm != "" {
		return
	}
	b := p.board
	b.mu.Lock()
	over := entry >= b.window.last
	b.mu.Unlock()
	if !over {
		return
	}
	next := window{last: p.m.entries()}
	for c := p.m.from(entry); len(next.roots) < haveRoots; {
		e, ok := c.next()
		if !ok {
			break
		}
		if next.last = e.Index + 1; !e.Dir && !e.Hash.IsZero() && !p.isWritten(e.Index) {
			next.roots = append(next.roots, e.Hash)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next.number = b.window.number + 1
	b.window = next
	b.tell()
}

// follow keeps what is known of a device up to date, and starts its workers when it turns out to be a holder. It ends with the fetching.
func (p *pull) follow(ctx context.Context, g *errgroup.Group, h *holder) error {
	b := p.board
	defer p.round(h)
	working := false
	asked, when := 0, time.Time{} // the window that it was asked about last
	wait := followMin
	for {
		b.mu.Lock()
		look := b.window
		b.mu.Unlock()
		if look.number == asked && time.Since(when) < rootsAgain {
			look.roots = nil
		}
		changed := false
		if len(look.roots) > 0 || p.t.rec.Offer.Swarm != "" {
			answer, err := p.e.askHave(ctx, h.peer, p.question(h, look.roots))
			var useful bool
			if useful, changed = p.learn(h, look.roots, answer, err); useful && !working {
				working = true
				for range inFlight {
					g.Go(func() error { return p.work(ctx, h) })
				}
			}
			if err == nil && len(look.roots) > 0 {
				asked, when = look.number, time.Now()
			}
		}
		p.round(h)
		if wait = min(2*wait, followMax); changed {
			wait = followMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.done:
		case <-ctx.Done():
		}
		timer.Stop()
		select {
		case <-b.done:
			return nil
		case <-ctx.Done():
			return nil // the worker that failed says why
		default:
		}
	}
}

// round notes that a device has answered, or not, for the first time.
func (p *pull) round(h *holder) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	if !h.asked {
		h.asked = true
		p.board.tell()
	}
}

// firstAsked waits, not for long, until every device that is near has said whether it has something.
func (p *pull) firstAsked(ctx context.Context) {
	timer := time.NewTimer(followMax)
	defer timer.Stop()
	b := p.board
	for {
		b.mu.Lock()
		news, all := b.news, !slices.ContainsFunc(b.holders, func(h *holder) bool { return !h.asked && !h.origin })
		b.mu.Unlock()
		if all {
			return
		}
		select {
		case <-news:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// question is what a device is asked about this transfer.
func (p *pull) question(h *holder, roots []content.Hash) haveRequest {
	q := haveRequest{Version: version, Roots: roots}
	if token := p.t.rec.Offer.Swarm; token != "" {
		q.Name = swarmName(token, p.e.cfg.Self, h.peer)
		p.mu.Lock()
		for i := range p.large {
			if len(q.Entries) < haveEntries {
				q.Entries = append(q.Entries, i)
			}
		}
		p.mu.Unlock()
	}
	return q
}

// learn takes a device's answer, and reports whether the device has something and whether that changed.
func (p *pull) learn(h *holder, roots []content.Hash, a haveAnswer, err error) (useful, changed bool) {
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if errors.Is(err, ErrPeerGone) {
			changed = len(h.maps) > 0
			clear(h.maps) // others are to bring what only it had
		}
		if changed {
			b.tell()
		}
		return h.useful(), changed
	}
	for i, root := range roots {
		if a.Roots.has(i) != h.roots[root] {
			changed = true
			if h.roots[root] = a.Roots.has(i); !h.roots[root] {
				delete(h.roots, root)
			}
		}
	}
	if token := p.t.rec.Offer.Swarm; token != "" {
		was := h.swarm
		if h.swarm = ""; a.Named {
			h.swarm = swarmName(token, p.e.cfg.Self, h.peer)
		}
		changed = changed || h.swarm != was
		for i, groups := range a.Groups {
			if !slices.Equal(h.maps[i], groups) {
				h.maps[i] = groups
				changed = true
			}
		}
	}
	if changed {
		if h.dropped == nil && h.away.After(time.Now()) && h.tries <= 1 {
			h.away = time.Time{}
		}
		b.tell()
	}
	return h.useful(), changed
}
