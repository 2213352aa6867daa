//go:build netns

package crowd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestShow8Search looks for files on three devices with 20 000 files each, or with NIGH_SEARCH=DEVICESxFILES on as many as that says:
// what the first of them answers is printed at once, and neither the index nor the search stays in memory.
func TestShow8Search(t *testing.T) {
	devices, files := 3, 20_000
	if text, ok := os.LookupEnv("NIGH_SEARCH"); ok {
		if _, err := fmt.Sscanf(text, "%dx%d", &devices, &files); err != nil || devices < 1 || devices > 50 || files < 1000 || files > 190_000 {
			t.Fatalf("NIGH_SEARCH=%q is no number of devices and files", text)
		}
	}
	began := time.Now()
	folders := make([]string, devices)
	var group errgroup.Group
	group.SetLimit(2)
	for i := range folders {
		folders[i] = lab.Memory(t)
		group.Go(func() error { return plant(folders[i], i, files) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %d times %d files in %v", devices, files, time.Since(began))
	c := New(t, devices+1)
	if err := c.Start(t.Context(), 0, devices+1); err != nil {
		t.Fatal(err)
	}
	asker, holders := c.Agents[0], c.Agents[1:]
	for _, h := range holders {
		if err := node.Befriend(t.Context(), asker, h); err != nil {
			t.Fatal(err)
		}
	}
	together(t, asker, devices)
	alone := usage(t, c, 1)

	began = time.Now()
	for i, h := range holders {
		if _, err := h.Client().AddShare(t.Context(), control.ShareRequest{Folder: folders[i], Name: "files"}); err != nil {
			t.Fatal(err)
		}
	}
	awaitShared(t, holders, func(s control.Share) bool { return s.State == "ready" && s.Files == files })
	t.Logf("measured: %d devices listed %d files each in %v, with %v of processor time", devices, files, time.Since(began), spent(t, c))
	looked(t, asker, devices, "while files are hashed")
	awaitShared(t, holders, func(s control.Share) bool { return s.Hashed == files })
	t.Logf("measured: and hashed them in %v, with %v of processor time in all", time.Since(began), spent(t, c))
	looked(t, asker, devices, "after that")
	for i := range c.Agents {
		u := usage(t, c, i)
		t.Logf("measured: %s has %.1f MiB RSS after the searches, at most %.1f; %s had %.1f before it shared", Name(i), mib(u.RSS), mib(u.Peak),
			Name(1), mib(alone.RSS))
		if i > 0 && u.RSS > alone.RSS+indexRSS {
			t.Errorf("%s has %.1f MiB RSS for its index, want at most %.1f", Name(i), mib(u.RSS-alone.RSS), mib(indexRSS))
		}
		if u.Peak > transferRSS {
			t.Errorf("%s had %.1f MiB RSS, want at most %.1f", Name(i), mib(u.Peak), mib(transferRSS))
		}
	}
}

// spent is the processor time that all devices took since they began.
func spent(t *testing.T, c *Crowd) (all time.Duration) {
	for i := range c.Agents {
		all += usage(t, c, i).CPU
	}
	return all
}

const (
	transferRSS = 48 << 20 // the most that an agent takes while it works
	indexRSS    = 4 << 20  // that shares leave behind, whatever is in them
)

// plant makes n small files of a device, no two with the same content, a hundred in a folder.
func plant(dir string, device, n int) error {
	for i := range n {
		folder := filepath.Join(dir, fmt.Sprintf("%d/%02d", 2000+i/2500, i/100%25))
		if i%100 == 0 {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
		path := filepath.Join(folder, fmt.Sprintf("IMG_%06d.jpg", i))
		if i%1000 == 999 {
			path = filepath.Join(folder, fmt.Sprintf("Beach party %06d.jpg", i))
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "%d of %d", i, device), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// together waits until an agent has a session with so many devices.
func together(t *testing.T, a *node.Agent, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := a.Await(ctx, func(s control.State) bool {
		ready := 0
		for _, p := range s.Peers {
			if p.State == "ready" {
				ready++
			}
		}
		return ready == n
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitShared waits until the one share of each device is so.
func awaitShared(t *testing.T, all []*node.Agent, ok func(control.Share) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, a := range all {
		for {
			list, err := a.Client().Shares(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 1 && ok(list[0]) {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s: %+v", a.Name, list)
			}
		}
	}
}

// looked searches with the command line, and checks when the first and the last results were printed.
func looked(t *testing.T, asker *node.Agent, devices int, when string) {
	t.Helper()
	var firsts, lasts []time.Duration
	for range 5 {
		first, last, lines := search(t, asker, "PARTY", "beach", "999")
		firsts, lasts = append(firsts, first), append(lasts, last)
		if lines < devices {
			t.Fatalf("%d lines were printed for %d devices", lines, devices)
		}
	}
	slices.Sort(firsts)
	slices.Sort(lasts)
	t.Logf("measured: a search %s prints its first result after %v (median; %v to %v), and all after %v", when, firsts[2], firsts[0], firsts[4], lasts[2])
	if most := lab.Bound(t, 300*time.Millisecond); firsts[2] > most {
		t.Errorf("the first result was printed after %v, want at most %v", firsts[2], most)
	}
}

// search runs the command and returns when its first line was printed and when it ended, and how many results it printed.
func search(t *testing.T, a *node.Agent, words ...string) (first, last time.Duration, lines int) {
	t.Helper()
	cmd := a.Command(t.Context(), a.Binary, append([]string{"search"}, words...)...)
	cmd.Env = append(os.Environ(), "NIGH_SOCKET="+a.Socket, "HOME="+a.Dir)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for scan := bufio.NewScanner(out); scan.Scan(); lines++ {
		if lines == 1 { // after the headings
			first = time.Since(began)
		}
	}
	last = time.Since(began)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nigh search: %v: %s", err, said.String())
	}
	return first, last, lines - 1
}
