package trust

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"nigh/agent/identity"
)

func TestRules(t *testing.T) {
	b, _ := open(t, t.TempDir())
	a, c, d, e := someID("a"), someID("c"), someID("d"), someID("e")
	for _, err := range []error{b.Add(a, "a"), b.Add(c, "c"), b.Block(d)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	b.Changes(func(x Change) {
		if b.Standing(x.New.ID) != x.New.Standing {
			t.Errorf("the book says %v during %+v", b.Standing(x.New.ID), x)
		}
		told = append(told, fmt.Sprint(x.New.Name, x.Old.Standing, x.New.Standing))
	})
	b.Rule(Rules{Devices: map[identity.DeviceID]bool{a: true, d: true}})
	if !slices.Equal(told, []string{"ctrusted blocked"}) {
		t.Errorf("told %q", told)
	}
	for id, want := range map[identity.DeviceID]Standing{a: Trusted, c: Blocked, d: Blocked, e: Blocked} {
		if got := b.Standing(id); got != want {
			t.Errorf("%s is %v, want %v", id.Short(), got, want)
		}
	}
	if r, ok := b.Record(c); !ok || !r.Barred || r.Name != "c" {
		t.Errorf("barred: %+v", r)
	}
	if r, ok := b.Record(d); !ok || r.Barred {
		t.Errorf("blocked by the user: %+v", r)
	}
	for _, r := range b.List() {
		if want := b.Standing(r.ID); r.Standing != want {
			t.Errorf("List has %s as %v, want %v", r.ID.Short(), r.Standing, want)
		}
	}
	// The user cannot loosen it, and may tighten it.
	key := identity.PublicKey{4, 5, 6}
	for _, err := range []error{b.Add(e, "e"), b.Add(c, ""), b.SetAutoAccept(c, true), b.Pair(key, "k")} {
		if !errors.Is(err, ErrRules) {
			t.Errorf("what the rules forbid: %v", err)
		}
	}
	if err := b.Block(e); err != nil || b.Standing(e) != Blocked {
		t.Errorf("blocking a device that is barred: %v", err)
	}
	if err := b.Remove(c); err != nil {
		t.Errorf("removing a device that is barred: %v", err)
	}
	// What was decided counts again without the rules.
	told = nil
	b.Rule(Rules{Closed: true})
	if b.Standing(c) != New || b.Standing(e) != Blocked || len(told) != 0 {
		t.Errorf("c is %v, e is %v, told %q", b.Standing(c), b.Standing(e), told)
	}
	for _, err := range []error{b.Add(c, "c"), b.Add(d, ""), b.Pair(key, "k")} {
		if !errors.Is(err, ErrRules) {
			t.Errorf("a device became trusted while the book is closed: %v", err)
		}
	}
	if err := b.Rename(a, "mine"); err != nil {
		t.Errorf("renaming a device that is trusted: %v", err)
	}
	b.Rule(Rules{})
	if err := b.Add(c, "c"); err != nil || b.Standing(c) != Trusted {
		t.Errorf("without rules: %v", err)
	}
}

// What the rules bar is not written down as what the user decided.
func TestRulesAreNotKept(t *testing.T) {
	dir := t.TempDir()
	b, s := open(t, dir)
	a := someID("a")
	if err := b.Add(a, "a"); err != nil {
		t.Fatal(err)
	}
	b.Rule(Rules{Devices: map[identity.DeviceID]bool{}})
	if b.Standing(a) != Blocked {
		t.Fatal("no rule")
	}
	if err := b.Rename(a, "b"); !errors.Is(err, ErrRules) {
		t.Errorf("Rename: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = open(t, dir)
	if b.Standing(a) != Trusted {
		t.Errorf("after opening again without rules: %v", b.Standing(a))
	}
}
