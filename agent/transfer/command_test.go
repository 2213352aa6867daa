package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slow has the device answer in small steps, so that there is time to meddle.
func (d *device) slow(started chan<- struct{}) {
	var once sync.Once
	d.tapped(func(r *http.Request, p []byte) ([]byte, error) {
		once.Do(func() { close(started) })
		select {
		case <-time.After(20 * time.Millisecond):
			return p, nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	})
}

// Either side cancels in the middle: both end at once, and nothing stays.
func TestCancel(t *testing.T) {
	for _, by := range []string{"sender", "receiver"} {
		t.Run(by, func(t *testing.T) {
			// The best of three: others use this machine too.
			for range 3 {
				if took := cancelledBy(t, by); took <= 300*time.Millisecond {
					return
				}
			}
			t.Error("it took over 300 ms, three times")
		})
	}
}

func cancelledBy(t *testing.T, by string) (took time.Duration) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	started := make(chan struct{})
	alice.slow(started)
	dir := filepath.Join(t.TempDir(), "tree")
	write(t, filepath.Join(dir, "film"), 64<<20)
	write(t, filepath.Join(dir, "note"), 64)
	alice.send(bob, dir)
	<-started
	d := map[string]*device{"sender": alice, "receiver": bob}[by]
	began := time.Now()
	if err := d.Cancel(d.untilState(Running).ID); err != nil {
		t.Fatal(err)
	}
	alice.failedWith("cancelled")
	bob.failedWith("cancelled")
	took = time.Since(began)
	bob.emptied()
	for _, d := range []*device{alice, bob} {
		if err := d.Cancel(d.Transfers()[0].ID); !errors.Is(err, ErrState) {
			t.Errorf("cancelled twice: %v", err)
		}
	}
	return took
}

// An offer that was cancelled while the receiver was away is taken back when it is seen.
func TestCancelWhileAway(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	tr := alice.send(bob, write(t, filepath.Join(t.TempDir(), "note"), 10))
	bob.untilState(Waiting)
	alice.untilState(Waiting)
	bob.cut(true)
	if err := alice.Cancel(tr.ID); err != nil {
		t.Fatal(err)
	}
	bob.cut(false)
	alice.Wake(bob.id)
	bob.failedWith("cancelled")
}

// Refusals: by the person, and by policy with a reason.
func TestRefuse(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	carol := b.device("carol", func(c *Config) { c.Decide = func(Offer) Decision { return Refuse("not from you") } })
	path := write(t, filepath.Join(t.TempDir(), "note"), 10)
	alice.send(bob, path)
	offer := bob.untilState(Waiting)
	if err := bob.Refuse(offer.ID); err != nil {
		t.Fatal(err)
	}
	got := alice.untilState(Refused)
	if err := bob.Accept(offer.ID, ""); !errors.Is(err, ErrState) {
		t.Errorf("accepted after refusing: %v", err)
	}
	alice.send(carol, path)
	alice.until("refused by policy", func(t Transfer) bool { return t.State == Refused && t.ID != got.ID && t.Reason == "not from you" })
	if len(carol.Transfers()) != 0 {
		t.Error("an offer that policy refuses is remembered")
	}
	if _, err := os.Lstat(bob.inbox); err == nil {
		t.Error("an offer made the inbox before anyone accepted")
	}
}

