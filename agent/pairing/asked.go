package pairing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
)

// Handler serves the messages of devices that pair with this one, below /v1/pair/.
// The requests come from [session.Config].Handler.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(what string, serve func(*http.Request, session.Binding, identity.DeviceID) (any, error)) {
		mux.HandleFunc("POST /v1/pair/"+what, func(w http.ResponseWriter, r *http.Request) {
			b, err := session.BindingFrom(r.Context())
			if err == nil && e.cfg.Off() {
				err = ErrOff
			}
			if err != nil {
				refuse(w, err)
				return
			}
			v, err := serve(r, b, session.PeerFrom(r.Context()).ID)
			if err != nil {
				refuse(w, err)
				return
			}
			answer(w, http.StatusOK, v)
		})
	}
	handle("commit", e.serveCommit)
	handle("reveal", e.serveReveal)
	handle("confirm", e.serveConfirm)
	handle("code", e.serveCode)
	return mux
}

// serveCommit takes the commitment of a device that asks. From here it is a try of
// it, which counts, whether it goes on or not: it learns our nonce.
func (e *Engine) serveCommit(r *http.Request, b session.Binding, peer identity.DeviceID) (any, error) {
	var m commitMessage
	if err := read(r.Body, &m); err != nil {
		return nil, err
	}
	if m.Version < 1 || m.Commitment == (word{}) {
		return nil, fmt.Errorf("%w: no commitment", ErrProtocol)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return nil, ErrClosed
	}
	p := e.live[peer]
	switch {
	case p != nil && p.Asked:
		if p.binding.Value == b.Value {
			e.finish(p, fmt.Errorf("%w: a second commitment", ErrProtocol))
			return nil, ErrProtocol
		}
		return nil, ErrBusy
	case p != nil && (p.State != Connecting || p.began && e.cfg.Self.Compare(peer) < 0):
		return nil, errCrossed // ours goes on
	case p != nil:
		// Our user has begun to ask this very device: its pairing takes the place of ours.
		p.cancel()
		p.Asked = true
	case e.question() != nil:
		e.log.Debug("A device that wants to pair is ignored", "peer", peer.Short(), "why", "another one asks")
		return nil, ErrBusy
	case !e.gate.allow(peer):
		e.log.Debug("A device that wants to pair is ignored", "peer", peer.Short(), "why", "too often")
		return nil, ErrTooOften
	default:
		p = e.add(peer, true)
	}
	p.key, p.binding, p.promise = b.Key, b, m.Commitment
	p.parties = parties{asker: peer, asked: e.cfg.Self, binding: b.Value}
	p.askeds = newNonce()
	p.Name = label(m.Name)
	b.Protect(true) // a flood of connections must not end it; there are two such at most
	ctx, cancel := context.WithCancel(e.life)
	p.cancel = cancel
	e.work.Go(func() { defer cancel(); e.watch(ctx, p) })
	return commitAnswer{Version: version, Name: e.cfg.Name(peer, p.ours), Nonce: p.askeds}, nil
}

// question returns the pairing that a device has begun with us, nil without; e.mu is
// held. One that took the place of our user's own does not count.
func (e *Engine) question() *pairing {
	for _, p := range e.live {
		if p.Asked && !p.ours {
			return p
		}
	}
	return nil
}

// of returns the pairing that a request belongs to; e.mu is held.
func (e *Engine) of(b session.Binding, peer identity.DeviceID) *pairing {
	if p := e.live[peer]; p != nil && p.Asked && p.binding.Value == b.Value {
		return p
	}
	for _, p := range e.recent {
		if p.Peer == peer && p.Asked && p.binding.Value == b.Value {
			return p
		}
	}
	return nil
}

// serveReveal takes the nonce that a device had committed to; from here our user is
// asked.
func (e *Engine) serveReveal(r *http.Request, b session.Binding, peer identity.DeviceID) (any, error) {
	var m revealMessage
	err := read(r.Body, &m)
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.of(b, peer)
	if p == nil || p.Over() {
		return nil, ErrProtocol
	}
	switch {
	case err != nil:
	case p.State != Connecting:
		err = fmt.Errorf("%w: a second nonce", ErrProtocol)
	case !p.parties.commitment(m.Nonce).equal(p.promise):
		err = fmt.Errorf("%w: not the nonce that it committed to", ErrTampered)
	case m.Nonce == p.askeds:
		err = fmt.Errorf("%w: our own nonce", ErrProtocol)
	}
	if err != nil {
		e.finish(p, err)
		return nil, err
	}
	p.askers = m.Nonce
	p.Code, p.State = p.parties.code(p.askers, p.askeds), Comparing
	p.Until = time.Now().Add(e.limits.question)
	e.log.Info("Device asks to pair", "peer", peer.Short(), "name", p.Name)
	e.wake(p)
	return struct{}{}, nil
}

