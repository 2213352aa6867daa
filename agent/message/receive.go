package message

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
)

// Handler serves POST /v1/msg.
func (e *Engine) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := e.serve(r)
		if err != nil {
			e.log.Debug("Message refused", "peer", peer.Short(), "err", err)
			writeRefusal(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}\n") // a lost peer asks again
	})
}

func (e *Engine) serve(r *http.Request) (identity.DeviceID, error) {
	peer, ok := e.cfg.Caller(r)
	if !ok || !e.cfg.Trusted(peer) {
		return peer, ErrRefused // before anything is read or remembered
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return peer, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	b, err := parse(raw)
	if err != nil {
		return peer, err
	}
	if !e.allow(peer, len(b.Text)) {
		return peer, ErrBusy
	}
	return peer, e.take(peer, b)
}

// allow reports whether a trusted device may send now.
func (e *Engine) allow(peer identity.DeviceID, bytes int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pace[peer]
	if p == nil {
		p = &pace{messages: rate.NewLimiter(receiveRate, receiveBurst), bytes: rate.NewLimiter(receiveBytes, receiveBytesBurst)}
		e.pace[peer] = p
	}
	now := time.Now()
	return p.messages.AllowN(now, 1) && p.bytes.AllowN(now, bytes)
}

// take keeps a message of a trusted device, unless it is here already. When it returns nil the message is on the disk.
func (e *Engine) take(peer identity.DeviceID, b body) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	e.mu.Lock()
	if slices.ContainsFunc(e.seen[peer], func(s seenID) bool { return s.wire == b.ID }) {
		e.mu.Unlock()
		return nil
	}
	r := record{Message: Message{ID: newID(), Direction: Receive, Peer: peer, Text: b.Text, Time: time.Now()}, Wire: b.ID}
	for e.byID[r.ID] != nil {
		r.ID = newID()
	}
	r.Seq = e.last + 1
	drop, forget := e.room(&r), e.forgettable(peer)
	e.mu.Unlock()
	if err := e.db.add(r, numbers(drop), forget); err != nil {
		e.log.Error("Message not kept", "peer", peer.Short(), "err", err)
		return errors.Join(ErrInternal, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range forget {
		if e.seen[s.peer] = e.seen[s.peer][1:]; len(e.seen[s.peer]) == 0 {
			delete(e.seen, s.peer)
		}
	}
	e.seen[peer] = append(e.seen[peer], seenID{peer, r.Seq, b.ID})
	e.added(r, drop)
	e.marked = true
	e.log.Info("Message received", "message", r.ID, "peer", peer.Short())
	return nil
}

// forgettable returns the ids that make room for one more of a device: its oldest, or all of the device that was silent longest;
// with mu held.
func (e *Engine) forgettable(peer identity.DeviceID) []seenID {
	if n := len(e.seen[peer]); n > 0 || len(e.seen) < maxSeenDevices {
		return slices.Clone(e.seen[peer][:max(0, n-maxSeen+1)])
	}
	var silent []seenID
	for _, ids := range e.seen {
		if silent == nil || ids[len(ids)-1].seq < silent[len(silent)-1].seq {
			silent = ids
		}
	}
	return slices.Clone(silent)
}
