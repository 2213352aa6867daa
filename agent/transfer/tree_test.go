package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
)

const testX = "0123456789abcdef0123456789abcdef"

// asked makes an engine take what it asked for as x into a folder, and ask about all else.
func asked(x, into string, want content.Hash) func(*Config) {
	return func(c *Config) {
		c.Decide = func(o Offer) Decision {
			if o.X == x {
				return Decision{Answer: AnswerAccept, Into: into, Want: want}
			}
			return Ask
		}
	}
}

func (d *device) sendTree(to *device, tree Tree) (Transfer, error) {
	list, err := d.Send(context.Background(), SendRequest{Tree: &tree, To: []identity.DeviceID{to.id}, X: testX, Origin: "share"})
	if err != nil {
		return Transfer{}, err
	}
	return list[0], nil
}

func TestTree(t *testing.T) {
	root := folder(t)
	if err := os.Symlink("/etc", filepath.Join(root, "sub/link")); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "into")
	for _, tt := range []struct{ path, name string }{{"sub/sub", "sub"}, {".", "photos"}, {"Grüße/e\u0301.txt", "e\u0301.txt"}, {"big.bin", "big.bin"}} {
		b := newBed(t)
		alice, bob := b.device("alice", nil), b.device("bob", asked(testX, into, content.Hash{}))
		tree := Tree{Root: root, Path: tt.path, As: "photos", Skip: func(name string) bool { return strings.HasPrefix(name, ".") }}
		sent, err := alice.sendTree(bob, tree)
		if err != nil {
			t.Fatal(err)
		}
		// Asked for again, for the answer was lost: it is the same one.
		if again, err := alice.sendTree(bob, tree); err != nil || again.ID != sent.ID || again.X != testX || again.Origin != "share" {
			t.Errorf("%+v, %v", again, err)
		}
		got := bob.untilState(Done)
		if got.Path != filepath.Join(into, tt.name) || got.X != testX || got.Dotfiles {
			t.Errorf("%s came as %+v", tt.path, got)
		}
		if _, err := os.Lstat(filepath.Join(got.Path, ".hidden")); err == nil {
			t.Error("a name that is left out was sent")
		}
		want := list(t, filepath.Join(root, tt.path))
		for p := range want {
			if strings.HasPrefix(p, ".hidden") || p == "sub/link" {
				delete(want, p)
			}
		}
		have := list(t, got.Path)
		for p, w := range want {
			if have[p] != w && p != "." {
				t.Errorf("%s: %s: %q, want %q", tt.path, p, have[p], w)
			}
		}
		if len(want) != len(have) {
			t.Errorf("%s: %d entries, want %d", tt.path, len(have), len(want))
		}
		alice.untilState(Done)
	}
}

// Nothing outside the root is ever sent, wherever a link stands and whenever it is put there.
func TestTreeIsNotLeft(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	write(t, filepath.Join(root, "a/b/file"), 100)
	write(t, filepath.Join(dir, "outside/b/file"), 100)
	if err := os.Symlink("../outside", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(root, "in")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("root", filepath.Join(dir, "to-root")); err != nil {
		t.Fatal(err)
	}
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", asked(testX, t.TempDir(), content.Hash{}))
	for _, p := range []string{"out/b/file", "out", "in/b/file", "in", "..", "../outside/b/file", "a/../../outside", "/etc/passwd", "", "a//b", "nothing", "a/b/file/x"} {
		if s, err := alice.sendTree(bob, Tree{Root: root, Path: p, As: "x"}); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrName) {
			t.Errorf("%q: %+v, %v", p, s, err)
		}
	}
	if s, err := alice.sendTree(bob, Tree{Root: filepath.Join(dir, "to-root"), Path: "a", As: "x"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("through a link: %+v, %v", s, err)
	}
	// A directory becomes a link after it was offered.
	alice.around(nil)
	bob.cut(true)
	if _, err := alice.sendTree(bob, Tree{Root: root, Path: "a/b/file", As: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(filepath.Join(root, "a"), filepath.Join(dir, "away")), os.Symlink("../outside", filepath.Join(root, "a"))); err != nil {
		t.Fatal(err)
	}
	bob.cut(false)
	alice.Wake(bob.id)
	got := bob.until("failed", func(t Transfer) bool { return t.State == Failed })
	if got.FilesFailed != 1 || len(got.Failures) != 1 || got.Failures[0].Code != Code(ErrChanged) {
		t.Errorf("%+v", got)
	}
}

// What cannot be read costs only itself, and is counted for both sides.
func TestTreeSkipsUnreadable(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(root, "a"), 10)
	write(t, filepath.Join(root, "locked"), 10)
	write(t, filepath.Join(root, "closed/x"), 10)
	if err := errors.Join(os.Chmod(filepath.Join(root, "locked"), 0), os.Chmod(filepath.Join(root, "closed"), 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(root, "closed"), 0o755) })
	for _, d := range []string{filepath.Dir(root), filepath.Dir(filepath.Dir(root))} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var src *source
	var err error
	asNobody(t, func() { src, err = walkTree(t.Context(), &Tree{Root: root, Path: ".", As: "all"}) })
	if err != nil {
		t.Fatal(err)
	}
	if src.skipped.Unreadable != 2 || src.Files != 1 || src.Dirs != 2 {
		t.Errorf("%+v, %d files, %d folders", src.skipped, src.Files, src.Dirs)
	}
	asNobody(t, func() { _, err = walkTree(t.Context(), &Tree{Root: root, Path: "locked", As: "all"}) })
	if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// A content that was asked for is that content, or nothing.
func TestWantedContent(t *testing.T) {
	root := t.TempDir()
	raw, err := os.ReadFile(write(t, filepath.Join(root, "file"), 700<<10))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "dir/file"), 10)
	hash, other := content.Sum(raw), content.Sum([]byte("other"))
	says := func(h content.Hash) func(string, *unix.Stat_t) content.Hash {
		return func(string, *unix.Stat_t) content.Hash { return h }
	}
	for name, tt := range map[string]struct {
		tree Tree
		want content.Hash
		end  State
	}{
		"right":       {Tree{Path: "file", Hash: says(hash)}, hash, Done},
		"another":     {Tree{Path: "file", Hash: says(hash)}, other, Failed},
		"a lie":       {Tree{Path: "file", Hash: says(other)}, other, Failed},
		"not told":    {Tree{Path: "file"}, hash, Failed},
		"a directory": {Tree{Path: "dir", Hash: says(hash)}, hash, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			into := filepath.Join(t.TempDir(), "into")
			alice, bob := b.device("alice", nil), b.device("bob", asked(testX, into, tt.want))
			tt.tree.Root, tt.tree.As = root, "x"
			if _, err := alice.sendTree(bob, tt.tree); err != nil {
				t.Fatal(err)
			}
			got := bob.until("ended", func(t Transfer) bool { return t.State.Ended() })
			if got.State != tt.end || tt.end == Failed && got.ErrorCode != Code(ErrVerify) {
				t.Errorf("%+v", got)
			}
			bob.until("cleaned", func(Transfer) bool {
				entries, _ := os.ReadDir(into)
				return len(entries) == map[State]int{Done: 1, Failed: 0}[tt.end]
			})
		})
	}
}
