package e2e_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// texts returns what an agent has of one direction, in order.
func texts(t *testing.T, a *node.Agent, direction string) []string {
	t.Helper()
	var list []control.Message
	if err := a.JSON(t.Context(), &list, "messages", "--last", "10000"); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range list {
		if m.Direction == direction {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// msg runs nigh msg, which has to end with a certain exit code, and returns what it said.
func msg(t *testing.T, a *node.Agent, code int, args ...string) string {
	t.Helper()
	_, errs, got := a.Run(within(t, 30*time.Second), append([]string{"msg"}, args...)...)
	if got != code {
		t.Fatalf("nigh msg %q on %s: exit %d, want %d: %s\n%s", args, a.Name, got, code, errs, a.Tail())
	}
	return errs
}

// messageIs waits until the message with a text that an agent sent is in a state.
func messageIs(text, state string) func(control.State) bool {
	return func(s control.State) bool {
		return slices.ContainsFunc(s.Messages, func(m control.Message) bool { return m.Text == text && m.State == state })
	}
}

func TestMessageBothWays(t *testing.T) {
	ada, bob := pair(t)
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, 20*time.Second), hasPeer(w.who, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if said := msg(t, ada, 0, "größe\n\tand \x1b[31mmore", "--to", "bob"); said != "delivered to bob\n" {
		t.Errorf("said %q", said)
	}
	t.Logf("nigh msg took %v", time.Since(began))
	msg(t, bob, 0, "yes", "--to", "ada", "--json")
	if got := texts(t, bob, "receive"); !slices.Equal(got, []string{"größe\n\tand \\x1b[31mmore"}) {
		t.Errorf("bob has %q", got)
	}
	if got := texts(t, ada, "receive"); !slices.Equal(got, []string{"yes"}) {
		t.Errorf("ada has %q", got)
	}
	out, _, code := bob.Run(t.Context(), "messages")
	if code != 0 || !strings.Contains(out, "  from ada (unread)\n    größe\n    \tand \\x1b[31mmore\n") || !strings.Contains(out, "  to ada: delivered\n    yes\n") {
		t.Errorf("exit %d: %q", code, out)
	}
	// Shown once is read.
	if out, _, _ = bob.Run(t.Context(), "messages"); strings.Contains(out, "(unread)") {
		t.Errorf("it is new again: %q", out)
	}
	if out, _, code = bob.Run(t.Context(), "messages", "--search", "GRÖSSE", "--from", "ada"); code != 0 || out != "" {
		t.Errorf("ß is not SS for a plain search: exit %d, %q", code, out)
	}
	if out, _, code = bob.Run(t.Context(), "messages", "--search", "GRÖ", "--from", "ada"); code != 0 || strings.Count(out, "größe") != 1 {
		t.Errorf("search: exit %d, %q", code, out)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"x", "--to", "nobody"}, 4, "no device called nobody"},
		{[]string{"x", "--to", "10.0.0.1"}, 2, "this device itself"},
		{[]string{"x", "--to", "10.0.0.99"}, 4, "nobody answers"},
		{[]string{"a\xffb", "--to", "bob"}, 2, "not UTF-8"},
	} {
		if said := msg(t, ada, c.code, c.args...); !strings.Contains(said, c.says) {
			t.Errorf("nigh msg %q said %q", c.args, said)
		}
	}
}

// Messages to a device that is away: both agents are killed, and it gets each of them once, in order.
func TestMessagesWaitOverKills(t *testing.T) {
	ada, bob := pair(t)
	if err := ada.Await(within(t, 20*time.Second), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("message %d", i))
		msg(t, ada, 0, want[i], "--to", "bob", "--no-wait")
	}
	if said := msg(t, ada, 5, "taken back", "--to", "bob", "--timeout", "1s"); !strings.Contains(said, "nigh cancel m") {
		t.Errorf("said %q", said)
	}
	var waiting []control.Message
	if err := ada.JSON(t.Context(), &waiting, "messages", "--waiting"); err != nil || len(waiting) != 6 {
		t.Fatalf("%d messages wait, %v", len(waiting), err)
	}
	if _, errs, code := ada.Run(t.Context(), "cancel", waiting[5].ID[:6]); code != 0 {
		t.Fatalf("cancel: exit %d: %s", code, errs)
	}
	if err := ada.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := ada.Await(within(t, 60*time.Second), messageIs(want[4], "delivered")); err != nil {
		t.Fatal(err)
	}
	t.Logf("delivered %v after the other side was back", time.Since(began))
	if got := texts(t, bob, "receive"); !slices.Equal(got, want) {
		t.Errorf("bob has %q", got)
	}
	// And after one more kill of both everything is as it was.
	for _, a := range []*node.Agent{ada, bob} {
		if err := a.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	last := "after the kill"
	msg(t, ada, 0, last, "--to", "bob", "--wait", "--timeout", "25s")
	if got := texts(t, bob, "receive"); !slices.Equal(got, append(want, last)) {
		t.Errorf("bob has %q", got)
	}
	if got := texts(t, ada, "send"); len(got) != 7 {
		t.Errorf("ada's history has %q", got)
	}
}

// One message to all trusted devices near; a stranger gets none, and can send none.
func TestMessageToAll(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	var agents []*node.Agent
	for i, name := range []string{"ada", "bob", "cyd", "dan", "eve"} {
		h := n.Host(name)
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		agents = append(agents, start(t, h, name))
	}
	ada, eve := agents[0], agents[4]
	for _, a := range agents[1:4] {
		befriend(t, ada, a)
	}
	for _, a := range agents[1:4] {
		if err := ada.Await(within(t, 30*time.Second), hasPeer(a.Name, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	if err := ada.Await(within(t, 30*time.Second), hasPeer("eve", "visible")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	said := msg(t, ada, 0, "to all", "--all")
	t.Logf("three devices have it after %v", time.Since(began))
	for _, a := range agents[1:4] {
		if !strings.Contains(said, "delivered to "+a.Name+"\n") {
			t.Errorf("said %q", said)
		}
		if got := texts(t, a, "receive"); !slices.Equal(got, []string{"to all"}) {
			t.Errorf("%s has %q", a.Name, got)
		}
	}
	// eve trusts ada, ada does not trust eve.
	msg(t, eve, 7, "let me in", "--to", "ada")
	msg(t, eve, 4, "anybody?", "--all")
	if _, err := eve.Client().ChangeTrust(t.Context(), control.TrustRequest{Action: "add", Device: peerID(t, eve, "ada")}); err != nil {
		t.Fatal(err)
	}
	if said := msg(t, eve, 3, "let me in", "--to", "ada", "--wait"); !strings.Contains(said, "ada does not trust this device") {
		t.Errorf("said %q", said)
	}
	if got := append(texts(t, ada, "receive"), texts(t, eve, "receive")...); len(got) != 0 {
		t.Errorf("a stranger's message arrived: %q", got)
	}
	// Trust that ends takes with it what waits.
	if err := agents[1].Kill(); err != nil {
		t.Fatal(err)
	}
	msg(t, ada, 0, "for bob", "--to", "bob", "--no-wait")
	if _, err := ada.Client().ChangeTrust(t.Context(), control.TrustRequest{Action: "remove", Device: peerID(t, ada, "bob")}); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, 20*time.Second), messageIs("for bob", "failed")); err != nil {
		t.Fatal(err)
	}
}

// peerID returns the ID of a device that an agent knows by its name.
func peerID(t *testing.T, a *node.Agent, name string) string {
	t.Helper()
	peers, err := a.Client().Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if p.Name == name {
			return p.ID
		}
	}
	t.Fatalf("%s does not know %s", a.Name, name)
	return ""
}

// One side takes no connection from outside: messages go both ways all the same, also those that waited.
func TestMessageThroughOneFirewall(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the program nft: apt-get install nftables")
	}
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	rules := `table inet wall { chain input { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; meta l4proto icmpv6 accept; udp dport 5353 accept; }; }`
	if out, err := hb.Command(t.Context(), "nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	befriend(t, ada, bob)
	started := time.Now()
	for _, w := range []struct {
		from, to *node.Agent
	}{{ada, bob}, {bob, ada}} {
		if err := w.from.Await(within(t, 60*time.Second), hasPeer(w.to.Name, "ready")); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s has a session after %v", w.from.Name, time.Since(started))
		began := time.Now()
		msg(t, w.from, 0, "from "+w.from.Name, "--to", w.to.Name, "--wait", "--timeout", "25s")
		t.Logf("%s to %s took %v", w.from.Name, w.to.Name, time.Since(began))
		if got := texts(t, w.to, "receive"); !slices.Equal(got, []string{"from " + w.from.Name}) {
			t.Errorf("%s has %q", w.to.Name, got)
		}
	}
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	msg(t, ada, 0, "waits", "--to", "bob", "--no-wait")
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	started = time.Now()
	if err := ada.Await(within(t, 60*time.Second), messageIs("waits", "delivered")); err != nil {
		t.Fatal(err)
	}
	t.Logf("what waited was delivered %v after it was back", time.Since(started))
}
