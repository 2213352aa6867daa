//go:build radio

package link

import (
	"context"
	"fmt"
	"strings"
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

// Kinds of link that the machine's own kernel may lack: test links, VLANs and VRFs, each up and with an address.
func TestRadioOtherKinds(t *testing.T) {
	node := radio.Nodes(t, 1)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for _, line := range []string{
		"link add name eth0 type veth peer name far0", "link set far0 up", "link set eth0 up",
		"link add name dummy0 type dummy",
		"link add link eth0 name eth0.7 type vlan id 7",
		"link add name br9 type bridge forward_delay 0",
		"link add link br9 name br9.7 type vlan id 7",
		"link add name port0 type dummy", "link set port0 master br9", "link set port0 up",
		"link add name vrf0 type vrf table 77",
	} {
		if out, err := node.Command(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", line, err, out)
		}
	}
	for i, name := range []string{"eth0", "dummy0", "eth0.7", "br9", "br9.7", "vrf0"} {
		for _, args := range [][]string{{"link", "set", name, "up"}, {"address", "add", fmt.Sprintf("10.200.%d.1/24", i), "dev", name}} {
			if out, err := node.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %v: %v\n%s", args, err, out)
			}
		}
	}
	const virtual = "made for containers, virtual machines or tests"
	want := map[string]struct {
		kind Kind
		why  string
	}{
		"eth0": {Ethernet, ""}, "dummy0": {Virtual, virtual}, "port0": {Virtual, virtual}, "eth0.7": {Ethernet, ""},
		"br9": {Bridge, "bridge for virtual machines or containers"}, "br9.7": {Ethernet, "lies on br9, which leads to no network card"},
		"vrf0": {Virtual, virtual},
	}
	// Carriers of bonds and VLANs come a moment later.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var links []Link
		if err := node.Do(func() (err error) { links, err = read(nil); return err }); err != nil {
			t.Fatal(err)
		}
		var wrong []string
		seen := 0
		for _, l := range links {
			if w, ok := want[l.Name]; ok {
				seen++
				if l.Kind != w.kind || l.Why != w.why || l.Usable != (w.why == "") {
					wrong = append(wrong, fmt.Sprintf("%s: %v, usable %v, %q; want %v, %q", l.Name, l.Kind, l.Usable, l.Why, w.kind, w.why))
				}
			}
		}
		if len(wrong) == 0 && seen == len(want) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d links are listed:\n%s", seen, len(want), strings.Join(wrong, "\n"))
		}
	}
}
