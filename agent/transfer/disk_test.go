package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/receive"
)

// The disk is too small: said before a byte is sent. The offer still waits, for another folder.
func TestNoSpace(t *testing.T) {
	mount := mountTmpfs(t, 8<<20)
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	carol := b.device("carol", func(c *Config) { acceptAll(c); c.Inbox = mount })
	path := write(t, filepath.Join(t.TempDir(), "film"), 16<<20)
	alice.send(bob, path)
	offer := bob.untilState(Waiting)
	if err := bob.Accept(offer.ID, mount); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("accepted: %v", err)
	}
	if err := bob.Accept(offer.ID, filepath.Join(path, "sub")); !errors.Is(err, ErrFolder) {
		t.Fatalf("accepted into a file: %v", err)
	}
	if err := bob.Accept(offer.ID, ""); err != nil {
		t.Fatal(err)
	}
	bob.untilState(Done)
	alice.send(carol, path)
	alice.failedWith("no_space")
	if entries, err := os.ReadDir(mount); err != nil || len(entries) != 0 {
		t.Errorf("on the small disk: %v, %v", entries, err)
	}
}

// The disk fills in the middle: it fails in one word, keeps what it has, and goes on when there is space.
func TestDiskFull(t *testing.T) {
	mount := mountTmpfs(t, 40<<20)
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", func(c *Config) { acceptAll(c); c.Inbox = mount })
	bob.inbox = mount
	path := write(t, filepath.Join(t.TempDir(), "film"), 30<<20)
	hog := filepath.Join(mount, "hog.nigh-part")
	var sending sync.Mutex // nothing is sent while the disk is filled
	sent, filled := 0, false
	alice.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
		sending.Lock()
		defer sending.Unlock()
		if sent += len(p); sent >= 10<<20 && !filled {
			filled = true
			write(t, hog, 15<<20)
		}
		return p, nil
	})
	alice.send(bob, path)
	got := bob.failedWith("disk_full")
	alice.failedWith("disk_full")
	if parts := bob.parts(); len(parts) != 2 {
		t.Errorf("parts %q", parts)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	alice.around(nil)
	if err := bob.Resume(got.ID); err != nil {
		t.Fatal(err)
	}
	got = bob.untilState(Done)
	same(t, path, got.Path)
	if got.Sent > got.BytesTotal*5/4 {
		t.Errorf("%d bytes sent for %d", got.Sent, got.BytesTotal)
	}
	alice.untilState(Done)
	bob.clean("film")
}

func mountTmpfs(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("nigh-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs root: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// A taken name: skip leaves it, refuse fails, neither touches what is there.
func TestConflictPolicies(t *testing.T) {
	for policy, want := range map[receive.Policy]State{receive.Skip: Done, receive.Refuse: Failed} {
		b := newBed(t)
		alice := b.device("alice", nil)
		bob := b.device("bob", func(c *Config) { acceptAll(c); c.Conflict = policy })
		dir := folder(t)
		mine := write(t, filepath.Join(bob.inbox, "Fotos", "mine"), 5)
		alice.send(bob, dir)
		got := bob.untilState(want)
		if want == Failed && got.ErrorCode != "exists" {
			t.Errorf("failed with %q", got.ErrorCode)
		}
		bob.clean("Fotos")
		if l := list(t, filepath.Dir(mine)); len(l) != 2 {
			t.Errorf("policy %d: the folder holds %v", policy, l)
		}
	}
}

// Progress is reported at most four times a second, each state at least once, and states only move as the table says.
func TestReports(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	alice.slow(make(chan struct{}))
	path := write(t, filepath.Join(t.TempDir(), "film"), 24<<20)
	began := time.Now()
	alice.send(bob, path)
	bob.untilState(Done)
	took := time.Since(began)
	bob.mu.Lock()
	defer bob.mu.Unlock()
	progress := 0
	for i, tr := range bob.history {
		if i > 0 {
			prev := bob.history[i-1]
			if prev.State == tr.State {
				progress++
			}
			if !allowed(Receive, prev.State, tr.State) && !reachable(prev.State, tr.State) {
				t.Errorf("from %s to %s", prev.State, tr.State)
			}
			if tr.BytesDone < prev.BytesDone {
				t.Errorf("progress went back from %d to %d", prev.BytesDone, tr.BytesDone)
			}
		}
	}
	if most := int(took/progressEvery) + 3; progress > most {
		t.Errorf("%d reports of progress in %v", progress, took)
	}
	if !slices.ContainsFunc(bob.history, func(t Transfer) bool { return t.State == Running && t.Rate > 0 }) {
		t.Error("no rate was ever reported")
	}
}

// reachable reports whether reports that were merged may lead from one state to the other.
func reachable(from, to State) bool {
	for _, via := range transitions[Receive][from] {
		if allowed(Receive, via, to) {
			return true
		}
	}
	return false
}

// Links in the inbox, under the very names that come, are neither followed nor replaced.
func TestLinksInTheInbox(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir, outside := folder(t), t.TempDir()
	note := write(t, filepath.Join(t.TempDir(), "note"), 10)
	if err := os.MkdirAll(bob.inbox, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"Fotos": outside, "note": filepath.Join(outside, "planted")} {
		if err := os.Symlink(target, filepath.Join(bob.inbox, name)); err != nil {
			t.Fatal(err)
		}
	}
	alice.send(bob, dir, note)
	bob.untilState(Done)
	same(t, dir, filepath.Join(bob.inbox, "Fotos (1)"))
	same(t, note, filepath.Join(bob.inbox, "note (1)"))
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside lies %v, %v", entries, err)
	}
}

// The folder to receive into goes away in the middle: the transfer says so, and goes on when it is back and asked to.
func TestFolderRemoved(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := filepath.Join(t.TempDir(), "tree")
	mixed(t, dir, 200)
	// It may not succeed whole, for files come meanwhile; then those that are gone are noticed at the end.
	removed := make(chan struct{})
	alice.after(3<<20, func() { _ = os.RemoveAll(bob.inbox); close(removed) })
	alice.send(bob, dir)
	got := bob.until("failed or done", func(t Transfer) bool { return t.State == Failed || t.State == Done })
	if got.State == Failed {
		if got.ErrorCode != "folder" {
			t.Fatalf("failed with %q: %s", got.ErrorCode, got.Error)
		}
		alice.failedWith("folder")
		<-removed
		if err := bob.Resume(got.ID); err != nil {
			t.Fatal(err)
		}
		got = bob.untilState(Done)
	}
	same(t, dir, got.Path)
	alice.untilState(Done)
}
