package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
	"unicode/utf8"

	"nigh/agent/identity"
	"nigh/agent/receive"
)

// A SendRequest says what to send to whom.
type SendRequest struct {
	Paths []string            // absolute; files and folders
	To    []identity.DeviceID // each gets its own transfer
	Label string              // shown to the receiver instead of the first name; at most 255 bytes

	// What a device asked for: Tree instead of Paths, to that device alone, under the name that it chose.
	Tree   *Tree
	X      string // 32 hexadecimal digits; "" makes one
	Origin string // kept with the transfer, for the caller
}

// Send lists the paths, which may take a while for large folders and ends with ctx, and makes one transfer for each receiver. The
// transfers are offered as soon as their peers can be reached, which may be after many starts of this device; Send does not wait for
// that. Until then they are in the outbox, and when they leave it, it is what then lies under the paths that is offered. Links and special files are skipped and
// counted in the transfers. It returns [ErrUnreadable] naming the file, [ErrNotRegular], [ErrName], [ErrNothing], [ErrTooLarge] or
// [ErrOutbox] before anything is offered to anyone. Asked for the same X again it returns the transfer there is. What a Tree does not have
// is [ErrNotFound], and what in it cannot be read is counted, not sent.
func (e *Engine) Send(ctx context.Context, req SendRequest) ([]Transfer, error) {
	if len(req.Label) > maxLabel || !utf8.ValidString(req.Label) {
		return nil, fmt.Errorf("%w: label", ErrTooLarge)
	}
	if len(req.Paths) == 0 && req.Tree == nil || len(req.To) == 0 {
		return nil, ErrNothing
	}
	if req.X != "" {
		if len(req.To) != 1 || !validX(req.X) {
			return nil, fmt.Errorf("%w: transfer name", ErrProtocol)
		}
		if t, ok := e.named(peerX{req.To[0], req.X, Send}); ok {
			return []Transfer{t}, nil
		}
	}
	var src *source
	var err error
	if req.Tree != nil {
		src, err = walkTree(ctx, req.Tree)
	} else {
		src, err = walk(ctx, req.Paths)
	}
	if err != nil {
		return nil, err
	}
	key := newHex(8)
	if err := e.db.saveSource(key, src); err != nil {
		return nil, fmt.Errorf("transfer: send: %w", err)
	}
	path := src.places[src.Names[0]]
	var made []*transfer
	e.mu.Lock()
	if req.X != "" && e.byX[peerX{req.To[0], req.X, Send}] != nil {
		err = ErrBusy // asked for twice at once
	} else {
		err = e.outboxFull(len(req.To), src.Size)
	}
	if err != nil {
		e.mu.Unlock()
		return nil, errors.Join(err, e.db.dropSource(key))
	}
	swarm := ""
	if len(req.To) > 1 {
		swarm = newHex(16)
	}
	for _, peer := range req.To {
		t := &transfer{src: src, walked: time.Now(), rec: record{ID: newHex(8), Direction: Send, Peer: peer, Source: key, Started: time.Now(), Origin: req.Origin,
			Path:  filepath.Join(path.Dir, path.Name),
			Offer: Offer{Version: version, X: cmp.Or(req.X, newHex(16)), Label: req.Label, Swarm: swarm, Summary: src.Summary, Skipped: src.skipped, Peer: peer}}}
		e.insert(t)
		e.set(t, Queued, nil)
		t.busy = true // until it is in the store
		made = append(made, t)
	}
	e.mu.Unlock()
	list := make([]Transfer, 0, len(made))
	for _, t := range made {
		if err := e.save(t); err != nil {
			return list, err
		}
		e.mu.Lock()
		t.busy = false
		list = append(list, t.snapshot())
		e.mu.Unlock()
	}
	signal(e.kick)
	e.prune()
	return list, nil
}

// named returns the transfer under a name of the wire.
func (e *Engine) named(key peerX) (Transfer, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.byX[key]; t != nil {
		return t.snapshot(), true
	}
	return Transfer{}, false
}

// Accept answers a waiting offer: it is received into the folder into, an absolute path, or "" for the inbox. It returns [ErrNotFound],
// [ErrState], [ErrNoSpace] or [ErrFolder]; after an error the offer still waits.
func (e *Engine) Accept(id, into string) error {
	t, err := e.waiting(id)
	if err != nil {
		return err
	}
	if into == "" {
		into = e.cfg.Inbox
	}
	if err := e.checkFolder(into, t.rec.Offer.Bytes); err != nil {
		return err
	}
	return e.change(t, func() error {
		if t.rec.State != Waiting {
			return ErrState
		}
		t.rec.Into = into
		e.set(t, Queued, nil)
		return nil
	})
}

