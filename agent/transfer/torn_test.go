package transfer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nigh/agent/content"
	"nigh/agent/store"
)

// A journalState is all that the journal says of one transfer.
type journalState struct {
	record   record
	progress progress
	leaves   []content.Leaf
}

func (j journal) state(t *testing.T, id string, groups int) string {
	t.Helper()
	s := journalState{leaves: make([]content.Leaf, groups)}
	if err := j.s.Bucket(bucketTransfers).Get([]byte(id), &s.record); err != nil {
		return err.Error()
	}
	p, err := j.progress(id)
	if err != nil {
		return err.Error()
	}
	s.progress = *p
	if err := j.leaves(id, 0, s.leaves); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%+v", s)
}

// A crash while the journal is written leaves what was there before, or what was written: at any byte, with any part of the pages that were
// under way. Nothing in between is ever read, and the database is not set aside.
func TestJournalSurvivesACrashAtAnyByte(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "nigh-test-") // thousands of syncs
	if err != nil {
		t.Skipf("needs a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	const groups = 3*leafPage + 7
	const id = "0123456789abcdef"
	path := filepath.Join(dir, store.DatabaseFile)
	db := journal{s}
	write := func(step int) {
		t.Helper()
		if err := db.save(&record{ID: id, State: Running, Done: int64(step)}); err != nil {
			t.Fatal(err)
		}
		have := newBitmap(groups)
		var pages []leafValue
		for page := range 4 {
			n := min(leafPage, groups-page*leafPage)
			pages = append(pages, leafValue{0, page, bytes.Repeat([]byte{byte(step)}, n*content.HashSize)})
		}
		for i := range groups {
			if i%(step+2) == 0 {
				have.set(i)
			}
		}
		p := &progress{Boot: bootID(), Written: bitmap{byte(step)}, Synced: bitmap{byte(step)}, Groups: map[int]bitmap{0: have}, Sent: int64(step)}
		if err := db.saveProgress(id, p, pages); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	// crashed opens what a crash left, and returns what it says.
	crashed := func(left []byte) string {
		t.Helper()
		at := filepath.Join(dir, "crashed")
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, store.DatabaseFile), left, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(at)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if aside, why := s.SetAside(); aside != "" {
			t.Fatalf("the database was set aside: %v", why)
		}
		return journal{s}.state(t, id, groups)
	}
	page := os.Getpagesize()
	tried := map[string]int{}
	for step := 1; step <= 3; step++ {
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// Of the two transactions of a step the second one, of all that belongs together.
		p := &progress{Boot: bootID(), Written: bitmap{byte(step)}, Sent: int64(step)}
		before := db.state(t, id, groups)
		if err := db.saveProgress(id, p, []leafValue{{0, step % 4, bytes.Repeat([]byte{byte(100 + step)}, min(leafPage, groups-step%4*leafPage)*content.HashSize)}}); err != nil {
			t.Fatal(err)
		}
		after := db.state(t, id, groups)
		is, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(is) > len(was) {
			was = append(was, make([]byte, len(is)-len(was))...) // the file grows first
		}
		var meta int
		var data []int // pages that changed
		for at := 0; at < len(is); at += page {
			if !bytes.Equal(was[at:at+page], is[at:at+page]) {
				if at < 2*page {
					meta = at
				} else {
					data = append(data, at)
				}
			}
		}
		if len(data) == 0 {
			t.Fatal("no page was written")
		}
		look := func(what string, left []byte, may ...string) {
			t.Helper()
			tried[what]++
			if got := crashed(left); !slices.Contains(may, got) {
				t.Fatalf("step %d, %s: the journal says %.300s", step, what, got)
			}
		}
		// The pages first, in any order and torn anywhere: the journal is as it was.
		for range 30 {
			left := bytes.Clone(was)
			for _, at := range data {
				switch rng.IntN(3) {
				case 0:
					copy(left[at:at+page], is[at:at+page])
				case 1:
					n := rng.IntN(page + 1)
					copy(left[at:at+n], is[at:at+n])
				}
			}
			look("pages", left, before)
		}
		// Then, after a sync, the meta page: each byte of it.
		whole := bytes.Clone(is)
		copy(whole[:2*page], was[:2*page])
		for n := 0; n <= page; n++ {
			if n > 0 && n < page && was[meta+n-1] == is[meta+n-1] {
				continue // nothing changes with this byte
			}
			left := bytes.Clone(whole)
			copy(left[meta:meta+n], is[meta:meta+n])
			look("meta", left, before, after)
		}
		write(step)
	}
	t.Logf("crashes tried: %v", tried)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What a file system lost of the database's end, or of any of its pages, is noticed: it is set aside or it is whole, and the agent starts.
func TestJournalCutAnywhere(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "nigh-test-")
	if err != nil {
		t.Skipf("needs a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	db := journal{s}
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprintf("%016x", i))
		if err := db.save(&record{ID: ids[i], State: Queued, Path: fmt.Sprint(rng.Uint64())}); err != nil {
			t.Fatal(err)
		}
	}
	says := func(j journal) (all string) {
		for _, id := range ids {
			all += j.state(t, id, 0)
		}
		return all
	}
	want := says(db)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, store.DatabaseFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	aside := 0
	for range 60 {
		at := filepath.Join(dir, "cut")
		if err := os.RemoveAll(at); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		n := rng.IntN(len(good) + 1)
		if err := os.WriteFile(filepath.Join(at, store.DatabaseFile), good[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(at)
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", n, len(good), err)
		}
		if gone, _ := s.SetAside(); gone != "" {
			aside++
		} else if says(journal{s}) != want {
			t.Errorf("cut at %d of %d: it was taken for whole", n, len(good))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 60 were set aside", aside)
	if aside == 0 {
		t.Error("nothing was noticed")
	}
}
