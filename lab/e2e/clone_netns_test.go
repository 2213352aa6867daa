//go:build netns

package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
)

// TestClonedCardIsNoticed gives a device another's key, as a copied card has it: both say so in their status, and neither
// lists itself.
func TestClonedCardIsNoticed(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(ada.State, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bob.State, "key.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	events, state := watch(t, ada), control.State{}
	began := time.Now()
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	there, other := watch(t, bob), control.State{}
	said := func(s control.State) bool {
		return slices.ContainsFunc(s.Status.Notices, func(n string) bool { return strings.Contains(n, "was the card copied?") })
	}
	for who, at := range map[string]time.Time{
		"ada": when(t, events, &state, "ada says that it is cloned", 30*time.Second, said),
		"bob": when(t, there, &other, "bob says that it is cloned", 30*time.Second, said),
	} {
		t.Logf("%s says so after %.2f s", who, at.Sub(began).Seconds())
		if at.Sub(began) > lab.Bound(t, 5*time.Second) {
			t.Errorf("%s says so after %v, want 5 s", who, at.Sub(began))
		}
	}
	for _, s := range []control.State{state, other} {
		if slices.ContainsFunc(s.Peers, func(p control.Peer) bool { return p.ID == s.Status.ID }) {
			t.Errorf("lists itself: %+v", s.Peers)
		}
	}
}
