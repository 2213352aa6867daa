//go:build netns

package e2e_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestSilentAndSlowHolders has three devices that share the same films, one of them behind a link of 2 Mbit/s. It keeps nobody waiting
// for the last of a film; and one that stops in the middle, whose kernel goes on to take connections, is done without at once.
func TestSilentAndSlowHolders(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	var agents []*node.Agent
	for i, name := range []string{"eve", "ada", "bob", "cyd"} {
		h := n.Host(name)
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		mbit := 100
		if name == "cyd" {
			mbit = 2
		}
		lan.Slow(h, "eth0", mbit)
		agents = append(agents, start(t, h, name))
	}
	eve, ada, holders := agents[0], agents[1], agents[1:]
	for _, a := range holders {
		befriend(t, eve, a)
	}
	for _, a := range holders {
		if err := eve.Await(within(t, 30*time.Second), hasPeer(a.Name, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	const size = 48 << 20
	var films, hashes []string
	for i := range 2 {
		path, hash := film(t, fmt.Sprintf("film%d.mov", i), size, holders)
		films, hashes = append(films, path), append(hashes, hash)
	}
	for _, a := range holders {
		shareFolder(t, a, filepath.Join(a.Dir, "films"))
	}
	events := watch(t, eve)
	took, gap, last := ends(t, eve, events, getting(t, eve, hashes[0]), func(control.Transfer) {})
	t.Logf("%d MiB, one of three holders behind 2 Mbit/s: %v, longest gap %v (%s)", size>>20, took, gap, brought(last))
	if limit := lab.Bound(t, 2*time.Second); gap > limit {
		t.Errorf("with a slow holder nothing came for %v, want at most %v", gap, limit)
	}
	if limit := lab.Bound(t, 8*time.Second); took > limit { // 4 s at 100 Mbit/s
		t.Errorf("with a slow holder it took %v, want at most %v", took, limit)
	}
	stopped := false
	took, gap, last = ends(t, eve, events, getting(t, eve, hashes[1]), func(x control.Transfer) {
		if stopped || x.BytesDone < size/4 {
			return
		}
		stopped = true
		pid := ada.PID()
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Error(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // else it could not be ended
	})
	t.Logf("%d MiB, a holder falls silent after a quarter: %v, longest gap %v (%s)", size>>20, took, gap, brought(last))
	if limit := lab.Bound(t, 2*time.Second); gap > limit {
		t.Errorf("nothing came for %v after a holder fell silent, want at most %v", gap, limit)
	}
	if !stopped {
		t.Error("the holder was not stopped")
	}
	for _, src := range films {
		if digest(t, src) != digest(t, filepath.Join(eve.Inbox, filepath.Base(src))) {
			t.Errorf("%s is not what was shared", src)
		}
	}
}
