package receive

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

func TestCheckName(t *testing.T) {
	long := strings.Repeat("ä", 127) + "x" // 255 bytes
	for _, name := range []string{"a", "name.txt", ".hidden", "...", "..x", " lead", "trail ", "dot.", "-rf", "ñ", "e\u0301", "\u00e9", "👩\u200d🚒",
		"CON", "a:b", "100%s", "<b>", "~", "$HOME", "*", "a\u00a0b", long} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "/abs", "../x", `..\x`, `C:\x`, "a\x00b", "\n", "a\tb", "a\x1b[2K\x1b[1A\rok", "\x7f",
		"a\u009bm", "\x9b", "\xff", "\xc0\xaf", "\xed\xa0\x80", "a\u202eexe.txt", "\u2066x", "a\u200fb", "\u061c", "a\u2028b", "\u2029",
		"x\x1b]52;c;aGk=\a", long + "y"} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("CheckName(%q) = %v, want ErrName", name, err)
		} else if !isPlain(err.Error()) {
			t.Errorf("the refusal of %q shows raw bytes: %q", name, err)
		}
	}
}

func isPlain(s string) bool {
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e {
			return false
		}
	}
	return utf8.ValidString(s)
}

func TestCheckPath(t *testing.T) {
	deep := strings.TrimSuffix(strings.Repeat("d/", MaxDepth), "/")
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 127)+"/", 8), "/") // 1023 bytes
	for _, p := range []string{"a", "a/b", "a/.b/c d", deep, long + "y"} {
		if err := CheckPath(p); err != nil {
			t.Errorf("CheckPath(%.40q...) = %v", p, err)
		}
	}
	// What an ordinary program makes of such a path lies outside of the folder.
	for _, p := range []string{"a/../../x", "../../victim", "a/../.."} {
		if got := filepath.Join("/inbox", p); got == "/inbox" || strings.HasPrefix(got, "/inbox/") {
			t.Fatalf("%q stays inside as %s: this shows nothing", p, got)
		}
	}
	for _, p := range []string{"", "/", "/etc/passwd", "a/", "a//b", "./a", "a/.", "a/../../x", "../../victim", "a/..", "..", deep + "/x", long + "yz",
		strings.Repeat("p", 5000), "a/b\x00/c", `a\..\b`, "d/\u202e"} {
		if err := CheckPath(p); !errors.Is(err, ErrName) {
			t.Errorf("CheckPath(%.40q) = %v, want ErrName", p, err)
		}
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"a/b", "../x", "a//b", "\xff", "a\x00", "/a", "a/\u202e"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		if !filepath.IsLocal(p) || filepath.Clean(p) != p || !isPlain(p) || len(p) > MaxPath {
			t.Errorf("accepted %q", p)
		}
	})
}

func TestNumbered(t *testing.T) {
	long := strings.Repeat("é", 125) + ".jpeg"
	for _, c := range []struct {
		name string
		dir  bool
		n    int
		want string
	}{
		{"a.jpg", false, 0, "a.jpg"}, {"a.jpg", false, 1, "a (1).jpg"}, {"a", false, 2, "a (2)"}, {"a.tar.gz", false, 1, "a (1).tar.gz"},
		{".bashrc", false, 1, ".bashrc (1)"}, {"v1.2", true, 1, "v1.2 (1)"}, {"a.", false, 1, "a (1)."},
		{"Mr. Smith goes to Washington", false, 3, "Mr. Smith goes to Washington (3)"},
		{long, false, 1, strings.Repeat("é", 123) + " (1).jpeg"},
	} {
		got := Numbered(c.name, c.dir, c.n)
		if got != c.want {
			t.Errorf("Numbered(%q, %v, %d) = %q, want %q", c.name, c.dir, c.n, got, c.want)
		}
		if CheckName(got) != nil {
			t.Errorf("%q is no name", got)
		}
	}
	if p := PartName(strings.Repeat("漢", 85), "0123abcd-1"); len(p) > MaxName || !utf8.ValidString(p) || !strings.HasSuffix(p, ".0123abcd-1.nigh-part") {
		t.Errorf("part name %q", p)
	}
}

func TestFold(t *testing.T) {
	for _, pair := range [][2]string{{"A", "a"}, {"\u00e9", "e\u0301"}, {"É", "e\u0301"}, {"STRASSE", "straße"}} {
		if Fold(pair[0]) != Fold(pair[1]) {
			t.Errorf("%q and %q are twins", pair[0], pair[1])
		}
	}
	if got := Fold("Film-1.MKV"); got != "film-1.mkv" { // a search relies on it
		t.Errorf("ASCII folds to %q", got)
	}
	if Fold("a") == Fold("b") {
		t.Error("a and b are no twins")
	}
}

