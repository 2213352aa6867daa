package transfer

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// A sender that trickles has its turn until somebody waits for it; it goes on afterwards, and alone it is left in peace.
func TestTricklingSenderGivesUpItsTurn(t *testing.T) {
	b := newBed(t)
	turns := limits(Limits{AtOnce: 1})
	mallory, carol := b.device("mallory", nil), b.device("carol", nil)
	bob := b.deviceIn("bob", t.TempDir(), limited(turns, acceptAll))
	bob.halt()
	bob.engine = func(e *Engine) { e.slowTurn = 200 * time.Millisecond }
	bob.start()
	fast := make(chan struct{})
	mallory.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(&trickle{w, r, fast}, r)
		})
	})
	film := write(t, filepath.Join(t.TempDir(), "film"), 3<<20)
	mallory.send(bob, film)
	bob.until("trickling", func(t Transfer) bool { return t.Peer == mallory.id && t.State == Running })
	note := write(t, filepath.Join(t.TempDir(), "note"), 100<<10)
	carol.send(bob, note)
	got := bob.untilState(Done)
	if got.Peer != carol.id {
		t.Fatalf("first done is %+v", got)
	}
	same(t, note, got.Path)
	bob.until("trickling again", func(t Transfer) bool { return t.Peer == mallory.id && t.State == Running })
	close(fast)
	bob.untilStates(map[State]int{Done: 2})
	same(t, film, filepath.Join(bob.inbox, "film"))
	bob.clean("film", "note")
}

// A trickle writes little at a time until it may be fast.
type trickle struct {
	http.ResponseWriter
	r    *http.Request
	fast <-chan struct{}
}

func (w *trickle) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *trickle) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+100)]
		select {
		case <-w.fast:
			part = p[n:]
		case <-w.r.Context().Done():
			return n, w.r.Context().Err()
		case <-time.After(20 * time.Millisecond):
		}
		m, err := w.ResponseWriter.Write(part)
		n += m
		if err == nil {
			err = http.NewResponseController(w.ResponseWriter).Flush()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
