//go:build radio

package air_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// lan plugs a cable between two nodes, beside their radios; the function that it returns pulls it out at one end, and in.
func lan(t *testing.T, a, b *radio.Node) (plug func(in bool)) {
	t.Helper()
	output(t, a, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", b.NetNS)
	for n, address := range map[*radio.Node]string{a: "10.0.0.1/24", b: "10.0.0.2/24"} {
		output(t, n, "ip", "address", "add", address, "dev", "lan")
		output(t, n, "ip", "link", "set", "lan", "up")
	}
	return func(in bool) {
		t.Helper()
		to := "down"
		if in {
			to = "up"
		}
		output(t, b, "ip", "link", "set", "lan", to)
	}
}

// slowly is the configuration of a device that sends 1 MiB a second at most, so that transfers last.
func slowly(t *testing.T) (config string) {
	t.Helper()
	config = filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte("rate_up = \"1MiB/s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// over waits until the connections of an agent with a device go over a kind of path.
func over(t *testing.T, a *node.Agent, device, kind string) {
	t.Helper()
	await(t, a, 90*time.Second, func(s control.State) bool {
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
			return p.Name == device && slices.ContainsFunc(p.Paths, func(p control.Path) bool { return p.Active && p.Kind == kind })
		})
	})
}

// meanwhile has two devices form a group while a transfer runs, which takes the emulated processors from the supplicants: they
// may give up several times.
func meanwhile(t *testing.T, a, b *node.Agent) {
	t.Helper()
	for try := 1; ; try++ {
		err := join(within(t, 2*time.Minute), a, b.Name)
		if err == nil {
			return
		}
		if t.Log(err); try == 4 {
			t.Fatal("no group")
		}
	}
}

// goesOn returns how long it took until more of a transfer had come than when it was asked: enough to be new data, and not what
// was on its way.
func goesOn(t *testing.T, at *node.Agent, name string) time.Duration {
	t.Helper()
	const enough = 512 << 10
	began, had := time.Now(), int64(-1)
	await(t, at, time.Minute, func(s control.State) bool {
		return slices.ContainsFunc(s.Transfers, func(tr control.Transfer) bool {
			if had < 0 && tr.Name == name {
				had = tr.BytesDone
			}
			return tr.Name == name && (tr.BytesDone >= had+enough || tr.State == "done")
		})
	})
	return time.Since(began)
}

// TestGroupLostAndLANLost is Show 5 of the issue of moving: a transfer goes over the LAN, moves to a Wi-Fi Direct group that is
// formed while it runs, and back to the LAN when the group ends; and the LAN is lost while there is a group.
func TestGroupLostAndLANLost(t *testing.T) {
	// The show's 2 s are for a machine. This one is emulated, and shares two processors with another.
	const bound = 20 * time.Second
	nodes := radio.Nodes(t, 2)
	plug := lan(t, nodes[0], nodes[1])
	config := slowly(t)
	ada := agentOn(t, nodes[0], "ada", "--accept", "trusted", "--config", config)
	bob := agentOn(t, nodes[1], "bob", "--accept", "trusted", "--config", config)
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	over(t, ada, "bob", "lan")
	film := sendTo(t, ada, "film", 64<<20, "bob")
	t.Logf("it begins after %.1f s", goesOn(t, bob, "film").Seconds())

	meanwhile(t, ada, bob)
	over(t, ada, "bob", "direct")
	t.Logf("on the new group it goes on after %.1f s", goesOn(t, bob, "film").Seconds())

	ended, left := time.Now(), make(chan struct{})
	go func() { // it is waited for below
		for _, a := range []*node.Agent{ada, bob} {
			_ = a.Client().LeaveGroup(within(t, time.Minute), control.AnyGroup) // the other one's end may have ended it
		}
		close(left)
	}()
	took := goesOn(t, bob, "film")
	t.Logf("the group ended: goes on over the LAN after %.1f s, %.1f s after the command", took.Seconds(), time.Since(ended).Seconds())
	if took > bound {
		t.Errorf("it stood still for %v", took)
	}
	<-left
	over(t, ada, "bob", "lan")

	meanwhile(t, ada, bob)
	over(t, ada, "bob", "direct")
	if err := nodes[1].SetAudible(false); err != nil {
		t.Fatal(err)
	}
	took = goesOn(t, bob, "film")
	t.Logf("the group fell silent: goes on over the LAN after %.1f s", took.Seconds())
	if took > bound {
		t.Errorf("it stood still for %v", took)
	}
	if err := nodes[1].SetAudible(true); err != nil {
		t.Fatal(err)
	}
	alone(t, ada, bob) // an owner notices late that its client is gone
	meanwhile(t, ada, bob)
	together(t, ada, bob)
	plug(false)
	took = goesOn(t, bob, "film")
	t.Logf("the LAN is gone: goes on in the group after %.1f s", took.Seconds())
	if took > bound {
		t.Errorf("it stood still for %v", took)
	}
	if err := os.WriteFile(config, nil, 0o600); err != nil { // it need not last any more
		t.Fatal(err)
	}
	if _, err := ada.Client().ReloadConfiguration(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	arrived(t, film, bob)
}
