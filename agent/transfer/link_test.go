package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// While two transfers write trees of the same name, somebody on this machine swaps in each the folder that it writes to for a link to a
// place outside. No byte goes through it.
func TestFolderSwappedForLinkInTransfers(t *testing.T) {
	b := newBed(t)
	bob := b.device("bob", acceptAll)
	outside := t.TempDir()
	var swapped atomic.Int32
	swap := func() {
		parts, err := filepath.Glob(filepath.Join(bob.inbox, "*.nigh-part", "sub"))
		if err != nil {
			return
		}
		for _, sub := range parts {
			link := filepath.Join(bob.dir, fmt.Sprintf("link-%d", swapped.Load()))
			if fi, err := os.Lstat(sub); err != nil || !fi.IsDir() || os.Symlink(outside, link) != nil {
				continue
			}
			if unix.Renameat2(unix.AT_FDCWD, sub, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) == nil {
				// Whoever opens a file below it now is outside.
				if os.WriteFile(filepath.Join(sub, "ordinary"), nil, 0o600) == nil && os.Remove(filepath.Join(outside, "ordinary")) == nil {
					swapped.Add(1)
				}
			}
		}
	}
	for _, name := range []string{"alice", "carol"} {
		d := b.device(name, nil)
		dir := filepath.Join(t.TempDir(), "tree")
		for i := range 120 {
			write(t, filepath.Join(dir, "sub", fmt.Sprintf("%03d", i)), 100<<10)
		}
		write(t, filepath.Join(dir, "sub", "large"), 6<<20)
		d.after(4<<20, swap)
		d.send(bob, dir)
	}
	ended := func() int {
		n := 0
		for _, tr := range bob.Transfers() {
			if tr.State == Failed || tr.State == Done {
				n++
			}
		}
		return n
	}
	bob.until("ended beside the other one", func(Transfer) bool { return ended() == 2 })
	for _, tr := range bob.Transfers() {
		t.Logf("%s: %s %s", tr.Peer.Short(), tr.State, tr.ErrorCode)
	}
	if swapped.Load() == 0 {
		t.Error("nothing was swapped: this shows nothing")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside lies %v, %v", entries, err)
	}
}
