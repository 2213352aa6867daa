//go:build radio

package wpa

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"nigh/lab/radio"
)

// The next line asks the lab for a guest with systemd, because the policy that counts is that of Debian's own system bus.
//lab:systemd

// TestBehaviour25Users has users who are not root on Debian's system bus, where wpa_supplicant's package lets the group netdev
// in and nothing of ours is installed (wpa-p2p.md 1.1 and 6.4, behaviour 25).
func TestBehaviour25Users(t *testing.T) {
	if config := os.Getenv(userEnv); config != "" {
		runAgent(t, config)
		return
	}
	system := radio.NodesOf(t, radio.Config{Nodes: 1, System: true})[0]
	// A test before it in the same guest may have made the user.
	if out, err := exec.Command("sh", "-c", "id -u "+userName+" || useradd --no-create-home --user-group "+userName).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	bus, err := dialRaw(system.Bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	bus.addInterface(t, system.Ifname)

	t.Run("in no group", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice", Group: userName, Engine: EngineSystem}, false)
		s := a.await(0, "refusal", func(s said) bool {
			return s.What == "done" && s.Command == "open" || s.What == "status" && s.Status.State != Starting
		})
		t.Logf("%+v", s)
		hint := s.Hint
		if s.What == "status" {
			mark := a.order("start")
			s = a.await(mark, "answer", func(s said) bool { return s.What == "done" && s.Command == "start" })
		}
		if !strings.Contains(s.Error, ErrDenied.Error()) || !strings.Contains(hint, "policy") || !strings.Contains(s.Hint, "policy") {
			t.Errorf("error is %q, hints are %q and %q", s.Error, hint, s.Hint)
		}
	})

	t.Run("in netdev", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice", Group: "netdev", Engine: EngineSystem}, false)
		if s := a.ready(); s.Ifname != system.Ifname {
			t.Errorf("status is %+v", s)
		}
		mark := a.order("start")
		a.await(mark, "group", func(s said) bool { return s.What == "up" })
		mark = a.order("leave")
		a.await(mark, "leaving", func(s said) bool { return s.What == "done" && s.Command == "leave" && s.Error == "" })
		noGroupLinks(t, system)
	})
}
