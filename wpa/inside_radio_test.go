//go:build radio

package wpa

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nigh/lab/radio"
)

const insideEnv = "NIGH_WPA_TEST_INSIDE" // bus address, for the part that runs inside a node

// TestInsideOnRadio runs a Radio in the namespace of its radio, as an agent does: there it can see the interface.
func TestInsideOnRadio(t *testing.T) {
	if bus := os.Getenv(insideEnv); bus != "" {
		inside(t, bus)
		return
	}
	n := radio.Nodes(t, 1)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(ctx, self, "-test.run=^TestInsideOnRadio$", "-test.v")
	cmd.Env = append(cmd.Environ(), insideEnv+"="+n.Bus)
	out, err := cmd.CombinedOutput()
	t.Logf("inside:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func inside(t *testing.T, bus string) {
	cell, err := radio.ParseCell(os.Getenv(radio.CellEnv))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Diagnose(t.Context(), Config{Bus: bus}) {
		t.Logf("%s %s: %s", f.ID, f.State, f.Cause)
		want := OK
		switch {
		case f.ID == "p2p-device" && cell.NoP2PDevice:
			want = Warn
		case f.ID == "country":
			want = f.State // the guest's kernel may have none set
		}
		if f.State != want || (f.Fix != "") != (want == Warn) || f.Cause == "" {
			t.Errorf("finding %+v", f)
		}
	}
	r, await := open(t, Config{Bus: bus, DeviceName: "inside"})
	await("ready", func(s Status) bool { return s.State == Ready && len(s.Address) == 6 })
	g, err := r.StartGroup(t.Context(), GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if g.Index == 0 || len(g.InterfaceAddress) != 6 || g.InterfaceAddress.String() != g.BSSID.String() {
		t.Errorf("group is %+v", g)
	}

	// Somebody takes the group's interface away under the supplicant, as NetworkManager does.
	c, err := dialRaw(bus)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g = r.Status().Groups[0]
	c.removeInterface(t, g.Ifname)
	await("end", func(s Status) bool { return len(s.Groups) == 0 })
	if list, err := wdevs(); err != nil {
		t.Error(err)
	} else {
		for _, w := range list {
			if w.Ifname == g.Ifname {
				t.Errorf("the network device %s is left", w.Ifname)
			}
		}
	}

	// The same by NetworkManager: the name is all that tells.
	c.own(t, nameNM)
	if g, err = r.StartGroup(t.Context(), GroupOptions{}); err != nil {
		t.Fatal(err)
	}
	c.removeInterface(t, g.Ifname)
	deadline := time.After(limit)
	for {
		select {
		case e := <-r.Events():
			if gone, ok := e.(GroupGone); ok && gone.Group.ID == g.ID {
				if gone.Reason != ReasonKilledByNetworkManager {
					t.Errorf("group is gone for %q", gone.Reason)
				}
				return
			}
		case <-deadline:
			t.Fatal("the group is not gone")
		}
	}
}

func softSwitch(t *testing.T, phy string) string {
	t.Helper()
	switches, _ := filepath.Glob("/sys/class/rfkill/rfkill*")
	for _, s := range switches {
		if readWord(s, "name") == phy {
			return filepath.Join(s, "soft")
		}
	}
	t.Fatalf("no switch for %q among %v", phy, switches)
	return ""
}

func turn(t *testing.T, path, to string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(to), 0o644); err != nil {
		t.Fatal(err)
	}
}
