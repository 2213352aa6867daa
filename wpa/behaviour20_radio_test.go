//go:build radio

package wpa

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The next line asks the lab for a guest with systemd, because NetworkManager and the policies of the system bus need it.
//lab:systemd
// And this one for programs of a newer Debian suite.
//lab:tree networkmanager-1.58

const (
	newerManager = "networkmanager-1.58"

	longVariable = "NIGH_LONG" // has groups live for the minute that behaviour 20 names

	allowPolicy = "/etc/dbus-1/system.d/nigh.conf"
	keepPolicy  = "/etc/dbus-1/system.d/zz-nigh.conf"
)

// TestBehaviour20Policy: NetworkManager removes our groups, which is told with a hint, and with our policy file in place it does
// not, for as long as that is there.
func TestBehaviour20Policy(t *testing.T) {
	b := newManaged(t, "")
	if b == nil {
		return
	}
	system := b.system
	t.Run("no policy", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		if s := a.ready(); s.Engine != EngineSystem || s.Ifname != system.Ifname || !strings.Contains(s.Hint, "--fix networkmanager") {
			t.Errorf("status is %+v", s)
		}
		killed(t, system, a)
	})

	t.Run("policy", func(t *testing.T) {
		install(t, system, "../systemd/zz-nigh.dbus.conf", keepPolicy)
		ping, err := system.Ping(netip.MustParseAddr("10.9.0.1"), 200*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		if s := a.ready(); s.Engine != EngineSystem || s.Hint != "" || !strings.Contains(s.Why, keepPolicy) {
			t.Errorf("status is %+v", s)
		}
		life := 10 * time.Second // NetworkManager removes a group within five
		if os.Getenv(longVariable) != "" {
			life = time.Minute
		}
		lives(t, system, a, b.other, life)
		count, err := ping.Stop()
		t.Logf("over the user's own Wi-Fi: %s", count)
		if err != nil || count.Lost != 0 || count.Sent < int(life/(200*time.Millisecond)) {
			t.Errorf("over the user's own Wi-Fi: %s, %v", count, err)
		}
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

// TestBehaviour20Private: a second radio that NetworkManager does not manage gets a wpa_supplicant of our own, and the user's
// Wi-Fi on the first one does not notice.
func TestBehaviour20Private(t *testing.T) {
	b := newManaged(t, "")
	if b == nil {
		return
	}
	system := b.system
	folder := filepath.Join("/run", userName)
	if out, err := exec.Command("install", "-d", "-m", "700", "-o", userName, folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ping, err := system.Ping(netip.MustParseAddr("10.9.0.1"), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, system, agentConfig{Name: "alice", Folder: folder}, false)
	s := a.ready()
	if s.Engine != EnginePrivate || s.Ifname != system.Radios[1].Ifname || len(s.Address) != 6 {
		t.Errorf("status is %+v", s)
	}
	lives(t, system, a, b.other, 10*time.Second)
	// The simulated radio has its own idea of its address, as all of mac80211 have; others take it from here.
	config, err := os.ReadFile(filepath.Join(folder, "radio", "wpa_supplicant.conf"))
	if err != nil || !strings.Contains(string(config), "\np2p_device_persistent_mac_addr="+agentAddress.String()+"\n") {
		t.Errorf("configuration: %v\n%s", err, config)
	}

	// A supplicant of our own that dies is started again.
	programs := childrenOf(t, folder)
	if len(programs["wpa_supplicant"]) != 1 || len(programs["dbus-daemon"]) != 1 {
		t.Fatalf("programs are %v", programs)
	}
	mark := a.mark()
	if err := syscall.Kill(programs["wpa_supplicant"][0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.await(mark, "loss", func(s said) bool { return s.What == "status" && s.Status.State == Absent })
	a.await(mark, "recovery", func(s said) bool { return s.What == "status" && s.Status.State == Ready })

	// An agent that dies leaves nothing: no program and no interface.
	mark = a.order("start")
	a.await(mark, "group", func(s said) bool { return s.What == "up" })
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-a.done
	awaitNoGroupLinks(t, system)
	if left := childrenOf(t, folder); len(left) != 0 {
		t.Errorf("programs are left: %v", left)
	}
	count, err := ping.Stop()
	t.Logf("over the user's own Wi-Fi: %s", count)
	if err != nil || count.Lost != 0 {
		t.Errorf("over the user's own Wi-Fi: %s, %v", count, err)
	}
}

// TestBehaviour20Unmanaged: groups live on a radio that a person has NetworkManager not manage.
func TestBehaviour20Unmanaged(t *testing.T) {
	b := newManaged(t, "")
	if b == nil {
		return
	}
	system := b.system
	if _, err := system.NMCLI(t.Context(), "device", "set", system.Ifname, "managed", "no"); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, system, agentConfig{Name: "alice", Ifname: system.Ifname}, true)
	if s := a.ready(); s.Engine != EngineSystem || s.Hint != "" || s.Ifname != system.Ifname {
		t.Errorf("status is %+v", s)
	}
	lives(t, system, a, b.other, 10*time.Second)
}

// TestBehaviour20Engine: without the policy file, and run as root, NetworkManager itself is asked for groups, with which it does
// less than wpa_supplicant and says so. The user's Wi-Fi is not connected, so that NetworkManager scans all the time.
func TestBehaviour20Engine(t *testing.T) {
	b := newManaged(t, "")
	if b == nil {
		return
	}
	system, other := b.system, b.other
	if _, err := system.NMCLI(t.Context(), "connection", "down", "home"); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, system, agentConfig{Name: "alice"}, true)
	if s := a.ready(); s.Engine != EngineNetworkManager || s.Ifname != system.Ifname || !s.Limits.ButtonOnly || s.Hint == "" {
		t.Errorf("status is %+v", s)
	}
	if err := other.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	// What it cannot do is said before the radio is used.
	for _, command := range []string{"start", "pin"} {
		mark := a.order(command, other.name)
		s := a.await(mark, command, func(s said) bool { return s.What == "done" && s.Command == command })
		if !strings.Contains(s.Error, ErrLimited.Error()) || s.Hint == "" {
			t.Errorf("%s: %+v", command, s)
		}
	}
	lives(t, system, a, other, 5*time.Second)
	responds(t, system, a, other)
	// What NetworkManager was told is stored nowhere.
	if list, err := system.NMCLI(t.Context(), "--get-values", "NAME", "connection", "show"); err != nil || strings.Contains(list, "nigh") {
		t.Errorf("connections are %q, %v", list, err)
	}
	// Without NetworkManager the engine is of no use, and says so.
	mark := a.mark()
	if err := system.StopNetworkManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := a.await(mark, "end", func(s said) bool { return s.What == "done" && s.Command == "run" })
	if !strings.Contains(s.Error, ErrEngine.Error()) {
		t.Errorf("Run: %q", s.Error)
	}
}

// TestBehaviour20Newer is what matters of that with a NetworkManager of a later Debian.
func TestBehaviour20Newer(t *testing.T) {
	b := newManaged(t, newerManager)
	if b == nil {
		return
	}
	system, other := b.system, b.other
	t.Run("no policy", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		a.ready()
		killed(t, system, a)
	})
	t.Run("networkmanager", func(t *testing.T) {
		a := newAgent(t, system, agentConfig{Name: "alice"}, true)
		if s := a.ready(); s.Engine != EngineNetworkManager {
			t.Errorf("status is %+v", s)
		}
		lives(t, system, a, other, 5*time.Second)
	})
	t.Run("policy", func(t *testing.T) {
		install(t, system, "../systemd/zz-nigh.dbus.conf", keepPolicy)
		a := newAgent(t, system, agentConfig{Name: "alice"}, false)
		a.ready()
		lives(t, system, a, other, 10*time.Second)
	})
}
