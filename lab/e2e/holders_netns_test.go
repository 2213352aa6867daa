//go:build netns

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// film makes a file that each of the holders has in its folder of films, and returns its path and its hash.
func film(t *testing.T, name string, size int64, holders []*node.Agent) (path, hash string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	random(t, path, size)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range holders {
		dir := filepath.Join(a.Dir, "films")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// On a file system that orders its data, whoever has a file written out waits for all that others wrote before.
	unix.Sync()
	return path, content.Sum(raw).String()
}

// getting asks for a content by its hash and returns the transfer's ID.
func getting(t *testing.T, a *node.Agent, hash string) string {
	t.Helper()
	x, err := a.Client().Get(within(t, 60*time.Second), control.GetRequest{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return x.ID
}

// ends follows one transfer to its end and returns how long bytes moved (the end of it, a sync, is the disk's), and the longest time in which none did. each is called with
// every report.
func ends(t *testing.T, a *node.Agent, events <-chan seen, id string, each func(control.Transfer)) (took, gap time.Duration, last control.Transfer) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	var first, at time.Time
	done := int64(0)
	for {
		select {
		case s, open := <-events:
			if !open {
				t.Fatal("the event stream ended")
			}
			if s.event.Transfer == nil || s.event.Transfer.ID != id {
				continue
			}
			last = *s.event.Transfer
			if first.IsZero() {
				first, at = s.at, s.at
			}
			if last.BytesDone > done {
				gap = max(gap, s.at.Sub(at))
				done, at = last.BytesDone, s.at
			}
			switch last.State {
			case "done":
				return at.Sub(first), gap, last
			case "failed", "refused":
				t.Fatalf("the transfer failed: %+v\n%s", last, a.Tail())
			}
			each(last)
		case <-deadline:
			t.Fatalf("the transfer does not end: %+v\n%s", last, a.Tail())
		}
	}
}

// brought says in few words what came from whom: only short lines are printed of a test that passes.
func brought(x control.Transfer) string {
	var all []string
	for _, h := range x.Holders {
		all = append(all, fmt.Sprintf("%s %d", h.Device.Name, h.Bytes>>20))
	}
	return strings.Join(all, ", ")
}

// TestShow3FourHolders has four devices, two behind each of two links of 100 Mbit/s, that share the same films: both links together
// bring what one brings nearly twice as fast, and three holders may be killed in turn.
func TestShow3FourHolders(t *testing.T) {
	n := lab.NewNet(t)
	links := []*lab.Bridge{n.Bridge("one"), n.Bridge("two")}
	he := n.Host("eve")
	for i, link := range links {
		link.Join(he, fmt.Sprintf("eth%d", i), fmt.Sprintf("10.0.%d.9/24", i))
		link.Slow(he, fmt.Sprintf("eth%d", i), 100)
	}
	eve := start(t, he, "eve")
	var holders []*node.Agent
	for i, name := range []string{"ada", "bob", "cyd", "dan"} {
		h := n.Host(name)
		links[i/2].Join(h, "eth0", fmt.Sprintf("10.0.%d.%d/24", i/2, i+1))
		a := start(t, h, name)
		befriend(t, eve, a)
		holders = append(holders, a)
	}
	for _, a := range holders {
		if err := eve.Await(within(t, 30*time.Second), hasPeer(a.Name, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	const size, longer = 64 << 20, 96 << 20
	// The first film lies behind the first link only.
	one, oneHash := film(t, "one.mov", size, holders[:2])
	both, bothHash := film(t, "both.mov", size, holders)
	long, longHash := film(t, "long.mov", longer, holders)
	for _, a := range holders {
		shareFolder(t, a, filepath.Join(a.Dir, "films"))
	}
	events := watch(t, eve)
	nothing := func(control.Transfer) {}
	slow, _, _ := ends(t, eve, events, getting(t, eve, oneHash), nothing)
	fast, gap, last := ends(t, eve, events, getting(t, eve, bothHash), nothing)
	t.Logf("%d MiB over one link in %v, over both in %v (%.2f times the rate), longest gap %v (%s)", size>>20, slow, fast, slow.Seconds()/fast.Seconds(), gap, brought(last))
	if limit := lab.Bound(t, slow*10/18); fast > limit {
		t.Errorf("%v over both links, %v over one; want at most %v", fast, slow, limit)
	}
	killed := 0
	_, gap, last = ends(t, eve, events, getting(t, eve, longHash), func(x control.Transfer) {
		if killed < 3 && x.BytesDone > int64(killed+1)*longer/6 {
			// Which one the get went to is chance; all of the first three go.
			if err := holders[killed].Kill(); err != nil {
				t.Error(err)
			}
			killed++
		}
	})
	t.Logf("three holders killed: longest gap %v (%s)", gap, brought(last))
	if killed != 3 {
		t.Errorf("%d holders were killed", killed)
	}
	if limit := lab.Bound(t, 2*time.Second); gap > limit {
		t.Errorf("nothing came for %v, want at most %v", gap, limit)
	}
	for _, src := range []string{one, both, long} {
		if digest(t, src) != digest(t, filepath.Join(eve.Inbox, filepath.Base(src))) {
			t.Errorf("%s is not what was shared", src)
		}
	}
}

// TestShow4OneFileToEight sends a file to eight devices on one segment: it leaves the sender hardly more than twice.
func TestShow4OneFileToEight(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	hosts := make([]*lab.Host, 9)
	agents := make([]*node.Agent, 9)
	for i := range agents {
		name := "ada"
		if i > 0 {
			name = fmt.Sprintf("device%d", i)
		}
		hosts[i] = n.Host(name)
		lan.Join(hosts[i], "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		lan.Slow(hosts[i], "eth0", 100)
		agents[i] = start(t, hosts[i], name, "--accept", "trusted")
	}
	for i, a := range agents {
		for _, b := range agents[i+1:] {
			befriend(t, a, b)
		}
	}
	for i, a := range agents {
		for k, b := range agents {
			if i == k {
				continue
			}
			if err := a.Await(within(t, 60*time.Second), hasPeer(b.Name, "ready")); err != nil {
				t.Fatal(err)
			}
		}
	}
	const size = 32 << 20
	src := filepath.Join(t.TempDir(), "film.mov")
	random(t, src, size)
	want := digest(t, src)
	args := []string{"send", src}
	for _, a := range agents[1:] {
		args = append(args, "--to", a.Name)
	}
	before, began := gave(t, hosts[0], "eth0"), time.Now()
	if _, errs, code := agents[0].Run(within(t, 2*time.Minute), append(args, "--wait")...); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	took, sent := time.Since(began), gave(t, hosts[0], "eth0")-before
	t.Logf("%d MiB to eight in %v; %.2f times the file left the sender", size>>20, took, float64(sent)/size)
	if sent > 5*size/2 {
		t.Errorf("%d bytes left the sender, %.2f times the file, want at most 2.5", sent, float64(sent)/size)
	}
	for _, a := range agents[1:] {
		if digest(t, filepath.Join(a.Inbox, "film.mov")) != want {
			t.Errorf("%s has something else", a.Name)
		}
	}
}

// gave is how many bytes a link of h has given out.
func gave(t *testing.T, h *lab.Host, ifname string) (bytes int64) {
	t.Helper()
	out, err := h.Command(t.Context(), "cat", "/sys/class/net/"+ifname+"/statistics/tx_bytes").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}
