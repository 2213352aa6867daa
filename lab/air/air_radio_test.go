//go:build radio

package air_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// onAir starts an agent on each of two radio nodes. The lab's guest has no
// compiler: bin/nigh was built before.
func onAir(t *testing.T, args ...string) (nodes []*radio.Node, ada, bob *node.Agent) {
	t.Helper()
	bin, err := filepath.Abs("../../bin/nigh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	nodes = radio.Nodes(t, 2)
	agents := make([]*node.Agent, 2)
	for i, name := range []string{"ada", "bob"} {
		agents[i], err = node.Start(t.Context(), node.Config{Binary: bin, Dir: t.TempDir(), Name: name, Command: nodes[i].Command, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s:\n%s", name, agents[i].Tail())
			}
			_ = agents[i].Kill()
		})
		if err := agents[i].Await(within(t, time.Minute), func(s control.State) bool { return s.Status.Radio.State == "ready" }); err != nil {
			t.Fatal(err)
		}
	}
	return nodes, agents[0], agents[1]
}

// TestOneCommandOverWiFiDirect is the main job: two devices that share no
// network, one command, a folder arrives. Then the supplicant is killed in the
// middle of a film, and the film arrives all the same.
func TestOneCommandOverWiFiDirect(t *testing.T) {
	nodes, ada, bob := onAir(t, "--accept", "trusted")
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	random(t, filepath.Join(src, "folder", "a.txt"), 1000)
	random(t, filepath.Join(src, "folder", "sub", "b.bin"), 700<<10)
	began := time.Now()
	if out, errs, code := ada.Run(within(t, 3*time.Minute), "send", filepath.Join(src, "folder"), "--to", "bob", "--wait"); code != 0 {
		t.Fatalf("send: exit %d\n%s%s", code, out, errs)
	}
	t.Logf("a folder arrived %.1f s after the command", time.Since(began).Seconds())
	if want, got := digest(t, filepath.Join(src, "folder")), digest(t, filepath.Join(bob.Inbox, "folder")); want != got {
		t.Errorf("the trees differ:\n%s\n%s", want, got)
	}
	status, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Groups) != 1 || status.Groups[0].LinkLocal == "" || !strings.HasPrefix(status.Groups[0].Address, "192.168.") {
		t.Errorf("bob's groups: %+v", status.Groups)
	}

	film := filepath.Join(src, "film")
	random(t, film, 48<<20)
	if _, errs, code := ada.Run(within(t, time.Minute), "send", film, "--to", "bob"); code != 0 {
		t.Fatalf("send: exit %d\n%s", code, errs)
	}
	err = bob.Await(within(t, 2*time.Minute), func(s control.State) bool {
		for _, tr := range s.Transfers {
			if tr.Name == "film" && tr.BytesDone > 8<<20 {
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].KillSupplicant(); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, time.Minute), func(s control.State) bool { return len(s.Status.Groups) == 0 && s.Status.Radio.State != "ready" }); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].StartSupplicant(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := bob.Await(within(t, 5*time.Minute), func(s control.State) bool {
		for _, tr := range s.Transfers {
			if tr.Name == "film" && tr.State == "done" {
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the film was whole %.1f s after the supplicant came back", time.Since(killed).Seconds())
	if digest(t, film) != digest(t, filepath.Join(bob.Inbox, "film")) {
		t.Error("the film's hashes differ")
	}

	// A clean stop leaves nothing behind.
	for i, a := range []*node.Agent{ada, bob} {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
		out, err := nodes[i].Command(t.Context(), "ip", "-o", "address").CombinedOutput()
		if err != nil || strings.Contains(string(out), "p2p-") {
			t.Errorf("%s left something behind (%v):\n%s", a.Name, err, out)
		}
	}
}

// TestStrangerOverWiFiDirectAsks: without trust, forming a group is a question
// on the other side, and so is the offer after it.
func TestStrangerOverWiFiDirectAsks(t *testing.T) {
	_, ada, bob := onAir(t)
	note := filepath.Join(t.TempDir(), "note.txt")
	random(t, note, 1000)
	look(t, ada)
	if err := ada.Await(within(t, time.Minute), hasPeer("bob", "visible")); err != nil {
		t.Fatal(err)
	}
	type result struct {
		errs string
		code int
	}
	sent := make(chan result, 1)
	ctx := within(t, 4*time.Minute)
	go func() { // awaited below
		_, errs, code := ada.Run(ctx, "send", note, "--to", "bob", "--wait")
		sent <- result{errs, code}
	}()
	answer := func(ctx context.Context, kind string) {
		t.Helper()
		var id string
		if err := bob.Await(ctx, func(s control.State) bool {
			for _, i := range s.Inbox {
				if i.Kind == kind {
					id = i.ID
				}
			}
			return id != ""
		}); err != nil {
			t.Fatal(err)
		}
		if _, errs, code := bob.Run(ctx, "accept", id); code != 0 {
			t.Fatalf("accept %s: exit %d: %s", id, code, errs)
		}
	}
	answer(ctx, "group")
	answer(ctx, "transfer")
	if r := <-sent; r.code != 0 {
		t.Fatalf("send: exit %d: %s", r.code, r.errs)
	}
	if digest(t, note) != digest(t, filepath.Join(bob.Inbox, "note.txt")) {
		t.Error("the hashes differ")
	}
}

// within gives a context for one wait.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func random(t *testing.T, path string, size int64) {
	t.Helper()
	if err := node.Random(path, size); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, root string) string {
	t.Helper()
	d, err := node.Digest(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func hasPeer(name, state string) func(control.State) bool {
	return func(s control.State) bool {
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool { return p.Name == name && p.State == state })
	}
}
