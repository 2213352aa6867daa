package dbusapi

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// FuzzPersistent reads profiles in the form of the configuration file, as other programs may have written them.
func FuzzPersistent(f *testing.F) {
	f.Add(`"DIRECT-xy"`, "02:00:00:00:00:01", `"12345678"`, "3")
	f.Add("4449524543542d", "", strings.Repeat("a1", 32), "0")
	f.Add(`"`, "x", `""`, "")
	f.Fuzz(func(t *testing.T, ssid, bssid, psk, mode string) {
		p := persistentOf(dict{"ssid": dbus.MakeVariant(ssid), "bssid": dbus.MakeVariant(bssid), "psk": dbus.MakeVariant(psk), "mode": dbus.MakeVariant(mode)})
		if len(p.SSID) > MaxSSID || len(p.PSK) > 64 || p.PSK != "" && len(p.PSK) < 8 || p.BSSID != nil && len(p.BSSID) != 6 {
			t.Fatalf("profile %+v", p)
		}
		for key, v := range p.encode(p.BSSID) {
			switch x := v.Value().(type) {
			case string, int32:
			case []byte:
				if key == "psk" && len(x) != 32 {
					t.Errorf("psk has %d bytes", len(x))
				}
			default:
				t.Errorf("%s is a %T", key, x)
			}
		}
	})
}

// FuzzPaths reads object paths and names that are not what the supplicant has.
func FuzzPaths(f *testing.F) {
	f.Add("/fi/w1/wpa_supplicant1/Interfaces/0/Peers/42000000aa01", "wlan0")
	f.Add("/Peers/", "../../etc/passwd")
	f.Add("/a/Peers/zz/Peers/000000000000", "..")
	f.Fuzz(func(t *testing.T, path, name string) {
		if mac := PeerAddress(Path(path)); mac != nil {
			if len(mac) != 6 || PeerAddress(PeerPath("/x", mac)).String() != mac.String() {
				t.Errorf("%q is the peer %s", path, mac)
			}
		}
		if p := pathOf(dbus.ObjectPath(path)); len(p) > MaxText {
			t.Errorf("a path of %d bytes", len(p))
		}
		if n := ifnameOf(name); len(n) > maxIfname || strings.ContainsAny(n, "/\x00") || n == ".." {
			t.Errorf("%q is an interface", n)
		}
	})
}
