package pairing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
)

// ask carries out a pairing that our user began.
//
//	state       event                          next
//	connecting  both nonces are known          comparing
//	connecting  the other side has begun one   its pairing goes on in place of ours
//	            too, and it has precedence
//	comparing   our user says yes              waiting; the other side is told
//	comparing,  no, lost, time over            failed; the other side is told
//	waiting
//	waiting     the other side's MAC           paired
//	failed      the other side's MAC           failed; the other side takes it back
func (e *Engine) ask(ctx context.Context, p *pairing) {
	ch, err := e.exchange(ctx, p)
	if ch != nil {
		defer ch.Close()
	}
	if errors.Is(err, errCrossed) {
		err = e.giveWay(ctx, p)
	}
	e.mu.Lock()
	taken := p.Asked // by a pairing that the other side began
	if err != nil && !taken {
		e.finish(p, err)
	}
	over := p.Over()
	e.mu.Unlock()
	if err != nil || over || taken {
		return
	}
	e.converse(ctx, ch, p)
}

// exchange makes the connection and exchanges the nonces; after it the code can be
// shown. A connection that breaks before the nonce was revealed is made again.
func (e *Engine) exchange(ctx context.Context, p *pairing) (*session.Channel, error) {
	for try := 1; ; try++ {
		ch, err := e.cfg.Open(ctx, p.Peer)
		if err == nil {
			if err = e.commit(ctx, ch, p); err == nil {
				return ch, nil
			}
			ch.Close()
		}
		if ctx.Err() != nil {
			return nil, ErrCancelled
		}
		if !errors.Is(err, ErrLost) || try == maxTries {
			return nil, err
		}
		select {
		case <-time.After(e.limits.retry):
		case <-ctx.Done():
			return nil, ErrCancelled
		}
	}
}

