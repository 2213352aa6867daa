package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// strangers starts two agents on one segment that have never met.
func strangers(t *testing.T, args ...string) (ada, bob *node.Agent) {
	t.Helper()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	ada, bob = start(t, ha, "ada", args...), start(t, hb, "bob", args...)
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, 30*time.Second), hasPeer(w.who, "visible")); err != nil {
			t.Fatal(err)
		}
	}
	return ada, bob
}

// done is what a command said and its exit code.
type done struct {
	out, errs string
	code      int
}

// began runs a command in the background, with text on its standard input.
func began(t *testing.T, a *node.Agent, stdin string, args ...string) <-chan done {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	result := make(chan done, 1)
	cmd := a.Command(ctx, a.Binary, args...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "NIGH_SOCKET="+a.Socket, "HOME="+a.Dir)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		result <- done{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return result
}

// ask runs a command to its end.
func ask(t *testing.T, a *node.Agent, stdin string, args ...string) done {
	t.Helper()
	return <-began(t, a, stdin, args...)
}

// pairQuestion waits for a code to compare.
func pairQuestion(t *testing.T, a *node.Agent) control.InboxItem {
	t.Helper()
	var found control.InboxItem
	if err := a.Await(within(t, 30*time.Second), func(s control.State) bool {
		for _, i := range s.Inbox {
			if i.Kind == "pair" {
				found = i
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// trusts reports whether a has the other in its book as trusted.
func trusts(t *testing.T, a *node.Agent, name string) bool {
	t.Helper()
	var book []control.Trusted
	if err := a.JSON(t.Context(), &book, "trust", "list"); err != nil {
		t.Fatal(err)
	}
	for _, d := range book {
		if d.Name == name && d.Trust == "trusted" {
			return true
		}
	}
	return false
}

// bothTrust waits until two agents have a session as trusted devices.
func bothTrust(t *testing.T, ada, bob *node.Agent) {
	t.Helper()
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, 30*time.Second), hasPeer(w.who, "ready")); err != nil {
			t.Fatal(err)
		}
		if !trusts(t, w.on, w.who) {
			t.Errorf("%s does not trust %s", w.on.Name, w.who)
		}
	}
}

// TestPairByComparedCode pairs two strangers by the command line on both sides, after
// a no, and sends a file that needs no question any more.
func TestPairByComparedCode(t *testing.T) {
	ada, bob := strangers(t, "--accept", "trusted")
	for _, answers := range []struct {
		ada, bob string
		exit     [2]int
	}{{"refuse", "accept", [2]int{1, 3}}, {"", "refuse", [2]int{3, 0}}} {
		first := began(t, ada, "", "pair", "bob")
		atA, atB := pairQuestion(t, ada), pairQuestion(t, bob)
		if atA.Code != atB.Code || len(atA.Code) != 6 || !atA.Own || atB.Own || atB.Trust != "new" || atB.PeerName != "ada" {
			t.Fatalf("ada shows %+v, bob %+v", atA, atB)
		}
		second := began(t, bob, "", answers.bob, atB.ID)
		if answers.ada != "" {
			if d := ask(t, ada, "", answers.ada, atA.ID); d.code != 0 {
				t.Fatalf("%s: %+v", answers.ada, d)
			}
		}
		if a, b := <-first, <-second; a.code != answers.exit[0] || b.code != answers.exit[1] {
			t.Errorf("answers %q and %q end with %+v and %+v, want %v", answers.ada, answers.bob, a, b, answers.exit)
		}
		if trusts(t, ada, "bob") || trusts(t, bob, "ada") {
			t.Fatal("somebody is trusted after a no")
		}
	}
	// For a while bob asks nothing more of ada's, which was refused; its user may begin
	// himself. Ada's user does too, and gets the same pairing.
	if d := ask(t, ada, "", "pair", "bob"); d.code != 1 || !strings.Contains(d.errs, "takes no more from strangers") {
		t.Errorf("asking again at once: %+v", d)
	}
	second := began(t, bob, "", "pair", "ada")
	atA := pairQuestion(t, ada)
	first := began(t, ada, "", "pair", "bob", "--json")
	atB := pairQuestion(t, bob)
	if atA.Code != atB.Code {
		t.Fatalf("ada shows %+v, bob %+v", atA, atB)
	}
	yes := []<-chan done{began(t, bob, "", "accept", atB.ID), began(t, ada, "", "accept", atA.ID)}
	for _, c := range append(yes, first, second) {
		if d := <-c; d.code != 0 {
			t.Errorf("exit %d: %s%s", d.code, d.out, d.errs)
		}
	}
	bothTrust(t, ada, bob)
	file := filepath.Join(t.TempDir(), "paired.bin")
	random(t, file, 1<<20)
	if d := ask(t, ada, "", "send", file, "--to", "bob", "--wait"); d.code != 0 {
		t.Errorf("send: %+v", d)
	}
}

// TestPairBySetupCode pairs with a device that nobody sits at. Wrong codes lock it, over
// a restart too, and its own user is not kept from pairing.
func TestPairBySetupCode(t *testing.T) {
	ada, bob := strangers(t)
	show := ask(t, bob, "", "setup-code")
	code := strings.TrimSpace(show.out)
	if show.code != 0 || len(code) != 21 {
		t.Fatalf("setup-code: %+v", show)
	}
	// Another device's code, which is well formed.
	wrong := strings.TrimSpace(ask(t, ada, "", "setup-code").out)
	for range 3 {
		if d := ask(t, ada, wrong+"\n", "pair", "bob", "--code", "-"); d.code != 3 || !strings.Contains(d.errs, "not the setup code") {
			t.Fatalf("a wrong code: %+v", d)
		}
	}
	if d := ask(t, ada, code, "pair", "bob", "--code", "-"); d.code != 3 || !strings.Contains(d.errs, "takes no setup code for now") {
		t.Fatalf("the right code, locked: %+v", d)
	}
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob", "visible")); err != nil {
		t.Fatal(err)
	}
	if d := ask(t, ada, code, "pair", "bob", "--code", "-"); d.code != 3 || !strings.Contains(d.errs, "takes no setup code for now") {
		t.Fatalf("the right code after a restart: %+v", d)
	}
	if d := ask(t, bob, "", "setup-code"); !strings.Contains(d.errs, "after 3 wrong ones") || strings.TrimSpace(d.out) != code {
		t.Errorf("setup-code: %+v", d)
	}
	fresh := strings.TrimSpace(ask(t, bob, "", "setup-code", "--new").out)
	if d := ask(t, ada, fresh+"\n", "pair", "bob", "--code", "-"); d.code != 0 || !strings.Contains(d.errs, "paired with bob") {
		t.Fatalf("a new code: %+v", d)
	}
	bothTrust(t, ada, bob)
	for _, a := range []*node.Agent{ada, bob} {
		log, err := os.ReadFile(a.Log)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{code, fresh, wrong, strings.ReplaceAll(code, "-", "")} {
			if bytes.Contains(log, []byte(secret)) {
				t.Errorf("the log of %s has a setup code", a.Name)
			}
		}
		if info, err := os.Stat(filepath.Join(a.State, "nigh.db")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the database of %s: %v, %v", a.Name, info, err)
		}
	}
}

// TestTrustByIDOnBothSides is provisioning: no question, whoever adds first.
func TestTrustByIDOnBothSides(t *testing.T) {
	ada, bob := strangers(t)
	befriend(t, ada, bob)
	bothTrust(t, ada, bob)
}

// TestPairDevicesThatTellNoName pairs two devices that tell strangers no name. From the
// pairing on they know each other's, without a restart.
func TestPairDevicesThatTellNoName(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	ada, bob := start(t, ha, "ada", "--visibility", "trusted"), start(t, hb, "bob", "--visibility", "trusted")
	var short string
	if err := ada.Await(within(t, 30*time.Second), func(s control.State) bool {
		for _, p := range s.Peers {
			short = p.Short
			if p.Name == "bob" {
				t.Error("a stranger learns the name")
			}
		}
		return short != ""
	}); err != nil {
		t.Fatal(err)
	}
	first := began(t, ada, "", "pair", short)
	atA, atB := pairQuestion(t, ada), pairQuestion(t, bob)
	if atA.Code != atB.Code || atB.PeerName != "ada" {
		t.Errorf("ada shows %+v, bob %+v", atA, atB)
	}
	for _, c := range []<-chan done{began(t, bob, "", "accept", atB.ID), began(t, ada, "", "accept", atA.ID), first} {
		if d := <-c; d.code != 0 {
			t.Errorf("exit %d: %s%s", d.code, d.out, d.errs)
		}
	}
	bothTrust(t, ada, bob)
}