// TestFoldIsUnicodes compares with the case folding of golang.org/x/text: the same letters must be alike. Cherokee is left
// out, where that folds both ways.
func TestFoldIsUnicodes(t *testing.T) {
	ours, theirs := map[string]string{}, map[string]string{}
	text := cases.Fold()
	for r := rune(1); r < 0x20000; r++ { // from there on is Han alone, which has no case
		if !utf8.ValidRune(r) || unicode.In(r, unicode.Cherokee, unicode.Han, unicode.Hangul) {
			continue
		}
		got, want := Fold(string(r)), norm.NFC.String(text.String(norm.NFD.String(string(r))))
		if was, ok := ours[got]; ok && was != want {
			t.Errorf("%U is taken for what folds to %q, and folds to %q", r, was, want)
		}
		if was, ok := theirs[want]; ok && was != got {
			t.Errorf("%U has the key %q, what it is alike has %q", r, got, was)
		}
		ours[got], theirs[want] = want, got
	}
}

func open(t *testing.T) (*Folder, *Writer) {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "in"))
}

func openAt(t *testing.T, dir string) (*Folder, *Writer) {
	t.Helper()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := f.NewWriter()
	t.Cleanup(func() {
		w.Close()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, w
}

var then = time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)

func TestCommitNeverReplaces(t *testing.T) {
	f, w := open(t)
	for i := range 3 {
		part := fmt.Sprintf("p%d.nigh-part", i)
		if err := w.WriteFile(part, []byte{byte(i)}, false, then, false); err != nil {
			t.Fatal(err)
		}
		final, err := f.Commit(part, "a.txt", false, Rename)
		if want := Numbered("a.txt", false, i); err != nil || final != want {
			t.Fatalf("committed as %q, %v; want %q", final, err, want)
		}
	}
	for i := range 3 {
		if p, _ := os.ReadFile(filepath.Join(f.Path(), Numbered("a.txt", false, i))); len(p) != 1 || p[0] != byte(i) {
			t.Errorf("file %d holds %v", i, p)
		}
	}
	for _, policy := range []Policy{Skip, Refuse} {
		if err := w.WriteFile("q.nigh-part", nil, false, then, true); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Commit("q.nigh-part", "a.txt", false, policy); !errors.Is(err, ErrExists) {
			t.Errorf("policy %d: %v", policy, err)
		}
	}
	// A dangling link and a directory take a name too.
	if err := os.Symlink("/nonexistent/x", filepath.Join(f.Path(), "link")); err != nil {
		t.Fatal(err)
	}
	if final, err := f.Commit("q.nigh-part", "link", false, Rename); err != nil || final != "link (1)" {
		t.Errorf("over a link: %q, %v", final, err)
	}
}

// File systems without RENAME_NOREPLACE take other ways; the result must be the same.
func TestCommitWithoutNoReplace(t *testing.T) {
	for _, kind := range []string{"vfat", "exfat"} {
		mount := filepath.Join(t.TempDir(), kind)
		if !mountImage(t, kind, mount) {
			t.Logf("skipped %s: no mkfs or no kernel support", kind)
			continue
		}
		f, w := openAt(t, mount)
		for i := range 2 {
			if err := w.WriteFile("p.nigh-part", []byte{byte(i)}, false, then, false); err != nil {
				t.Fatal(err)
			}
			if final, err := f.Commit("p.nigh-part", "A.txt", false, Rename); err != nil || final != Numbered("A.txt", false, i) {
				t.Errorf("%s: %q, %v", kind, final, err)
			}
		}
		if !f.FoldsNames() {
			t.Errorf("%s ignores case and was not found out", kind)
		}
	}
	f, w := open(t)
	if f.FoldsNames() {
		t.Error("the disk of the test ignores case?")
	}
	for i := range 2 {
		if err := w.Mkdir("d.nigh-part"); err != nil {
			t.Fatal(err)
		}
		err := renamePlain(f.fd(), "d.nigh-part", "dir", true)
		if (i == 0) != (err == nil) || i == 1 && !errors.Is(err, fs.ErrExist) {
			t.Errorf("plain rename of directory %d: %v", i, err)
		}
		if err := w.WriteFile("f.nigh-part", nil, false, then, true); err != nil {
			t.Fatal(err)
		}
		err = renamePlain(f.fd(), "f.nigh-part", "file", false)
		if (i == 0) != (err == nil) || i == 1 && !errors.Is(err, fs.ErrExist) {
			t.Errorf("plain rename of file %d: %v", i, err)
		}
	}
}

func TestModesAndTimes(t *testing.T) {
	f, w := open(t)
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	must(t, w.Mkdir("d.nigh-part"))
	must(t, w.WriteFile("d.nigh-part/x", []byte("x"), true, then, false))
	must(t, w.WriteFile("d.nigh-part/y", nil, false, time.Unix(-5, 0), false))
	w.SetTime("d.nigh-part", then)
	for p, mode := range map[string]fs.FileMode{"": fs.ModeDir | 0o750, "x": 0o750, "y": 0o640} {
		fi, err := os.Lstat(filepath.Join(f.Path(), "d.nigh-part", p))
		must(t, err)
		if fi.Mode() != mode {
			t.Errorf("%q has mode %v, want %v", p, fi.Mode(), mode)
		}
		if p != "y" && !fi.ModTime().Equal(then) {
			t.Errorf("%q has time %v", p, fi.ModTime())
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A link that leads outside, one that stays inside, and one in the place of a file: none is followed by anything.
func TestLinksAreNeverFollowed(t *testing.T) {
	f, w := open(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("v"), 0o644))
	must(t, os.Mkdir(filepath.Join(f.Path(), "real"), 0o755))
	must(t, os.WriteFile(filepath.Join(f.Path(), "real", "victim"), []byte("v"), 0o644))
	for name, target := range map[string]string{"out": outside, "in": "real", "rel": "../../" + filepath.Base(outside)} {
		must(t, os.Symlink(target, filepath.Join(f.Path(), name)))
		// An ordinary program follows it.
		through := filepath.Join(f.Path(), name, "ordinary")
		must(t, os.WriteFile(through, nil, 0o644))
		real, err := filepath.EvalSymlinks(through)
		if err != nil || real == through {
			t.Fatalf("%s is no link to elsewhere: %s, %v", name, real, err)
		}
		must(t, os.Remove(real))
		if err := w.WriteFile(name+"/new", nil, false, then, true); !errors.Is(err, ErrNotOurs) {
			t.Errorf("WriteFile through %s: %v", name, err)
		}
		if err := w.Mkdir(name + "/dir"); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Mkdir through %s: %v", name, err)
		}
		if err := w.Remove(name + "/victim"); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Remove through %s: %v", name, err)
		}
		if _, err := w.Create(name+"/new", 1, false); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Create through %s: %v", name, err)
		}
		w.SetTime(name+"/victim", then)
	}
	must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(f.Path(), "file.nigh-part")))
	if _, err := w.Open("file.nigh-part"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Open of a link: %v", err)
	}
	if _, err := w.Create("file.nigh-part", 1, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a link: %v", err)
	}
	must(t, unix.Mkfifo(filepath.Join(f.Path(), "fifo.nigh-part"), 0o644))
	if _, err := w.Open("fifo.nigh-part"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Open of a FIFO: %v", err)
	}
	must(t, os.Link(filepath.Join(f.Path(), "real", "victim"), filepath.Join(f.Path(), "hard.nigh-part")))
	if _, err := w.Open("hard.nigh-part"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Open of a hard link: %v", err)
	}
	// A link to a directory is removed as a link, and only parts are removed.
	must(t, os.Symlink(outside, filepath.Join(f.Path(), "tree.nigh-part")))
	must(t, f.Remove("tree.nigh-part"))
	for _, name := range []string{"real", "../" + filepath.Base(outside), "..", "", ".", "a/b.nigh-part", "/etc/x.nigh-part"} {
		if err := f.Remove(name); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Remove(%q) = %v", name, err)
		}
	}
	for _, dir := range []string{outside, filepath.Join(f.Path(), "real")} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
		if fi, err := os.Stat(filepath.Join(dir, "victim")); err != nil || fi.ModTime().Equal(then) {
			t.Errorf("%s was touched: %v", dir, err)
		}
	}
}