func (e *Engine) commit(ctx context.Context, ch *session.Channel, p *pairing) error {
	if ch.Key.ID() != p.Peer {
		return fmt.Errorf("%w: another device answered", ErrTampered)
	}
	nonce := newNonce()
	who := parties{asker: e.cfg.Self, asked: p.Peer, binding: ch.Value}
	e.mu.Lock()
	if p.Over() || p.Asked {
		e.mu.Unlock()
		return ErrCancelled
	}
	p.began = true
	e.mu.Unlock()
	var theirs commitAnswer
	err := post(ctx, ch, "commit", e.limits.request, commitMessage{Version: version, Name: e.cfg.Name(p.Peer, true), Commitment: who.commitment(nonce)}, &theirs)
	if err != nil {
		return err
	}
	if theirs.Version < 1 || theirs.Nonce == (word{}) || theirs.Nonce == nonce {
		return fmt.Errorf("%w: a nonce that is none", ErrProtocol)
	}
	if err := post(ctx, ch, "reveal", e.limits.request, revealMessage{Nonce: nonce}, &struct{}{}); err != nil {
		if errors.Is(err, ErrLost) {
			// The question may stand on the other side: it is not asked twice.
			return fmt.Errorf("pairing: the connection broke off: %w", ErrProtocol)
		}
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.Over() || p.Asked {
		return ErrCancelled
	}
	p.key, p.parties, p.askers, p.askeds, p.binding = ch.Key, who, nonce, theirs.Nonce, ch.Binding
	p.Name, p.Code, p.State = label(theirs.Name), who.code(nonce, theirs.Nonce), Comparing
	p.Until = time.Now().Add(e.limits.question)
	e.wake(p)
	return nil
}

// giveWay waits for the pairing that the other side has begun to take the place of
// ours.
func (e *Engine) giveWay(ctx context.Context, p *pairing) error {
	ctx, cancel := context.WithTimeout(ctx, e.limits.crossed)
	defer cancel()
	if _, err := e.await(ctx, p, func(p *pairing) bool { return p.Asked }); err != nil {
		return ErrBusy
	}
	return nil
}

// converse tells the other side what our user said, and asks what its user said,
// until the pairing is over.
func (e *Engine) converse(ctx context.Context, ch *session.Channel, p *pairing) {
	for {
		e.mu.Lock()
		over, mine, changed, until := p.Over(), p.mine, p.changed, p.Until
		if !over && !time.Now().Before(until) {
			e.finish(p, ErrExpired)
			over = true
		}
		e.mu.Unlock()
		if over {
			e.giveUp(ch, p)
			return
		}
		var m confirmMessage
		if mine {
			mac := p.parties.confirmation(asker, p.askers, p.askeds)
			m.MAC = &mac
		}
		began := time.Now()
		var a confirmAnswer
		err := post(ctx, ch, "confirm", e.limits.request+e.limits.hold, m, &a)
		if ctx.Err() != nil {
			err = ErrCancelled
		}
		if err == nil {
			err = e.heard(p, mine, a)
		}
		if err != nil {
			e.mu.Lock()
			e.finish(p, err)
			e.mu.Unlock()
			if errors.Is(err, ErrCancelled) {
				e.giveUp(ch, p)
			}
			return
		}
		// A device that answers at once all the time is not asked more often for it.
		if rest := e.limits.hold/2 - time.Since(began); rest > 0 {
			select {
			case <-time.After(rest):
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// heard takes the other side's word; mine is whether it had ours.
func (e *Engine) heard(p *pairing, mine bool, a confirmAnswer) error {
	switch a.State {
	case "open":
		return nil
	case "refused":
		return ErrRefused
	case "expired":
		return ErrExpired
	case "paired":
		if !mine || a.MAC == nil || !a.MAC.equal(p.parties.confirmation(asked, p.askers, p.askeds)) {
			return fmt.Errorf("%w: its confirmation is wrong", ErrTampered)
		}
		e.mu.Lock()
		over := p.Over()
		p.writing = !over
		e.mu.Unlock()
		if over {
			return ErrCancelled
		}
		e.seal(p)
		return nil
	}
	return fmt.Errorf("%w: a state that is none", ErrProtocol)
}

// giveUp tells the other side that it is over; closing the connection says so too,
// but not why. When p failed, its user's yes may have been on its way to us: it then
// takes back what that has made.
func (e *Engine) giveUp(ch *session.Channel, p *pairing) {
	e.mu.Lock()
	undo := p.State == Failed
	e.mu.Unlock()
	// Not the pairing's own life, which may have ended.
	ctx, cancel := context.WithTimeout(context.Background(), e.limits.hold+e.limits.retry)
	defer cancel()
	_ = post(ctx, ch, "confirm", e.limits.request, confirmMessage{Cancel: true, Undo: undo}, &confirmAnswer{}) // as well as it can
}

// WithCode pairs with the device id by its setup code, in the form that people type.
// It blocks until that is done, or returns why not: [ErrBadCode] before anything was
// tried, [ErrWrongCode], [ErrLocked], [ErrTampered] when the device does not know the
// code itself, [ErrTooOften] when it was too busy with strangers for 20 s to look at it, or an error
// of the connection.
func (e *Engine) WithCode(ctx context.Context, id identity.DeviceID, text string) (Pairing, error) {
	code, err := ParseSetupCode(text)
	if err != nil {
		return Pairing{}, err
	}
	if e.cfg.Off() {
		return Pairing{}, ErrOff
	}
	e.mu.Lock()
	if e.ended {
		e.mu.Unlock()
		return Pairing{}, ErrClosed
	}
	e.work.Add(1)
	e.mu.Unlock()
	defer e.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	for until, try := time.Now().Add(e.limits.code), 1; ; try++ {
		p, err := e.prove(ctx, id, code)
		// Whoever guesses codes there crowds us out; ours, which is right, is not counted twice.
		again := errors.Is(err, ErrTooOften) || errors.Is(err, ErrLost) && try < maxTries
		if !again || !time.Now().Add(e.limits.retry).Before(until) {
			return p, err
		}
		select {
		case <-time.After(e.limits.retry):
		case <-ctx.Done():
			return p, err
		}
	}
}

// prove carries out one attempt of [Engine.WithCode].
func (e *Engine) prove(ctx context.Context, id identity.DeviceID, code SetupCode) (Pairing, error) {
	ch, err := e.cfg.Open(ctx, id)
	if err != nil {
		return Pairing{}, err
	}
	defer ch.Close()
	if ch.Key.ID() != id {
		return Pairing{}, fmt.Errorf("%w: another device answered", ErrTampered)
	}
	who := parties{asker: e.cfg.Self, asked: id, binding: ch.Value}
	var a codeAnswer
	m := codeMessage{Version: version, Name: e.cfg.Name(id, true), Proof: who.proof(asker, code)}
	if err := post(ctx, ch, "code", e.limits.request, m, &a); err != nil {
		return Pairing{}, err
	}
	if !a.Proof.equal(who.proof(asked, code)) {
		return Pairing{}, fmt.Errorf("%w: it does not know its setup code", ErrTampered)
	}
	p := Pairing{Peer: id, Name: label(a.Name), State: Paired}
	return p, e.trust(ch.Key, p.Name)
}
