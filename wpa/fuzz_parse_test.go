package wpa

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"nigh/wpa/dbusapi"
)

// FuzzSwitchedTo reads whatever the kernel, or who takes its place, says of a channel switch.
func FuzzSwitchedTo(f *testing.F) {
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(unix.NL80211_ATTR_IFINDEX, 7)
	ae.Uint32(unix.NL80211_ATTR_WIPHY_FREQ, 2437)
	whole, err := ae.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte{3, 0, 3, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if index, frequency := switchedTo(data); len(data) < 8 && (index != 0 || frequency != 0) {
			t.Errorf("%x is a switch of %d to %d", data, index, frequency)
		}
	})
}

// FuzzRecord reads records of earlier runs that are not what was written.
func FuzzRecord(f *testing.F) {
	folder := f.TempDir()
	path := filepath.Join(folder, "seed")
	whole := record{Instance: "1 :1.2", Owner: fakeOwner, Config: dbusapi.Config{DeviceName: "x", GOIntent: 7}, Methods: "display", Profiles: []dbusapi.Path{fakeOwner + "/PersistentGroups/0"}}
	if err := whole.write(path); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)/2])
	f.Add([]byte(`{"profiles":[null,"","/",7],"config":{"VendorExtension":["x"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "record")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, ok := loadRecord(path)
		if s := r.settings(); !ok && len(s.profiles) > maxRecord {
			t.Errorf("settings of %d profiles", len(s.profiles))
		}
		if err := dropRecord(path); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPolicy reads D-Bus policies that packages and administrators wrote.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`<busconfig><policy user="root"><deny receive_sender="fi.w1.wpa_supplicant1" receive_interface="fi.w1.wpa_supplicant1.Interface.P2PDevice" receive_member="GroupStarted" receive_type="signal"/></policy></busconfig>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><busconfig>&b;`))
	f.Add([]byte(`<busconfig><policy>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "a.conf"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := findPolicy([]string{folder}); found != "" && len(data) < len("GroupStarted") {
			t.Errorf("%q keeps the signal from somebody", data)
		}
	})
}

// FuzzMethod checks PINs that users and peers give.
func FuzzMethod(f *testing.F) {
	for _, pin := range []string{"12345670", "1234", "", "1234567a", "００００"} {
		f.Add(pin, 1)
		f.Add(pin, 2)
	}
	f.Fuzz(func(t *testing.T, pin string, kind int) {
		m := Method{Kind: MethodKind(kind), PIN: pin}
		if m.check() != nil || pin == "" {
			return
		}
		for _, c := range []byte(pin) {
			if c < '0' || c > '9' || len(pin) > 8 || m.Kind == KindPBC {
				t.Fatalf("%q was taken for %d", pin, kind)
			}
		}
	})
}
