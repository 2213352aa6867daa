package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"nigh/lab"
	"nigh/link"
)

func TestRootSeesMore(t *testing.T) {
	agents := []Check{{"caps", Warn, "It lacks rights.", "x"}, {"mdns", Warn, "Another program holds it.", "x"}, {"firewall", OK, "No firewall is seen here.", ""}, {"foreign-dhcp", OK, "Nobody.", ""}}
	roots := []Check{{"caps", OK, "It may.", ""}, {"mdns", Fail, "The program avahi-daemon holds it.", "y"}, {"firewall", Warn, "nftables keeps others out.", "y"}, {"foreign-dhcp", Warn, "dnsmasq", "y"}}
	got := complement(agents, roots)
	for id, want := range map[string]string{"caps": "It lacks rights.", "mdns": "The program avahi-daemon holds it.", "firewall": "nftables keeps others out.", "foreign-dhcp": "Nobody."} {
		if c := find(t, got, id); c.Cause != want || c.State == Fail {
			t.Errorf("%+v, want %q", c, want)
		}
	}
	// An agent that may read the rules, and was dialled by somebody, knows better.
	agents[0].State = OK
	if c := find(t, complement(agents, roots), "firewall"); c.State != OK {
		t.Errorf("%+v", c)
	}
}

func TestBroadcomRadios(t *testing.T) {
	for _, tt := range []struct {
		name string
		chip chip
		want State
		says string
	}{
		{"Zero 2 W with the bad firmware", chip{firmware: "9.88.4.77", wpa: "2.10"}, Warn, "never owns a group"},
		{"Zero 2 W with the good one", chip{firmware: "7.45.96.s1", wpa: "2.10"}, OK, "no fault that is known"},
		{"2.11", chip{firmware: "7.45.241", wpa: "2.11"}, Warn, "wpa_supplicant 2.11"},
		{"Trixie", chip{firmware: "7.45.241", wpa: "2.10", release: "2:2.10-24+rpt1"}, Warn, "WPA2 and WPA3 both"},
		{"Trixie, worked around", chip{firmware: "7.45.241", wpa: "2.10", release: "2:2.10-24+rpt1", cmdline: "x brcmfmac.feature_disable=0x2282000"}, OK, "no fault"},
	} {
		if c := tt.chip.check(); c.ID != "brcm" || c.State != tt.want || !strings.Contains(c.Cause, tt.says) || (c.State == OK) != (c.Fix == "") {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

// unit answers as systemd does for one service.
type unit struct{}

func (unit) GetUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	if name != "nigh@"+owner()+".service" {
		return "", dbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"not loaded"})
	}
	return "/org/freedesktop/systemd1/unit/nigh", nil
}

