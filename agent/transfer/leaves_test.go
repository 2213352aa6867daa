package transfer

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// TestSilentHolderIsNotWaitedForWithItsLeaves has the holder that is asked for the leaves first say nothing, until the groups that came
// count by those of another one. Its connection is not given up for that.
func TestSilentHolderIsNotWaitedForWithItsLeaves(t *testing.T) {
	b := newBed(t)
	var shelves [3]shelf
	ada, bob, cyd, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("cyd", &shelves[2], nil), b.friend("eve", nil, nil)
	eve.halt()
	eve.engine = func(e *Engine) { e.stall, e.holderStall = 2*patience, 2*patience } // nothing but the second question helps
	eve.start()
	dir := t.TempDir()
	film := write(t, filepath.Join(dir, "films", "film"), filmSize)
	write(t, filepath.Join(dir, "films", "small"), 1000) // ada alone brings it, and the transfer goes on until then
	h := shelves[1].put(t, film)
	shelves[2].put(t, film)
	speak, all := make(chan struct{}), make(chan struct{})
	lost := make(chan bool, 1)
	var first atomic.Bool
	for _, d := range []*device{bob, cyd} {
		d.around(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/tree") && !first.Swap(true) {
					select {
					case <-speak:
					case <-r.Context().Done():
					}
					defer func() { lost <- r.Context().Err() != nil }()
				}
				h.ServeHTTP(w, r)
			})
		})
	}
	a := &counter{free: all}
	ada.tapped(a.see)
	_, err := ada.Send(context.Background(), SendRequest{To: []identity.DeviceID{eve.id}, Tree: &Tree{Root: dir, Path: "films",
		Hash: func(p string, _ *unix.Stat_t) content.Hash {
			if p == "films/film" {
				return h
			}
			return content.Hash{}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	eve.until("proved", func(t Transfer) bool { return shareOf(t, bob).Bytes+shareOf(t, cyd).Bytes > 0 })
	close(speak)
	if <-lost {
		t.Error("the request of the one that was too late was broken off")
	}
	close(all)
	got := eve.untilState(Done)
	same(t, filepath.Join(dir, "films"), filepath.Join(eve.inbox, "films"))
	for _, h := range got.Holders {
		if h.Dropped != "" {
			t.Errorf("dropped: %+v", h)
		}
	}
}

// TestOneHolderIsAskedForTheLeaves has each of two holders count who asks for them: a second question costs it a reading of the file.
func TestOneHolderIsAskedForTheLeaves(t *testing.T) {
	b := newBed(t)
	var shelves [3]shelf
	ada, bob, cyd, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("cyd", &shelves[2], nil), b.friend("eve", nil, nil)
	eve.halt()
	eve.engine = func(e *Engine) { e.proveNext = time.Hour } // however slow the machine is
	eve.start()
	film := write(t, filepath.Join(t.TempDir(), "film"), filmSize)
	h := shelves[1].put(t, film)
	shelves[2].put(t, film)
	var asked atomic.Int64
	for _, d := range []*device{bob, cyd} {
		d.around(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/tree") {
					asked.Add(1)
				}
				h.ServeHTTP(w, r)
			})
		})
	}
	a := &counter{hold: 4 << 20, free: make(chan struct{})}
	ada.tapped(a.see)
	eve.get(ada, film, h)
	eve.until("proved", func(t Transfer) bool { return shareOf(t, bob).Bytes+shareOf(t, cyd).Bytes > 0 })
	close(a.free)
	eve.untilState(Done)
	same(t, film, filepath.Join(eve.inbox, "film"))
	if n := asked.Load(); n != 1 {
		t.Errorf("%d holders were asked for the leaves, want 1", n)
	}
}

// TestSlotOfNoRequestIsGivenBack checks that a transfer which ends before it asks keeps none of the slots, which are the device's.
func TestSlotOfNoRequestIsGivenBack(t *testing.T) {
	e := &Engine{slots: map[identity.DeviceID]chan struct{}{}}
	h := &holder{peer: identity.DeviceID{1}}
	wanted, over := context.WithCancel(t.Context())
	over()
	slots := e.slotsOf(h.peer)
	slots <- struct{}{}
	q := &inquiry{p: &pull{e: e}, l: &largeFile{leaves: make([]content.Leaf, 1)}, ctx: t.Context(), wanted: wanted}
	if _, err := q.all(h, true); err == nil || len(slots) != 0 {
		t.Errorf("%v, with %d slots taken", err, len(slots))
	}
}