// serveConfirm takes the asker's word and gives ours. It waits a moment for news, so
// that the asker learns them at once. Before the asker has said yes it does not learn
// whether our user did.
func (e *Engine) serveConfirm(r *http.Request, b session.Binding, peer identity.DeviceID) (any, error) {
	var m confirmMessage
	err := read(r.Body, &m)
	undo := false
	e.mu.Lock()
	p := e.of(b, peer)
	switch {
	case p == nil || p.Code == "":
		err = ErrProtocol
		if p != nil {
			e.finish(p, err)
		}
	case err == nil && m.Cancel && m.Undo && p.State == Paired:
		undo, p.undone = !p.undone, true
	case err == nil && m.Cancel && p.writing && !p.Over():
		p.undone = true // by whoever writes
	case p.Over() || err != nil:
	case m.Cancel:
		e.finish(p, ErrRefused)
	case m.MAC != nil && !m.MAC.equal(p.parties.confirmation(asker, p.askers, p.askeds)):
		err = fmt.Errorf("%w: its confirmation is wrong", ErrTampered)
	case m.MAC != nil:
		p.theirs = true
	}
	if err != nil {
		if p != nil {
			e.finish(p, err)
		}
		e.mu.Unlock()
		return nil, err
	}
	e.mu.Unlock()
	if undo {
		e.undo(p)
	}
	e.settle(p)
	ctx, cancel := context.WithTimeout(r.Context(), e.limits.hold)
	defer cancel()
	now, _ := e.await(ctx, p, func(p *pairing) bool { return p.Over() }) // news or none
	if !now.Over() {
		return confirmAnswer{State: "open"}, nil
	}
	switch {
	case now.State == Paired:
		mac := p.parties.confirmation(asked, p.askers, p.askeds)
		return confirmAnswer{State: "paired", MAC: &mac}, nil
	case errors.Is(now.Err, ErrExpired):
		return confirmAnswer{State: "expired"}, nil
	case errors.Is(now.Err, ErrCancelled), errors.Is(now.Err, ErrRefused):
		return confirmAnswer{State: "refused"}, nil
	}
	return nil, now.Err
}

// watch ends a pairing that a device began with us when its time is over or its
// connection is closed.
func (e *Engine) watch(ctx context.Context, p *pairing) {
	timer := time.NewTimer(e.limits.reveal)
	defer timer.Stop()
	end := func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !p.writing {
			e.finish(p, err)
		}
	}
	for revealed := false; ; {
		e.mu.Lock()
		over, state, until, changed := p.Over(), p.State, p.Until, p.changed
		e.mu.Unlock()
		switch {
		case over:
			return
		case state != Connecting && !revealed:
			revealed = true
			timer.Reset(time.Until(until))
		}
		select {
		case <-changed:
		case <-timer.C:
			end(ErrExpired)
			return
		case <-p.binding.Done:
			end(ErrLost)
			return
		case <-ctx.Done():
			end(ErrClosed)
			return
		}
	}
}

// serveCode takes a proof that a device knows our setup code.
func (e *Engine) serveCode(r *http.Request, b session.Binding, peer identity.DeviceID) (any, error) {
	var m codeMessage
	if err := read(r.Body, &m); err != nil {
		return nil, err
	}
	who := parties{asker: peer, asked: e.cfg.Self, binding: b.Value}
	_, before := e.keeper.locked()
	code, err := e.keeper.try(func(c SetupCode) bool { return m.Proof.equal(who.proof(asker, c)) })
	if err != nil {
		// Those that the lock is kept from may be many, and are not each worth a line.
		if wait, wrong := e.keeper.locked(); errors.Is(err, ErrWrongCode) && wrong != before {
			e.log.Warn("Wrong setup code", "peer", peer.Short(), "wrong", wrong, "locked_for", wait)
		}
		return nil, err
	}
	if err := e.trust(b.Key, label(m.Name)); err != nil {
		return nil, err
	}
	return codeAnswer{Name: e.cfg.Name(peer, true), Proof: who.proof(asked, code)}, nil
}
