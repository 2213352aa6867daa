package message

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"nigh/agent/identity"
	"nigh/agent/store"
)

// Send writes a text for devices into the outbox and returns it once it is on the disk; its way is told by Config.Changed. A device
// named twice gets it once. Where some of the outboxes are full, those devices are marked failed; when all are, the error wraps
// [ErrFull] and nothing is kept. Other errors wrap those of [Check], [ErrNobody], [ErrTooMany], [ErrUntrusted], or are the store's.
func (e *Engine) Send(to []identity.DeviceID, text string) (Message, error) {
	if err := Check(text); err != nil {
		return Message{}, err
	}
	var recipients []Recipient
	for _, id := range to {
		if !e.cfg.Trusted(id) {
			return Message{}, fmt.Errorf("%w: %s", ErrUntrusted, id.Short())
		}
		if !slices.ContainsFunc(recipients, func(r Recipient) bool { return r.Peer == id }) {
			recipients = append(recipients, Recipient{Peer: id, State: Waiting})
		}
	}
	switch {
	case len(recipients) == 0:
		return Message{}, ErrNobody
	case len(recipients) > maxRecipients:
		return Message{}, ErrTooMany
	}
	r := record{Message: Message{ID: newID(), Direction: Send, To: recipients, Text: text, Time: time.Now()}, Wire: newWireID()}

	e.writing.Lock()
	defer e.writing.Unlock()
	e.mu.Lock()
	if !e.admit(&r) {
		e.mu.Unlock()
		return Message{}, ErrFull
	}
	for e.byID[r.ID] != nil {
		r.ID = newID()
	}
	r.Seq = e.last + 1
	drop := e.room(&r)
	e.mu.Unlock()
	if err := e.db.add(r, numbers(drop), nil); err != nil {
		return Message{}, fmt.Errorf("message: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.added(r, drop)
	en := e.entries[len(e.entries)-1]
	for _, to := range r.To {
		if to.State != Waiting {
			continue
		}
		b := e.box(to.Peer)
		b.queue, b.bytes, b.parked = append(b.queue, en), b.bytes+en.bytes, false
	}
	signal(e.kick)
	return r.Message, nil
}

// admit marks the devices whose outbox has no room for r, and reports whether there is room for any; with mu held.
func (e *Engine) admit(r *record) bool {
	waiting, room := 0, 0
	for _, en := range e.entries {
		if n := en.waiting(); n > 0 {
			waiting, room = waiting+n, room+en.cost
		}
	}
	any := false
	for i, to := range r.To {
		n, bytes := 0, 0
		if b := e.boxes[to.Peer]; b != nil {
			n, bytes = len(b.queue), b.bytes
		}
		if n >= maxOutbox || bytes+len(r.Text) > maxOutboxBytes || waiting >= maxWaiting || room+r.cost() > maxWaitingBytes {
			r.To[i].State, r.To[i].Code = Failed, Code(ErrFull)
			continue
		}
		any = true
		waiting++
	}
	return any
}

// Cancel takes a message back from the devices that do not have it, on the disk before it returns. It returns [ErrNotFound], or
// [ErrState] when it waits for nobody. A device that is just being sent it may get it all the same: its mark tells.
func (e *Engine) Cancel(id string) error {
	flying, err := e.cancel(id)
	if err != nil {
		return err
	}
	for _, landed := range flying {
		<-landed // a request whose context ended is over at once
	}
	_, err = e.save()
	return err
}

// cancel begins to cancel and returns the tasks that have to end first.
func (e *Engine) cancel(id string) (flying []<-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	en := e.byID[id]
	switch {
	case en == nil:
		return nil, ErrNotFound
	case en.waiting() == 0:
		return nil, ErrState
	}
	for _, to := range slices.Clone(en.to) {
		if to.State != Waiting {
			continue
		}
		if landed := e.withdraw(to.Peer, en, ErrCancelled); landed != nil {
			flying = append(flying, landed)
		}
	}
	return flying, nil
}

// Dismiss ends everything that waits for a device that is trusted no more.
func (e *Engine) Dismiss(id identity.DeviceID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pace, id)
	if b := e.boxes[id]; b != nil {
		for _, en := range slices.Clone(b.queue) {
			e.withdraw(id, en, ErrUntrusted)
		}
	}
}

// withdraw ends the waiting of one message for one device; with mu held. What is in flight is ended by its task, which alone knows
// what came of it and closes landed.
func (e *Engine) withdraw(id identity.DeviceID, en *entry, why error) (landed <-chan struct{}) {
	b := e.boxes[id]
	if b == nil {
		return nil
	}
	if b.busy && len(b.queue) > 0 && b.queue[0] == en {
		b.stop(why)
		return b.landed
	}
	e.settle(id, en, Failed, why)
	return nil
}

// settle takes a message out of the outbox of a device and marks it; with mu held.
func (e *Engine) settle(id identity.DeviceID, en *entry, state State, why error) {
	if b := e.boxes[id]; b != nil {
		if i := slices.Index(b.queue, en); i >= 0 {
			b.queue = slices.Delete(b.queue, i, i+1)
			b.bytes -= en.bytes
		}
		if len(b.queue) == 0 && !b.busy {
			delete(e.boxes, id)
		}
	}
	e.mark(id, en, state, why)
}

// mark notes what became of a message on its way to a device; with mu held.
func (e *Engine) mark(id identity.DeviceID, en *entry, state State, why error) {
	for i := range en.to {
		if to := &en.to[i]; to.Peer == id && (to.State != state || to.Code != Code(why)) {
			to.State, to.Code = state, Code(why)
			e.saving[en.seq] = en
			e.changedLocked(en)
			signal(e.kick)
		}
	}
}

// Wake says that a device can be reached: what waits for it goes out at once.
func (e *Engine) Wake(id identity.DeviceID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.boxes[id]; b != nil {
		b.tries, b.earliest, b.parked, b.woken = 0, time.Time{}, false, b.busy
		signal(e.kick)
	}
}

// WaitingFor returns the devices that messages wait for.
func (e *Engine) WaitingFor() []identity.DeviceID {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := make([]identity.DeviceID, 0, len(e.boxes))
	for id, b := range e.boxes {
		if len(b.queue) > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// schedule starts a task for each device that can be sent to now, and returns when to look again, the zero time for not by itself.
func (e *Engine) schedule(ctx context.Context) (next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for id, b := range e.boxes {
		switch {
		case b.busy || b.parked || len(b.queue) == 0:
		case b.earliest.After(now):
			if next.IsZero() || b.earliest.Before(next) {
				next = b.earliest
			}
		case e.active >= maxDelivering: // the end of a task kicks
		default:
			task, stop := context.WithCancelCause(ctx)
			b.busy, b.woken, b.stop, b.landed = true, false, stop, make(chan struct{})
			e.active++
			e.tasks.Go(func() { e.deliver(task, id, b) })
		}
	}
	return next
}

// deliver sends what waits for one device, in order, until nothing does or the device does not answer. It owns b.queue[0] while
// b.busy.
func (e *Engine) deliver(ctx context.Context, id identity.DeviceID, b *box) {
	defer signal(e.kick)
	for {
		e.mu.Lock()
		if len(b.queue) == 0 || ctx.Err() != nil {
			e.rest(id, b)
			e.mu.Unlock()
			return
		}
		en := b.queue[0]
		e.mu.Unlock()
		err := e.post(ctx, id, en.seq)
		withdrawn := context.Cause(ctx)
		e.mu.Lock()
		state, final := stateOf(err)
		switch {
		case final:
			e.settle(id, en, state, err)
			b.tries = 0
			e.log.Info("Message sent", "message", en.id, "peer", id.Short(), "state", state, "reason", Code(err))
		case errors.Is(withdrawn, ErrCancelled), errors.Is(withdrawn, ErrUntrusted):
			e.settle(id, en, Failed, withdrawn)
		case ctx.Err() != nil: // Run ends
		default:
			e.log.Debug("Message not sent", "message", en.id, "peer", id.Short(), "err", err)
			e.mark(id, en, Waiting, err)
			e.later(id, b)
			e.rest(id, b)
			e.mu.Unlock()
			return
		}
		if ctx.Err() != nil {
			e.rest(id, b)
			e.mu.Unlock()
			return // a new task, with a context of its own, takes the next one
		}
		e.mu.Unlock()
	}
}

// rest ends a task of a box; with mu held.
func (e *Engine) rest(id identity.DeviceID, b *box) {
	e.active--
	b.busy = false
	b.stop(nil)
	close(b.landed)
	if len(b.queue) == 0 {
		delete(e.boxes, id)
	}
}

// later says when a box is tried again after a failure; with mu held.
func (e *Engine) later(id identity.DeviceID, b *box) {
	switch {
	case b.woken:
		b.tries, b.earliest = 0, time.Now().Add(retryFirst)
	case !e.cfg.Near(id):
		b.parked = true
	default:
		b.earliest = time.Now().Add(min(retryFirst<<min(b.tries, 10), retryLast))
		b.tries++
	}
}

// stateOf returns what an answer makes of a message, and whether that is the end of it.
func stateOf(err error) (state State, final bool) {
	switch {
	case err == nil:
		return Delivered, true
	case errors.Is(err, ErrRefused):
		return Refused, true
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrUnsupported), errors.Is(err, ErrInternal):
		return Failed, true
	default:
		return Waiting, false
	}
}

// post sends one message to one device. It returns nil when the device has it, else what its answer means, or [ErrPeerGone].
func (e *Engine) post(ctx context.Context, id identity.DeviceID, seq uint64) error {
	r, err := e.db.get(seq)
	if errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
		return fmt.Errorf("%w: this device stops", ErrPeerGone)
	}
	if err != nil {
		e.log.Error("Message not read", "message", seq, "err", err)
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	raw, err := body{Version: protocolVersion, ID: r.Wire, Text: r.Text}.encode()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://nigh/v1/msg", bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.cfg.Peers.Control(id).Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	return readAnswer(resp)
}
