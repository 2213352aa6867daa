package agent

import (
	"sync"

	"nigh/agent/control"
)

// watchBuffer is how many events a watcher may fall behind before it is cut.
const watchBuffer = 512

// maxWatchers bounds the event streams open at once.
const maxWatchers = 64

// hub gives every change to every watcher. A watcher that does not keep up is
// cut with a reason instead of slowing the agent: it reconnects and starts from
// the full state again.
type hub struct {
	ring *logRing // of the log that watchers may ask for

	mu       sync.Mutex
	watchers map[*watcher]bool // guarded by mu
}

type watcher struct {
	ch   chan control.Event
	seq  uint64
	log  bool   // wants the log
	seen uint64 // number of the last line of the log that it has
}

// watch registers a watcher whose first event is the state that snapshot
// returns. Changes published while snapshot runs wait on mu, so that none is
// lost and none is told twice; snapshot must not publish. With log the state has the
// lines of the log that are kept, and what is logged follows.
func (h *hub) watch(log bool, snapshot func() control.State) (<-chan control.Event, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) >= maxWatchers {
		return nil, nil, &control.Error{Code: control.CodeBusy, Message: "too many programs are watching this agent", Hint: "close some of them"}
	}
	state := snapshot()
	w := &watcher{ch: make(chan control.Event, watchBuffer), log: log}
	if log {
		state.Log, w.seen = h.ring.last()
	}
	if h.watchers == nil {
		h.watchers = map[*watcher]bool{}
	}
	h.watchers[w] = true
	w.send(control.Event{Type: "state", State: &state})
	cancel := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(w)
	}
	return w.ch, cancel, nil
}

// publish gives the event that view returns to every watcher, or nothing when
// it returns false. It never blocks. The view is taken under mu so that of two
// changes to one thing the later value is also the later event; whoever calls
// publish therefore holds no lock that view takes.
func (h *hub) publish(view func() (control.Event, bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) == 0 {
		return
	}
	e, ok := view()
	if !ok {
		return
	}
	h.tell(e)
}

// publishAll is publish for several events, which follow each other.
func (h *hub) publishAll(views func() []control.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) == 0 {
		return
	}
	for _, e := range views() {
		h.tell(e)
	}
}

// tell gives an event to every watcher; h.mu is held.
func (h *hub) tell(e control.Event) {
	for w := range h.watchers {
		// The last slot is kept for the word that explains the cut.
		if len(w.ch) < cap(w.ch)-1 {
			w.send(e)
			continue
		}
		w.send(control.Event{Type: "end", Reason: "this watcher fell behind; connect again for the full state"})
		h.drop(w)
	}
}

// tellLog gives the watchers that want the log the lines that they do not have. A
// watcher that is slow keeps half of its room for changes, so that the log never
// gets it cut: then tellLog returns true, to be called again.
func (h *hub) tellLog() (behind bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if !w.log {
			continue
		}
		room := cap(w.ch)/2 - len(w.ch)
		if room <= 0 {
			behind = true
			continue
		}
		var lines []control.LogLine
		lines, w.seen = h.ring.after(w.seen, room)
		for i := range lines {
			w.send(control.Event{Type: "log", Log: &lines[i]})
		}
		behind = behind || len(lines) == room
	}
	return behind
}

// close ends every watcher, saying why.
func (h *hub) close(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.send(control.Event{Type: "end", Reason: reason})
		h.drop(w)
	}
}

// drop ends a watcher once; h.mu is held.
func (h *hub) drop(w *watcher) {
	if h.watchers[w] {
		delete(h.watchers, w)
		close(w.ch)
	}
}

// send numbers the event; the hub's mu is held and there is room.
func (w *watcher) send(e control.Event) {
	w.seq++
	e.Seq = w.seq
	w.ch <- e
}
