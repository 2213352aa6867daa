//go:build netns

package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestTransferLeavesASilentLink has two devices on two segments. The one that a transfer goes over carries nothing any more, but keeps its
// carrier, as a Wi-Fi Direct group does whose radio is gone: the transfer goes on over the other one. Before that it is slow, and is not left.
func TestTransferLeavesASilentLink(t *testing.T) {
	n := lab.NewNet(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	ha, hb := n.Host("ada"), n.Host("bob")
	for b, addr := range map[*lab.Bridge][2]string{one: {"10.0.0.1/24", "10.0.0.2/24"}, two: {"10.0.1.1/24", "10.0.1.2/24"}} {
		for i, h := range []*lab.Host{ha, hb} {
			b.Join(h, b.Name, addr[i])
		}
	}
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte("rate_up = \"8MiB/s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ada, bob := start(t, ha, "ada", "--accept", "trusted", "--config", config), start(t, hb, "bob", "--accept", "trusted")
	befriend(t, ada, bob)
	for a, other := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
		if err := a.Await(within(t, 30*time.Second), pathsTo(other, 2)); err != nil {
			t.Fatal(err)
		}
	}
	film := hollow(t, 1<<30)
	events := watch(t, bob)
	if _, errs, code := ada.Run(within(t, 30*time.Second), "send", film, "--to", "bob"); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	moves(t, events, time.Second) // it is under way
	used := one
	switch way := activeTo(t, bob, "ada"); way {
	case one.Name:
	case two.Name:
		used = two
	default:
		t.Fatalf("the transfer goes over %q", way)
	}
	// A queue of a second that is full all the time is no silence.
	for _, h := range []*lab.Host{ha, hb} {
		h.Run("tc", "qdisc", "add", "dev", used.Name, "root", "tbf", "rate", "20mbit", "burst", "16kb", "latency", "1000ms")
	}
	gap := moves(t, events, 3*time.Second)
	t.Logf("behind a full queue of a second: longest gap %v", gap)
	if way := activeTo(t, bob, "ada"); way != used.Name || strings.Contains(bob.Tail()+ada.Tail(), "A path is silent") {
		t.Errorf("a link that is slow was left, connections go over %s", way)
	}
	for _, h := range []*lab.Host{ha, hb} {
		h.Run("tc", "qdisc", "del", "dev", used.Name, "root")
	}
	moves(t, events, time.Second) // as fast as before

	used.Cut(hb, used.Name)
	gap = moves(t, events, 3*time.Second)
	t.Logf("%s fell silent: longest gap %v, with the 250 ms between two reports", used.Name, gap)
	if limit := lab.Bound(t, 1500*time.Millisecond); gap > limit {
		t.Errorf("nothing came for %v after a link fell silent, want at most %v\n%s", gap, limit, bob.Tail())
	}
	if way := activeTo(t, bob, "ada"); way == used.Name {
		t.Errorf("connections still go over %s", way)
	}
}

// pathsTo tells whether a device is ready and there are so many ways to it.
func pathsTo(name string, ways int) func(control.State) bool {
	return func(s control.State) bool {
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
			links := map[string]bool{}
			for _, w := range p.Paths {
				links[w.Ifname] = true
			}
			return p.Name == name && p.State == "ready" && len(links) == ways
		})
	}
}

// activeTo is the link that connections with a device use.
func activeTo(t *testing.T, a *node.Agent, name string) (ifname string) {
	t.Helper()
	err := a.Await(within(t, 10*time.Second), func(s control.State) bool {
		for _, p := range s.Peers {
			for _, w := range p.Paths {
				if p.Name == name && w.Active {
					ifname = w.Ifname
				}
			}
		}
		return ifname != ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return ifname
}

// moves follows the transfers of an agent for some time from now, and returns the longest in which no byte came.
func moves(t *testing.T, events <-chan seen, long time.Duration) (gap time.Duration) {
	t.Helper()
	began := time.Now()
	last, done := began, int64(-1)
	over := time.NewTimer(long)
	defer over.Stop()
	for {
		select {
		case s, open := <-events:
			if !open {
				t.Fatal("the event stream ended")
			}
			x := s.event.Transfer
			if x == nil || x.BytesDone <= done {
				continue
			}
			if done = x.BytesDone; s.at.After(began) {
				gap, last = max(gap, s.at.Sub(last)), s.at
			}
		case <-over.C:
			return max(gap, time.Since(last))
		}
	}
}
