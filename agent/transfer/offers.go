package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"nigh/agent/identity"
)

// serveOffer takes an offer. The same offer again (the sender lost our answer) is answered by its state.
func (e *Engine) serveOffer(w http.ResponseWriter, r *http.Request, peer identity.DeviceID) error {
	var offer Offer
	if err := readJSON(r.Body, maxOfferBody, &offer); err != nil {
		return err
	}
	if err := offer.check(); err != nil {
		return err
	}
	offer.Peer = peer
	key := peerX{peer, offer.X, Receive}
	e.mu.Lock()
	known := e.byX[key]
	waiting, strangers, mine, unfinished := 0, 0, 0, 0
	for _, t := range e.all {
		if t.rec.Direction != Receive || t.rec.State.Ended() {
			continue
		}
		switch {
		case t.rec.State != Waiting:
		case t.rec.Stranger:
			strangers++
		default:
			waiting++
		}
		if t.rec.Peer == peer {
			unfinished++
			if t.rec.State == Waiting {
				mine++
			}
		}
	}
	var state State
	var code string
	if known != nil {
		state, code = known.rec.State, known.rec.Code
	}
	e.mu.Unlock()
	switch {
	case state == Refused:
		return cmp.Or(ruled(fromCode(code)), ErrRefused)
	case known != nil:
		w.WriteHeader(http.StatusAccepted)
		return nil
	case unfinished >= maxQueuedPerPeer:
		return ErrBusy
	}
	decision := e.cfg.Decide(offer)
	t := &transfer{rec: record{ID: newHex(8), Direction: Receive, Peer: peer, Offer: offer, Started: time.Now(), Stranger: decision.Stranger}}
	first := Waiting
	switch decision.Answer {
	case AnswerRefuse:
		e.log.Info("Offer refused", "peer", peer.Short(), "reason", cmp.Or(Code(decision.Why), "policy"), "files", offer.Files, "bytes", offer.Bytes)
		if decision.Why == nil {
			return &refusedError{decision.Reason}
		}
		e.remember(t, decision.Why)
		return decision.Why
	case AnswerAccept:
		into := cmp.Or(decision.Into, e.cfg.Inbox)
		if err := e.checkFolder(into, offer.Bytes); err != nil {
			if errors.Is(err, ErrNoSpace) {
				return err
			}
			return fmt.Errorf("%w: %w", ErrInternal, err)
		}
		t.rec.Into, t.rec.Want, t.rec.Asked = into, decision.Want, decision.Asked
		first = Queued
	default:
		all, each := maxWaiting, maxWaitingPerPeer
		if decision.Stranger {
			waiting, all, each = strangers, maxStrangers, maxStrangerWaiting
		}
		if waiting >= all || mine >= each {
			return ErrBusy
		}
	}
	e.mu.Lock()
	if e.byX[key] != nil { // the same offer twice at once
		e.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	e.insert(t)
	e.set(t, first, nil)
	e.mu.Unlock()
	if err := e.save(t); err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	signal(e.kick)
	e.prune()
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// remember keeps an offer that the rules forbid, for the person here to see; those that were never accepted are few (prune).
func (e *Engine) remember(t *transfer, why error) {
	e.mu.Lock()
	taken := e.byX[t.rec.key()] != nil
	if !taken {
		e.insert(t)
		e.set(t, Refused, why)
	}
	e.mu.Unlock()
	if !taken {
		_ = e.save(t) // logged; the peer hears the same all the same
		e.prune()
	}
}

// serveState takes the other side's word about a transfer.
func (e *Engine) serveState(w http.ResponseWriter, r *http.Request, peer identity.DeviceID) error {
	var msg stateMessage
	if err := readJSON(r.Body, maxStateBody, &msg); err != nil {
		return err
	}
	x := r.PathValue("x")
	e.mu.Lock()
	t := e.byX[peerX{peer, x, Send}]
	if t == nil || e.cfg.Self == peer && t.rec.State.Ended() {
		if in := e.byX[peerX{peer, x, Receive}]; in != nil {
			t = in
		}
	}
	if t == nil {
		e.mu.Unlock()
		return ErrNotFound
	}
	var err error
	if t.rec.Direction == Send {
		err = e.heardReceiver(t, &msg)
	} else {
		err = e.heardSender(t, &msg)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	_ = e.save(t)
	signal(e.kick)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// heardReceiver takes the word of the device we send to; with mu held.
func (e *Engine) heardReceiver(t *transfer, msg *stateMessage) error {
	if t.rec.State.final() || t.rec.State == Failed && t.rec.Code == Code(ErrCancelled) {
		return nil // said twice, or too late
	}
	t.lastSeen, t.stopped = time.Now(), time.Time{}
	switch msg.State {
	case Queued, Paused, Failed:
		t.stopped = t.lastSeen
	}
	switch msg.State {
	case Running:
		if t.rec.State.Ended() && (t.rec.Cleanup || t.rec.Source == "") {
			return nil
		}
		t.rec.PausedThere = false
		swarm := t.rec.Offer.Swarm != ""
		if msg.Done >= 0 && msg.Done <= t.rec.Offer.Bytes && (t.serving == 0 || swarm) {
			t.rec.Done = msg.Done
		}
		if swarm {
			// Most of it may come from others: this is the sign of life.
			e.changedLocked(t)
			if t.serving == 0 {
				e.idleAfter(t, t.lastSeen)
			}
		}
		if t.rec.State == Paused {
			e.unpause(t)
		} else {
			e.set(t, Running, nil)
		}
	case Queued: // it has its turn later
		if t.rec.State == Running || t.rec.State == Waiting {
			e.set(t, Queued, nil)
		}
	case Paused:
		t.rec.PausedThere = true
		e.set(t, Paused, nil)
	case Refused:
		e.set(t, Refused, cmp.Or(ruled(fromCode(msg.Code)), ErrRefused))
		t.stopServing()
		t.rec.Cleanup = true
	case Done:
		t.rec.FilesFailed = 0 // those that had no room came later
		t.rec.Done, t.rec.Hash = t.rec.Offer.Bytes, hashOf(&t.rec.Offer, msg.Hash)
		e.set(t, Done, nil)
		t.rec.Cleanup = true
	case Failed:
		if msg.Failed > 0 && msg.Failed <= t.rec.Offer.Files+t.rec.Offer.Dirs {
			t.rec.FilesFailed = msg.Failed
		}
		e.set(t, Failed, fromCode(msg.Code))
		t.stopServing()
		// After a full disk the receiver may come back.
		t.rec.Cleanup = msg.Code != Code(ErrDiskFull) && msg.Code != Code(ErrNoSpace) && msg.Code != Code(ErrFolder)
	default:
		return ErrProtocol
	}
	return nil
}

// heardSender takes the word of the device that we receive from; with mu held.
func (e *Engine) heardSender(t *transfer, msg *stateMessage) error {
	if t.rec.State.Ended() || t.rec.Committing {
		return nil
	}
	t.tries, t.earliest = 0, time.Time{} // it can be reached
	switch msg.State {
	case Running:
		t.rec.PausedThere, t.wentOn = false, time.Now()
		e.unpause(t)
	case Paused:
		if t.rec.State == Waiting {
			return ErrState
		}
		t.rec.PausedThere = true
		if e.set(t, Paused, nil) {
			t.halt(ErrPaused)
		}
	case Failed:
		e.end(t, ErrCancelled, false)
	default:
		return ErrProtocol
	}
	return nil
}
