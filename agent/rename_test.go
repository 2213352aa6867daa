package agent

import (
	"net/netip"
	"testing"

	"nigh/link"
)

// New names come with another network, not with what happens on one.
func TestNamesChangeWithTheNetwork(t *testing.T) {
	on := func(index int, kind link.Kind, prefixes ...string) link.Link {
		l := link.Link{Index: index, Kind: kind, Usable: true}
		for _, p := range prefixes {
			l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
		}
		return l
	}
	r := newRenaming()
	for i, step := range []struct {
		what  string
		links []link.Link
		want  bool
	}{
		{"nothing yet", nil, false},
		{"the first link", []link.Link{on(2, link.WiFi, "fe80::1/64")}, false},
		{"its address comes", []link.Link{on(2, link.WiFi, "fe80::1/64", "192.168.1.7/24")}, false},
		{"and one more", []link.Link{on(2, link.WiFi, "fe80::1/64", "192.168.1.7/24", "2001:db8::7/64")}, false},
		{"a group", []link.Link{on(2, link.WiFi, "192.168.1.7/24"), on(3, link.Direct, "fe80::2/64")}, false},
		{"another link", []link.Link{on(2, link.WiFi, "192.168.1.7/24"), on(4, link.Ethernet, "fe80::3/64")}, true},
		{"the first has only fe80", []link.Link{on(2, link.WiFi, "fe80::1/64"), on(4, link.Ethernet, "fe80::3/64")}, false},
		{"and is in another network", []link.Link{on(2, link.WiFi, "fe80::1/64", "10.3.0.9/16"), on(4, link.Ethernet, "fe80::3/64")}, true},
		{"everything goes", nil, false},
		{"and comes back", []link.Link{on(2, link.WiFi, "10.3.0.9/16")}, true},
		{"and goes", nil, false},
		{"and comes back too often", []link.Link{on(2, link.WiFi, "10.3.0.9/16")}, false},
	} {
		if got := r.arrived(step.links); got != step.want {
			t.Errorf("%d, %s: new names: %v", i, step.what, got)
		}
	}
}
