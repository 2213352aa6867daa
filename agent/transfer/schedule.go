package transfer

import (
	"context"
	"sort"
	"time"

	"nigh/agent/identity"
)

// Wake says that a peer can be reached: what waits for it goes on at once. It does not block.
func (e *Engine) Wake(peer identity.DeviceID) {
	e.mu.Lock()
	for _, t := range e.all {
		another := t.rec.Direction == Receive && t.rec.Fetched && (t.rec.Hashed || t.rec.Offer.Swarm != "")
		if t.rec.Peer == peer || another {
			t.tries, t.earliest = 0, time.Time{}
			if t.pull != nil {
				t.pull.came(peer)
			}
		}
	}
	e.mu.Unlock()
	signal(e.kick)
}

// later plans the next try of t after a lost connection; with mu held.
func (t *transfer) later(now time.Time) {
	wait := min(retryLast, retryFirst<<min(t.tries, 10))
	t.tries++
	t.earliest = now.Add(wait)
	if t.tries > retries {
		t.earliest = now.Add(1 << 62) // until Wake
	}
}

// start runs a task that Run waits for, or returns false when Run does not run; with mu held. The task's context ends with Run.
func (e *Engine) start(task func(context.Context)) bool {
	if e.run == nil || e.run.Err() != nil {
		return false
	}
	ctx := e.run
	e.tasks.Go(func() { task(ctx) })
	return true
}

// schedule starts every task that can be started and returns when the next one can be, zero for never.
func (e *Engine) schedule() (next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	due := func(t *transfer) bool {
		if t.earliest.After(now) {
			if t.tries <= retries && (next.IsZero() || t.earliest.Before(next)) {
				next = t.earliest
			}
			return false
		}
		return true
	}
	var ready []*transfer // to be received
	for _, t := range e.inOrder() {
		r := &t.rec
		if r.Cleanup && !t.busy {
			t.busy = e.start(func(context.Context) { e.cleanup(t) })
			continue
		}
		if !t.telling && (r.Notice != nil && due(t) || r.Notice == nil && t.progress != nil) {
			t.ahead = r.Notice != nil && t.tries == 0
			t.telling = e.start(func(ctx context.Context) { e.tell(ctx, t) })
		}
		if t.busy || r.State != Queued {
			continue
		}
		switch {
		case r.Direction == Send && !r.Offered && due(t):
			t.busy = e.start(func(ctx context.Context) { e.offer(ctx, t) })
		case r.Direction == Receive && due(t) && (!t.telling || !t.ahead):
			ready = append(ready, t)
		}
	}
	if again := e.startPulls(ready); next.IsZero() || !again.IsZero() && again.Before(next) {
		next = again
	}
	return next
}

func (e *Engine) runContext() context.Context {
	if e.run == nil {
		return context.Background()
	}
	return e.run
}

// slotsOf returns what bounds the bulk requests to one peer. Transfers take turns in it, so that none starves, and a request's deadline
// begins when it has one.
func (e *Engine) slotsOf(peer identity.DeviceID) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.slots[peer] == nil {
		e.slots[peer] = make(chan struct{}, inFlight)
	}
	return e.slots[peer]
}

// inOrder returns the unfinished transfers, oldest first, so that none waits for ever; with mu held.
func (e *Engine) inOrder() []*transfer {
	var list []*transfer
	for _, t := range e.all {
		if !t.rec.State.Ended() || t.rec.Cleanup || t.rec.Notice != nil {
			list = append(list, t)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].rec.Started.Before(list[j].rec.Started) })
	return list
}
