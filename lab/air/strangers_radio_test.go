//go:build radio

package air_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
	"nigh/wpa"
	"nigh/wpa/dbusapi"
)

// TestThirdTrustedDeviceJoins lets two trusted devices into a running group with a PIN that nobody types, while a stranger that
// wants to join becomes a question.
func TestThirdTrustedDeviceJoins(t *testing.T) {
	nodes := radio.Nodes(t, 4)
	all := agents(t, nodes, []string{"ada", "bob", "cleo"})
	for i, a := range all {
		for _, b := range all[i+1:] {
			if err := node.Befriend(t.Context(), a, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	ada := all[0]
	// A group owner cannot look at who joins: the keys have to be known, here from one look at each other.
	for i, a := range all {
		look(t, a)
		for j, b := range all {
			if i == j {
				continue
			}
			if err := a.Await(within(t, time.Minute), hasPeer(b.Name, "visible")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, errs, code := ada.Run(within(t, time.Minute), "group", "create"); code != 0 {
		t.Fatalf("group create: exit %d: %s", code, errs)
	}
	for i, a := range all[1:] {
		begin := time.Now()
		if err := join(within(t, 3*time.Minute), a, "ada"); err != nil {
			t.Fatal(err)
		}
		if err := ada.Await(within(t, time.Minute), func(s control.State) bool {
			return len(s.Status.Groups) == 1 && s.Status.Groups[0].Clients == i+1
		}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is in the group %.1f s after the command", a.Name, time.Since(begin).Seconds())
	}
	silent(t, all...)
	// The stranger has the name of one of them.
	eve := outsider(t, nodes[3], wpa.Config{DeviceName: "cleo"})
	target := find(t, eve, "ada [")
	joined := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		_, err := eve.Connect(ctx, target, wpa.PBC(), wpa.ConnectOptions{Intent: 7})
		joined <- err
	}()
	if err := ada.Await(within(t, time.Minute), func(s control.State) bool { return len(s.Inbox) == 1 && s.Inbox[0].Kind == "group" }); err != nil {
		t.Error(err)
	}
	cancel() // it was asked, so it is not let in: to wait for the end of a minute shows no more
	if err := <-joined; err == nil {
		t.Error("the stranger is in the group")
	}
	if status, err := ada.Client().Status(t.Context()); err != nil || len(status.Groups) != 1 || status.Groups[0].Clients != 2 {
		t.Errorf("ada's groups are %+v, %v", status.Groups, err)
	}
}

// find waits until a radio hears the device whose name begins so, with its vendor extension.
func find(t *testing.T, r *wpa.Radio, prefix string) net.HardwareAddr {
	t.Helper()
	if err := r.Find(t.Context(), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	deadline := within(t, 2*time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range r.Peers() {
			if strings.HasPrefix(p.Name, prefix) {
				if err := r.StopFind(t.Context()); err != nil {
					t.Fatal(err)
				}
				return p.Address
			}
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatalf("nobody is called %q: %+v", prefix, r.Peers())
		}
	}
}

// memory is the resident set of an agent, in KiB.
func memory(t *testing.T, a *node.Agent) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// arrives waits, for d at most, until a supplicant tells of a request.
func arrives(c *dbusapi.Client, d time.Duration) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		select {
		case <-c.Ready():
			for _, s := range c.Next() {
				switch s.(type) {
				case dbusapi.GONegotiationRequest, dbusapi.Provision:
					return
				}
			}
		case <-deadline.C:
			return
		}
	}
}

// TestThousandRequests has a stranger's supplicant ask for a group a thousand times, with every method: no group, at most one
// question, and the agent does not grow.
func TestThousandRequests(t *testing.T) {
	const (
		requests  = 1000
		maxGrowth = 8 // KiB for each request; what the garbage collector leaves lying, and the log that is kept, came to 3
	)
	nodes := radio.Nodes(t, 2)
	bob := agents(t, nodes, []string{"bob"})[0]
	eve := outsider(t, nodes[1], wpa.Config{DeviceName: "free wifi", Visible: true})
	target := find(t, eve, "bob [")
	api, err := dbusapi.Dial(t.Context(), nodes[1].Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	if _, err := api.Present(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner, err := api.GetInterface(t.Context(), nodes[1].Ifname)
	if err != nil {
		t.Fatal(err)
	}
	peer := dbusapi.PeerPath(owner, target)
	status := func() control.AgentInfo {
		s, err := bob.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Groups) != 0 {
			t.Errorf("bob has groups: %+v", s.Groups)
		}
		return s.Agent
	}
	theirs, err := dbusapi.Dial(t.Context(), nodes[0].Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if _, err := theirs.Present(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, had := status(), memory(t, bob)
	begin := time.Now()
	sent, refused, warm := 0, 0, 0
	for i := range requests {
		if i == requests/4 {
			warm = memory(t, bob) // all code that it takes has run by now
		}
		switch i % 4 {
		case 0:
			_, err = api.Connect(t.Context(), owner, dbusapi.ConnectArgs{Peer: peer, WPS: "pbc", Intent: 7})
		case 1:
			_, err = api.Connect(t.Context(), owner, dbusapi.ConnectArgs{Peer: peer, WPS: "keypad", PIN: "12345670", Intent: 7})
		case 2:
			err = api.ProvisionDiscovery(t.Context(), owner, peer, "pbc")
		case 3:
			err = api.ProvisionDiscovery(t.Context(), owner, peer, "display")
		}
		if err == nil {
			sent++
			arrives(theirs, 200*time.Millisecond) // one that bob's supplicant does not tell of is none to the agent
		} else if refused++; refused%20 == 0 { // eve's own supplicant forgot bob
			find(t, eve, "bob [")
		}
		_ = api.Cancel(t.Context(), owner)
		_ = api.StopFind(t.Context(), owner)
	}
	raw, err := os.ReadFile(bob.Log)
	if err != nil {
		t.Fatal(err)
	}
	log := string(raw)
	heard := strings.Count(log, "signal=dbusapi.GONegotiationRequest") + strings.Count(log, "signal=dbusapi.Provision")
	asked := strings.Count(log, "Device asks to form a group")
	after, has := status(), memory(t, bob)
	t.Logf("%d requests in %.0f s, %d that eve's supplicant did not take; bob's supplicant told of %d, bob's user was asked %d times; %d KiB resident before, %d after a quarter and %d after all, %d goroutines before and %d after",
		sent, time.Since(begin).Seconds(), refused, heard, asked, had, warm, has, before.Goroutines, after.Goroutines)
	if heard < requests/4 {
		t.Errorf("only %d requests arrived", heard)
	}
	if asked > 1 {
		t.Errorf("bob's user was asked %d times", asked)
	}
	if grown := has - warm; grown > maxGrowth*requests*3/4 {
		t.Errorf("the agent grew from %d to %d KiB", warm, has)
	}
	if after.Goroutines > before.Goroutines+12 {
		t.Errorf("%d goroutines before and %d after", before.Goroutines, after.Goroutines)
	}
}
