//go:build radio

package air_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// names are the agents of a test, in the order of its nodes.
var names = []string{"ada", "bob", "cleo", "dan"}

// binary is the program. The lab's guest has no compiler: it was built before.
func binary(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin/nigh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return bin
}

// agentOn starts an agent on a node, returns when its radio is ready, and ends it with the test.
func agentOn(t *testing.T, n *radio.Node, name string, args ...string) *node.Agent {
	t.Helper()
	a, err := node.Start(t.Context(), node.Config{Binary: binary(t), Dir: t.TempDir(), Name: name, Command: n.Command, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, a.Tail())
		}
		_ = a.Kill()
	})
	awaitRadio(t, a)
	return a
}

func awaitRadio(t *testing.T, a *node.Agent) {
	t.Helper()
	await(t, a, time.Minute, func(s control.State) bool { return s.Status.Radio.State == "ready" })
}

// trusting starts an agent on each of n nodes; each trusts every other and takes files from it.
func trusting(t *testing.T, n int) ([]*radio.Node, []*node.Agent) {
	t.Helper()
	nodes := radio.Nodes(t, n)
	agents := make([]*node.Agent, n)
	for i := range nodes {
		agents[i] = agentOn(t, nodes[i], names[i], "--accept", "trusted")
	}
	for i := range agents {
		for j := range i {
			if err := node.Befriend(t.Context(), agents[i], agents[j]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return nodes, agents
}

// await waits for a state of an agent.
func await(t *testing.T, a *node.Agent, d time.Duration, ok func(control.State) bool) {
	t.Helper()
	if err := a.Await(within(t, d), ok); err != nil {
		t.Fatal(err)
	}
}

// nigh runs the command line, which must succeed.
func nigh(t *testing.T, a *node.Agent, d time.Duration, args ...string) string {
	t.Helper()
	out, errs, code := a.Run(within(t, d), args...)
	if code != 0 {
		t.Fatalf("%s: nigh %q: exit %d\n%s%s", a.Name, args, code, out, errs)
	}
	return out
}

// look has an agent search for a while, and does not wait.
func look(t *testing.T, a *node.Agent) {
	t.Helper()
	if err := a.Client().Find(within(t, time.Minute), control.FindRequest{Seconds: 30}); err != nil {
		t.Fatal(err)
	}
}

// alone leaves the groups of all agents and returns when none is in any.
func alone(t *testing.T, agents ...*node.Agent) {
	t.Helper()
	for _, a := range agents {
		// It may be in none: the owner ended it for all.
		_ = a.Client().LeaveGroup(within(t, time.Minute), control.AnyGroup)
	}
	for _, a := range agents {
		await(t, a, time.Minute, noGroup)
	}
}

func noGroup(s control.State) bool { return len(s.Status.Groups) == 0 }

func inGroup(s control.State) bool {
	return len(s.Status.Groups) == 1 && s.Status.Groups[0].LinkLocal != ""
}

// received says that a transfer of that name has arrived whole.
func received(name string) func(control.State) bool {
	return func(s control.State) bool {
		return slices.ContainsFunc(s.Transfers, func(t control.Transfer) bool { return t.Name == name && t.Direction == "receive" && t.State == "done" })
	}
}

// same checks that what arrived is what was sent.
func same(t *testing.T, sent string, at *node.Agent) {
	t.Helper()
	if digest(t, sent) != digest(t, filepath.Join(at.Inbox, filepath.Base(sent))) {
		t.Errorf("%s arrived at %s with another content", filepath.Base(sent), at.Name)
	}
}

// output is what a program prints in a node.
func output(t *testing.T, n *radio.Node, name string, args ...string) string {
	t.Helper()
	out, err := n.Command(within(t, time.Minute), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s %q: %v\n%s", n.Name, name, args, err, out)
	}
	return string(out)
}

// eventually looks again and again until ok returns "", or fails with what it said last.
func eventually(t *testing.T, d time.Duration, ok func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		why := ok()
		if why == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("after %v: %s", d, why)
			return
		case <-tick.C:
		}
	}
}
