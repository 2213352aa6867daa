package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// publicDir is a folder that every user may look into.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startAsNobody runs an agent without any rights, so that permissions are real, that receives onto a disk of its own.
func startAsNobody(t *testing.T, h *lab.Host, name string, disk int) *node.Agent {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := publicDir(t)
	inbox := filepath.Join(dir, "inbox")
	if err := os.Mkdir(inbox, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("nigh-test", inbox, "tmpfs", 0, fmt.Sprintf("size=%d", disk)); err != nil {
		t.Skipf("needs root: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(inbox, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, inbox, filepath.Join(dir, "log")} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	a, err := node.Start(t.Context(), node.Config{
		Binary: bin, Dir: dir, Name: name, Args: []string{"--no-direct", "--accept", "trusted"},
		Command: func(ctx context.Context, name string, arg ...string) *exec.Cmd {
			return h.Command(ctx, "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", "--", name}, arg...)...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Kill() })
	return a
}

// TestBadInput has something go wrong in the middle of a batch: it is said in one sentence, what can come comes, nothing is spoiled, and
// nothing is left but parts that are gone on with.
func TestBadInput(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	for i, h := range []*lab.Host{ha, hb} {
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
	}
	ada, bob := startAsNobody(t, ha, "ada", 1<<20), startAsNobody(t, hb, "bob", 64<<20)
	befriend(t, ada, bob)
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	hog := filepath.Join(bob.Inbox, "hog")
	tests := []struct {
		name    string
		middle  func(src string) error // what happens
		code    int                    // of the command that sends
		says    string
		missing []string           // what does not come
		after   func(string) error // makes it possible again to receive the rest; nil when that is not to be
	}{
		{"disk full", func(string) error {
			var st unix.Statfs_t
			if err := unix.Statfs(bob.Inbox, &st); err != nil {
				return err
			}
			// Room for the rest of the first file and for small ones, of which a twentieth of the disk stays free.
			return os.WriteFile(hog, make([]byte, int64(st.Bavail)*st.Bsize-(13<<20)), 0o644)
		}, 8, "disk", []string{"film"}, func(string) error { return os.Remove(hog) }},
		{"source deleted", func(src string) error { return os.Remove(filepath.Join(src, "film")) }, 8, "some files failed", []string{"film"}, nil},
		{"source changed", func(src string) error { return os.Truncate(filepath.Join(src, "film"), 100) }, 8, "some files failed", []string{"film"}, nil},
		{"source without permission", func(src string) error { return os.Chmod(filepath.Join(src, "film"), 0) }, 8, "some files failed", []string{"film"}, nil},
		{"source folder removed", func(src string) error { return os.RemoveAll(filepath.Join(src, "tree")) }, 8, "some files failed", []string{"tree"}, nil},
		{"target without permission", func(string) error { return os.Chmod(bob.Inbox, 0o500) }, 1, "folder", []string{"a", "film", "tree", "zz"},
			func(string) error { return os.Chmod(bob.Inbox, 0o755) }},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			src := filepath.Join(publicDir(t), "src")
			random(t, filepath.Join(src, "a"), 7<<20)
			random(t, filepath.Join(src, "film"), 16<<20)
			for i := range 5 {
				random(t, filepath.Join(src, "tree", fmt.Sprint(i)), 50_000)
			}
			random(t, filepath.Join(src, "zz"), 50_000)
			args := []string{"send", "--wait", "--to", "bob"}
			for _, name := range []string{"a", "film", "tree", "zz"} {
				args = append(args, filepath.Join(src, name))
			}
			sums := map[string]string{}
			for _, path := range args[4:] {
				sums[filepath.Base(path)] = digest(t, path)
			}
			known := map[string]bool{}
			list, err := bob.Client().Transfers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				known[x.ID] = true
			}
			lan.Slow(hb, "eth0", 8) // so that there is a middle
			var out, errs, id string
			var code int
			over := make(chan struct{})
			ctx := within(t, 2*time.Minute)
			go func() {
				defer close(over)
				out, errs, code = ada.Run(ctx, args...)
			}()
			if err := bob.Await(within(t, time.Minute), func(s control.State) bool {
				for _, x := range s.Transfers {
					if !known[x.ID] && x.BytesDone > 0 {
						id = x.ID
						return true
					}
				}
				return false
			}); err != nil {
				t.Fatal(err)
			}
			if err := c.middle(src); err != nil {
				t.Fatal(err)
			}
			lan.Slow(hb, "eth0", 400)
			<-over
			if code != c.code || !strings.Contains(errs, c.says) {
				t.Errorf("exit %d, want %d; said %q, %q", code, c.code, errs, out)
			}
			if strings.Count(errs, "nigh: error: ") != 1 || strings.Count(errs, "nigh: hint: ") != 1 {
				t.Errorf("it said not one sentence and one hint: %q", errs)
			}
			_, said, _ := strings.Cut(errs, "nigh: error: ")
			t.Logf("exit %d: %s", code, said)
			holds := func(missing ...string) {
				t.Helper()
				for name, sum := range sums {
					gone := false
					for _, m := range missing {
						gone = gone || m == name
					}
					path := filepath.Join(bob.Inbox, name)
					if _, err := os.Lstat(path); err == nil && !gone && digest(t, path) != sum {
						t.Errorf("%s is not what was sent", name)
					} else if (err == nil) == gone && name != "tree" {
						t.Errorf("%s: %v, with %v missing", name, err, missing)
					}
				}
			}
			holds(c.missing...)
			if c.after != nil {
				if err := c.after(src); err != nil {
					t.Fatal(err)
				}
				if _, errs, code := bob.Run(t.Context(), "resume", id); code != 0 {
					t.Fatalf("resume: exit %d: %s", code, errs)
				}
				if err := bob.Await(within(t, time.Minute), func(s control.State) bool {
					for _, x := range s.Transfers {
						if x.ID == id && x.State == "done" {
							return true
						}
					}
					return false
				}); err != nil {
					t.Fatal(err)
				}
				holds()
			}
			entries, err := os.ReadDir(bob.Inbox)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if sums[e.Name()] == "" {
					t.Errorf("%s is left", e.Name())
				}
				if err := os.RemoveAll(filepath.Join(bob.Inbox, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