// Each side pauses and resumes; a transfer paused by both needs both.
func TestPause(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	started := make(chan struct{})
	alice.slow(started)
	path := write(t, filepath.Join(t.TempDir(), "film"), 16<<20)
	alice.send(bob, path)
	<-started
	a, r := alice.untilState(Running).ID, bob.untilState(Running).ID
	do := func(fn func(string) error, id string) {
		t.Helper()
		if err := fn(id); err != nil {
			t.Fatal(err)
		}
	}
	do(bob.Pause, r)
	alice.until("paused there", func(t Transfer) bool { return t.State == Paused && t.PausedThere && !t.PausedHere })
	do(bob.Resume, r)
	alice.untilState(Running)
	bob.untilState(Running)
	do(alice.Pause, a)
	bob.until("paused there", func(t Transfer) bool { return t.State == Paused && t.PausedThere && !t.PausedHere })
	if err := bob.Resume(r); !errors.Is(err, ErrState) {
		t.Errorf("resumed what the other side paused: %v", err)
	}
	do(bob.Pause, r)
	alice.until("paused by both", func(t Transfer) bool { return t.PausedThere && t.PausedHere })
	do(alice.Resume, a)
	bob.until("paused here only", func(t Transfer) bool { return t.State == Paused && !t.PausedThere && t.PausedHere })
	bob.halt()
	bob.start()
	if got := bob.Transfers()[0]; got.State != Paused || !got.PausedHere {
		t.Errorf("after a restart: %+v", got)
	}
	alice.around(nil)
	do(bob.Resume, r)
	same(t, path, bob.untilState(Done).Path)
	alice.untilState(Done)
}

// A session that counts requests answers in other words than ours; the transfer goes slower and is whole.
func TestBusyPeer(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	var asked atomic.Int32
	alice.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n := asked.Add(1); strings.Contains(r.URL.Path, "/file/") && n%4 == 0 {
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	path := write(t, filepath.Join(t.TempDir(), "film"), 20<<20)
	alice.send(bob, path)
	same(t, path, bob.untilState(Done).Path)
	if n := asked.Load(); n > 20 {
		t.Errorf("%d requests: they did not become larger", n)
	}
}

// A sender whose receiver goes away without a word shows that, and goes on when it is asked again.
func TestSenderSeesPeerAway(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	alice.halt()
	alice.engine = func(e *Engine) { e.senderIdle = 100 * time.Millisecond }
	alice.cut(false)
	alice.start()
	bob := b.device("bob", acceptAll)
	path := write(t, filepath.Join(t.TempDir(), "film"), 24<<20)
	half := make(chan struct{})
	alice.after(8<<20, func() { close(half) })
	alice.send(bob, path)
	<-half
	bob.halt()
	alice.until("queued, peer away", func(t Transfer) bool { return t.State == Queued && t.ErrorCode == "peer_gone" })
	alice.Engine.mu.Lock()
	for _, tr := range alice.all {
		if tr.src != nil {
			t.Error("the source is kept in memory while nobody asks")
		}
	}
	alice.Engine.mu.Unlock()
	bob.start()
	same(t, path, bob.untilState(Done).Path)
	alice.untilState(Done)
}

// Several transfers between two devices move at once, within the bounds, and all end.
func TestManyTransfersAtOnce(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	var now, most atomic.Int32
	alice.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/file/") || strings.HasSuffix(r.URL.Path, "/batch") {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
			}
			h.ServeHTTP(w, r)
		})
	})
	dir := t.TempDir()
	for i := range 12 {
		alice.send(bob, write(t, filepath.Join(dir, fmt.Sprintf("film%02d", i)), 3<<20))
	}
	bob.until("all done", func(Transfer) bool {
		n := 0
		for _, tr := range bob.Transfers() {
			if tr.State == Done {
				n++
			}
		}
		return n == 12
	})
	for i := range 12 {
		name := fmt.Sprintf("film%02d", i)
		same(t, filepath.Join(dir, name), filepath.Join(bob.inbox, name))
	}
	// A handler may return a little after its last byte was read, so that its successor is counted beside it. Without the
	// bound there would be inFlight for each of MaxRunning transfers.
	if n := most.Load(); n > 2*inFlight {
		t.Errorf("%d bulk requests at once to one peer", n)
	}
}

// A record that cannot be read costs only itself.
func TestDamagedRecord(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "note"), 10))
	offer := bob.untilState(Waiting)
	if err := bob.store.Bucket(bucketTransfers).Put([]byte("0123456789abcdef"), "what is this"); err != nil {
		t.Fatal(err)
	}
	bob.halt()
	bob.start()
	if list := bob.Transfers(); len(list) != 1 || list[0].ID != offer.ID {
		t.Errorf("after a restart: %+v", list)
	}
}
