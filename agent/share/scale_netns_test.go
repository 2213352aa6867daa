//go:build netns

package share

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/lab"
)

// rss returns what the process has resident, in bytes.
func rss(t testing.TB) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// A hundred thousand files in one folder and in a tree: listed in pages, searched, and no memory for each.
func TestHundredThousandFiles(t *testing.T) {
	const n = 100_000
	dir := t.TempDir()
	for i := range n {
		name := fmt.Sprintf("flat/IMG_%06d.jpg", i)
		if i%2 == 1 {
			name = fmt.Sprintf("tree/%02d/Größe %02d/%06d.txt", i/2%50, i/100%20, i)
		}
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if f, err = os.Create(path); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
	}
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	ada.Pause(true) // hashing comes later
	runtime.GC()
	before := rss(t)
	began := time.Now()
	if _, err := ada.Add(AddRequest{Folder: dir, Name: "s"}); err != nil {
		t.Fatal(err)
	}
	i := ada.await("s", func(i Info) bool { return i.State == Ready })
	t.Logf("scanned %d files in %d folders in %v", i.Files, i.Dirs, time.Since(began))
	if i.Files != n || i.Polled != "" {
		t.Errorf("%+v", i)
	}
	for _, tt := range []struct {
		query string
		want  int
		more  bool
	}{{"gröSSE 099999", 1, false}, {"img 004242", 1, false}, {"nothing like it", 0, false}, {"jpg", MaxResults, true}} {
		began := time.Now()
		f := bob.Search(t.Context(), []identity.DeviceID{ada.id}, tt.query, content.Hash{}, patience, nil)
		took := time.Since(began)
		t.Logf("search %q: %d results in %v", tt.query, len(f.Results), took)
		if len(f.Results) != tt.want || f.More != tt.more || took > lab.Bound(t, 300*time.Millisecond) {
			t.Errorf("search %q: %d results, more %v, failed %v", tt.query, len(f.Results), f.More, f.Failed)
		}
	}
	began = time.Now()
	after, listed := "", 0
	for more := true; more; {
		page, err := bob.Browse(t.Context(), ada.id, "s", "flat", after, 0)
		if err != nil {
			t.Fatal(err)
		}
		listed += len(page.Entries)
		after, more = page.Entries[len(page.Entries)-1].Name, page.More
	}
	t.Logf("listed %d entries of one folder in %v", listed, time.Since(began))
	if listed != n/2 {
		t.Errorf("listed %d", listed)
	}
	began = time.Now()
	ada.Pause(false)
	ada.await("s", hashed)
	t.Logf("hashed %d files in %v", n, time.Since(began))
	runtime.GC()
	grown := rss(t) - before
	db, err := os.Stat(filepath.Join(ada.dir, "state", "nigh.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident memory grew by %d MiB; the database, which is mapped, has %d MiB", grown>>20, db.Size()>>20)
	if grown > db.Size()+32<<20 {
		t.Errorf("resident memory grew by %d MiB", grown>>20)
	}
	began = time.Now()
	ada.stop()
	ada.start()
	i = ada.await("s", func(i Info) bool { return i.State == Ready })
	t.Logf("ready %v after a restart, with %d hashes", time.Since(began), i.Hashed)
	if i.Hashed != n {
		t.Errorf("after a restart: %+v", i)
	}
}
