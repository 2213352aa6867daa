package transfer

import (
	"context"
	"errors"
	"time"

	"nigh/agent/identity"
)

// errYield ends a pull that makes room for one of a device that has none; it goes on when it is its turn again.
var errYield = errors.New("transfer: others have their turn")

func (e *Engine) atOnce() int {
	if e.limits.AtOnce > 0 {
		return e.limits.AtOnce
	}
	return MaxRunning
}

// startPulls gives the free turns to ready transfers, oldest first: first those of the devices that have fewest. A device that has none
// gets one of a device that has several, and one that waits the turn of a slow one. It returns when to look again, zero for when something
// changes; with mu held.
func (e *Engine) startPulls(ready []*transfer) (again time.Time) {
	of := map[identity.DeviceID]int{} // pulls that go on
	pulling := 0
	for _, t := range e.all {
		if t.cancel != nil && !t.yielding {
			of[t.rec.Peer]++
			pulling++
		}
	}
	next := func() (best *transfer) {
		for _, t := range ready {
			if t.busy {
				continue
			}
			fewer := best == nil || of[t.rec.Peer] < of[best.rec.Peer]
			if fewer || of[t.rec.Peer] == of[best.rec.Peer] && t.passed.Before(best.passed) {
				best = t
			}
		}
		return best
	}
	for t := next(); t != nil && e.running < e.atOnce(); t = next() {
		if !e.startPull(t) {
			return again
		}
		of[t.rec.Peer]++
		pulling++
	}
	for _, t := range ready {
		if t.tellQueued() {
			signal(e.kick)
		}
	}
	if t := next(); t != nil && of[t.rec.Peer] == 0 && pulling == e.running {
		if youngest := e.youngestPull(of, 2); youngest != nil {
			youngest.yield()
			pulling--
		}
	}
	if next() != nil && pulling == e.running {
		var slow *transfer
		now := time.Now()
		if slow, again = e.slowPull(now); slow != nil {
			e.log.Info("Slow transfer gives up its turn", "transfer", slow.rec.ID, "peer", slow.rec.Peer.Short())
			slow.passed = now
			slow.yield()
			pulling--
		}
	}
	for ; pulling > e.atOnce(); pulling-- { // the bound was lowered
		youngest := e.youngestPull(of, 1)
		if youngest == nil {
			return again
		}
		youngest.yield()
		of[youngest.rec.Peer]--
	}
	return again
}

// tellQueued has the sender of what was accepted told, once, that it waits for its turn, and reports whether that is news; with mu held.
func (t *transfer) tellQueued() bool {
	if t.busy || t.queued || t.rec.Notice != nil {
		return false
	}
	t.queued = true
	t.notify(&stateMessage{State: Queued})
	return true
}

// startPull starts the task that receives t; with mu held.
func (e *Engine) startPull(t *transfer) bool {
	ctx, cancel := context.WithCancelCause(e.runContext())
	if t.busy = e.start(func(context.Context) { e.pullAndSettle(ctx, t) }); !t.busy {
		cancel(nil)
		return false
	}
	t.cancel, t.queued, t.turn = cancel, false, turn{time.Now(), t.rec.Sent}
	if t.rec.Notice != nil && t.rec.Notice.State == Queued {
		t.rec.Notice = nil // not so any more
	}
	e.running++
	return true
}

// youngestPull returns what began last of the device that has most pulls, if those are at least so many. What is about to get its final
// name is left alone; with mu held.
func (e *Engine) youngestPull(of map[identity.DeviceID]int, least int) (found *transfer) {
	for _, t := range e.all {
		if t.cancel == nil || t.yielding || t.rec.State != Running || of[t.rec.Peer] < least {
			continue
		}
		if found == nil || of[t.rec.Peer] > of[found.rec.Peer] ||
			of[t.rec.Peer] == of[found.rec.Peer] && t.rec.Started.After(found.rec.Started) {
			found = t
		}
	}
	return found
}

// yield ends the pull of t for now, and has its sender told that it waits; with mu held.
func (t *transfer) yield() {
	t.yielding, t.queued = true, true
	t.notify(&stateMessage{State: Queued})
	t.cancel(errYield)
}
