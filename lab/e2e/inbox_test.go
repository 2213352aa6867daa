package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/control"
)

// A new inbox counts at once, also outside of what the agent's sandbox let it write before, and after a restart.
func TestInboxThatIsChosen(t *testing.T) {
	ada, bob := pair(t)
	dir := t.TempDir()
	// The agents of these tests have their inbox from a flag, which no choice is over.
	if said := run(t, bob, 2, "config", "set", "inbox", dir); !strings.Contains(said, "inbox is set elsewhere: flag") {
		t.Errorf("over a flag: %s", said)
	}
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	bob.Inbox = ""
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	inbox := filepath.Join(dir, "got", "here")
	run(t, bob, 0, "config", "set", "inbox", inbox)
	run(t, bob, 0, "trust", "set", "ada", "--auto-accept")
	for i, name := range []string{"one.txt", "two.txt"} {
		file := filepath.Join(t.TempDir(), name)
		random(t, file, 1000)
		run(t, ada, 0, "send", file, "--to", "bob", "--wait")
		if info, err := os.Stat(filepath.Join(inbox, name)); err != nil || info.Size() != 1000 {
			t.Errorf("%s in the chosen inbox: %v", name, err)
		}
		var checks []control.Check
		if err := bob.JSON(t.Context(), &checks, "doctor"); err != nil && len(checks) == 0 {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.State != "ok" && strings.Contains(c.Cause, inbox) {
				t.Errorf("a check is not content with it: %+v", c)
			}
		}
		if i == 0 {
			if err := bob.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := bob.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
