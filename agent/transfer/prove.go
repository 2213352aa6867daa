package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// errUnproved means that groups were not asked of a holder, because the sender did not say what is right.
var errUnproved = errors.New("transfer: the leaves are not known")

// prove fetches all leaves of a file whose hash is known, unless that was begun: they decide about what the holders sent. h, which is about
// to be asked for groups, is asked for them first.
func (p *pull) prove(l *largeFile, h *holder) {
	b := p.board
	b.mu.Lock()
	begun := l.proving
	if !begun {
		l.proving = true
		b.proving++
		l.ref()
	}
	b.mu.Unlock()
	if begun {
		return
	}
	// Behind the groups that its workers ask for the leaves would come late, and nothing counts before.
	held := false
	select {
	case p.e.slotsOf(h.peer) <- struct{}{}:
		held = true
	default:
	}
	p.group.Go(func() error {
		p.proveAll(p.ctx, l, h, held)
		return nil
	})
}

func (p *pull) proveAll(ctx context.Context, l *largeFile, h *holder, held bool) {
	w := p.folder.NewWriter()
	defer w.Close()
	leaves, err := p.provenLeaves(ctx, l, h, held)
	liars := p.settleClaims(l, leaves)
	if err != nil {
		p.e.log.Debug("Leaves not fetched", "transfer", p.t.rec.ID, "entry", l.Index, "err", err)
	}
	for h := range liars {
		p.drop(h, fmt.Errorf("%w: groups of entry %d", ErrVerify, l.Index))
	}
	b := p.board
	b.mu.Lock()
	b.proving--
	l.proving = leaves != nil
	b.again(l)
	b.tell()
	b.mu.Unlock()
	p.release(w, l)
}

// settleClaims holds what was written against the leaves, and counts what is right. Without leaves what is not proved is forgotten. It
// returns who sent something wrong.
func (p *pull) settleClaims(l *largeFile, leaves []content.Leaf) map[*holder]bool {
	liars, right := map[*holder]bool{}, map[*holder]int64{}
	var lost int64
	l.mu.Lock()
	for i, c := range l.unproved {
		_, n := content.GroupBounds(l.Size, i)
		switch {
		case leaves == nil:
			l.asked.clear(i)
		case c.leaf == leaves[i]:
			l.hasLocked(i, c.leaf)
			right[c.h] += n
		default:
			l.asked.clear(i)
			liars[c.h] = true
		}
	}
	clear(l.unproved)
	for i := range leaves {
		if l.have.has(i) && l.leaves[i] != leaves[i] {
			_, n := content.GroupBounds(l.Size, i)
			lost += n
			l.have.clear(i)
			l.asked.clear(i)
			l.missing++
			liars[p.origin] = true
		}
		l.leaves[i] = leaves[i]
		l.proved.set(i)
	}
	l.mu.Unlock()
	for h, n := range right {
		p.counted(h, n)
	}
	if lost > 0 {
		p.recount(-lost)
	}
	return liars
}

// rootedAll returns the holders that can be asked for a file whose hash is known, the transfer's own peer last.
func (b *board) rootedAll(l *largeFile) []*holder {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var list []*holder
	for _, h := range b.holders {
		if !h.origin && h.live(now) && h.roots[l.Hash] && !l.Hash.IsZero() && !l.refused[h] {
			list = append(list, h)
		}
	}
	if o := b.p.origin; o.live(now) && !l.refused[o] {
		list = append(list, o)
	}
	return list
}

// rooted returns a holder beside the transfer's own peer that has a file by its hash, nil when there is none.
func (b *board) rooted(l *largeFile) *holder {
	if list := b.rootedAll(l); len(list) > 0 && !list[0].origin {
		return list[0]
	}
	return nil
}

// settled forgets what holders said of a file that is whole or failed.
func (b *board) settled(entry int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.holders {
		delete(h.maps, entry)
	}
}

// proveRun asks the sender for the leaves of the groups [from, to) that are not known: it decides what its file is, whoever brings it.
func (p *pull) proveRun(ctx context.Context, l *largeFile, from, to int) error {
	l.proofs.Lock()
	defer l.proofs.Unlock()
	for {
		a, z := p.unknown(l, from, to)
		if a == z {
			return nil
		}
		leaves, err := p.askLeaves(ctx, l, a, z)
		if err != nil {
			return fmt.Errorf("%w: %w", errUnproved, err)
		}
		l.mu.Lock()
		for i, leaf := range leaves {
			if !l.have.has(a + i) {
				l.leaves[a+i] = leaf
			}
			l.proved.set(a + i)
		}
		l.mu.Unlock()
	}
}

// unknown returns a run of groups that begins with the first one of [from, to) whose leaf is not known and goes on as long as another
// holder has groups, for the sender has made those leaves before.
func (p *pull) unknown(l *largeFile, from, to int) (a, z int) {
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	theirs := func(i int) bool {
		for _, h := range b.holders {
			if h.maps[l.Index].has(i) {
				return true
			}
		}
		return false
	}
	for a = from; a < to && l.proved.has(a); {
		a++
	}
	for z = a; z < len(l.leaves) && z-a < maxLeaves && a < to && (z < to || theirs(z)); {
		z++
	}
	return a, z
}

// askLeaves asks the sender for leaves beside its data, which may be slow.
func (p *pull) askLeaves(ctx context.Context, l *largeFile, from, to int) ([]content.Leaf, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nigh"+p.t.path(fmt.Sprintf("/tree/%d?from=%d&to=%d", l.Index, from, to)), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	resp, err := p.e.cfg.Peers.Control(p.t.rec.Peer).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	if resp.StatusCode/100 != 2 {
		_, err := readRefusal(resp)
		return nil, err
	}
	defer resp.Body.Close()
	leaves := make([]content.Leaf, to-from)
	if err := readLeaves(resp.Body, leaves, func() {}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	return leaves, nil
}

// came notes that a device is near: what waits for it goes on.
func (p *pull) came(peer identity.DeviceID) {
	b := p.board
	b.mu.Lock()
	for _, o := range b.holders {
		if o.peer == peer && o.dropped == nil {
			o.away, o.tries = time.Time{}, 0
			b.tell()
		}
	}
	b.mu.Unlock()
	signal(p.woken)
}
