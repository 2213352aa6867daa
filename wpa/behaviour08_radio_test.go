//go:build radio

package wpa

import (
	"net/netip"
	"testing"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

func TestBehaviour08BothInsist(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	airs := []*device{watch(t, nodes[0]), watch(t, nodes[1])}
	one := func(ga, gb Group) {
		t.Helper()
		if ga.Role == Owner {
			checkGroup(a, b, ga, gb, netip.Prefix{})
		} else {
			checkGroup(b, a, gb, ga, netip.Prefix{})
		}
		if len(a.Status().Groups) != 1 || len(b.Status().Groups) != 1 || len(a.groupLinks()) != 1 || len(b.groupLinks()) != 1 {
			t.Errorf("groups are %v on %v and %v on %v", a.Status().Groups, a.groupLinks(), b.Status().Groups, b.groupLinks())
		}
		leaveBoth(a, b)
	}
	failures := func(status int) (n int) {
		for _, d := range airs {
			n += len(d.since(0, func(s dbusapi.Signal) bool {
				f, ok := s.(dbusapi.GONegotiationFailure)
				return ok && f.Status == status
			}))
		}
		return n
	}

	t.Run("both want to own", func(t *testing.T) {
		for range 3 {
			before := failures(9)
			ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 15})
			if failures(9) == before {
				t.Error("no failure with status 9")
			}
			one(ga, gb)
		}
	})
	t.Run("both connect at once", func(t *testing.T) {
		for _, intent := range []int{-1, 15, -1, -1} {
			toB, toA := meet(a, b), meet(b, a)
			o := ConnectOptions{Intent: intent}
			ca := later(func() (Group, error) { return a.Connect(t.Context(), toB, PBC(), o) })
			cb := later(func() (Group, error) { return b.Connect(t.Context(), toA, PBC(), o) })
			ra, rb := a.wait(ca), b.wait(cb)
			if ra.err != nil || rb.err != nil {
				t.Fatalf("intent %d: formation failed: %v, %v", intent, ra.err, rb.err)
			}
			t.Logf("intent %d: %s after %.2f s, %s after %.2f s", intent, ra.group.Role, ra.took.Seconds(), rb.group.Role, rb.took.Seconds())
			one(ra.group, rb.group)
		}
	})
}
