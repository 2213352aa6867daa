//go:build radio

package air_test

import (
	"path/filepath"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
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
