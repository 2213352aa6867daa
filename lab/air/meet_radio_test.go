//go:build radio

package air_test

import (
	"path/filepath"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// groupOf returns the SSID of the one group that an agent is in, "" without.
func groupOf(t *testing.T, a *node.Agent) string {
	t.Helper()
	status, err := a.Client().Status(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Groups) != 1 {
		return ""
	}
	return status.Groups[0].SSID
}

// sendTo sends a new file and returns its path; it may be on its way for long.
func sendTo(t *testing.T, from *node.Agent, name string, size int64, to ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	random(t, file, size)
	if _, err := from.Client().Send(within(t, 2*time.Minute), control.SendRequest{Paths: []string{file}, To: to}); err != nil {
		t.Fatalf("%s sends %s: %v", from.Name, name, err)
	}
	return file
}

// arrived waits for a file and compares it.
func arrived(t *testing.T, file string, at *node.Agent) {
	t.Helper()
	began := time.Now()
	await(t, at, 4*time.Minute, received(filepath.Base(file)))
	t.Logf("%s is whole at %s, %.1f s later", filepath.Base(file), at.Name, time.Since(began).Seconds())
	same(t, file, at)
}

// TestGroupThatBeganUnseen: a device that was listed without a group has one by the time that it is to be joined. The method for
// a new group would be answered with silence; it is joined all the same, and nobody is asked.
func TestGroupThatBeganUnseen(t *testing.T) {
	all := agents(t, radio.Nodes(t, 2), []string{"ada here", "bob there"})
	ada, bob := all[0], all[1]
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	const search = 8 // seconds
	for _, a := range all {
		if err := a.Client().Find(within(t, time.Minute), control.FindRequest{Seconds: search}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, bob, time.Minute, hasPeer(ada.Name, "visible")) // whose key an owner has to know
	await(t, ada, time.Minute, func(s control.State) bool { return hasPeer(bob.Name, "visible")(s) && !s.Status.Radio.Finding })
	nigh(t, bob, time.Minute, "group", "create")
	began := time.Now()
	if err := join(within(t, 3*time.Minute), ada, bob.Name); err != nil {
		t.Fatal(err)
	}
	together(t, ada, bob)
	t.Logf("in the group %.1f s after the command", time.Since(began).Seconds())
	silent(t, ada, bob)
}

// TestThirdDeviceJoins: two devices are in a group; a third one that the owner sends to joins it, and so does one that sends to
// the owner, and one that only a client wants.
func TestThirdDeviceJoins(t *testing.T) {
	_, agents := trusting(t, 3)
	ada, bob, cleo := agents[0], agents[1], agents[2]
	arrived(t, sendTo(t, ada, "one", 1000, "bob"), bob)
	first := groupOf(t, ada)
	owner, client := ada, bob
	status, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Groups[0].Role != "GO" {
		owner, client = bob, ada
	}
	oneGroup := func() {
		t.Helper()
		for _, a := range agents {
			if ssid := groupOf(t, a); ssid != first {
				t.Errorf("%s is in group %q, not in %q", a.Name, ssid, first)
			}
		}
	}

	t.Logf("%s owns the group and sends to cleo", owner.Name)
	arrived(t, sendTo(t, owner, "two", 1000, "cleo"), cleo)
	oneGroup()
	t.Log("cleo sends to the client")
	arrived(t, sendTo(t, cleo, "three", 1000, client.Name), client)
	oneGroup()

	t.Log("cleo leaves and sends to the owner")
	nigh(t, cleo, time.Minute, "group", "leave")
	await(t, cleo, time.Minute, noGroup)
	arrived(t, sendTo(t, cleo, "four", 1000, owner.Name), owner)
	oneGroup()

	t.Logf("cleo leaves and %s, a client, sends to it", client.Name)
	nigh(t, cleo, time.Minute, "group", "leave")
	await(t, cleo, time.Minute, noGroup)
	arrived(t, sendTo(t, client, "five", 1000, "cleo"), cleo)
	oneGroup()
}
