package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
)

// The sender hears one word of its receiver at a time, in their order: a "running" that takes long to arrive does not take back the
// "paused" that came after it.
func TestStatesArriveInOrder(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", func(c *Config) {
		acceptAll(c)
		c.Rates = func(identity.DeviceID) Rates { return Rates{Down: 256 << 10} }
	})
	var mu sync.Mutex
	var heard []State
	underWay, most := 0, 0
	slow := make(chan struct{})   // closed when the first word is there
	goOn := make(chan struct{})   // closed to let it go on
	paused := make(chan struct{}) // closed when the other is answered
	alice.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/state") {
				h.ServeHTTP(w, r)
				return
			}
			body, err := io.ReadAll(r.Body)
			var msg stateMessage
			if err = errors.Join(err, json.Unmarshal(body, &msg)); err != nil {
				t.Error(err)
			}
			mu.Lock()
			underWay++
			most = max(most, underWay)
			heard = append(heard, msg.State)
			first := len(heard) == 1
			mu.Unlock()
			if first {
				close(slow)
				<-goOn
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(w, r)
			mu.Lock()
			underWay--
			mu.Unlock()
			if msg.State == Paused {
				close(paused)
			}
		})
	})
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "film"), 8<<20))
	<-slow
	tr := bob.untilState(Running)
	if err := bob.Pause(tr.ID); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-paused
	alice.untilState(Paused)
	mu.Lock()
	defer mu.Unlock()
	if want := []State{Running, Paused}; !slices.Equal(heard, want) || most != 1 {
		t.Errorf("heard %v, up to %d at once, want %v one by one", heard, most, want)
	}
}

// A request that was made before its receiver stopped and comes after is refused and changes nothing; one that comes much later means
// that the receiver goes on, although its word of that was lost.
func TestLateRequest(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", nil)
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "film"), 2<<20))
	x := bob.untilState(Waiting).X
	alice.untilState(Waiting)
	late := func(d time.Duration) {
		alice.mu.Lock()
		defer alice.mu.Unlock()
		alice.Engine.mu.Lock()
		defer alice.Engine.mu.Unlock()
		alice.late = d
	}
	say := func(s State, code string) {
		t.Helper()
		if _, err := bob.post(t.Context(), alice.id, "/v1/x/"+x+"/state", stateMessage{State: s, Code: code}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() error {
		t.Helper()
		resp, err := bob.Bulk(alice.id).Get("http://nigh/v1/x/" + x + "/manifest?from=0")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			return resp.Body.Close()
		}
		_, err = readRefusal(resp)
		return err
	}
	state := func(want State) {
		t.Helper()
		if got := alice.Transfers()[0]; got.State != want || got.PausedThere != (want == Paused) {
			t.Errorf("the sender shows %s, paused there: %t; want %s", got.State, got.PausedThere, want)
		}
	}
	for _, stop := range []struct {
		State
		code    string
		refused error
	}{{Paused, "", ErrBusy}, {Failed, Code(ErrDiskFull), ErrBusy}, {Queued, "", nil}} {
		say(Running, "")
		state(Running)
		late(time.Hour)
		say(stop.State, stop.code)
		if err := ask(); !errors.Is(err, stop.refused) {
			t.Errorf("after %s: %v, want %v", stop.State, err, stop.refused)
		}
		state(stop.State)
		late(0)
		if err := ask(); err != nil {
			t.Errorf("long after %s: %v", stop.State, err)
		}
		state(Running)
		late(time.Hour)
		say(stop.State, stop.code)
		say(Running, "")
		if err := ask(); err != nil {
			t.Errorf("when it goes on after %s: %v", stop.State, err)
		}
		state(Running)
	}
}

// The sender pauses and goes on at once, and the answer that told of the pause is slower than the word that it goes on.
func TestPauseThatIsOver(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", acceptAll)
	film := write(t, filepath.Join(t.TempDir(), "film"), 2<<20)
	once := sync.OnceFunc(func() {
		tr := alice.Transfers()[0]
		alice.Engine.mu.Lock()
		alice.all[tr.ID].rec.PausedHere = true // as Pause does before its word leaves
		alice.Engine.mu.Unlock()
	})
	again := sync.OnceFunc(func() {
		tr := alice.Transfers()[0]
		alice.Engine.mu.Lock()
		alice.all[tr.ID].rec.PausedHere = false
		alice.Engine.mu.Unlock()
		if _, err := alice.post(t.Context(), bob.id, "/v1/x/"+tr.X+"/state", stateMessage{State: Running}); err != nil {
			t.Error(err)
		}
	})
	alice.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/file/") {
				h.ServeHTTP(w, r)
				return
			}
			once()
			h.ServeHTTP(&heldStatus{ResponseWriter: w, before: again}, r)
		})
	})
	alice.send(bob, film)
	same(t, film, bob.untilState(Done).Path)
}

// heldStatus calls before when an answer is a refusal, before that leaves.
type heldStatus struct {
	http.ResponseWriter
	before func()
}

func (w *heldStatus) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *heldStatus) WriteHeader(status int) {
	if status/100 != 2 {
		w.before()
	}
	w.ResponseWriter.WriteHeader(status)
}
