package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Names and paths as long as they may be come whole, also top-level ones whose first bytes are the same, for which the name of a part has
// no room.
func TestLongPaths(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	src := t.TempDir()
	var paths []string
	for i := range 3 {
		paths = append(paths, write(t, filepath.Join(src, strings.Repeat("ö", 126)+fmt.Sprintf("%03d", i)), 1000*i)) // 255 bytes
	}
	deep := filepath.Join(src, strings.Repeat("x", 255))
	write(t, filepath.Join(deep, strings.Repeat("d/", 60), "file"), 10)
	write(t, filepath.Join(deep, strings.Repeat(strings.Repeat("ü", 127)+"/", 2), strings.Repeat("y", 255)), 2<<20) // 1021 bytes
	alice.send(bob, append(paths, deep)...)
	got := bob.untilState(Done)
	if got.Skipped.Names != 0 {
		t.Errorf("%d names were left out", got.Skipped.Names)
	}
	for _, path := range append(paths, deep) {
		same(t, path, filepath.Join(bob.inbox, filepath.Base(path)))
	}
	if entries, err := os.ReadDir(bob.inbox); err != nil || len(entries) != len(paths)+1 {
		t.Errorf("the inbox holds %v, %v", entries, err)
	}
}

// Names that differ only in case or Unicode form are different files where the disk says so, as are files that hold nothing or only
// holes; times and rights are those of the sender, but for what no file that was received may have.
func TestReceiveRules(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := filepath.Join(t.TempDir(), "Rules")
	for i, name := range []string{"readme", "README", "ReadMe", "\u00e9", "e\u0301", "sub/Sub", "Sub/sub", "empty", "straße", "strasse"} {
		write(t, filepath.Join(dir, name), i*100%1000)
	}
	for name, size := range map[string]int64{"sparse": 40 << 20, "sparse small": 700 << 10} {
		path := write(t, filepath.Join(dir, name), 10)
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"readme": 0o4755, "README": 0o2777, "empty": 0o400, "straße": 0o666} {
		if err := os.Chmod(filepath.Join(dir, name), mode&0o777|os.ModeSetuid*(mode>>11&1)|os.ModeSetgid*(mode>>10&1)); err != nil {
			t.Fatal(err)
		}
	}
	when := map[string]time.Time{"readme": time.Unix(0, 0), "README": time.Unix(1, 999999999), "empty": time.Date(2199, 1, 1, 0, 0, 0, 1, time.UTC),
		"sub": time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)}
	for name, at := range when {
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	alice.send(bob, dir)
	got := bob.untilState(Done)
	want, has := list(t, dir), list(t, got.Path)
	if len(want) != len(has) {
		t.Errorf("%d files and folders came, want %d", len(has), len(want))
	}
	for name, w := range want {
		_, w, _ = strings.Cut(w, " ") // the mode is looked at below
		_, h, _ := strings.Cut(has[name], " ")
		if w != h {
			t.Errorf("%s: %s, want %s", name, h, w)
		}
	}
	for name, mode := range map[string]os.FileMode{"readme": 0o755, "README": 0o755, "empty": 0o644, "straße": 0o644, "sub": os.ModeDir | 0o755} {
		fi, err := os.Lstat(filepath.Join(got.Path, name))
		if err != nil || fi.Mode() != mode {
			t.Errorf("%s: mode %v, %v; want %v", name, fi.Mode(), err, mode)
		}
	}
}