// The parent of what is written is swapped for a link, again and again, by someone on this machine.
func TestParentSwappedForLink(t *testing.T) {
	f, _ := open(t)
	outside := t.TempDir()
	sub := filepath.Join(f.Path(), "part.nigh-part", "sub")
	link := filepath.Join(f.Path(), "link")
	must(t, os.MkdirAll(sub, 0o755))
	must(t, os.Symlink(outside, link))
	swap := func() error { return unix.Renameat2(unix.AT_FDCWD, sub, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) }
	// An ordinary program looks whether the parent is a folder, and writes when it has become a link.
	if fi, err := os.Lstat(sub); err != nil || !fi.IsDir() {
		t.Fatal(fi, err)
	}
	must(t, swap())
	must(t, os.WriteFile(filepath.Join(sub, "ordinary"), []byte("x"), 0o644))
	if os.Remove(filepath.Join(outside, "ordinary")) != nil {
		t.Fatal("an ordinary program writes inside: this shows nothing")
	}
	must(t, swap())
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	defer swapper.Wait()
	halt := sync.OnceFunc(func() { close(stop) })
	defer halt()
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = swap()
			}
		}
	})
	refused, written := 0, 0
	for i := 0; i < 1000 || (written == 0 || refused == 0) && i < 100_000; i++ {
		w := f.NewWriter() // opens the directory again each time
		if err := w.WriteFile(fmt.Sprintf("part.nigh-part/sub/%d", i), []byte("x"), false, then, false); err != nil {
			refused++
		} else {
			written++
		}
		w.Close()
	}
	halt()
	swapper.Wait()
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Fatalf("%d files were written outside", len(entries))
	}
	t.Logf("%d written, %d refused", written, refused)
	if written == 0 || refused == 0 {
		t.Errorf("the race was not met: %d written, %d refused", written, refused)
	}
}

