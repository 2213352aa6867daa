package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// garbles has a device send the n-th file of a batch or the large file with that number wrong, every time.
func (d *device) garbles(which func(entry int) bool) {
	d.tapped(func(r *http.Request, p []byte) ([]byte, error) {
		if _, number, large := strings.Cut(r.URL.Path, "/file/"); large {
			var entry int
			if _, err := fmt.Sscan(number, &entry); err == nil && which(entry) {
				p = bytes.Clone(p)
				p[77] ^= 1
			}
			return p, nil
		}
		// The frames of these tests come whole in one write.
		p = bytes.Clone(p)
		for at := 0; at+frameHeader <= len(p); {
			n := int(binary.BigEndian.Uint32(p[at+5:]))
			if which(int(binary.BigEndian.Uint32(p[at:]))) && n > 0 {
				p[at+frameHeader] ^= 1
			}
			at += frameHeader + n
			if p[at-n-frameHeader+4] == frameOK {
				at += 32
			}
		}
		return p, nil
	})
}

// A file that comes wrong every time fails alone, and nothing of it stays; the rest of the batch comes.
func TestGarbageInOneFile(t *testing.T) {
	for name, bad := range map[string]int{"large": 2, "small": 4} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			dir := filepath.Join(t.TempDir(), "tree")
			names := []string{"a", "film", "film2", "note", "z"} // entries 1 to 5
			for i, size := range []int{3000, 3 << 20, 3 << 20, 4000, 5000} {
				write(t, filepath.Join(dir, names[i]), size)
			}
			alice.garbles(func(entry int) bool { return entry == bad })
			alice.send(bob, dir)
			got := bob.failedWith("some_failed")
			alice.failedWith("some_failed")
			if len(got.Failures) != 1 || got.Failures[0].Path != "tree/"+names[bad-1] || got.Failures[0].Code != "verify" {
				t.Fatalf("failures %+v", got.Failures)
			}
			if err := os.Remove(filepath.Join(dir, names[bad-1])); err != nil {
				t.Fatal(err)
			}
			want, has := list(t, dir), list(t, got.Path)
			delete(want, ".") // its time has changed
			delete(has, ".")
			if fmt.Sprint(want) != fmt.Sprint(has) {
				t.Errorf("the folder holds %v, want %v", has, want)
			}
			bob.clean("tree")
		})
	}
}

// A device that sends garbage for everything is soon asked for nothing more.
func TestGarbageInEveryFile(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range 4 * maxWrong {
		write(t, filepath.Join(dir, fmt.Sprint(i)), 2<<20)
	}
	alice.garbles(func(int) bool { return true })
	alice.send(bob, dir)
	bob.failedWith("verify")
	bob.emptied()
	if s := alice.failedWith("verify"); s.Sent > s.BytesTotal/2 {
		t.Errorf("%d bytes of garbage were taken", s.Sent)
	}
}

// The sender's disk has a part that cannot be read: the file that lies there fails, the others come.
func TestReadErrorInTheMiddle(t *testing.T) {
	dir, image := mountImage(t, 64<<20)
	tree := filepath.Join(dir, "tree")
	for i := range 6 {
		write(t, filepath.Join(tree, fmt.Sprintf("film%d", i)), 6<<20)
	}
	write(t, filepath.Join(tree, "note"), 1000)
	sums := list(t, tree)
	bad := readErrors(t, dir, image, tree)
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	alice.send(bob, tree)
	got := bob.failedWith("some_failed")
	if s := alice.failedWith("some_failed"); s.FilesFailed != got.FilesFailed {
		t.Errorf("%d files failed, the sender was told of %d", got.FilesFailed, s.FilesFailed)
	}
	if got.FilesFailed != len(bad) {
		t.Errorf("failures %+v, want those of %v", got.Failures, bad)
	}
	for _, f := range got.Failures {
		if f.Code != "unreadable" || !bad[filepath.Base(f.Path)] {
			t.Errorf("%s failed with %q", f.Path, f.Code)
		}
	}
	has := list(t, got.Path)
	for name, want := range sums {
		if name != "." && has[name] != want && !bad[name] {
			t.Errorf("%s: %q, want %q", name, has[name], want)
		}
		if bad[name] && has[name] != "" {
			t.Errorf("something of %s lies there", name)
		}
	}
	bob.clean("tree")
}

// readErrors takes the end of a mounted image away, so that reading there fails, and returns the files of a folder that this is true of.
func readErrors(t *testing.T, dir, image, folder string) map[string]bool {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil { // and all is written
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		// What is in the cache would be read.
		if err := errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(image, 24<<20); err != nil {
		t.Fatal(err)
	}
	bad := map[string]bool{}
	for _, e := range entries {
		if _, err := os.ReadFile(filepath.Join(folder, e.Name())); err != nil {
			bad[e.Name()] = true
		}
	}
	if len(bad) == 0 || len(bad) == len(entries) {
		t.Fatalf("of %d files %v cannot be read", len(entries), bad)
	}
	return bad
}
