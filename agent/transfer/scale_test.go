package transfer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"nigh/agent/identity"
)

// heap watches the memory in use until stop is called, which returns the most that was seen, in bytes.
func heap() (stop func() uint64) {
	var most atomic.Uint64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse+m.StackInuse))
			select {
			case <-end:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() uint64 {
		close(end)
		<-ended
		return most.Load()
	}
}

// The number of files changes neither the memory of both ends much, nor the time for each.
func TestManyFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("short: 11 000 files")
	}
	// Not on a disk that other programs write to: the one sync at the end would wait for them.
	scratch, err := os.MkdirTemp("/dev/shm", "nigh-test-")
	if err != nil {
		t.Skipf("needs a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(scratch) })
	var times [2]time.Duration
	var most [2]uint64
	counts := [2]int{1_000, 10_000}
	for i, n := range counts {
		dir := filepath.Join(scratch, fmt.Sprint(n), "many")
		for k := range n {
			d := filepath.Join(dir, fmt.Sprintf("%03d", k%200))
			if k < 200 {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("file-%06d", k)), []byte{byte(k), byte(k >> 8)}, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b := newBed(t)
		alice := b.device("alice", nil)
		bob := b.device("bob", func(c *Config) { acceptAll(c); c.Inbox = filepath.Join(scratch, fmt.Sprint(n), "inbox") })
		runtime.GC()
		stop := heap()
		began := time.Now()
		alice.send(bob, dir)
		got := bob.untilState(Done)
		times[i], most[i] = time.Since(began)/time.Duration(n), stop()
		alice.untilState(Done)
		if got.Files != n {
			t.Errorf("%d files", got.Files)
		}
	}
	t.Logf("%d files: %v each, %d MiB; %d files: %v each, %d MiB", counts[0], times[0], most[0]>>20, counts[1], times[1], most[1]>>20)
	if most[1] > 48<<20 {
		t.Errorf("%d MiB in use at both ends", most[1]>>20)
	}
	if times[1] > 4*times[0] {
		t.Errorf("%v for each of many files, %v for each of few", times[1], times[0])
	}
}

// A sparse file of 256 MiB: memory is that of a small one.
func TestLargeFileFlatMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("short: 256 MiB")
	}
	const size = 256<<20 + 1
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	inbox, err := os.MkdirTemp("/dev/shm", "nigh-test-")
	if err != nil {
		t.Skipf("needs a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(inbox) })
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", func(c *Config) { acceptAll(c); c.Inbox = inbox })
	stop := heap()
	if _, err := alice.Send(context.Background(), SendRequest{Paths: []string{path}, To: []identity.DeviceID{bob.id}}); err != nil {
		t.Fatal(err)
	}
	got := bob.untilState(Done)
	if most := stop(); most > 32<<20 {
		t.Errorf("%d MiB in use at both ends", most>>20)
	} else {
		t.Logf("%d MiB in use at both ends", most>>20)
	}
	if fi, err := os.Stat(got.Path); err != nil || fi.Size() != size {
		t.Errorf("%v, %v", fi, err)
	}
}
