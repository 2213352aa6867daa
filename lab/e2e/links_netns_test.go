//go:build netns

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// Two machines that have nothing but a cable, plugged in while both agents run: they find each other, a killed agent's address is
// taken away by the next one, and a stopped one leaves none.
func TestCableWithoutDHCP(t *testing.T) {
	n := lab.NewNet(t)
	ha, hb := n.Host("ada"), n.Host("bob")
	for _, h := range []*lab.Host{ha, hb} {
		h.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1")
	}
	n.Cable(ha, "eth0", hb, "eth0")
	hb.IP("link", "set", "eth0", "down")
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	hb.IP("link", "set", "eth0", "up")
	plugged := time.Now()
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, 30*time.Second), hasPeer(w.who, "visible")); err != nil {
			t.Fatalf("%v\n%s", err, w.on.Tail())
		}
	}
	took := time.Since(plugged)
	t.Logf("each lists the other %v after the cable was plugged in", took)
	if limit := lab.Bound(t, 3*time.Second); took > limit {
		t.Errorf("listed only after %v, the bound is %v", took, limit)
	}
	addresses := func() string { return ha.IP("-oneline", "address", "show", "dev", "eth0") }
	if !strings.Contains(addresses(), "inet6 fe80::") {
		t.Errorf("no link-local address:\n%s", addresses())
	}
	if err := ada.Kill(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(addresses(), "inet6 fe80::") {
		t.Error("the killed agent's address is gone: the test proves nothing")
	}
	// The next run is told to keep off the cable.
	ada.Args = append(ada.Args, "--interface", "lo")
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := addresses(); strings.Contains(out, "inet") {
		t.Errorf("the killed agent's address is still there:\n%s", out)
	}
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	if out := hb.IP("-oneline", "address", "show", "dev", "eth0"); strings.Contains(out, "inet") {
		t.Errorf("the stopped agent's address is still there:\n%s", out)
	}
}

// Five hundred links come and go twice around an agent: it goes on, its memory is bounded, and it lists whom it listed.
func TestAgentInAStormOfLinks(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	t.Setenv("GOMEMLIMIT", "64MiB") // as the service has it
	ada := start(t, ha, "ada")
	start(t, hb, "bob")
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob", "visible")); err != nil {
		t.Fatal(err)
	}
	before := resident(t, ada)
	var comes, goes strings.Builder
	for i := range 200 {
		fmt.Fprintf(&comes, "link add s%d type veth peer name p%d\nlink set s%d up\nlink set p%d up\naddress add 10.99.%d.1/24 dev s%d\n", i, i, i, i, i, i)
		fmt.Fprintf(&goes, "link del s%d\n", i)
	}
	for i := range 100 {
		fmt.Fprintf(&comes, "link add br%d type bridge forward_delay 0\nlink set br%d up\n", i, i)
		fmt.Fprintf(&goes, "link del br%d\n", i)
	}
	run := func(lines string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "batch")
		if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		ha.IP("-batch", file)
	}
	count := func(want int) func(control.State) bool {
		return func(s control.State) bool { return len(s.Status.Links) == want }
	}
	for range 2 {
		run(comes.String())
		if err := ada.Await(within(t, time.Minute), count(502)); err != nil {
			t.Fatalf("%v\n%s", err, ada.Tail())
		}
		run(goes.String())
		if err := ada.Await(within(t, time.Minute), count(2)); err != nil {
			t.Fatalf("%v\n%s", err, ada.Tail())
		}
	}
	most := resident(t, ada)
	t.Logf("resident before %d KiB, at most %d KiB", before, most)
	if most > 96<<10 {
		t.Errorf("the agent grew to %d KiB", most)
	}
	var peers []control.Peer
	if err := ada.JSON(t.Context(), &peers, "peers"); err != nil {
		t.Fatal(err)
	}
	if len(peers) != 1 || peers[0].Name != "bob" || peers[0].State != "visible" {
		t.Errorf("after the storm ada lists %+v", peers)
	}
}

// resident is the most memory that an agent has had, in KiB.
func resident(t *testing.T, a *node.Agent) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmHWM in the status of the process")
	return 0
}
