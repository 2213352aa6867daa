package wpa

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nigh/wpa/dbusapi"
)

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "radio.json")
	if _, ok := loadRecord(path); ok {
		t.Error("there is a record before one was written")
	}
	before := settings{
		owner: "/fi/w1/wpa_supplicant1/Interfaces/0", methods: "display", created: true,
		config:   dbusapi.Config{DeviceName: "tv", DeviceType: make([]byte, 8), GOIntent: 3, Owner: netip.MustParseAddr("10.0.0.1"), VendorExtension: [][]byte{{1, 2}}},
		profiles: map[dbusapi.Path]bool{"/a": true, "/b": true},
	}
	if err := before.recorded(":1.7 42").write(path); err != nil {
		t.Fatal(err)
	}
	r, ok := loadRecord(path)
	if !ok || r.Instance != ":1.7 42" {
		t.Fatalf("read %+v, %t", r, ok)
	}
	same := cmp.Options{cmp.AllowUnexported(settings{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
	if diff := cmp.Diff(before, r.settings(), same); diff != "" {
		t.Error(diff)
	}
	if err := dropRecord(path); err != nil {
		t.Error(err)
	}
	if err := dropRecord(path); err != nil {
		t.Errorf("dropped twice: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"instance": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := loadRecord(path); ok {
		t.Error("a record was made of nonsense")
	}
	if err := (record{}).write(""); err != nil {
		t.Errorf("no file is wanted: %v", err)
	}
}
