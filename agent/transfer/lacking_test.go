package transfer

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// onSmallDisk returns a device that receives onto a small file system.
func (b *bed) onSmallDisk(dir string) *device {
	d := b.device("bob", func(c *Config) { acceptAll(c); c.Inbox = dir })
	d.inbox = dir
	return d
}

// once calls fn when the device has sent n bytes of bulk answers, while nothing else is sent.
func (d *device) once(n int64, fn func()) {
	var sending sync.Mutex
	d.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
		sending.Lock()
		defer sending.Unlock()
		if n -= int64(len(p)); n <= 0 && fn != nil {
			fn()
			fn = nil
		}
		return p, nil
	})
}

// The disk fills in the middle of a batch: what fits comes, what is whole has its final name, and the rest comes when there is room.
func TestDiskFullLeavesOutWhatDoesNotFit(t *testing.T) {
	for kind, mount := range map[string]func(*testing.T, int) string{"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(kind, func(t *testing.T) {
			dir := mount(t, 64<<20)
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.onSmallDisk(dir)
			src := t.TempDir()
			first := write(t, filepath.Join(src, "a first"), 8<<20)
			film := write(t, filepath.Join(src, "film"), 24<<20)
			note := write(t, filepath.Join(src, "note"), 5000)
			tree := filepath.Join(src, "tree")
			for i := range 20 {
				write(t, filepath.Join(tree, fmt.Sprintf("%02d", i)), 20_000)
			}
			write(t, filepath.Join(tree, "sub", "large"), 14<<20)
			whole := filepath.Join(src, "zz whole", "deep")
			write(t, filepath.Join(whole, "last"), 100_000)
			hog := filepath.Join(dir, "hog")
			alice.once(2<<20, func() {
				// Room for what is left of the first file, and no other large one.
				var st unix.Statfs_t
				if err := unix.Statfs(dir, &st); err != nil {
					t.Error(err)
				}
				free := int64(st.Bavail) * st.Bsize
				if err := os.WriteFile(hog, make([]byte, free-(15<<20)), 0o600); err != nil {
					t.Error(err)
				}
			})
			alice.send(bob, first, film, note, tree, filepath.Dir(whole))
			got := bob.failedWith("disk_full")
			if s := alice.failedWith("disk_full"); s.FilesFailed != got.FilesFailed {
				t.Errorf("%d files failed, the sender was told of %d", got.FilesFailed, s.FilesFailed)
			}
			if got.FilesFailed == 0 || len(got.Failures) != got.FilesFailed || got.Failures[0].Code != "disk_full" {
				t.Errorf("%d failed: %+v", got.FilesFailed, got.Failures)
			}
			for _, path := range []string{note, filepath.Dir(whole)} {
				same(t, path, filepath.Join(dir, filepath.Base(path)))
			}
			for _, path := range []string{film, tree} {
				if _, err := os.Lstat(filepath.Join(dir, filepath.Base(path))); err == nil {
					t.Errorf("%s has its final name", path)
				}
			}
			alice.around(nil)
			// There is still no room: nothing changes, and nothing comes twice.
			sent := alice.Transfers()[0].Sent
			if err := bob.Resume(got.ID); err != nil {
				t.Fatal(err)
			}
			bob.until("failed again", func(tr Transfer) bool { return tr.State == Failed && tr.FilesFailed == got.FilesFailed })
			alice.failedWith("disk_full")
			if now := alice.Transfers()[0].Sent; now != sent {
				t.Errorf("%d bytes were sent for nothing", now-sent)
			}
			if err := os.Remove(hog); err != nil {
				t.Fatal(err)
			}
			// A restart, as after a crash in the moment before the last of the names was given.
			bob.halt()
			last := filepath.Join(dir, "zz whole")
			if err := os.Rename(last, filepath.Join(dir, partName(got.ID, "zz whole", 4))); err != nil {
				t.Fatal(err)
			}
			bob.start()
			if err := bob.Resume(got.ID); err != nil {
				t.Fatal(err)
			}
			end := bob.untilState(Done)
			if s := alice.untilState(Done); s.FilesFailed != 0 || end.FilesFailed != 0 || len(end.Failures) != 0 {
				t.Errorf("done with %d and %d failed files, %+v", end.FilesFailed, s.FilesFailed, end.Failures)
			}
			names := []string{"a first", "film"}
			if kind == "ext4" {
				names = append(names, "lost+found")
			}
			for _, path := range []string{first, film, note, tree, filepath.Dir(whole)} {
				same(t, path, filepath.Join(dir, filepath.Base(path)))
			}
			if most := end.BytesTotal * 5 / 4; alice.Transfers()[0].Sent > most {
				t.Errorf("%d bytes sent for %d", alice.Transfers()[0].Sent, end.BytesTotal)
			}
			bob.clean(append(names, "note", "tree", "zz whole")...)
		})
	}
}
