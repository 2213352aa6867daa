//go:build radio

package air_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// rounds of TestBehaviour25Rounds, with NIGH_LONG set, and with -short. A leak is one in each round: ten are three times the
// slack.
const (
	rounds      = 10
	longRounds  = 50
	shortRounds = 5
)

// TestBehaviour25Rounds: find, connect, transfer 1 MiB, leave, again and again. What the two agents hold after the last round
// is what they held after the first: no goroutine, descriptor, interface, address or match rule more.
func TestBehaviour25Rounds(t *testing.T) {
	n := rounds
	if os.Getenv("NIGH_LONG") != "" {
		n = longRounds
	}
	if testing.Short() {
		n = shortRounds
	}
	nodes, agents := trusting(t, 2)
	ada, bob := agents[0], agents[1]
	src := t.TempDir()
	round := func(i int) time.Duration {
		t.Helper()
		began := time.Now()
		file := filepath.Join(src, fmt.Sprintf("round-%d", i))
		random(t, file, 1<<20)
		if err := ada.Client().Find(within(t, time.Minute), control.FindRequest{Seconds: 20}); err != nil {
			t.Fatal(err)
		}
		await(t, ada, time.Minute, hasPeer("bob", "visible"))
		if _, err := ada.Client().Group(within(t, 2*time.Minute), control.GroupRequest{Action: "join", Device: "bob", Persistent: true}); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if _, err := ada.Client().Send(within(t, time.Minute), control.SendRequest{Paths: []string{file}, To: []string{"bob"}}); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		await(t, bob, 2*time.Minute, received(filepath.Base(file)))
		same(t, file, bob)
		alone(t, ada, bob)
		// What would grow with the number of files is not what is measured.
		for _, done := range []string{file, filepath.Join(bob.Inbox, filepath.Base(file))} {
			if err := os.Remove(done); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(began)
	}
	for i := range 2 { // warm-up: the persistent group is made, connections of the first time are closed
		round(i)
	}
	var before []holding
	for i, a := range agents {
		before = append(before, settled(t, nodes[i], a))
		t.Logf("%s before: %v", a.Name, before[i])
	}
	began := time.Now()
	var took []time.Duration
	for i := range n {
		took = append(took, round(2+i))
	}
	slices.Sort(took)
	t.Logf("%d rounds in %.0f s, median %.1f s, slowest %.1f s", n, time.Since(began).Seconds(), took[n/2].Seconds(), took[n-1].Seconds())
	for i, a := range agents {
		var last holding
		eventually(t, 3*time.Minute, func() string {
			last = holds(t, nodes[i], a)
			return last.more(before[i])
		})
		t.Logf("%s after: %v", a.Name, last)
	}
}

// holding is what an agent and its node hold, by kind; what has a name is named.
type holding map[string]int

// more says what h has that before has not, "" when there is nothing. One goroutine or descriptor more or less is what the
// runtime does; a leak is one for each round.
func (h holding) more(before holding) string {
	const slack = 3
	var found []string
	for _, kind := range slices.Sorted(maps.Keys(h)) {
		allowed := before[kind]
		if kind == "goroutines" || kind == "descriptors" {
			allowed += slack
		}
		if h[kind] > allowed {
			found = append(found, fmt.Sprintf("%s: %d, was %d", kind, h[kind], before[kind]))
		}
	}
	return strings.Join(found, "; ")
}

// settled waits until nothing that an agent holds becomes less any more: idle connections are closed after some time.
func settled(t *testing.T, n *radio.Node, a *node.Agent) holding {
	t.Helper()
	last := holds(t, n, a)
	calm := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Minute); time.Since(calm) < 10*time.Second && time.Now().Before(deadline); {
		<-tick.C
		if now := holds(t, n, a); last.more(now) != "" || now["goroutines"] != last["goroutines"] {
			last, calm = now, time.Now()
		}
	}
	return last
}

// holds counts.
func holds(t *testing.T, n *radio.Node, a *node.Agent) holding {
	t.Helper()
	h := holding{}
	status, err := a.Client().Status(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	h["goroutines"] = status.Agent.Goroutines
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.PID()))
	if err != nil {
		t.Fatal(err)
	}
	h["descriptors"] = len(fds)
	for line := range strings.Lines(output(t, n, "ip", "-o", "address")) {
		fields := strings.Fields(line)
		h["address "+fields[1]+" "+fields[3]]++
	}
	for line := range strings.Lines(output(t, n, "iw", "dev")) {
		if fields := strings.Fields(line); len(fields) > 1 && (fields[0] == "Interface" || strings.HasPrefix(line, "\tUnnamed")) {
			h["interface "+fields[1]]++
		}
	}
	h["match rules"] = matchRules(t, n, a.PID())
	return h
}

// matchRules asks the node's bus how many match rules the connections of a process have.
func matchRules(t *testing.T, n *radio.Node, pid int) int {
	t.Helper()
	conn, err := dbus.Connect(n.Bus, dbus.WithContext(within(t, time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var rules map[string][]string
	if err := conn.BusObject().Call("org.freedesktop.DBus.Debug.Stats.GetAllMatchRules", 0).Store(&rules); err != nil {
		t.Fatalf("the bus does not tell its match rules: %v", err)
	}
	count := 0
	for name, of := range rules {
		var owner uint32
		if err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, name).Store(&owner); err == nil && int(owner) == pid {
			count += len(of)
		}
	}
	if count == 0 {
		t.Errorf("process %d has no match rule at all on the bus", pid)
	}
	return count
}
