//go:build radio

package radio

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// output runs a program in the node.
func output(t *testing.T, n *Node, name string, arg ...string) string {
	t.Helper()
	out, err := n.Command(t.Context(), name, arg...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// channels finds how many channels the kernel says a radio can be on at once, in what iw phy prints.
var channels = regexp.MustCompile(`#channels <= (\d)`)

// TestCellIsReal checks that nodes are as their configuration says, in the kernel and in wpa_supplicant's eyes, so that a
// matrix of cells is not the same cell many times.
func TestCellIsReal(t *testing.T) {
	for name, c := range map[string]Config{
		"as the environment says": {Nodes: 1},
		"everything else":         {Nodes: 1, Radios: 2, NoP2PDevice: true, Channels: 2, LongNames: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := NodesOf(t, c)[0]
			c, err := c.onCell()
			if err != nil {
				t.Fatal(err)
			}
			if len(n.Radios) != c.Radios || n.Radio != n.Radios[0] {
				t.Fatalf("radios are %v", n.Radios)
			}
			// wpa_supplicant makes the P2P device of the first radio only.
			devices := strings.Count(output(t, n, "iw", "dev"), "type P2P-device")
			if devices != map[bool]int{true: 0, false: 1}[c.NoP2PDevice] {
				t.Errorf("%d P2P devices", devices)
			}
			for _, r := range n.Radios {
				if m := channels.FindStringSubmatch(output(t, n, "iw", "phy", r.Phy, "info")); m == nil || m[1] != string(rune('0'+c.Channels)) {
					t.Errorf("%s: channels %v, not %d", r.Phy, m, c.Channels)
				}
				if (len(r.Ifname) == 15) != c.LongNames {
					t.Errorf("interface is %s", r.Ifname)
				}
			}
			conn, err := dbus.Connect(n.Bus)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			for _, r := range n.Radios {
				var path dbus.ObjectPath
				err := conn.Object(supplicantName, supplicantPath).CallWithContext(t.Context(), supplicantName+".GetInterface", 0, r.Ifname).Store(&path)
				if err != nil {
					t.Errorf("%s: %v", r.Ifname, err)
				}
			}
			// 2.11 knows the property, 2.10 does not.
			var mac dbus.Variant
			err = conn.Object(supplicantName, supplicantPath+"/Interfaces/0").CallWithContext(t.Context(), "org.freedesktop.DBus.Properties.Get", 0,
				supplicantName+".Interface", "MACAddress").Store(&mac)
			if newer := err == nil; newer != (c.Supplicant != "") {
				t.Errorf("wpa_supplicant is not %q: %v", c.Supplicant, err)
			}
			if c.Supplicant != "" {
				checkTree(t, n, supplicantTree(c.Supplicant), c.Supplicant)
			}
		})
	}
}

// checkTree runs a program of a tree, and one of the guest that the tree does not have, with the tree's libraries.
func checkTree(t *testing.T, n *Node, tree, version string) {
	t.Helper()
	folder, err := TreeFolder(tree)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "usr/sbin/wpa_supplicant")); err != nil {
		t.Fatal(err)
	}
	out, err := n.TreeCommand(t.Context(), tree, "wpa_supplicant", "-v").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "wpa_supplicant v"+version) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := n.TreeCommand(t.Context(), tree, "ip", "link", "show", n.Ifname).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out := output(t, n, "wpa_supplicant", "-v"); strings.Contains(out, "v"+version) {
		t.Errorf("the guest's own is %s", out)
	}
	if _, err := TreeFolder("no-such-tree"); !errors.Is(err, ErrNoTree) {
		t.Errorf("a tree that is not there: %v", err)
	}
}
