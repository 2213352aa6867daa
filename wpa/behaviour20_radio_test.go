//go:build radio

package wpa

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/lab/radio"
)

// The next line asks the lab for a guest with systemd, because NetworkManager and the policies of the system bus need it.
//lab:systemd

const (
	allowPolicy = "/etc/dbus-1/system.d/nigh.conf"
	keepPolicy  = "/etc/dbus-1/system.d/zz-nigh.conf"
)

// TestBehaviour20NetworkManager has a real NetworkManager manage the radio (wpa-p2p.md 4.1 and 6.4, behaviour 20): it removes
// groups, and our policy file, an unmanaged radio or a second adapter with a wpa_supplicant of our own keep it from that.
func TestBehaviour20NetworkManager(t *testing.T) {
	if config := os.Getenv(userEnv); config != "" {
		runAgent(t, config)
		return
	}
	nodes := radio.NodesOf(t, radio.Config{Nodes: 2, System: true})
	system, peer := nodes[0], nodes[1]
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if out, err := exec.Command("sh", "-c", "groupadd --force --system nigh && useradd --no-create-home --user-group "+userName).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	install(t, system, "../systemd/nigh.dbus.conf", allowPolicy)
	if err := system.StartNetworkManager(ctx); err != nil {
		t.Fatal(err)
	}
	version, err := system.NMCLI(ctx, "--version")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", strings.TrimSpace(version))
	other := newStation(t, peer, Config{})
	_ = other

	t.Run("no policy", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		s := a.ready()
		if s.Engine != EngineSystem || s.Hint == "" {
			t.Errorf("status is %+v", s)
		}
		killed(t, system, a)
	})

	t.Run("policy", func(t *testing.T) {
		install(t, system, "../systemd/zz-nigh.dbus.conf", keepPolicy)
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		s := a.ready()
		if s.Engine != EngineSystem || s.Hint != "" || !strings.Contains(s.Why, keepPolicy) {
			t.Errorf("status is %+v", s)
		}
		lives(t, system, a, 10*time.Second)
	})

	t.Run("policy removed", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		a.ready()
		if err := os.Remove(keepPolicy); err != nil {
			t.Fatal(err)
		}
		reloadBus(t, system)
		killed(t, system, a)
	})
}

// install puts a file in force as a policy of the system bus until the end of the test.
func install(t *testing.T, node *radio.Node, source, target string) {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, text, 0o644); err != nil {
		t.Fatal(err)
	}
	reloadBus(t, node)
}

func reloadBus(t *testing.T, node *radio.Node) {
	t.Helper()
	c, err := dbus.Connect(node.Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.BusObject().Call("org.freedesktop.DBus.ReloadConfig", 0).Err; err != nil {
		t.Fatal(err)
	}
}

// killed starts a group and sees NetworkManager remove it: it is told within a second of that what happened and what to do,
// and nothing is left of the group.
func killed(t *testing.T, node *radio.Node, a *agent) {
	t.Helper()
	mark := a.order("start")
	gone := a.await(mark, "end of the group", func(s said) bool {
		return s.What == "gone" || s.What == "done" && s.Command == "start" && s.Error != ""
	})
	removed := a.await(mark, "removal", func(s said) bool { return s.What == "removed" })
	t.Logf("group removed %v after the command, told %v later: %+v", removed.At, gone.At-removed.At, gone)
	if gone.What == "gone" && gone.Reason != ReasonKilledByNetworkManager {
		t.Errorf("the group is gone for %q", gone.Reason)
	}
	if gone.What == "done" && !strings.Contains(gone.Error, ErrKilledByNetworkManager.Error()) {
		t.Errorf("error is %q", gone.Error)
	}
	if late := gone.At - removed.At; late > time.Second {
		t.Errorf("told %v after the removal", late)
	}
	if gone.What == "gone" && linkExists(node, gone.Group.Ifname) {
		t.Errorf("the network device %s is left", gone.Group.Ifname)
	}
	noGroupLinks(t, node)
}

// lives starts a group and sees it live.
func lives(t *testing.T, node *radio.Node, a *agent, d time.Duration) {
	t.Helper()
	mark := a.order("start")
	up := a.await(mark, "group", func(s said) bool { return s.What == "up" })
	a.await(mark, "answer", func(s said) bool { return s.What == "done" && s.Command == "start" && s.Error == "" })
	end := time.NewTimer(d)
	defer end.Stop()
	<-end.C
	a.mu.Lock()
	for _, s := range a.lines[mark:] {
		if s.What == "gone" {
			t.Errorf("the group is gone: %s", s.Reason)
		}
	}
	a.mu.Unlock()
	if !linkExists(node, up.Group.Ifname) {
		t.Errorf("the interface %s is gone", up.Group.Ifname)
	}
	mark = a.order("leave")
	a.await(mark, "leaving", func(s said) bool { return s.What == "done" && s.Command == "leave" && s.Error == "" })
	noGroupLinks(t, node)
}

// noGroupLinks checks that a node has no interface of a group.
func noGroupLinks(t *testing.T, node *radio.Node) {
	t.Helper()
	if err := node.Do(func() error {
		list, err := os.ReadDir("/sys/class/net")
		for _, e := range list {
			if strings.HasPrefix(e.Name(), "p2p-") {
				t.Errorf("the interface %s is left", e.Name())
			}
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
