package wpa

import (
	"context"
	"sync"
)

const (
	eventBuffer = 64
	// maxPending bounds the events that wait for a consumer that does not take them. Peers, groups and the status
	// coalesce, so only requests and comings and goings add up.
	maxPending = 1024
)

// outbox holds events until the consumer takes them, so that the machine never waits. What is told again about the same
// thing replaces what was not taken yet.
type outbox struct {
	ready chan struct{} // capacity 1
	mu    sync.Mutex
	queue []Event // guarded by mu
}

func newOutbox() *outbox { return &outbox{ready: make(chan struct{}, 1)} }

func (o *outbox) push(e Event) {
	o.mu.Lock()
	if !o.merge(e) {
		if len(o.queue) >= maxPending {
			o.queue = o.queue[1:]
		}
		o.queue = append(o.queue, e)
	}
	o.mu.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// merge puts e in the place of an event that waits and is about the same thing. The order of events about one thing
// stays: it looks back only to the last event about it.
func (o *outbox) merge(e Event) bool {
	for i := len(o.queue) - 1; i >= 0; i-- {
		switch e := e.(type) {
		case StateChanged:
			if _, ok := o.queue[i].(StateChanged); ok {
				// The newest status belongs after what led to it.
				o.queue = append(append(o.queue[:i:i], o.queue[i+1:]...), e)
				return true
			}
		case PeerChanged:
			switch q := o.queue[i].(type) {
			case PeerSeen:
				if q.Peer.Address.String() == e.Peer.Address.String() {
					o.queue[i] = PeerSeen(e)
					return true
				}
			case PeerChanged:
				if q.Peer.Address.String() == e.Peer.Address.String() {
					o.queue[i] = e
					return true
				}
			case PeerLost:
				if q.Address.String() == e.Peer.Address.String() {
					return false
				}
			}
		case GroupChanged:
			switch q := o.queue[i].(type) {
			case GroupUp:
				if q.Group.ID == e.Group.ID {
					o.queue[i] = GroupUp(e)
					return true
				}
			case GroupChanged:
				if q.Group.ID == e.Group.ID {
					o.queue[i] = e
					return true
				}
			}
		default:
			return false
		}
	}
	return false
}

func (o *outbox) take() (Event, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil, false
	}
	e := o.queue[0]
	o.queue = o.queue[1:]
	return e, true
}

// run hands events to the consumer until ctx ends.
func (o *outbox) run(ctx context.Context, to chan<- Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.ready:
		}
		for {
			e, ok := o.take()
			if !ok {
				break
			}
			select {
			case to <- e:
			case <-ctx.Done():
				o.mu.Lock()
				o.queue = append([]Event{e}, o.queue...)
				o.mu.Unlock()
				return
			}
		}
	}
}

// drain leaves the last events in the channel's buffer as far as there is room, for a consumer that reads to the end.
func (o *outbox) drain(to chan<- Event) {
	for {
		e, ok := o.take()
		if !ok {
			return
		}
		select {
		case to <- e:
		default:
			return
		}
	}
}
