package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/node"
)

// run runs the command line and returns all that it wrote.
func run(t *testing.T, a *node.Agent, code int, args ...string) string {
	t.Helper()
	out, errs, got := a.Run(within(t, 90*time.Second), args...)
	if got != code {
		t.Fatalf("nigh %v at %s: exit %d, want %d\n%s%s", args, a.Name, got, code, out, errs)
	}
	return out + errs
}

// TestQuotaIsSaidOnBothSides has a device send more than it may: what fits is taken without asking into its own folder, the
// rest is refused before a byte of it is on the disk, and both sides say in one sentence why.
func TestQuotaIsSaidOnBothSides(t *testing.T) {
	ada, bob := pair(t)
	folder := filepath.Join(bob.Dir, "from-ada")
	run(t, bob, 0, "trust", "set", "ada", "--auto-accept", "--folder", folder, "--max-size", "3MB", "--quota", "4MB")
	file := func(name string, size int) string {
		path := filepath.Join(ada.Dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run(t, ada, 0, "send", file("fits", 2_500_000), "--to", "bob", "--wait", "--timeout", "60s")
	if _, err := os.Stat(filepath.Join(folder, "fits")); err != nil {
		t.Errorf("the file is not in its device's folder: %v", err)
	}
	for name, c := range map[string]struct {
		size        int
		there, here string
	}{
		"too-large": {3_500_000, "larger than what bob takes from this device at once", "larger than what this device takes from ada at once"},
		"too-much":  {2_000_000, "more than what bob still takes from this device", "more than what is left of the quota of ada"},
	} {
		out := run(t, ada, 3, "send", file(name, c.size), "--to", "bob", "--wait", "--timeout", "60s")
		if !strings.Contains(out, c.there) {
			t.Errorf("%s: the sender hears %q, want %q", name, out, c.there)
		}
		if out := run(t, bob, 0, "transfers", "--json"); !strings.Contains(out, c.here) {
			t.Errorf("%s: the receiver sees %s, want %q", name, out, c.here)
		}
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			t.Errorf("%s is on the disk", name)
		}
	}
	if out := run(t, bob, 0, "trust", "list"); !strings.Contains(out, "2.5 MB of 4.0 MB") {
		t.Errorf("what is used is not shown:\n%s", out)
	}
	run(t, bob, 0, "trust", "set", "ada", "--reset-quota")
	run(t, ada, 0, "send", file("again", 2_000_000), "--to", "bob", "--wait", "--timeout", "60s")
}

// TestReceivingOffAtReload switches receiving off while a session stands: at SIGHUP of a service, and by hand. The session
// stays, and nothing that is sent reaches the disk.
func TestReceivingOffAtReload(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	file := filepath.Join(t.TempDir(), "config.toml")
	config := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config("")
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none")) // as under systemd
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob", "--config", file, "--accept", "trusted")
	befriend(t, ada, bob)
	for a, other := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
		if err := a.Await(within(t, 60*time.Second), hasPeer(other, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	events, err := bob.Client().Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config("receive = false\n")
	if err := syscall.Kill(bob.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	lines := func() string { return run(t, bob, 0, "config", "show", "--origin") }
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(lines(), file+":1") {
		if time.Now().After(deadline) {
			t.Fatalf("SIGHUP changed nothing:\n%s", lines())
		}
		<-tick.C
	}
	path := filepath.Join(ada.Dir, "x")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, ada, 3, "send", path, "--to", "bob", "--wait", "--timeout", "60s"); !strings.Contains(out, "bob receives nothing") {
		t.Errorf("the sender hears %q", out)
	}
	if left, err := os.ReadDir(bob.Inbox); err != nil || len(left) > 0 {
		t.Errorf("the inbox has %v, %v", left, err)
	}
	config("receive = maybe\n")
	if out := run(t, bob, 2, "config", "reload"); !strings.Contains(out, "line 1") {
		t.Errorf("a mistake in the file: %s", out)
	}
	if out := run(t, ada, 3, "send", path, "--to", "bob", "--wait", "--timeout", "60s"); !strings.Contains(out, "bob receives nothing") {
		t.Errorf("after a mistake in the file the sender hears %q", out)
	}
	config("receive = true\n")
	run(t, bob, 0, "config", "reload")
	run(t, ada, 0, "send", path, "--to", "bob", "--wait", "--timeout", "60s")
	// Through all of it ada was connected.
	limit := within(t, 60*time.Second)
	for arrived := false; !arrived; {
		select {
		case e := <-events:
			if e.Type == "peer" && e.Peer.Name == "ada" && e.Peer.State != "ready" {
				t.Errorf("ada was %s meanwhile\n%s", e.Peer.State, bob.Tail())
			}
			arrived = e.Type == "end" || e.Type == "transfer" && e.Transfer.State == "done"
		case <-limit.Done():
			t.Fatal("no event of the transfer")
		}
	}
}
