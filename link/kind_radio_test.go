//go:build radio

package link

import (
	"context"
	"testing"
	"time"

	"nigh/lab/radio"
)

// The kinds of real wireless links, told apart by nl80211 and not by their names.
func TestRadioKinds(t *testing.T) {
	node := radio.Nodes(t, 1)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for name, iftype := range map[string]string{"odd0": "__p2pgo", "odd1": "__p2pcl", "p2p-odd": "managed"} {
		if out, err := node.Command(ctx, "iw", "dev", node.Ifname, "interface", "add", name, "type", iftype).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	var links []Link
	if err := node.Do(func() (err error) { links, err = read(nil); return err }); err != nil {
		t.Fatal(err)
	}
	want := map[string]Kind{"lo": Loopback, node.Ifname: WiFi, "odd0": Direct, "odd1": Direct, "p2p-odd": WiFi}
	for _, l := range links {
		if k, ok := want[l.Name]; ok && l.Kind != k {
			t.Errorf("%s is %v, want %v", l.Name, l.Kind, k)
		}
		delete(want, l.Name)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v in %+v", want, links)
	}
	if err := node.Do(func() error {
		if name, _ := Driver(node.Ifname); name != "mac80211_hwsim" {
			t.Errorf("the driver of %s is %q", node.Ifname, name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
