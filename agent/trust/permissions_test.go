package trust

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestPermissionsAreKept(t *testing.T) {
	dir := t.TempDir()
	b, s := open(t, dir)
	a := someID("a")
	want := Permissions{AutoAccept: true, Folder: "/srv/a", MaxSize: 5, Quota: 100, RateUp: 7, RateDown: 8, Shares: []string{}}
	changes := 0
	b.Changes(func(Change) { changes++ })
	for _, err := range []error{
		b.Add(a, "a"), b.SetPermissions(a, func(p *Permissions) { *p = want }), b.SetPermissions(a, func(*Permissions) {}),
		b.Use(a, 30), b.Use(a, -10), s.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if changes != 4 {
		t.Errorf("%d changes were told, want 4: what changes nothing is none", changes)
	}
	b, _ = open(t, dir)
	r, _ := b.Record(a)
	if !reflect.DeepEqual(r.Permissions, want) || r.Used != 20 {
		t.Errorf("after opening again: %+v", r)
	}
	// None and all are not the same, and what is nobody's name fits none.
	if r.MaySee("Photos", strings.ToLower) || !(Permissions{}).MaySee("Photos", strings.ToLower) || !(Permissions{Shares: []string{"photos"}}).MaySee("Photos", strings.ToLower) {
		t.Error("who may see which share is mixed up")
	}
	// What it was allowed goes with the trust.
	if err := b.Block(a); err != nil {
		t.Fatal(err)
	}
	if r, _ := b.Record(a); !reflect.DeepEqual(r.Permissions, Permissions{}) || r.Used != 0 {
		t.Errorf("blocked: %+v", r)
	}
	for _, err := range []error{b.SetPermissions(a, func(p *Permissions) { p.AutoAccept = true }), b.Use(a, 1), b.Use(someID("b"), 1)} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("a device that is not trusted: %v", err)
		}
	}
}

func TestPermissionsThatMakeNoSense(t *testing.T) {
	b, s := open(t, t.TempDir())
	a := someID("a")
	if err := b.Add(a, "a"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Permissions{
		{MaxSize: -1}, {Quota: -1}, {RateUp: -1}, {RateDown: -1}, {Folder: "relative"}, {Folder: "/" + strings.Repeat("x", maxFolder)},
		{Shares: make([]string, MaxShares+1)}, {Shares: []string{""}}, {Shares: []string{"\xff"}}, {Shares: []string{strings.Repeat("x", 256)}},
	} {
		if err := b.SetPermissions(a, func(q *Permissions) { *q = p }); !errors.Is(err, ErrPermission) {
			t.Errorf("%+v was taken: %v", p, err)
		}
	}
	if r, _ := b.Record(a); !reflect.DeepEqual(r.Permissions, Permissions{}) {
		t.Errorf("a refused change stayed: %+v", r)
	}
	// What was used never turns over, and never goes below nothing.
	for _, err := range []error{b.Use(a, math.MaxInt64), b.Use(a, math.MaxInt64)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := b.Record(a); r.Used != math.MaxInt64 {
		t.Errorf("used %d", r.Used)
	}
	if err := b.Use(a, math.MinInt64); err != nil {
		t.Fatal(err)
	}
	if r, _ := b.Record(a); r.Used != 0 {
		t.Errorf("used %d", r.Used)
	}
	// A record that was tampered with grants nothing.
	if err := s.Bucket(bucketName).Put(a[:], map[string]any{"id": a, "standing": "trusted", "quota": -5, "auto_accept": true}); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if again.Standing(a) != Blocked {
		t.Errorf("a record with a quota below zero is %v", again.Standing(a))
	}
}
