package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/agent/store"
	"nigh/agent/trust"
)

// A damaged database costs neither the key nor whom the user trusts and blocks, and is
// said.
func TestTrustOutlivesTheDatabase(t *testing.T) {
	cfg := localConfig(t)
	friend, foe := newIdentity(t).ID, newIdentity(t).ID
	first, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	own := first.ID()
	b := backend{first}
	yes := true
	for _, r := range []control.TrustRequest{
		{Action: "add", Device: friend.String(), Name: "ada", AutoAccept: &yes}, {Action: "add", Device: foe.String()}, {Action: "block", Device: foe.String()},
	} {
		if _, err := b.ChangeTrust(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	first.close()
	path := filepath.Join(cfg.State, store.DatabaseFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := func(raw []byte) *Agent {
		t.Helper()
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name, raw := range map[string][]byte{"cut short": whole[:len(whole)/2], "garbage": []byte(strings.Repeat("garbage ", 4096)), "empty": nil} {
		a := damage(raw)
		if r, ok := a.trust.Record(friend); !ok || r.Standing != trust.Trusted || !r.AutoAccept || r.Name != "ada" || a.trust.Standing(foe) != trust.Blocked {
			t.Errorf("%s: the book has %+v", name, a.trust.List())
		}
		if n := strings.Join(a.status().Notices, "\n"); a.ID() != own || !strings.Contains(n, ".damaged-") || !strings.Contains(n, "taken from its copy") {
			t.Errorf("%s: key %s, notices %q", name, a.ID().Short(), n)
		}
		a.close()
	}
	// Without a copy that can be read it says so.
	if err := os.WriteFile(filepath.Join(cfg.State, trustCopy), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := damage([]byte("garbage"))
	if n := strings.Join(a.status().Notices, "\n"); len(a.trust.List()) != 0 || !strings.Contains(n, "trust starts anew") {
		t.Errorf("without a copy: %+v, notices %q", a.trust.List(), n)
	}
	a.close()
}
