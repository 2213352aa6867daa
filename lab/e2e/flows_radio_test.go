//go:build radio

package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// airDeadline bounds each wait for what radios do: the guest is emulated, and a Wi-Fi Direct formation may fail and be repeated.
const airDeadline = 2 * time.Minute

// airborne starts agents that share nothing but the air.
func airborne(t *testing.T, names ...string) []*node.Agent {
	t.Helper()
	bin, err := filepath.Abs("../../bin/nigh") // the guest has no compiler: it was built before
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	agents := make([]*node.Agent, len(names))
	for i, n := range radio.Nodes(t, len(names)) {
		a, err := node.Start(t.Context(), node.Config{Binary: bin, Dir: t.TempDir(), Name: names[i], Command: n.Command})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s:\n%s", a.Name, a.Tail())
			}
			_ = a.Kill()
		})
		if err := a.Await(within(t, airDeadline), func(s control.State) bool { return s.Status.Radio.State == "ready" }); err != nil {
			t.Fatal(err)
		}
		agents[i] = a
	}
	return agents
}

// groups says that an agent is in so many groups, each with its address.
func groups(n int) func(control.State) bool {
	return func(s control.State) bool {
		return len(s.Status.Groups) == n && !slices.ContainsFunc(s.Status.Groups, func(g control.Group) bool { return g.LinkLocal == "" })
	}
}

// awaits waits for a state of an agent.
func awaits(t *testing.T, a *node.Agent, ok func(control.State) bool) {
	t.Helper()
	if err := a.Await(within(t, airDeadline), ok); err != nil {
		t.Fatal(err)
	}
}

// TestFlowPairOverWiFiDirect: two devices that share no network find each other over the air; p asks for a group by the button,
// which the other side allows, both compare the code and say yes.
func TestFlowPairOverWiFiDirect(t *testing.T) {
	agents := airborne(t, "ada", "bob")
	ada, bob := agents[0], agents[1]
	atAda, atBob := openPane(t, ada, "ada's window", 80, 24, ada.Dir), openPane(t, bob, "bob's window", 60, 16, bob.Dir)
	atAda.wait, atBob.wait = airDeadline, airDeadline
	atBob.shows(`\[1 Peers\]`)
	atAda.shows(`\[1 Peers\]`)
	atAda.until(`> bob +new +Direct`, "s")
	atAda.press("p")
	atAda.shows(`comparing a code on both`)
	atAda.press("Enter")
	atAda.shows(`Connecting to bob`)
	atBob.shows(`(?s)Connect over Wi-Fi Direct.*ada`)
	atBob.until(sixDigits, "y")
	code := atAda.shows(sixDigits)
	if got := atBob.shows(sixDigits); got != code {
		t.Errorf("bob's window shows %q, ada's %q", got, code)
	}
	trustsNobody(t, ada, bob)
	atBob.until(`You said yes`, "y")
	atAda.until(`Paired with bob`, "y")
	atBob.shows(`Let it send without asking`)
	bothTrust(t, ada, bob)
	for _, a := range agents {
		awaits(t, a, groups(1))
	}
	// Whoever was paired with may send without a question, or not: each side is asked.
	atBob.until(`enter send +m message`, "n")
	atAda.until(`(?s)> bob +trusted +Direct.*enter send +m message`, "n")
	atAda.press("q")
	atAda.ends()
}

// TestFlowGroup: one creates a group and watches its steps, the code for phones is there, a friend joins from its list, both see
// who is in, and the owner ends it for both.
func TestFlowGroup(t *testing.T) {
	agents := airborne(t, "ada", "bob")
	ada, bob := agents[0], agents[1]
	befriend(t, ada, bob)
	atAda, atBob := openPane(t, ada, "ada's window", 80, 24, ada.Dir), openPane(t, bob, "bob's window", 80, 24, bob.Dir)
	atAda.wait, atBob.wait = airDeadline, airDeadline
	atBob.shows(`\[1 Peers\]`)
	atAda.shows(`\[1 Peers\]`)
	atAda.until(`> bob +trusted +Direct`, "s") // an owner hears only who joins her group, and has to know his key by then
	atAda.press("5")
	atAda.shows(`no group: c creates one`)
	atAda.press("c")
	atAda.shows(`(?s)Create a Wi-Fi Direct group.*Band`)
	atAda.press("Enter")
	atAda.drew(`form the group`)
	atAda.shows(`DIRECT-\S+ +group owner +\d+ MHz +0\b`)
	awaits(t, ada, groups(1))
	atAda.press("Q")
	atAda.shows(`(?s)Let a phone join.*▄.*DIRECT-`)
	atAda.press("Escape")

	atBob.until(`> ada +trusted +Direct`, "s")
	atBob.press("c")
	atBob.shows(`Connect to ada`)
	atBob.press("Enter")
	atBob.drew(`get an address`)
	awaits(t, bob, groups(1))
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		awaits(t, w.on, hasPeer(w.who, "ready"))
	}
	atBob.shows(`> ada +trusted +Direct.*ready`)
	atBob.press("5")
	atBob.shows(`DIRECT-\S+ +client\b`)
	atAda.shows(`DIRECT-\S+ +group owner +\d+ MHz +1\b`)
	atAda.press("L")
	atAda.until(`no group: c creates one`, "y")
	atBob.shows(`no group: c creates one`)
	for _, a := range agents {
		awaits(t, a, groups(0))
	}
}

// drew waits until the pattern was drawn at any time, also where it was drawn over since.
func (p *pane) drew(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for ctx := within(p.t, p.wait); ; {
		p.mu.Lock()
		found := re.MatchString(p.drawn.String())
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-p.changed:
		case <-ctx.Done():
			p.t.Fatalf("%s never drew %q, and shows\n%s", p.name, pattern, p.text())
		}
	}
}
