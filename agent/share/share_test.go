package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
)

func TestOnlyWhatIsSharedIsListed(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := t.TempDir()
	files(t, dir, "a.txt", "sub/b.txt", "sub/deep/c", ".hidden", "sub/.git/config", "x.12345678.nigh-part", "empty/", "e\u0301", "Ünï 写真", "CASE", "case")
	files(t, dir, "bad\nname", "es\x1bc", "inv\xffalid")
	for name, make := range map[string]func(string) error{
		"link":     func(p string) error { return os.Symlink("/etc/passwd", p) },
		"linkdir":  func(p string) error { return os.Symlink("/etc", p) },
		"inner":    func(p string) error { return os.Symlink("a.txt", p) },
		"fifo":     func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"dangling": func(p string) error { return os.Symlink("nowhere", p) },
	} {
		if err := make(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	i := ada.share(AddRequest{Folder: dir, Name: "photos"})
	if i.Files != 7 || i.Dirs != 3 || i.Skipped != 8 || i.Unreadable != 0 || i.Polled != "" {
		t.Errorf("%+v", i)
	}
	if got, want := bob.names(ada, "photos", "."), []string{"CASE", "a.txt", "case", "empty", "e\u0301", "sub", "Ünï 写真"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := bob.names(ada, "photos", "sub"), []string{"b.txt", "deep"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	page, err := bob.Browse(t.Context(), ada.id, "photos", "sub/b.txt", "", 0)
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Hash != content.Sum([]byte("sub/b.txt")) || page.Entries[0].Size != 9 {
		t.Errorf("%+v, %v", page, err)
	}
	for _, path := range []string{"link", "linkdir", "linkdir/passwd", "inner", "..", "../x", "sub/../..", "/etc", "sub//b.txt", "./a.txt", "a.txt/", ".hidden", "sub/.git",
		"sub/.git/config", "x.12345678.nigh-part", "nothing", "\x00", "sub\x00b.txt", strings.Repeat("x/", 600)} {
		if _, err := bob.Browse(t.Context(), ada.id, "photos", path, "", 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("browse %q: %v", path, err)
		}
		if _, err := bob.Get(t.Context(), Want{Peer: ada.id, Share: "photos", Path: path, Into: "/x"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("get %q: %v", path, err)
		}
	}
	if len(ada.offers) != 0 {
		t.Errorf("offered: %+v", ada.offers)
	}
	// Hidden names are an own decision.
	i = ada.share(AddRequest{Folder: filepath.Join(dir, "sub"), Name: "all", Hidden: true})
	if got, want := bob.names(ada, "all", ""), []string{".git", "b.txt", "deep"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q (%+v)", got, want, i)
	}
}

func TestWhoMaySeeIt(t *testing.T) {
	b := newBed(t)
	ada, bob, eve, alien := b.device("ada", nil), b.device("bob", nil), b.device("eve", nil), b.device("alien", nil)
	alien.alien = true
	dir := t.TempDir()
	files(t, dir, "open/film.mkv", "secret/plan.txt")
	ada.share(AddRequest{Folder: filepath.Join(dir, "open")})
	ada.share(AddRequest{Folder: filepath.Join(dir, "secret"), For: []identity.DeviceID{bob.id}})
	hash := content.Sum([]byte("secret/plan.txt"))
	for _, tt := range []struct {
		who  *device
		sees []string
	}{{bob, []string{"open", "secret"}}, {eve, []string{"open"}}, {alien, nil}} {
		list, err := tt.who.Of(t.Context(), ada.id)
		var got []string
		for _, r := range list {
			got = append(got, r.Name)
		}
		if !slices.Equal(got, tt.sees) || (err != nil) != (tt.sees == nil) {
			t.Errorf("sees %q, %v; want %q", got, err, tt.sees)
		}
	}
	// What one may not see is what does not exist: the same words for both.
	for _, who := range []*device{eve, alien} {
		for _, share := range []string{"secret", "no such share"} {
			if _, err := who.Browse(t.Context(), ada.id, share, ".", "", 0); err == nil || err.Error() != ErrNotFound.Error() {
				t.Errorf("browse %s: %v", share, err)
			}
			if _, err := who.Get(t.Context(), Want{Peer: ada.id, Share: share, Path: "plan.txt", Into: "/x"}); err == nil || err.Error() != ErrNotFound.Error() {
				t.Errorf("get %s: %v", share, err)
			}
		}
		for _, h := range []content.Hash{hash, content.Sum([]byte("nothing"))} {
			if _, err := who.Get(t.Context(), Want{Peer: ada.id, Hash: h, Into: "/x"}); err == nil || err.Error() != ErrNotFound.Error() {
				t.Errorf("get by hash: %v", err)
			}
		}
		if f := who.Search(t.Context(), []identity.DeviceID{ada.id}, "plan", content.Hash{}, patience, nil); len(f.Results) != 0 {
			t.Errorf("found %+v", f)
		}
	}
	x, err := bob.Get(t.Context(), Want{Peer: ada.id, Hash: hash, Into: "/x"})
	if err != nil || len(ada.offers) != 1 {
		t.Fatal(err, ada.offers)
	}
	if o := ada.offers[0]; o.X != x || o.Peer != bob.id || o.Path != "plan.txt" || o.Name != "secret" {
		t.Errorf("offered %+v", o)
	}
	// Nothing else than what was asked for is expected, and of nobody else.
	if _, ok := bob.Expected(eve.id, x); ok {
		t.Error("expected of another device")
	}
	if w, ok := bob.Expected(ada.id, x); !ok || w.Hash != hash || w.Into != "/x" {
		t.Errorf("%+v, %v", w, ok)
	}
	bob.stop()
	bob.start() // the offer may come after a restart
	if _, ok := bob.Expected(ada.id, x); !ok {
		t.Error("forgotten by a restart")
	}
	bob.Arrived(ada.id, x)
	if _, ok := bob.Expected(ada.id, x); ok {
		t.Error("expected twice")
	}
	// A share that is removed is gone at once, with its index.
	if _, err := ada.Remove("Secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Browse(t.Context(), ada.id, "secret", ".", "", 0); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := ada.Remove("secret"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestWhatMayBeShared(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "file", "a/", "b/", "name :colon/", ".dot/")
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "to-a")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		req  AddRequest
		want error
	}{
		{AddRequest{Folder: "/"}, ErrFolder},
		{AddRequest{Folder: "relative"}, ErrFolder},
		{AddRequest{Folder: "/proc/self"}, ErrFolder},
		{AddRequest{Folder: "/sys/kernel"}, ErrFolder},
		{AddRequest{Folder: filepath.Join(dir, "none")}, ErrFolder},
		{AddRequest{Folder: filepath.Join(dir, "file")}, ErrFolder},
		{AddRequest{Folder: ada.cfg.State}, ErrFolder},
		{AddRequest{Folder: ada.dir}, ErrFolder},
		{AddRequest{Folder: filepath.Dir(ada.dir)}, ErrFolder},
		{AddRequest{Folder: filepath.Join(dir, ".dot")}, ErrName},
		{AddRequest{Folder: filepath.Join(dir, "a"), Name: "a/b"}, ErrName},
		{AddRequest{Folder: filepath.Join(dir, "a"), Name: "x\x1b"}, ErrName},
		{AddRequest{Folder: filepath.Join(dir, "a"), Name: strings.Repeat("x", MaxName+1)}, ErrName},
		{AddRequest{Folder: filepath.Join(dir, "a"), Name: "zero\u200bwidth"}, ErrName},
		{AddRequest{Folder: filepath.Join(dir, "a"), Name: "Größe"}, nil},
		{AddRequest{Folder: filepath.Join(dir, "b"), Name: "gro\u0308SSE"}, ErrExists},
		{AddRequest{Folder: filepath.Join(dir, "to-a"), Name: "again"}, ErrExists},
		{AddRequest{Folder: filepath.Join(dir, "name :colon")}, nil},
	} {
		if _, err := ada.Add(tt.req); !errors.Is(err, tt.want) {
			t.Errorf("add %+v: %v, want %v", tt.req, err, tt.want)
		}
	}
	// The inbox may be shared, and it is said.
	files(t, ada.cfg.Inbox(), "received")
	i, err := ada.Add(AddRequest{Folder: ada.cfg.Inbox()})
	if err != nil || !i.Inbox {
		t.Errorf("%+v, %v", i, err)
	}
	for n := range MaxShares {
		files(t, dir, fmt.Sprintf("many/%d/", n))
		_, err = ada.Add(AddRequest{Folder: filepath.Join(dir, "many", fmt.Sprint(n))})
	}
	if !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// Every change on the disk is in the index soon, whatever moves where.
func TestChangesAreFollowed(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := t.TempDir()
	files(t, dir, "a/b/c/file", "x/", "keep")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	move := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	list := func() string {
		var all []string
		for _, r := range bob.Search(t.Context(), []identity.DeviceID{ada.id}, "file", content.Hash{}, patience, nil).Results {
			all = append(all, r.Path)
		}
		return strings.Join(all, " ")
	}
	for _, step := range []struct {
		do   func()
		want string // paths of the files called file
		n    int    // files and folders
	}{
		{func() { files(t, dir, "new/deep/file") }, "a/b/c/file new/deep/file", 9},
		{func() { move("a/b", "x/b") }, "new/deep/file x/b/c/file", 9},
		{func() { files(t, dir, "x/b/c/file2") }, "new/deep/file x/b/c/file x/b/c/file2", 10}, // the moved directories are watched
		{func() { move("x/b", "a/z"); move("a/z", "x/y") }, "new/deep/file x/y/c/file x/y/c/file2", 10},
		{func() { files(t, dir, "x/y/c/file3") }, "new/deep/file x/y/c/file x/y/c/file2 x/y/c/file3", 11},
		{func() { _ = os.RemoveAll(filepath.Join(dir, "x")) }, "new/deep/file", 5},
		{func() { _ = os.RemoveAll(filepath.Join(dir, "keep")); files(t, dir, "keep/file") }, "keep/file new/deep/file", 6},
	} {
		step.do()
		ada.await("s", func(i Info) bool { return i.Files+i.Dirs == step.n && list() == step.want && hashed(i) })
	}
	// New content under an old name is hashed again.
	if err := os.WriteFile(filepath.Join(dir, "keep/file"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	ada.await("s", func(Info) bool {
		page, err := bob.Browse(t.Context(), ada.id, "s", "keep/file", "", 0)
		return err == nil && page.Entries[0].Hash == content.Sum([]byte("other"))
	})
}

// A share inside another: both follow, and the end of one leaves the other its watches.
func TestNestedShares(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "a", "sub/b")
	ada.share(AddRequest{Folder: dir, Name: "outer"})
	ada.share(AddRequest{Folder: filepath.Join(dir, "sub"), Name: "inner"})
	files(t, dir, "sub/c")
	ada.await("outer", func(i Info) bool { return i.Files == 3 })
	ada.await("inner", func(i Info) bool { return i.Files == 2 })
	if _, err := ada.Remove("inner"); err != nil {
		t.Fatal(err)
	}
	files(t, dir, "sub/d", "sub/new/e")
	ada.await("outer", func(i Info) bool { return i.Files == 5 })
	ada.share(AddRequest{Folder: filepath.Join(dir, "sub"), Name: "inner"})
	if _, err := ada.Remove("outer"); err != nil {
		t.Fatal(err)
	}
	files(t, dir, "sub/new/f")
	ada.await("inner", func(i Info) bool { return i.Files == 5 })
	// Of the one that ended nothing is left in the database.
	n := 0
	if err := ada.store.Bucket(bucketIndex).ForEach(func([]byte, []byte) error { n++; return nil }); err != nil || n != 6 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// A thousand directories that come and go at once, in any order.
func TestStormOfChanges(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "keep")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	began := time.Now()
	for i := range 1000 {
		files(t, dir, fmt.Sprintf("d%d/sub/x", i%300), fmt.Sprintf("d%d/y%d", i%300, i))
		if i%3 == 0 {
			_ = os.Rename(filepath.Join(dir, fmt.Sprintf("d%d", i%300)), filepath.Join(dir, fmt.Sprintf("d%d/z%d", (i+1)%300, i)))
		}
		if i%5 == 0 {
			_ = os.RemoveAll(filepath.Join(dir, fmt.Sprintf("d%d", (i+7)%300)))
		}
	}
	want := counts{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			want.dirs++
		default:
			want.files++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ada.await("s", func(i Info) bool { return i.Files == want.files && i.Dirs == want.dirs-1 && hashed(i) })
	t.Logf("%d files in %d folders, listed and hashed %v after the first change", want.files, want.dirs, time.Since(began))
	// The counts are those of the index.
	var c counts
	if err := ada.db.below(ada.List()[0].ID, "", func(_ []byte, e entry) error { c.count(&e, 1); return nil }); err != nil || c.files != want.files || c.dirs != want.dirs-1 {
		t.Errorf("the index has %+v, %v", c, err)
	}
}

func TestRestartHashesNothingAgain(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "a", "b/c", "b/d")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	ada.stop()
	files(t, dir, "b/c2", "new")
	if err := os.Remove(filepath.Join(dir, "b/d")); err != nil {
		t.Fatal(err)
	}
	// No hashing: what has a hash then has it from before.
	pause := func(s *Shares) { s.Pause(true) }
	ada.start()
	pause(ada.Shares)
	i := ada.await("s", func(i Info) bool { return i.State == Ready })
	if i.Files != 4 || i.Hashed != 2 {
		t.Errorf("%+v", i)
	}
	ada.Pause(false)
	ada.await("s", hashed)
}

func TestMissingFolder(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := filepath.Join(t.TempDir(), "disk")
	files(t, dir, "a", "b/c")
	ada.share(AddRequest{Folder: dir})
	// Away, and an empty folder in its place: a disk that is not mounted.
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	files(t, dir, "./")
	if _, err := bob.Browse(t.Context(), ada.id, "disk", ".", "", 0); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	i := ada.await("disk", func(i Info) bool { return i.State == Missing })
	if !strings.Contains(i.Why, "mounted") || i.Files != 2 {
		t.Errorf("%+v", i)
	}
	if list, err := bob.Of(t.Context(), ada.id); err != nil || len(list) != 1 || list[0].State != Missing || list[0].Files != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if f := bob.Search(t.Context(), []identity.DeviceID{ada.id}, "a", content.Hash{}, patience, nil); len(f.Results) != 0 || len(f.Failed) != 0 {
		t.Errorf("%+v", f)
	}
	if _, err := bob.Get(t.Context(), Want{Peer: ada.id, Share: "disk", Path: "a", Into: "/x"}); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(away, dir)); err != nil {
		t.Fatal(err)
	}
	// Asking for it finds it at once.
	if _, err := bob.Browse(t.Context(), ada.id, "disk", ".", "", 0); err != nil && !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if i := ada.await("disk", func(i Info) bool { return i.State == Ready }); i.Hashed != 2 {
		t.Errorf("hashed again: %+v", i)
	}
}

func TestUnreadableIsCounted(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "a", "closed/x", "locked")
	if err := errors.Join(os.Chmod(filepath.Join(dir, "closed"), 0), os.Chmod(filepath.Join(dir, "locked"), 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o755) })
	if i := ada.share(AddRequest{Folder: dir, Name: "s"}); i.Files != 1 || i.Dirs != 1 || i.Unreadable != 2 {
		t.Errorf("%+v", i)
	}
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o755); err != nil {
		t.Fatal(err)
	}
	ada.await("s", func(i Info) bool { return i.Files == 2 && i.Unreadable == 1 })
}

// asNobody runs the test that calls it once more, as a user whom the system can refuse something.
func asNobody(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test")
	if err := os.WriteFile(program, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

// The system's own limit of watches: the share is whole all the same, looked at now and then, and says why.
func TestInotifyLimit(t *testing.T) {
	const limit = "/proc/sys/user/max_inotify_watches"
	if os.Getenv("SHARE_TEST_LIMIT") == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInotifyLimit$", "-test.v")
		cmd.Env = append(os.Environ(), "SHARE_TEST_LIMIT=1")
		// The limit of a user namespace, so that nobody else feels it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("needs a user namespace: %v", err)
		}
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile(limit, []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "1/a", "2/b", "3/c", "4/d", "5/e", "6/f")
	i := ada.share(AddRequest{Folder: dir, Name: "s"})
	if i.Files != 6 || i.Dirs != 6 || !strings.Contains(i.Polled, "max_user_watches") {
		t.Errorf("%+v", i)
	}
	if n := len(ada.watcher.WatchList()); n != 0 {
		t.Errorf("%d watches are kept from others", n)
	}
}

func TestWithoutInotify(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", func(c *Config) { c.Inotify = unix.EMFILE })
	dir := t.TempDir()
	files(t, dir, "a")
	i := ada.share(AddRequest{Folder: dir, Name: "s"})
	if !strings.Contains(i.Polled, "max_user_instances") {
		t.Errorf("%+v", i)
	}
	// It is scanned again after a while.
	files(t, dir, "b")
	ada.Shares.mu.Lock()
	for _, f := range ada.folders {
		if d := time.Until(f.due); d <= 0 || d > rescanEvery {
			t.Errorf("due in %v", d)
		}
		f.due = time.Now()
	}
	ada.Shares.mu.Unlock()
	signal(ada.scan)
	ada.await("s", func(i Info) bool { return i.Files == 2 })
}
