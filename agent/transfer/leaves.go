package transfer

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"nigh/agent/content"
)

// An inquiry asks holders for all leaves of a file whose hash is known, one after the other, until one of them has them right.
type inquiry struct {
	p       *pull
	l       *largeFile
	ctx     context.Context // of the requests
	end     context.CancelCauseFunc
	wanted  context.Context // ends with the first answer that is right: no further request is made
	answers chan leavesAnswer
	asked   map[*holder]bool
	open    int          // of them have not answered
	heard   atomic.Int64 // when one was asked or a leaf came, since clock
}

type leavesAnswer struct {
	leaves []content.Leaf
	err    error
}

// provenLeaves returns all leaves of a file whose hash is known, from a holder that has them right. One that has them wrong is dropped. h
// is asked first, and with held one of its slots is taken already; when h is nil the choice is free. When no leaf came for a while
// another holder is asked too.
func (p *pull) provenLeaves(ctx context.Context, l *largeFile, h *holder, held bool) ([]content.Leaf, error) {
	ctx, end := context.WithCancelCause(ctx)
	wanted, found := context.WithCancel(ctx)
	q := &inquiry{p: p, l: l, ctx: ctx, end: end, wanted: wanted, answers: make(chan leavesAnswer), asked: map[*holder]bool{}}
	if h != nil {
		q.ask(h, held)
	} else {
		q.next()
	}
	leaves, err := q.first()
	found()
	if q.open == 0 || err != nil {
		end(nil)
		q.drain(nil)
		return leaves, err
	}
	// To give up a request under way costs its connection, which brings groups: who was too late ends its answer, while there is something
	// to bring.
	done := p.board.done
	p.group.Go(func() error {
		q.drain(done)
		end(nil)
		return nil
	})
	return leaves, nil
}

// drain waits for those that were asked, and breaks their requests off when done is closed.
func (q *inquiry) drain(done <-chan struct{}) {
	for q.open > 0 {
		select {
		case <-q.answers:
			q.open--
		case <-done:
			q.end(nil)
			done = nil
		}
	}
}

// first waits for the first answer that is right.
func (q *inquiry) first() ([]content.Leaf, error) {
	err := error(ErrPeerGone)
	timer := time.NewTimer(q.p.e.proveNext)
	defer timer.Stop()
	for q.open > 0 {
		select {
		case a := <-q.answers:
			q.open--
			if a.err == nil {
				return a.leaves, nil
			}
			err = a.err
			q.next()
		case <-timer.C:
			quiet := time.Since(clock.Add(time.Duration(q.heard.Load())))
			if quiet >= q.p.e.proveNext {
				q.next()
				quiet = 0
			}
			timer.Reset(q.p.e.proveNext - quiet)
		case <-q.ctx.Done():
			return nil, context.Cause(q.ctx)
		}
	}
	if q.ctx.Err() != nil {
		return nil, context.Cause(q.ctx)
	}
	return nil, err
}

// next asks one more holder, if there is one: the least busy, and of those the fastest.
func (q *inquiry) next() {
	var best *holder
	var waiting int
	var speed float64
	b := q.p.board
	for _, h := range b.rootedAll(q.l) {
		if q.asked[h] {
			continue
		}
		n := len(q.p.e.slotsOf(h.peer))
		b.mu.Lock()
		s := h.speed
		b.mu.Unlock()
		if best == nil || n < waiting || n == waiting && s > speed && !h.origin {
			best, waiting, speed = h, n, s
		}
	}
	if best != nil {
		q.ask(best, false)
	}
}

func (q *inquiry) ask(h *holder, held bool) {
	q.asked[h] = true
	q.open++
	q.came()
	go func() {
		leaves, err := q.all(h, held)
		q.answers <- leavesAnswer{leaves, err} // provenLeaves, or who drains after it, takes it
	}()
}

func (q *inquiry) came() { q.heard.Store(int64(time.Since(clock))) }

// all fetches all leaves from one holder, and judges it.
func (q *inquiry) all(h *holder, held bool) ([]content.Leaf, error) {
	p, l := q.p, q.l
	defer func() {
		if held {
			<-p.e.slotsOf(h.peer) // nothing was asked
		}
	}()
	leaves := make([]content.Leaf, 0, len(l.leaves))
	for len(leaves) < len(l.leaves) {
		if q.wanted.Err() != nil {
			return nil, context.Cause(q.wanted)
		}
		get := p.getFrom
		if !h.origin && !held {
			select {
			case p.e.slotsOf(h.peer) <- struct{}{}:
				held = true
			case <-q.wanted.Done():
				return nil, context.Cause(q.wanted)
			}
		}
		if held {
			get, held = p.getHeld, false
		}
		from, to := len(leaves), min(len(leaves)+maxLeaves, len(l.leaves))
		body, _, end, err := get(q.ctx, h, p.leavesPath(h, l, from, to), "", nil)
		if err == nil {
			leaves = leaves[:to]
			if err = readLeaves(body, leaves[from:], q.came); err != nil {
				err = p.lost(q.ctx, err)
			}
			end(err == nil)
		}
		if err != nil {
			if !h.origin && q.ctx.Err() == nil {
				p.rest(h, err)
			}
			return nil, err
		}
	}
	if content.Root(leaves) != l.Hash {
		err := fmt.Errorf("%w: leaves of entry %d", ErrVerify, l.Index)
		p.drop(h, err)
		return nil, err
	}
	return leaves, nil
}

// leavesPath is where a holder serves the leaves of the groups [from, to).
func (p *pull) leavesPath(h *holder, l *largeFile, from, to int) string {
	of := "/v1/b/" + l.Hash.String() + "/tree"
	if h.origin {
		of = p.t.path(fmt.Sprintf("/tree/%d", l.Index))
	}
	return fmt.Sprintf("%s?from=%d&to=%d", of, from, to)
}

// originLeaves asks the transfer's own peer for the leaves of the groups [from, to).
func (p *pull) originLeaves(ctx context.Context, l *largeFile, from, to int) ([]content.Leaf, error) {
	body, _, end, err := p.getFrom(ctx, p.origin, p.leavesPath(p.origin, l, from, to), "", nil)
	if err != nil {
		return nil, err
	}
	leaves := make([]content.Leaf, to-from)
	err = readLeaves(body, leaves, func() {})
	end(err == nil)
	if err != nil {
		return nil, p.lost(ctx, err)
	}
	return leaves, nil
}

// readLeaves fills leaves, and calls came after each.
func readLeaves(in io.Reader, leaves []content.Leaf, came func()) error {
	for i := range leaves {
		if _, err := io.ReadFull(in, leaves[i][:]); err != nil {
			return err
		}
		came()
	}
	return nil
}
