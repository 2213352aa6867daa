package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"nigh/agent/identity"
)

// What waits in the outbox survives a restart and goes as it is when its device is there: changed, with what came, without what went.
func TestOutboxSendsWhatIsThere(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	src := t.TempDir()
	notes, old, film := write(t, filepath.Join(src, "notes"), 100), write(t, filepath.Join(src, "old"), 10), filepath.Join(src, "films")
	write(t, filepath.Join(film, "a"), 2<<20)
	bob.cut(true)
	tr := alice.send(bob, notes, old, film)
	if tr.State != Queued || tr.Offered {
		t.Fatalf("in the outbox is %+v", tr)
	}
	alice.until("tried", func(t Transfer) bool { return t.ErrorCode == "peer_gone" })
	alice.halt()
	write(t, notes, 5000)
	write(t, filepath.Join(film, "b"), 300)
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	alice.start()
	if got := alice.Transfers(); len(got) != 1 || got[0].ID != tr.ID || got[0].Offered {
		t.Fatalf("after a restart the outbox has %+v", got)
	}
	bob.cut(false)
	alice.Wake(bob.id)
	bob.untilState(Done)
	got := alice.untilState(Done)
	if got.Files != 3 || got.Skipped.Unreadable != 1 || got.Skipped.Examples[0] != "old" {
		t.Errorf("sent %d files, left out %+v", got.Files, got.Skipped)
	}
	same(t, notes, filepath.Join(bob.inbox, "notes"))
	same(t, film, filepath.Join(bob.inbox, "films"))
	bob.clean("films", "notes")
}

// What is unchanged is not made anew, and what is gone fails with a word and leaves nothing.
func TestOutboxVanished(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	kept, gone := write(t, filepath.Join(t.TempDir(), "kept"), 100), write(t, filepath.Join(t.TempDir(), "gone"), 100)
	bob.cut(true)
	x := alice.send(bob, kept).X
	alice.send(bob, gone)
	alice.halt()
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	alice.start()
	alice.failedWith("vanished")
	bob.cut(false)
	alice.Wake(bob.id)
	if got := alice.untilState(Done); got.X != x {
		t.Error("what was unchanged was made anew")
	}
	bob.untilState(Done)
	bob.clean("kept")
}

// The outbox is bounded, and what is cancelled makes room.
func TestOutboxIsFull(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	note := write(t, filepath.Join(t.TempDir(), "note"), 10)
	to := make([]identity.DeviceID, maxSending+1)
	for i := range to {
		to[i] = identity.DeviceID{byte(i), byte(i >> 8), 1}
	}
	send := func(to []identity.DeviceID) error {
		_, err := alice.Send(context.Background(), SendRequest{Paths: []string{note}, To: to})
		return err
	}
	if err := send(to); !errors.Is(err, ErrOutbox) || len(alice.Transfers()) != 0 {
		t.Fatalf("%v, %d transfers were made", err, len(alice.Transfers()))
	}
	if err := send(to[1:]); err != nil {
		t.Fatal(err)
	}
	if err := send(to[:1]); !errors.Is(err, ErrOutbox) {
		t.Fatalf("one more: %v", err)
	}
	if err := alice.Cancel(alice.Transfers()[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := send(to[:1]); err != nil {
		t.Fatal(err)
	}
}
