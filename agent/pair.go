package agent

import (
	"cmp"
	"context"
	"strings"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/pairing"
	"nigh/agent/policy"
	"nigh/agent/session"
)

// pairItem is what the inbox IDs of pairings begin with.
const pairItem = "pair-"

// pairingName is what this device calls itself to one that it pairs with: who begins
// it wants to be known there, whatever its visibility.
func (a *Agent) pairingName(peer identity.DeviceID, began bool) string {
	if began {
		return a.now().Name
	}
	return a.nameFor(session.Peer{ID: peer, Standing: a.trust.Standing(peer)})
}

// pairings returns the pairings that wait for a person, here or there.
func (a *Agent) pairings() []control.InboxItem {
	var items []control.InboxItem
	for _, p := range a.pairing.List() {
		v := a.pairingView(p)
		items = append(items, control.InboxItem{
			ID: p.ID, Kind: "pair", Peer: v.Peer, PeerName: v.PeerName, Trust: a.trust.Standing(p.Peer).String(),
			Expires: v.Expires, Code: v.Code, Own: v.Own, Answered: p.State == pairing.Waiting, Warning: v.Warning,
		})
	}
	return items
}

func (a *Agent) pairingView(p pairing.Pairing) control.Pairing {
	v := control.Pairing{
		ID: p.ID, Peer: p.Peer.String(), Short: p.Peer.Short(),
		PeerName: cmp.Or(a.record(p.Peer).Name, p.Name, a.peerName(p.Peer)),
		State:    string(p.State), Code: p.Code, Own: !p.Asked, Expires: -1, Warning: a.warning(p.Peer),
	}
	if !p.Until.IsZero() {
		v.Expires = max(0, time.Until(p.Until).Seconds())
	}
	return v
}

// Pair implements [control.Backend].
func (b backend) Pair(ctx context.Context, r control.PairRequest) (control.Pairing, error) {
	a := b.a
	if err := a.mayPair(); err != nil {
		return control.Pairing{}, err
	}
	if r.Code != "" {
		// A mistyped code is found before anybody is bothered.
		if _, err := pairing.ParseSetupCode(r.Code); err != nil {
			return control.Pairing{}, explain(err)
		}
	}
	a.begin()
	id, err := a.approach(ctx, r.Device)
	if err != nil {
		return control.Pairing{}, explain(err)
	}
	var p pairing.Pairing
	if r.Code != "" {
		p, err = a.pairing.WithCode(ctx, id, r.Code)
	} else {
		p, err = a.pairing.Compare(ctx, id)
	}
	if err != nil {
		return control.Pairing{}, explain(err)
	}
	return a.pairingView(p), nil
}

// mayPair returns the error for a person unless the policy lets devices be paired.
func (a *Agent) mayPair() error {
	if !policy.Off(a.now().policy.Pairing) {
		return nil
	}
	return &control.Error{Code: control.CodePermission, Message: "the policy of this machine has pairing off", Hint: "nigh config show --origin says where; ask the admin"}
}

// approach finds the identity of a device and waits until a path leads to it. A
// stranger on the air is asked for a Wi-Fi Direct group first, by the button.
func (a *Agent) approach(ctx context.Context, word string) (identity.DeviceID, error) {
	id, err := a.locate(ctx, word)
	if err != nil || a.reachable(id) {
		return id, err
	}
	if err := a.direct.approach(ctx, id); err != nil {
		return id, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, identityWait, errNoIdentity)
	defer cancel()
	return id, a.change.wait(ctx, func() bool { return a.reachable(id) })
}

// WaitPairing implements [control.Backend].
func (b backend) WaitPairing(ctx context.Context, id string) (control.Pairing, error) {
	p, err := b.a.pairing.Wait(ctx, id)
	if err != nil {
		return control.Pairing{}, explain(err)
	}
	return b.a.pairingView(p), nil
}

// SetupCode implements [control.Backend].
func (b backend) SetupCode(_ context.Context, r control.SetupCodeRequest) (control.SetupCode, error) {
	if err := b.a.mayPair(); err != nil {
		return control.SetupCode{}, err
	}
	text, err := b.a.pairing.SetupCode(r.New)
	if err != nil {
		return control.SetupCode{}, explain(err)
	}
	locked, wrong := b.a.pairing.SetupLock()
	return control.SetupCode{Code: text, Locked: locked.Seconds(), Wrong: wrong}, nil
}

// answerPairing carries out a person's answer to a pairing; it reports false for the
// ID of something else.
func (a *Agent) answerPairing(id string, yes bool) (bool, error) {
	if !strings.HasPrefix(id, pairItem) {
		return false, nil
	}
	if a.pairing.Answer(id, yes) != nil {
		return true, noQuestion(id)
	}
	return true, nil
}

// newPairing makes the engine; the sessions are there.
func (a *Agent) newPairing() (*pairing.Engine, error) {
	return pairing.New(pairing.Config{
		Logger: a.log, Self: a.id.ID, Store: a.store, Book: a.trust,
		Open: a.sessions.Open, Name: a.pairingName,
		Off: func() bool { return policy.Off(a.now().policy.Pairing) },
		Changed: func(p pairing.Pairing) {
			if p.Name != "" {
				a.lookAtName(p.Peer, p.Name)
			}
			a.publishInbox(p.ID)
		},
	})
}
