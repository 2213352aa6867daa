package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// A device that tells strangers no name comes to a second network: from then on it goes by other names on both, nothing that was
// announced on the first one is on the second, and a friend on the first one has it ready all the time.
func TestOtherNamesOnAnotherNetwork(t *testing.T) {
	n := lab.NewNet(t)
	home, cafe := n.Bridge("home"), n.Bridge("cafe")
	ha, hb := n.Host("ada"), n.Host("bob")
	home.Join(ha, "eth0", "10.0.0.1/24")
	home.Join(hb, "eth0", "10.0.0.2/24")
	atHome, atCafe := home.Capture(t), cafe.Capture(t)
	ada, bob := start(t, ha, "ada", "--visibility", "trusted"), start(t, hb, "bob", "--visibility", "trusted")
	befriend(t, ada, bob)
	for a, other := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
		if err := a.Await(within(t, time.Minute), hasPeer(other, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	heard := func(c *lab.Capture) map[string]bool { return announcements(c.Frames(t)) }
	first := heard(atHome)

	events, err := bob.Client().Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cafe.Join(ha, "eth1", "10.7.0.1/24")
	limit, tick := within(t, time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	const each = 3 // instance, host and TXT record
	for again := 0; len(heard(atCafe)) < each || again < each; {
		again = 0
		for said := range heard(atHome) {
			if !first[said] {
				again++
			}
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			t.Fatalf("at home first %v, then %v; there %v", first, heard(atHome), heard(atCafe))
		}
	}
	// The old names are taken back, and a message goes both ways.
	run(t, bob, 0, "msg", "still here?", "--to", "ada")
	run(t, ada, 0, "msg", "yes", "--to", "bob")
	for said := range heard(atCafe) {
		if first[said] {
			t.Errorf("in both networks it says %q", said)
		}
	}
	for arrived := false; !arrived; {
		select {
		case e := <-events:
			if e.Type == "peer_gone" || e.Type == "peer" && e.Peer.Name == "ada" && e.Peer.State != "ready" {
				t.Errorf("meanwhile: %+v\n%s", e.Peer, bob.Tail())
			}
			arrived = e.Type == "end" || e.Type == "message" && e.Message.Text == "yes"
		case <-limit.Done():
			t.Fatal("no event of the message")
		}
	}
}

// The policy makes a device hidden while it runs, and visible again: strangers on the link lose it and find it, and its friend
// keeps it.
func TestVisibilityFromTheReloadOn(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	hosts := map[string]*lab.Host{}
	for name, addr := range map[string]string{"ada": "10.0.0.1/24", "bob": "10.0.0.2/24", "eve": "10.0.0.3/24"} {
		hosts[name] = n.Host(name)
		lan.Join(hosts[name], "eth0", addr)
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	config := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config("")
	ada, bob, eve := start(t, hosts["ada"], "ada", "--config", file), start(t, hosts["bob"], "bob"), start(t, hosts["eve"], "eve")
	befriend(t, ada, bob)
	sees := func(a *node.Agent, ok func(control.State) bool) {
		t.Helper()
		if err := a.Await(within(t, time.Minute), ok); err != nil {
			t.Fatalf("%v\n%s", err, a.Tail())
		}
	}
	sees(bob, hasPeer("ada", "ready"))
	sees(eve, hasPeer("ada", "visible"))
	sees(eve, hasPeer("bob", "visible"))
	for range 2 {
		config("visibility = \"hidden\"\n")
		if out := run(t, ada, 0, "config", "reload"); strings.Contains(out, "starts again") {
			t.Errorf("the reload says %q", out)
		}
		sees(eve, func(s control.State) bool { return len(s.Peers) == 1 && s.Peers[0].Name == "bob" })
		run(t, bob, 0, "msg", "there?", "--to", "ada")
		config("")
		run(t, ada, 0, "config", "reload")
		sees(eve, hasPeer("ada", "visible"))
	}
}
