//go:build netns

package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/lab/node"
)

// The whole measure is -entries 1000000 -sparse 10737418240; what runs without is a short one.
var (
	vastEntries = flag.Int("entries", 20_000, "files in the folder that TestVast sends")
	vastSparse  = flag.Int64("sparse", 512<<20, "size of the sparse file that TestVast sends")
)

// TestVast sends a folder of very many files and a very large sparse file, and a folder of more entries than a transfer may have, which is
// refused in one sentence. What the agents take of memory is logged, and bounded for what design section 12 names.
func TestVast(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "nigh-test-")
	if err != nil {
		t.Skipf("needs a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ada, bob := pair(t, "--accept", "trusted")
	many := func(name string, n int) string {
		t.Helper()
		root := filepath.Join(dir, name)
		for i := range n {
			sub := filepath.Join(root, fmt.Sprintf("%04d", i/1000))
			if i%1000 == 0 {
				if err := os.MkdirAll(sub, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%07d", i)), []byte{byte(i)}, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	send := func(path string) (code int, errs string) {
		t.Helper()
		began := time.Now()
		_, errs, code = ada.Run(within(t, 14*time.Minute), "send", "--wait", "--to", "bob", path)
		var used [2]node.Usage
		for i, a := range []*node.Agent{ada, bob} {
			var err error
			if used[i], err = a.Usage(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: exit %d after %.1f s, most memory %d MiB at the sender, %d MiB at the receiver",
			filepath.Base(path), code, time.Since(began).Seconds(), used[0].Peak>>20, used[1].Peak>>20)
		for _, u := range used {
			if *vastEntries <= 100_000 && u.Peak > 64<<20 {
				t.Errorf("%d MiB of memory", u.Peak>>20)
			}
		}
		return code, errs
	}
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, *vastSparse); err != nil {
		t.Fatal(err)
	}
	if code, errs := send(image); code != 0 {
		t.Fatalf("the sparse file: exit %d: %s", code, errs)
	}
	if digest(t, image) != digest(t, filepath.Join(bob.Inbox, "image")) {
		t.Error("the sparse file is not what was sent")
	}
	folders := (*vastEntries + 999) / 1000
	folder := many("many", *vastEntries-folders-1)
	if code, errs := send(folder); code != 0 {
		t.Fatalf("%d entries: exit %d: %s", *vastEntries, code, errs)
	}
	if digest(t, folder) != digest(t, filepath.Join(bob.Inbox, "many")) {
		t.Error("the folder is not what was sent")
	}
	if *vastEntries < 1_000_000 {
		return
	}
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("more%d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if code, errs := send(folder); code != 2 || !strings.Contains(errs, "larger than nigh can send at once") {
		t.Errorf("too many entries: exit %d: %s", code, errs)
	}
}
