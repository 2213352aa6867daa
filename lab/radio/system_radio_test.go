//go:build radio

//lab:systemd

package radio

import (
	"net"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"
)

// TestSystemNode has Debian's own D-Bus and wpa_supplicant.service on node 0, and finds it from a node beside it. As on a
// Debian without NetworkManager, wpa_supplicant has no interface until somebody gives it one.
func TestSystemNode(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("needs systemd as first process: lab test -systemd")
	}
	nodes := NodesOf(t, Config{Nodes: 2, System: true})
	system := nodes[0]
	if _, err := net.InterfaceByName(system.Ifname); system.NetNS != "" || err != nil {
		t.Fatalf("node 0 is not the guest itself: %+v, %v", system, err)
	}
	conn, err := dbus.Connect(system.Bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	create := conn.Object(supplicantName, supplicantPath).CallWithContext(t.Context(), supplicantName+".CreateInterface", 0,
		map[string]dbus.Variant{"Ifname": dbus.MakeVariant(system.Ifname), "Driver": dbus.MakeVariant("nl80211")})
	if create.Err != nil {
		t.Fatal(create.Err)
	}
	a, b := dial(t, system), dial(t, nodes[1])
	b.finds(t, a)

	old := system.SupplicantPID()
	if old == 0 || system.KillSupplicant() != nil {
		t.Fatalf("wpa_supplicant is %d", old)
	}
	if system.StartSupplicant() != nil {
		t.FailNow()
	}
	if pid := system.SupplicantPID(); pid == 0 || pid == old {
		t.Fatalf("wpa_supplicant was %d and is %d", old, pid)
	}
}
