package trust

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"nigh/agent/identity"
	"nigh/agent/store"
)

func someID(seed string) identity.DeviceID { return sha256.Sum256([]byte(seed)) }

func open(t *testing.T, dir string) (*Book, *store.Store) {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	return b, s
}

func TestStandings(t *testing.T) {
	dir := t.TempDir()
	b, s := open(t, dir)
	a, c, d := someID("a"), someID("c"), someID("d")
	if got := b.Standing(a); got != New {
		t.Errorf("a key nobody decided about is %v", got)
	}
	for _, err := range []error{
		b.Add(a, "kitchen"), b.SetAutoAccept(a, true), b.Add(a, ""),
		b.Block(c),
		b.Add(d, "x"), b.Rename(d, "attic"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = open(t, dir)
	r, ok := b.Record(a)
	if !ok || r.Name != "kitchen" || !r.AutoAccept || r.Standing != Trusted || r.Added.IsZero() {
		t.Errorf("after opening again: %+v", r)
	}
	if b.Standing(c) != Blocked || b.Standing(d) != Trusted {
		t.Errorf("c is %v, d is %v", b.Standing(c), b.Standing(d))
	}
	if list := b.List(); len(list) != 3 || list[0].ID.Compare(list[1].ID) >= 0 {
		t.Errorf("List = %+v", list)
	}
	if err := b.Remove(a); err != nil || b.Standing(a) != New {
		t.Errorf("after Remove a is %v (%v)", b.Standing(a), err)
	}
	if err := b.Remove(a); !errors.Is(err, ErrUnknown) {
		t.Errorf("Remove twice: %v", err)
	}
	// What it was allowed does not come back.
	if err := b.Add(a, ""); err != nil {
		t.Fatal(err)
	}
	if r, _ := b.Record(a); r.AutoAccept || r.Name != "" {
		t.Errorf("a removed device came back as %+v", r)
	}
}

func TestPair(t *testing.T) {
	b, _ := open(t, t.TempDir())
	key := identity.PublicKey{1, 2, 3}
	if err := b.Pair(key, "what it says"); err != nil {
		t.Fatal(err)
	}
	r, _ := b.Record(key.ID())
	if r.Standing != Trusted || r.Key != key || r.Name != "what it says" || r.AutoAccept || r.Added.IsZero() {
		t.Errorf("paired: %+v", r)
	}
	// Pairing again takes nothing away, the user's own name for it least of all.
	for _, err := range []error{b.Rename(key.ID(), "mine"), b.SetAutoAccept(key.ID(), true), b.Pair(key, "another")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := b.Record(key.ID()); r.Name != "mine" || !r.AutoAccept {
		t.Errorf("paired again: %+v", r)
	}
	if err := b.Block(key.ID()); err != nil {
		t.Fatal(err)
	}
	if err := b.Pair(key, "x"); !errors.Is(err, ErrBlocked) || b.Standing(key.ID()) != Blocked {
		t.Errorf("a blocked device: %v, now %v", err, b.Standing(key.ID()))
	}
}

func TestBlockTakesPermissions(t *testing.T) {
	b, _ := open(t, t.TempDir())
	a := someID("a")
	for _, err := range []error{b.Add(a, "n"), b.SetAutoAccept(a, true), b.Block(a)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := b.Record(a); r.AutoAccept || r.Standing != Blocked || r.Name != "n" {
		t.Errorf("blocked: %+v", r)
	}
	if err := b.SetAutoAccept(a, true); !errors.Is(err, ErrUnknown) {
		t.Errorf("auto-accept for a blocked device: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	b, _ := open(t, t.TempDir())
	if err := b.Add(identity.DeviceID{}, "x"); !errors.Is(err, ErrZeroID) {
		t.Errorf("the zero ID was trusted: %v", err)
	}
	if err := b.SetAutoAccept(someID("a"), true); !errors.Is(err, ErrUnknown) {
		t.Errorf("auto-accept for a new device: %v", err)
	}
	if err := b.Rename(someID("a"), "x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a new device was renamed: %v", err)
	}
	for i := range MaxDevices { // the bound, without 4096 syncs
		b.records[someID(fmt.Sprint(i))] = Record{Standing: Trusted}
	}
	if err := b.Add(someID("more"), ""); !errors.Is(err, ErrFull) {
		t.Errorf("a full book took one more: %v", err)
	}
}

func TestNamesAreCleanedAndBounded(t *testing.T) {
	b, _ := open(t, t.TempDir())
	a := someID("a")
	if err := b.Add(a, "evil\x1b[2K\u202e"+strings.Repeat("x", 10000)); err != nil {
		t.Fatal(err)
	}
	r, _ := b.Record(a)
	if strings.ContainsAny(r.Name, "\x1b\u202e") || len([]rune(r.Name)) > MaxName {
		t.Errorf("name = %q", r.Name)
	}
}

func TestChanges(t *testing.T) {
	b, _ := open(t, t.TempDir())
	a := someID("a")
	var got []string
	cancel := b.Changes(func(c Change) {
		if b.Standing(a) != c.New.Standing {
			t.Errorf("the book says %v during %+v", b.Standing(a), c)
		}
		got = append(got, c.Old.Standing.String()+" to "+c.New.Standing.String())
	})
	for _, err := range []error{b.Add(a, "n"), b.Add(a, "n"), b.Block(a), b.Remove(a)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := b.Add(a, "n"); err != nil {
		t.Fatal(err)
	}
	want := "new to trusted, trusted to blocked, blocked to new"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("changes: %s; want %s", s, want)
	}
}

func TestUnreadableRecordGrantsNothing(t *testing.T) {
	dir := t.TempDir()
	_, s := open(t, dir)
	a, c := someID("a"), someID("c")
	bucket := s.Bucket(bucketName)
	for _, err := range []error{
		bucket.Put(a[:], map[string]any{"id": a, "standing": "from the future"}),
		bucket.Put(c[:], Record{ID: a, Standing: Trusted}), // under another key
		bucket.Put([]byte("short"), Record{ID: a, Standing: Trusted}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if b.Standing(a) != Blocked || b.Standing(c) != Blocked || len(b.List()) != 2 {
		t.Errorf("records: %+v", b.List())
	}
}

func TestAFailedWriteChangesNothing(t *testing.T) {
	b, s := open(t, t.TempDir())
	called := false
	b.Changes(func(Change) { called = true })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(someID("a"), "n"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Add on a closed store: %v", err)
	}
	if b.Standing(someID("a")) != New || called {
		t.Error("trust was granted without being written")
	}
}

func TestConcurrentUse(t *testing.T) {
	b, _ := open(t, t.TempDir())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			id := someID(fmt.Sprint(g))
			cancel := b.Changes(func(Change) {})
			defer cancel()
			for range 10 {
				if err := b.Add(id, "n"); err != nil {
					t.Error(err)
				}
				_ = b.List()
				if err := b.Remove(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestKeyIsKeptWithTheDevice(t *testing.T) {
	dir := t.TempDir()
	b, s := open(t, dir)
	key := identity.PublicKey{1, 2, 3}
	id := key.ID()
	if err := b.SetKey(id, key); !errors.Is(err, ErrUnknown) {
		t.Errorf("key of a device that is not in the book: %v", err)
	}
	// A record as it was written before keys were kept.
	old := someID("old")
	if err := s.Bucket(bucketName).Put(old[:], map[string]any{"id": old, "name": "attic", "standing": "trusted", "added": "2026-01-02T03:04:05Z"}); err != nil {
		t.Fatal(err)
	}
	// One whose key is not its own, as after a bad edit.
	wrong := someID("wrong")
	if err := s.Bucket(bucketName).Put(wrong[:], map[string]any{"id": wrong, "standing": "trusted", "key": key}); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(id, "kitchen"); err != nil {
		t.Fatal(err)
	}
	if err := b.SetKey(id, identity.PublicKey{9}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another device's key: %v", err)
	}
	for _, err := range []error{b.SetKey(id, key), b.Block(id), b.Add(id, ""), s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b, _ = open(t, dir)
	if r, _ := b.Record(id); r.Key != key || r.Name != "kitchen" {
		t.Errorf("after opening again: %+v", r)
	}
	if r, ok := b.Record(old); !ok || r.Standing != Trusted || r.Name != "attic" || !r.Key.IsZero() {
		t.Errorf("a record without a key reads as %+v", r)
	}
	if r, ok := b.Record(wrong); !ok || r.Standing != Trusted || !r.Key.IsZero() {
		t.Errorf("a record with another's key reads as %+v", r)
	}
}
