package transfer

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"nigh/agent/content"
)

// What was sent is not hashed again; should it have been written without a new time, the receiver finds the wrong leaf, and the sender
// makes it, and all others, anew.
func TestHashedOnce(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", acceptAll)
	path := write(t, filepath.Join(t.TempDir(), "file"), 3<<20+99)
	var alone atomic.Int64 // requests for group 4 and no other
	alice.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "bytes=1048576-1310719" {
				alone.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	})
	move := func() {
		t.Helper()
		id := alice.send(bob, path).ID
		alice.until("done", func(x Transfer) bool { return x.ID == id && x.State == Done })
	}
	move()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	known := alice.hashed.of(f)
	groups := content.Groups(3<<20 + 99)
	for i := range groups {
		if _, ok := known.leaf(i); !ok {
			t.Errorf("group %d is not known", i)
		}
	}
	right, _ := known.leaf(4)
	known.mu.Lock()
	known.all[4][0] ^= 1
	known.mu.Unlock()
	alone.Store(0)
	move()
	if alone.Load() == 0 {
		t.Error("the leaf that was known was not used: the group that it made wrong was not asked for again")
	}
	if got, ok := known.leaf(4); !ok || got != right {
		t.Errorf("the leaf that was wrong: %x, %v", got, ok)
	}
	same(t, path, filepath.Join(bob.inbox, "file"))
	same(t, path, filepath.Join(bob.inbox, "file (1)"))
	if err := os.WriteFile(path, make([]byte, 3<<20+99), 0o644); err != nil {
		t.Fatal(err)
	}
	if alice.hashed.of(f) == known {
		t.Error("a file that was written again is taken for what it was")
	}
}

func TestHashedBounds(t *testing.T) {
	var h hashed
	dir := t.TempDir()
	open := func(name string, groups int) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = f.Truncate(int64(groups) * content.MinGroup)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	if h.of(open("huge", maxHashed+1)) != nil {
		t.Error("a file over the bound is remembered")
	}
	first := open("first", 8)
	l := h.of(first)
	for i, groups := range []int{maxHashed / 2, maxHashed/2 - 8, 1} {
		if h.of(first) != l {
			t.Errorf("forgotten before file %d", i)
		}
		h.of(open(strings.Repeat("x", i+1), groups))
	}
	if h.of(first) == l {
		t.Error("nothing was forgotten")
	}
	sum := 0
	for _, file := range h.files {
		sum += len(file.leaves.all)
	}
	if sum != h.groups || sum > maxHashed {
		t.Errorf("%d groups counted, %d there", h.groups, sum)
	}
}