func TestWriterChangesDirectories(t *testing.T) {
	f, w := open(t)
	for _, d := range []string{"t.nigh-part", "t.nigh-part/a", "t.nigh-part/a/b", "t.nigh-part/c"} {
		must(t, w.Mkdir(d))
	}
	for _, p := range []string{"t.nigh-part/a/b/1", "t.nigh-part/c/2", "t.nigh-part/3", "t.nigh-part/a/4", "top.nigh-part", "t.nigh-part/a/b/5"} {
		must(t, w.WriteFile(p, []byte(p), false, then, false))
	}
	for _, p := range []string{"t.nigh-part/a/b/1", "t.nigh-part/c/2", "t.nigh-part/3", "t.nigh-part/a/4", "top.nigh-part", "t.nigh-part/a/b/5"} {
		if got, err := os.ReadFile(filepath.Join(f.Path(), p)); string(got) != p {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
	for _, p := range []string{"../x", "/x", "t.nigh-part/../../x", "t.nigh-part//x", ""} {
		if err := w.WriteFile(p, nil, false, then, false); !errors.Is(err, ErrName) {
			t.Errorf("WriteFile(%q) = %v", p, err)
		}
	}
	if err := w.WriteFile("missing/x", nil, false, then, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
}

// A full disk: known before a byte is written, and nothing of the file stays.
// Zeros over something else are zeros, a file gets no shorter by them, and what lies beyond its end is written.
func TestZerosAreWritten(t *testing.T) {
	for kind, dir := range map[string]string{"tmpfs": mountTmpfs(t, 32<<20), "here": t.TempDir()} {
		t.Run(kind, func(t *testing.T) {
			_, w := openAt(t, dir)
			file, err := w.Create("x.nigh-part", 4<<20, false)
			must(t, err)
			defer file.Close()
			if n := w.Size("x.nigh-part"); n != 4<<20 && kind == "tmpfs" {
				t.Errorf("its size is %d before the first byte", n)
			}
			ones, zeros := bytes.Repeat([]byte{1}, 4<<20), make([]byte, 1<<20)
			must(t, WriteAt(file, ones, 0))
			must(t, WriteAt(file, zeros, 1<<20))
			must(t, WriteAt(file, zeros, 4<<20-100))
			want := slices.Concat(ones[:1<<20], zeros, ones[:2<<20-100], zeros)
			got, err := os.ReadFile(filepath.Join(dir, "x.nigh-part"))
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("read back: %d bytes, equal is false", len(got))
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	mount := mountTmpfs(t, 8<<20)
	f, w := openAt(t, mount)
	if err := f.CheckSpace(1 << 20); err != nil {
		t.Error(err)
	}
	if err := f.CheckSpace(8<<20 - 100); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the reserve is not kept: %v", err)
	}
	err := w.WriteFile("x.nigh-part", make([]byte, 9<<20), false, then, false)
	if !IsFull(err) {
		t.Errorf("writing over the end: %v", err)
	}
	f.tmpfs = false // allocates as on a disk
	if _, err := w.Create("y.nigh-part", 9<<20, false); !errors.Is(err, ErrNoSpace) {
		t.Errorf("allocating over the end: %v", err)
	}
	if _, err := w.Create("y.nigh-part", 1<<62, false); !errors.Is(err, ErrNoSpace) {
		t.Errorf("allocating an absurd size: %v", err)
	}
	file, err := w.Create("z.nigh-part", 4<<20, false)
	must(t, err)
	defer file.Close()
	if free, _, _ := f.Free(); free > 4<<20 {
		t.Errorf("%d bytes free after 4 of 8 MiB were allocated", free)
	}
	entries, _ := os.ReadDir(mount)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOpenFolder(t *testing.T) {
	if _, err := OpenFolder("relative"); err == nil {
		t.Error("a relative path was taken")
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	if _, err := OpenFolder(file); err == nil {
		t.Error("a file was taken for a folder")
	}
}
