package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"nigh/agent/identity"
	"nigh/agent/receive"
)

// post sends one control message. It returns [ErrPeerGone] when there was no answer, or what the peer's refusal says.
func (e *Engine) post(ctx context.Context, peer identity.DeviceID, path string, body any) (reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	p, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://nigh"+path, bytes.NewReader(p))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.cfg.Peers.Control(peer).Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	if resp.StatusCode/100 != 2 {
		return readRefusal(resp)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	return "", resp.Body.Close()
}

// offer is the task that offers t.
func (e *Engine) offer(ctx context.Context, t *transfer) {
	err := e.renew(ctx, t)
	e.mu.Lock()
	offer := t.rec.Offer
	e.mu.Unlock()
	reason := ""
	if err == nil {
		reason, err = e.post(ctx, t.rec.Peer, "/v1/offer", offer)
	}
	e.mu.Lock()
	t.busy = false
	offered := err == nil || !errors.Is(err, ErrPeerGone)
	switch {
	case err == nil:
		t.rec.Offered, t.tries = true, 0
		if t.serving == 0 {
			e.idleAfter(t, t.lastSeen)
		}
		switch {
		case t.rec.State.Ended(): // cancelled meanwhile: the peer does not know
			t.notify(&stateMessage{State: Failed, Code: t.rec.Code})
		case t.rec.State == Queued && !t.lastSeen.IsZero(): // already asked for
		case t.rec.State == Queued:
			e.set(t, Waiting, nil)
		}
	case t.rec.State.Ended():
	case ctx.Err() != nil: // Run ends
	case errors.Is(err, ErrPeerGone), errors.Is(err, ErrBusy):
		t.later(time.Now())
		e.set(t, Queued, err)
		if t.serving == 0 {
			t.src = nil // the store has it
		}
	case errors.Is(err, ErrRefused), ruled(err) != nil:
		t.rec.Reason = reason
		e.set(t, Refused, err)
	default:
		t.rec.Reason = reason
		e.set(t, Failed, err)
	}
	if t.rec.State.final() || t.rec.State == Failed {
		t.rec.Cleanup = true
	}
	e.mu.Unlock()
	if offered {
		_ = e.save(t)
	}
	signal(e.kick)
}

// notify has the peer told a state, instead of what it was not told yet; with mu held.
func (t *transfer) notify(msg *stateMessage) { t.rec.Notice, t.progress = msg, nil }

// tellRunning has the sender told that its bytes move and how many are here, for its person to see; that word is not repeated when it is
// lost. It is said in its turn, for one that came after "paused" would take that back.
func (e *Engine) tellRunning(t *transfer, done int64) {
	e.mu.Lock()
	if t.rec.State == Running && !t.yielding {
		t.progress = &stateMessage{State: Running, Done: done}
	}
	e.mu.Unlock()
	signal(e.kick)
}

// tell is the task that tells the peer a state it does not know. A transfer has one at a time: what is said last is what is so.
func (e *Engine) tell(ctx context.Context, t *transfer) {
	e.mu.Lock()
	notice, progress := t.rec.Notice, t.progress
	t.progress = nil
	e.mu.Unlock()
	var err error
	switch {
	case notice != nil:
		_, err = e.post(ctx, t.rec.Peer, t.path("/state"), notice)
	case progress != nil:
		_, _ = e.post(ctx, t.rec.Peer, t.path("/state"), progress)
		e.mu.Lock()
		t.telling = false
		e.mu.Unlock()
		signal(e.kick)
		return
	}
	e.mu.Lock()
	t.telling = false
	told := !errors.Is(err, ErrPeerGone) // a refusal is an answer: the peer does not want to know
	if told && t.rec.Notice == notice {
		t.rec.Notice = nil
	}
	if !told {
		t.later(time.Now())
	}
	e.mu.Unlock()
	if told {
		_ = e.save(t)
	}
	signal(e.kick)
}

// path returns that of one of the transfer's endpoints.
func (t *transfer) path(end string) string { return "/v1/x/" + t.rec.Offer.X + end }

// cleanup is the task that removes what an ended transfer left: parts, and what the store holds for it.
func (e *Engine) cleanup(t *transfer) {
	err := e.removeParts(t)
	if err == nil {
		e.mu.Lock()
		source := e.leaveSource(t)
		e.mu.Unlock()
		err = errors.Join(e.db.drop(t.rec.ID), e.db.dropSource(source))
	}
	if err != nil {
		e.log.Warn("Parts not removed", "transfer", t.rec.ID, "err", err)
	}
	e.mu.Lock()
	t.busy, t.rec.Cleanup, t.src = false, false, nil
	e.changedLocked(t)
	e.mu.Unlock()
	_ = e.save(t)
	signal(e.kick)
}

// removeParts removes the parts of a transfer that was received, by the names that we gave them.
func (e *Engine) removeParts(t *transfer) error {
	if t.rec.Direction != Receive || !t.rec.Fetched {
		return nil
	}
	m, err := e.db.manifest(t.rec.ID, t.rec.Offer.Root)
	if err != nil {
		return err
	}
	folder, err := receive.OpenFolder(t.rec.Into)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // nothing is written through it
	top := 0
	for c := m.from(0); ; {
		entry, ok := c.next()
		if !ok {
			return err
		}
		if entry.top() {
			err = errors.Join(err, folder.Remove(partName(t.rec.ID, entry.Path, top)))
			top++
		}
	}
}

// partName is the name of the part of the top-level name that comes as the n-th in the manifest.
func partName(id, name string, n int) string {
	tag := id[:8]
	if n > 0 {
		tag = fmt.Sprintf("%s-%d", tag, n)
	}
	return receive.PartName(name, tag)
}
