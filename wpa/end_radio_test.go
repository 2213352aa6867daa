//go:build radio

package wpa

import (
	"testing"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

// TestEndOnRadio checks that nothing is left when Run returns, in the middle of a group and of a search.
func TestEndOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	probe, err := dbusapi.Dial(t.Context(), nodes[0].Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	path, err := probe.GetInterface(t.Context(), nodes[0].Ifname)
	if err != nil {
		t.Fatal(err)
	}
	read := func() dbusapi.Config {
		t.Helper()
		c, err := probe.Config(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read()
	a := newStation(t, nodes[0], Config{Pool: testPool, Intent: 11, Vendor: [][]byte{{0, 1, 2, 3, 4}}})
	b := newStation(t, nodes[1], Config{})
	during := read()
	if during.DeviceName != a.name || during.GOIntent != 11 || during.Start != poolOf(testPool).start || len(during.VendorExtension) != 1 {
		t.Errorf("settings are %+v", during)
	}
	ga, _ := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15, Persistent: true}, ConnectOptions{Intent: 0, Persistent: true})
	ma, mb := a.mark(), b.mark()
	a.end()
	if gone := a.awaitGone(ma); gone.Reason != ReasonLeft {
		t.Errorf("group is gone for %q", gone.Reason)
	}
	a.checkNoLink(ga)
	b.awaitGone(mb)
	after := read()
	if after.DeviceName != before.DeviceName || after.GOIntent != before.GOIntent || after.Start != before.Start || after.Owner != before.Owner ||
		after.PersistentReconnect != before.PersistentReconnect || len(after.VendorExtension) != 0 || string(after.DeviceType) != string(before.DeviceType) {
		t.Errorf("settings were %+v and are %+v", before, after)
	}
	if left, err := probe.PersistentGroups(t.Context(), path); err != nil || len(left) != 0 {
		t.Errorf("profiles are left: %v, %v", left, err)
	}
}