// checkFolder reports whether bytes can be received into the folder at path.
func (e *Engine) checkFolder(path string, bytes int64) error {
	folder, err := receive.OpenFolder(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	defer func() { _ = folder.Close() }() // only looked at: nothing can be lost
	e.mu.Lock()
	folder.KeepFree(e.limits.MinFree)
	e.mu.Unlock()
	if err := folder.CheckSpace(bytes); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return nil
}

// Refuse answers a waiting offer with no. It returns [ErrNotFound] or [ErrState].
func (e *Engine) Refuse(id string) error {
	t, err := e.waiting(id)
	if err != nil {
		return err
	}
	return e.change(t, func() error {
		if !e.set(t, Refused, nil) {
			return ErrState
		}
		t.notify(&stateMessage{State: Refused, Code: "refused"})
		return nil
	})
}

func (e *Engine) waiting(id string) (*transfer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.all[id]
	if t == nil {
		return nil, ErrNotFound
	}
	if t.rec.Direction != Receive || t.rec.State != Waiting {
		return nil, ErrState
	}
	return t, nil
}

// change runs fn with mu held, saves t and lets the scheduler look at it.
func (e *Engine) change(t *transfer, fn func() error) error {
	e.mu.Lock()
	err := fn()
	e.mu.Unlock()
	signal(e.kick)
	if err != nil {
		return err
	}
	return e.save(t)
}

func (e *Engine) find(id string) (*transfer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.all[id]; t != nil {
		return t, nil
	}
	return nil, ErrNotFound
}

// Cancel ends a transfer of either direction for good: bytes stop at once, parts are removed, the other side is told when it can be
// reached. It returns [ErrNotFound], or [ErrState] when the transfer has ended or its files are
// getting their final names. What was committed stays.
func (e *Engine) Cancel(id string) error {
	t, err := e.find(id)
	if err != nil {
		return err
	}
	return e.change(t, func() error {
		if t.rec.State == Failed && e.resumable(t) {
			// Given up for good: the parts go.
			t.rec.Cleanup, t.rec.Code, t.rec.Error = true, Code(ErrCancelled), ErrCancelled.Error()
			e.changedLocked(t)
			return nil
		}
		if t.rec.State.Ended() || t.rec.Committing {
			return ErrState
		}
		e.end(t, ErrCancelled, true)
		return nil
	})
}

// end makes t failed with the reason, stops what moves and has the parts removed unless the transfer can be resumed; with mu held. tell
// has the peer told.
func (e *Engine) end(t *transfer, why error, tell bool) {
	if !e.set(t, Failed, why) {
		return
	}
	if tell && (t.rec.Direction == Receive || t.rec.Offered) {
		last := &stateMessage{State: Failed, Code: Code(why)}
		if t.rec.Direction == Receive {
			last.Failed = t.rec.FilesFailed
		}
		t.notify(last)
		t.tries, t.earliest = 0, time.Time{}
	}
	t.halt(why)
	t.rec.Cleanup = !e.resumable(t)
}

// resumable reports whether a failed transfer keeps its parts for [Engine.Resume]; with mu held.
func (e *Engine) resumable(t *transfer) bool {
	return t.rec.Direction == Receive && t.rec.State == Failed && !t.rec.Cleanup &&
		(t.rec.Code == Code(ErrDiskFull) || t.rec.Code == Code(ErrFolder) || t.rec.Code == Code(ErrNoSpace))
}

// halt stops the bytes of t; with mu held.
func (t *transfer) halt(why error) {
	if t.cancel != nil {
		t.cancel(why)
	}
	t.stopServing()
}

// stopServing ends the requests that are being served; with mu held.
func (t *transfer) stopServing() {
	close(t.stop)
	t.stop = make(chan struct{})
}

// Pause stops the bytes of a transfer until [Engine.Resume]; the other side shows it as paused too. It returns [ErrNotFound] or
// [ErrState].
func (e *Engine) Pause(id string) error {
	t, err := e.find(id)
	if err != nil {
		return err
	}
	return e.change(t, func() error {
		if t.rec.State == Waiting || t.rec.State.Ended() || t.rec.Committing || t.rec.Direction == Send && !t.rec.Offered {
			return ErrState
		}
		t.rec.PausedHere = true
		if t.rec.State != Paused && !e.set(t, Paused, nil) {
			return ErrState
		}
		t.halt(ErrPaused)
		t.notify(&stateMessage{State: Paused})
		e.changedLocked(t)
		return nil
	})
}

// Resume goes on with a paused transfer, and with one that failed for want of space once there is some. A transfer that the other side
// paused stays so. It returns [ErrNotFound] or [ErrState].
func (e *Engine) Resume(id string) error {
	t, err := e.find(id)
	if err != nil {
		return err
	}
	return e.change(t, func() error {
		switch {
		case e.resumable(t):
			e.set(t, Queued, nil)
		case t.rec.State == Paused && t.rec.PausedHere:
			t.rec.PausedHere = false
			t.notify(&stateMessage{State: Running})
			e.unpause(t)
		default:
			return ErrState
		}
		t.tries, t.earliest = 0, time.Time{}
		return nil
	})
}

// unpause queues t unless one side still has it paused; with mu held.
func (e *Engine) unpause(t *transfer) {
	e.changedLocked(t)
	if t.rec.State == Paused && !t.rec.PausedHere && !t.rec.PausedThere {
		e.set(t, Queued, nil)
	}
}
