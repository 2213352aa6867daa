//go:build radio

package air_test

import (
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

// TestEndOfTrustOnTheRadio: two trusted devices are in a group, with a transfer on its way. When one of them trusts the other no
// more, transfer, session and group end, and its supplicant forgets the group. The other one still trusts, and wants the group
// again: neither the group that its supplicant knows nor the PIN of friends lets it in, and it becomes a question.
// (Blocked, not even that: TestBlockedDeviceIsNoQuestion.)
func TestEndOfTrustOnTheRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	ada, bob := agentOn(t, nodes[0], "ada", "--accept", "trusted"), agentOn(t, nodes[1], "bob", "--accept", "trusted", "--config", slowly(t))
	agents := []*node.Agent{ada, bob}
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	sendTo(t, bob, "film", 32<<20, "ada")
	await(t, ada, 3*time.Minute, func(s control.State) bool {
		return inGroup(s) && slices.ContainsFunc(s.Transfers, func(tr control.Transfer) bool { return tr.Name == "film" && tr.BytesDone > 0 })
	})
	for i, a := range agents {
		if now := state(t, nodes[i]); strings.Contains(now, "profiles = []") {
			t.Fatalf("%s has no persistent group: the test shows nothing:\n%s", a.Name, now)
		}
	}
	began := time.Now()
	nigh(t, ada, time.Minute, "trust", "remove", "bob")
	await(t, ada, time.Minute, func(s control.State) bool {
		return noGroup(s) && !slices.ContainsFunc(s.Transfers, goesOnStill) &&
			!slices.ContainsFunc(s.Peers, func(p control.Peer) bool { return p.Name == "bob" && p.State == "ready" })
	})
	// An owner keeps its group for a while, with nobody in it.
	await(t, bob, time.Minute, func(s control.State) bool { return noGroup(s) || s.Status.Groups[0].Clients == 0 })
	t.Logf("transfer, session and group are over %.1f s after the command", time.Since(began).Seconds())
	if _, err := os.Stat(filepath.Join(ada.Inbox, "film")); err == nil {
		t.Error("the film arrived: the test shows nothing")
	}
	forgotten(t, nodes[0], ada)
	cancelAll(t, bob)
	alone(t, bob)

	tried := make(chan error, 1)
	ctx := within(t, 2*time.Minute)
	go func() { tried <- join(ctx, bob, "ada") }()
	nigh(t, ada, time.Minute, "refuse", waiting(ctx, t, ada, "group").ID)
	if err := <-tried; err == nil {
		t.Error("bob got into a group with ada")
	}
	if n := asks(t, ada); n != 1 {
		t.Errorf("ada's person was asked %d times", n)
	}
	forgotten(t, nodes[1], bob)
	for _, a := range agents {
		await(t, a, time.Minute, noGroup)
	}
}

// cancelAll ends what an agent still wants to move.
func cancelAll(t *testing.T, a *node.Agent) {
	t.Helper()
	var list []control.Transfer
	if err := a.JSON(within(t, time.Minute), &list, "transfers"); err != nil {
		t.Fatal(err)
	}
	for _, tr := range list {
		if goesOnStill(tr) {
			nigh(t, a, time.Minute, "cancel", tr.ID)
		}
	}
}

// goesOnStill says whether a transfer has not ended.
func goesOnStill(tr control.Transfer) bool {
	return !slices.Contains([]string{"done", "failed", "refused"}, tr.State)
}

// forgotten waits until a node's supplicant has no persistent group.
func forgotten(t *testing.T, n *radio.Node, a *node.Agent) {
	t.Helper()
	eventually(t, 30*time.Second, func() string {
		if now := state(t, n); !strings.Contains(now, "profiles = []") {
			return a.Name + " still has profiles:\n" + now
		}
		return ""
	})
}
