package transfer

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"nigh/agent/identity"
)

// limited gives a device limits that a test changes while it runs.
func limited(now *atomic.Pointer[Limits], more ...func(*Config)) func(*Config) {
	return func(c *Config) {
		c.Limits = func() Limits { return *now.Load() }
		for _, fn := range more {
			fn(c)
		}
	}
}

func limits(l Limits) *atomic.Pointer[Limits] {
	p := new(atomic.Pointer[Limits])
	p.Store(&l)
	return p
}

// untilStates waits until a device has so many transfers in each state.
func (d *device) untilStates(want map[State]int) {
	d.bed.t.Helper()
	d.until(fmt.Sprint(want), func(Transfer) bool {
		got := map[State]int{}
		for _, t := range d.Transfers() {
			got[t.State]++
		}
		for s, n := range want {
			if got[s] != n {
				return false
			}
		}
		return true
	})
}

// Two transfers at once, and a device with three: another device does not wait for them, the third has its turn, the bound changes
// while they move, and in the end everything is there.
func TestTurns(t *testing.T) {
	b := newBed(t)
	slow, turns := limits(Limits{Rates: Rates{Up: 512 << 10}}), limits(Limits{AtOnce: 2})
	alice := b.device("alice", limited(slow))
	carol := b.device("carol", nil)
	bob := b.device("bob", limited(turns, acceptAll))
	var films []string
	for i := range 3 {
		films = append(films, write(t, filepath.Join(t.TempDir(), fmt.Sprintf("film%d", i)), 3<<20))
		alice.send(bob, films[i])
	}
	bob.untilStates(map[State]int{Running: 2, Queued: 1})
	note := write(t, filepath.Join(t.TempDir(), "note"), 100<<10)
	carol.send(bob, note)
	got := bob.untilState(Done)
	if got.Peer != carol.id {
		t.Fatalf("first done is %+v", got)
	}
	same(t, note, got.Path)
	bob.untilStates(map[State]int{Running: 2, Queued: 1})
	turns.Store(&Limits{AtOnce: 1})
	bob.LimitsChanged()
	bob.untilStates(map[State]int{Running: 1, Queued: 2})
	alice.untilStates(map[State]int{Running: 1, Queued: 2}) // also the third, which was never asked for
	for _, tr := range alice.Transfers() {
		if tr.ErrorCode != "" {
			t.Errorf("the sender shows %s with %q", tr.State, tr.ErrorCode)
		}
	}
	turns.Store(&Limits{})
	bob.LimitsChanged()
	bob.untilStates(map[State]int{Running: 3})
	slow.Store(&Limits{})
	alice.LimitsChanged()
	bob.untilStates(map[State]int{Done: 4})
	alice.untilStates(map[State]int{Done: 3})
	for i, path := range films {
		same(t, path, filepath.Join(bob.inbox, fmt.Sprintf("film%d", i)))
	}
	bob.clean("film0", "film1", "film2", "note")
}

// Pause, resume and cancel work at a low rate, from either side, and what a rate holds back does not stand in their way.
func TestCommandsAtALowRate(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	low := func(c *Config) { c.Rates = func(identity.DeviceID) Rates { return Rates{Down: 256 << 10} } }
	bob := b.device("bob", func(c *Config) { acceptAll(c); low(c) })
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "film"), 8<<20))
	tr := bob.until("moving", func(t Transfer) bool { return t.State == Running && t.BytesDone > 0 })
	for _, d := range []*device{alice, bob} {
		id := d.Transfers()[0].ID
		if err := d.Pause(id); err != nil {
			t.Fatal(err)
		}
		alice.untilState(Paused)
		bob.untilState(Paused)
		if err := d.Resume(id); err != nil {
			t.Fatal(err)
		}
		alice.untilState(Running)
		bob.untilState(Running)
	}
	if err := bob.Cancel(tr.ID); err != nil {
		t.Fatal(err)
	}
	alice.failedWith("cancelled")
	bob.failedWith("cancelled")
	bob.emptied()
}

// What is to stay free stays so: an offer that leaves too little is refused, and what others write meanwhile ends a transfer before it
// takes the rest. It goes on when there is room.
func TestMinFree(t *testing.T) {
	const keep = 24 << 20
	dir := mountTmpfs(t, 64<<20)
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", func(c *Config) {
		acceptAll(c)
		c.Inbox = dir
		c.Limits = func() Limits { return Limits{MinFree: keep} }
	})
	bob.inbox = dir
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "large"), 48<<20))
	alice.failedWith("no_space")
	bob.clean()
	tree := filepath.Join(t.TempDir(), "tree")
	for i := range 60 {
		write(t, filepath.Join(tree, fmt.Sprintf("f%02d", i)), 500_000)
	}
	hog := filepath.Join(dir, "hog.nigh-part")
	var sending sync.Mutex // nothing is sent while the disk is filled
	sent, filled := 0, false
	alice.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
		sending.Lock()
		defer sending.Unlock()
		if sent += len(p); sent >= 8<<20 && !filled {
			filled = true
			write(t, hog, 20<<20)
		}
		return p, nil
	})
	reached, release := make(chan struct{}), make(chan struct{})
	alice.mu.Lock()
	tapped := alice.handler
	alice.mu.Unlock()
	alice.around(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/state") {
				said, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				if strings.Contains(string(said), `"failed"`) {
					close(reached)
					<-release
				}
				r.Body = io.NopCloser(bytes.NewReader(said))
			}
			tapped.ServeHTTP(w, r)
		})
	})
	alice.send(bob, tree)
	got := bob.failedWith("disk_full")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	// Two requests may be under way; each looks at the disk after 256 KiB.
	if free := int64(st.Bavail) * st.Bsize; free < keep-(3<<20) {
		t.Errorf("%d bytes are free", free)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	// Its sender does not know yet that it failed: what it hears after the next request would end that.
	<-reached
	if err := bob.Resume(got.ID); err != nil {
		t.Fatal(err)
	}
	bob.schedule()
	bob.Engine.mu.Lock()
	if bob.all[got.ID].busy {
		t.Error("more is asked for before the sender knows that it failed")
	}
	bob.Engine.mu.Unlock()
	close(release)
	same(t, tree, bob.untilState(Done).Path)
}
