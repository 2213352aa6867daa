package agent

import (
	"slices"
	"strings"
	"testing"

	"nigh/agent/control"
)

// A device with the name of a trusted one and another key is told from it loudly, in
// every place where something could be done with it, and is trusted in nothing.
func TestAnotherKeyUnderAKnownName(t *testing.T) {
	a := newBookAgent(t)
	a.table.warning = a.warning
	friend, evil := someID(1<<24), someID(2<<24)
	a.befriend(t, friend, "Ana's laptop")
	a.stranger(evil, "ana's  LAPTOP")
	a.lookAtName(evil, "ana's  LAPTOP")
	w := a.warning(evil)
	for _, part := range []string{"not the Ana's laptop", "trusted", friend.Short(), evil.Short(), "another key"} {
		if !strings.Contains(w, part) {
			t.Errorf("the warning %q does not say %q", w, part)
		}
	}
	views := a.table.views()
	i := slices.IndexFunc(views, func(p control.Peer) bool { return p.ID == evil.String() })
	if i < 0 || views[i].Warning != w || views[i].Trust != "new" {
		t.Errorf("listed as %+v", views)
	}
	if got := a.warnings(); !slices.Equal(got, []string{w}) {
		t.Errorf("warnings %q", got)
	}
	if a.warning(friend) != "" {
		t.Error("the device itself is warned of")
	}
	// What a device calls itself never changes what we call it.
	a.stranger(friend, "somebody else")
	a.keepName(friend)
	if r := a.record(friend); r.Name != "Ana's laptop" {
		t.Errorf("our label became %q", r.Name)
	}
	// The warning ends when a person has decided, and when the name is given up.
	if err := a.trust.Add(evil, "Ana 2"); err != nil {
		t.Fatal(err)
	}
	if a.warning(evil) != "" {
		t.Error("a device that the user trusted is warned of")
	}
	if err := a.trust.Remove(evil); err != nil {
		t.Fatal(err)
	}
	a.stranger(evil, "eve")
	a.lookAtName(evil, "eve")
	if a.warning(evil) != "" || len(a.warnings()) != 0 {
		t.Error("a device that gave the name up is warned of")
	}
}