func TestRestarts(t *testing.T) {
	for _, tt := range []struct {
		active, result string
		count          uint32
		want           State
		says           string
	}{
		{"active", "success", 0, OK, "never had to start"},
		{"active", "watchdog", 3, Warn, "again 3 times because it had ended or hung (watchdog)"},
		{"failed", "exit-code", 10, Warn, "does not start it any more"},
	} {
		address := lab.SessionBus(t)
		conn, err := dbus.Connect(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.Export(unit{}, systemdPath, systemdName+".Manager"); err != nil {
			t.Fatal(err)
		}
		if _, err := prop.Export(conn, "/org/freedesktop/systemd1/unit/nigh", prop.Map{
			systemdUnit:    {"ActiveState": {Value: tt.active}},
			systemdService: {"Result": {Value: tt.result}, "NRestarts": {Value: tt.count}},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.RequestName(systemdName, dbus.NameFlagDoNotQueue); err != nil {
			t.Fatal(err)
		}
		got := restarts(t.Context(), Config{Bus: address})
		if len(got) != 1 || got[0].State != tt.want || !strings.Contains(got[0].Cause, tt.says) || (got[0].State == OK) != (got[0].Fix == "") {
			t.Errorf("%+v, want %s with %q", got, tt.want, tt.says)
		}
	}
	if got := restarts(t.Context(), Config{Bus: lab.SessionBus(t)}); got != nil {
		t.Errorf("without systemd: %+v", got)
	}
}

func TestManagers(t *testing.T) {
	group := link.Link{Index: 7, Name: "p2p-wlan0-0", Kind: link.Direct}
	for _, tt := range []struct {
		name  string
		links []link.Link
		files map[string]string
		want  State
		says  string
	}{
		{"no group, no radio", nil, map[string]string{"proc/9/comm": "dhcpcd\n"}, OK, ""},
		{"networkd keeps off", []link.Link{group}, map[string]string{"run/systemd/netif/links/7": "ADMIN_STATE=unmanaged\n"}, OK, ""},
		{"networkd", []link.Link{group}, map[string]string{"run/systemd/netif/links/7": "# x\nADMIN_STATE=configured\n"}, Warn, "--fix networkd"},
		{"dhcpcd", nil, map[string]string{"proc/9/comm": "dhcpcd\n", "sys/class/ieee80211/phy0/index": "0"}, Warn, "--fix dhcpcd"},
		{"dhcpcd behind the sandbox", []link.Link{group}, map[string]string{"sys/fs/cgroup/system.slice/dhcpcd.service/cgroup.procs": "9"}, Warn, "--fix dhcpcd"},
		{"dhcpcd keeps off", []link.Link{group}, map[string]string{"proc/9/comm": "dhcpcd\n", "etc/dhcpcd.conf": "hostname\ndenyinterfaces veth* p2p-*\n"}, OK, ""},
		{"dhcpcd is for others", []link.Link{group}, map[string]string{"proc/9/comm": "dhcpcd\n", "etc/dhcpcd.conf": "allowinterfaces eth0\n"}, OK, ""},
		{"dhcpcd denies another one's", []link.Link{group}, map[string]string{"proc/9/comm": "dhcpcd\n", "etc/dhcpcd.conf": "interface eth0\ndenyinterfaces p2p-*\n"}, Warn, "--fix dhcpcd"},
	} {
		root := t.TempDir()
		for name, text := range tt.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := Config{Bus: "unix:path=" + filepath.Join(root, "none"), etc: filepath.Join(root, "etc"), run: filepath.Join(root, "run"), proc: filepath.Join(root, "proc"), sys: filepath.Join(root, "sys")}
		got := managers(context.Background(), c, tt.links)
		if len(got) != 1 || got[0].ID != "manager-conflict" || got[0].State != tt.want || !strings.Contains(got[0].Fix, tt.says) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// manager answers as NetworkManager does for a link that it manages.
type manager struct{}

func (manager) GetDeviceByIpIface(string) (dbus.ObjectPath, *dbus.Error) {
	return "/org/freedesktop/NetworkManager/Devices/3", nil
}

func TestNetworkManagerOnAGroup(t *testing.T) {
	for _, managed := range []bool{true, false} {
		address := lab.SessionBus(t)
		conn, err := dbus.Connect(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.Export(manager{}, nmPath, nmName); err != nil {
			t.Fatal(err)
		}
		if _, err := prop.Export(conn, "/org/freedesktop/NetworkManager/Devices/3", prop.Map{nmName + ".Device": {"Managed": {Value: managed}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.RequestName(nmName, dbus.NameFlagDoNotQueue); err != nil {
			t.Fatal(err)
		}
		c := Config{Bus: address}
		c.complete()
		got := managers(t.Context(), c, []link.Link{{Index: 7, Name: "p2p-wlan0-0", Kind: link.Direct}})
		if managed != (got[0].State == Warn) || managed != strings.Contains(got[0].Fix, "--fix networkmanager-groups") {
			t.Errorf("managed %t: %+v", managed, got)
		}
	}
}
