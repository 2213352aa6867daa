package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
)

// Files for a device that is away wait in the outbox, with --later and without, over a kill of the sender, and go when the device
// is there; then the history has them, and where they lie.
func TestOutboxOverKills(t *testing.T) {
	ada, bob := pair(t, "--accept", "trusted")
	if err := ada.Await(within(t, 20*time.Second), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	note, film, gone := filepath.Join(src, "note"), filepath.Join(src, "film"), filepath.Join(src, "gone")
	for _, path := range []string{note, film, gone} {
		random(t, path, 100<<10)
	}
	send := func(args ...string) string {
		t.Helper()
		out, errs, code := ada.Run(within(t, 40*time.Second), append([]string{"send", "--to", "bob"}, args...)...)
		if code != 0 {
			t.Fatalf("send %q: exit %d: %s\n%s", args, code, errs, ada.Tail())
		}
		return strings.TrimSpace(out)
	}
	send(note, "--later")
	taken := send(gone, "--later")
	if _, errs, code := ada.Run(t.Context(), "cancel", taken); code != 0 {
		t.Fatalf("cancel: exit %d: %s", code, errs)
	}
	if err := ada.Kill(); err != nil {
		t.Fatal(err)
	}
	random(t, note, 200<<10)
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	send(film)
	var outbox []control.Transfer
	if err := ada.JSON(t.Context(), &outbox, "outbox"); err != nil {
		t.Fatal(err)
	}
	if len(outbox) != 2 || outbox[0].Name != "film" || outbox[1].Name != "note" {
		t.Errorf("the outbox has %+v", outbox)
	}
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	both := func(s control.State) bool {
		done := 0
		for _, tr := range s.Transfers {
			if tr.State == "done" {
				done++
			}
		}
		return done == 2
	}
	if err := ada.Await(within(t, 60*time.Second), both); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{note, film} {
		if digest(t, path) != digest(t, filepath.Join(bob.Inbox, filepath.Base(path))) {
			t.Errorf("%s differs", path)
		}
	}
	var history []control.Transfer
	if err := bob.JSON(t.Context(), &history, "history", "NOTE"); err != nil {
		t.Fatal(err)
	}
	if len(history) != 1 || history[0].Path != filepath.Join(bob.Inbox, "note") || history[0].Ended == "" {
		t.Errorf("the history of bob has %+v", history)
	}
	if err := ada.JSON(t.Context(), &history, "history"); err != nil || len(history) != 3 {
		t.Errorf("the history of ada has %d transfers, %v", len(history), err)
	}
	if out, _, _ := ada.Run(t.Context(), "outbox"); out != "" {
		t.Errorf("the outbox still has %s", out)
	}
}
