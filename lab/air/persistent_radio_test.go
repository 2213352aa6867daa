//go:build radio

package air_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// TestPersistentGroupByIdentity: the persistent group of two devices is used again after both radios got another address, and
// after both agents were started again; it is gone from database and supplicant when trust ends.
func TestPersistentGroupByIdentity(t *testing.T) {
	// Without a P2P device interface the P2P device address is that of the radio, which can be changed.
	nodes := radio.NodesOf(t, radio.Config{Nodes: 2, NoP2PDevice: true})
	agents := []*node.Agent{agentOn(t, nodes[0], "ada", "--accept", "trusted"), agentOn(t, nodes[1], "bob", "--accept", "trusted")}
	ada, bob := agents[0], agents[1]
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	send := func(name string, from, to *node.Agent) (g control.Group) {
		t.Helper()
		file := filepath.Join(src, name)
		random(t, file, 1000)
		began := time.Now()
		nigh(t, from, 3*time.Minute, "send", file, "--to", to.Name, "--wait")
		t.Logf("%s arrived after %.1f s", name, time.Since(began).Seconds())
		same(t, file, to)
		await(t, from, time.Minute, func(s control.State) bool {
			for _, g = range s.Status.Groups {
				return true
			}
			return false
		})
		return g
	}
	first := send("first", ada, bob)
	alone(t, ada, bob)

	address := func(a *node.Agent) string {
		status, err := a.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return status.Radio.Address
	}
	owner, client := 0, 1
	if first.Role != "GO" {
		owner, client = 1, 0
	}
	restarts := 0
	// restart gives an agent's radio another address and starts both again.
	restart := func(i int) {
		t.Helper()
		restarts++
		a, before := agents[i], address(agents[i])
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := nodes[i].KillSupplicant(); err != nil {
			t.Fatal(err)
		}
		output(t, nodes[i], "ip", "link", "set", nodes[i].Ifname, "down")
		output(t, nodes[i], "ip", "link", "set", nodes[i].Ifname, "address", fmt.Sprintf("02:00:00:00:0a:%02x", restarts))
		if err := nodes[i].StartSupplicant(); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitRadio(t, a)
		if address(a) == before {
			t.Fatalf("%s has its old address %s again: the test shows nothing", a.Name, before)
		}
	}

	restart(client)
	if g := send("to-the-client", agents[owner], agents[client]); g.SSID != first.SSID {
		t.Errorf("the owner made another group, %s and not %s", g.SSID, first.SSID)
	}
	alone(t, ada, bob)

	restart(owner)
	restart(client)
	if g := send("to-the-owner", agents[client], agents[owner]); g.SSID != first.SSID {
		t.Errorf("the client made another group, %s and not %s", g.SSID, first.SSID)
	}
	alone(t, ada, bob)

	// The client knows the group by the owner's old address and has not heard the new one, so that it says that it knows no
	// such group; that heals by a new one, without a person.
	restart(owner)
	send("again-to-the-client", agents[owner], agents[client])
	alone(t, ada, bob)

	// Without trust nothing is left that lets the other in.
	for _, a := range agents {
		other := "bob"
		if a == bob {
			other = "ada"
		}
		nigh(t, a, time.Minute, "trust", "remove", other)
	}
	for _, n := range nodes {
		eventually(t, 30*time.Second, func() string {
			if now := state(t, n); !strings.Contains(now, "profiles = []") {
				return n.Name + " still has profiles:\n" + now
			}
			return ""
		})
	}
	for i, a := range agents {
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitRadio(t, a)
		if now := state(t, nodes[i]); !strings.Contains(now, "profiles = []") {
			t.Errorf("%s gives the supplicant profiles after a restart:\n%s", a.Name, now)
		}
	}
}
