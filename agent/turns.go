package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"nigh/agent/identity"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// turns collects the devices about which the user's mind changed, from before Run
// begins: nothing that is decided while the agent starts is missed.
type turns struct {
	wake   chan struct{} // capacity 1: there are some
	cancel func()        // ends the subscription

	mu  sync.Mutex
	ids map[identity.DeviceID]bool // guarded by mu
}

func followTurns(book *trust.Book) *turns {
	t := &turns{wake: make(chan struct{}, 1), ids: map[identity.DeviceID]bool{}}
	t.cancel = book.Changes(func(c trust.Change) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ids[c.New.ID] = true
		select {
		case t.wake <- struct{}{}:
		default:
		}
	})
	return t
}

// take returns the devices that changed since the last call.
func (t *turns) take() []identity.DeviceID {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := slices.Collect(maps.Keys(t.ids))
	clear(t.ids)
	return ids
}

// keepName writes the name that a trusted device calls itself into the book when
// nobody gave it one. Without it, a stranger could take the name while the device
// is away, and what is sent by name.
func (a *Agent) keepName(id identity.DeviceID) {
	name := a.table.ownName(id)
	if r := a.record(id); name == "" || r.Name != "" || r.Standing != trust.Trusted {
		return
	}
	if err := a.trust.Rename(id, name); err != nil && !errors.Is(err, trust.ErrUnknown) {
		a.log.Warn("Keeping the name of a device failed", "peer", id.Short(), "err", err)
	}
}

// dismiss ends every transfer from and to a device that is trusted no more, and what
// waits to be said to it. What is just getting its final name is let through.
func (a *Agent) dismiss(id identity.DeviceID) {
	a.messages.Dismiss(id)
	for _, t := range a.transfers.Transfers() {
		if t.Peer != id || t.State.Ended() {
			continue
		}
		if err := a.transfers.Cancel(t.ID); err != nil && !errors.Is(err, transfer.ErrState) {
			a.log.Warn("Ending a transfer failed", "transfer", t.ID, "err", err)
		}
	}
}

// followTrust keeps sessions in step with the trust book: a removed or blocked
// device loses its sessions and transfers at once.
func (a *Agent) followTrust(ctx context.Context) error {
	// Whatever was decided in an earlier run takes effect now.
	for _, r := range a.trust.List() {
		if r.Standing == trust.Trusted {
			a.sessions.Hold(r.ID)
		} else {
			a.dismiss(r.ID)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-a.nameless:
			a.keepName(id)
			continue
		case key := <-a.keys:
			a.learn(key)
			continue
		case <-a.turns.wake:
		}
		for _, id := range a.turns.take() {
			if a.trust.Standing(id) == trust.Trusted {
				a.table.know(id)
				a.keepName(id)
				a.sessions.Hold(id)
				a.typed.remember(id)
			} else {
				a.dismiss(id)
				a.typed.forget(id)
				a.sessions.Release(id)
				a.sessions.Close(id)
				a.direct.forget(ctx, id)
				a.table.release(id)
				a.table.forget(id)
			}
			a.publishPeer(id)
		}
		a.lookAtNames()
		a.deny()
		a.transfers.LimitsChanged()
		a.recogniseFriends()
	}
}
