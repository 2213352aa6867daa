package agent

import (
	"context"
	"sync"
)

// signal wakes everybody who waits for something in the agent to change.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // closed at the next change; guarded by mu
}

// changed wakes the waiters.
func (s *signal) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// next returns a channel that is closed at the next change.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// wait blocks until ok returns true, looking again after each change, or until
// ctx ends.
func (s *signal) wait(ctx context.Context, ok func() bool) error {
	for {
		next := s.next()
		if ok() {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
