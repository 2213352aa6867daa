package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keep is the remedy for NetworkManager with its file in a folder of the test.
func keep(t *testing.T, reload func(context.Context) error) Remedy {
	t.Helper()
	for _, r := range Remedies("") {
		if r.Name == "networkmanager" {
			r.Path = filepath.Join(t.TempDir(), "system.d", filepath.Base(r.Path))
			r.reload = reload
			return r
		}
	}
	t.Fatal("no remedy for NetworkManager")
	panic("unreachable")
}

func TestRemedyIsWrittenAndTakenBack(t *testing.T) {
	reloads := 0
	r := keep(t, func(context.Context) error { reloads++; return nil })
	if there, err := r.InForce(); there || err != nil {
		t.Fatalf("in force before: %v, %v", there, err)
	}
	if err := r.Allowed(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(r.Path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("file: %v, %v", info, err)
	}
	if there, err := r.InForce(); !there || err != nil {
		t.Errorf("in force after: %v, %v", there, err)
	}
	for range 2 {
		if err := r.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := os.ReadDir(filepath.Dir(r.Path)); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if reloads != 2 {
		t.Errorf("the bus was told %d times", reloads)
	}
}

func TestRemedyLeavesForeignFilesAlone(t *testing.T) {
	r := keep(t, func(context.Context) error { t.Error("the bus was told"); return nil })
	if err := os.MkdirAll(filepath.Dir(r.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Path, []byte("<busconfig/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"apply": r.Apply(t.Context()), "undo": r.Undo(t.Context())} {
		if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, err := os.ReadFile(r.Path); string(text) != "<busconfig/>" || err != nil {
		t.Errorf("file is %q, %v", text, err)
	}
}

// A file that the bus was not told of would come into force at some later time, unnoticed.
func TestRemedyThatFailsLeavesNothing(t *testing.T) {
	deaf := errors.New("deaf")
	r := keep(t, func(context.Context) error { return deaf })
	if err := r.Apply(t.Context()); !errors.Is(err, deaf) {
		t.Errorf("apply: %v", err)
	}
	if list, err := os.ReadDir(filepath.Dir(r.Path)); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// TestReloadBus has a real bus read its policies again, and one that is not there.
func TestReloadBus(t *testing.T) {
	bus := privateBus(t)
	if err := reloadBus(t.Context(), bus); err != nil {
		t.Error(err)
	}
	if err := reloadBus(t.Context(), "unix:path="+filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "bus") {
		t.Errorf("no bus: %v", err)
	}
}
