package discovery

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// An interface that is not there shows in Status and does not keep the others, or the end, waiting.
func TestRunWithAnAbsentInterface(t *testing.T) {
	d, err := New(Config{Instance: "me", ShortID: "ME", Port: 7421})
	if err != nil {
		t.Fatal(err)
	}
	absent := Interface{Index: 1 << 20, Name: "absent0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}
	d.SetInterfaces([]Interface{absent})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(late)
	for {
		s := d.Status()
		if len(s) == 1 && s[0].Error != "" && !s[0].Publishing && s[0].Name == "absent0" {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("status %+v", s)
		}
	}
	d.SetInterfaces(nil)
	for len(d.Status()) > 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("status %+v", d.Status())
		}
	}
	d.SetInterfaces([]Interface{absent})
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-deadline:
		t.Fatal("Run does not return")
	}
	if _, open := <-d.Events(); open {
		t.Error("an event, or the channel is open after Run")
	}
}

func TestOnLink(t *testing.T) {
	i := Interface{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("2001:db8::1/128")}}
	for a, want := range map[string]bool{
		"10.0.0.9": true, "10.0.1.9": false, "fe80::1": true, "2001:db8::9": true, "2001:db8:1::9": false, "169.254.1.1": false,
	} {
		if got := i.onLink(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	four := Interface{Prefixes: i.Prefixes[:1]}
	if four.onLink(netip.MustParseAddr("fe80::1")) {
		t.Error("a link-local neighbour on a link without IPv6")
	}
}
