package agent

import (
	"net/netip"
	"testing"
	"time"
)

// A device that becomes hidden is forgotten by the strangers that it greeted, and those that it greets from then on do not list it; its
// friends keep it.
func TestStrangersForgetWhoHides(t *testing.T) {
	visibility := VisibleEveryone
	cfg := localConfig(t)
	cfg.Reload = func() (Settings, error) {
		s := cfg.Settings
		s.Visibility = visibility
		return s, nil
	}
	ada, eve, bob := runAgent(t, cfg), runAgent(t, localConfig(t)), runAgent(t, localConfig(t))
	if err := ada.trust.Add(bob.id.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	events, stop, err := eve.watchers.watch(false, eve.state)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	greet := func(a *Agent) {
		t.Helper()
		if id, _, err := ada.greet(t.Context(), localAddress(a)); err != nil || id != a.id.ID {
			t.Fatalf("%s answers, %v", id.Short(), err)
		}
	}
	lists := func(a *Agent, want bool) {
		t.Helper()
		if v, ok := a.table.one(ada.id.ID); ok != want {
			t.Errorf("ada is listed: %t %+v, want %t", ok, v, want)
		}
	}
	greet(eve)
	greet(bob)
	lists(eve, true)
	lists(bob, true)
	for _, a := range []*Agent{eve, bob} {
		ada.table.attach(a.id.ID, "", sighting{key: a.id.ID.String(), kind: kindLAN, ifname: "lo", addrs: []netip.AddrPort{localAddress(a)}})
	}

	visibility = VisibleHidden
	if err := ada.Reload(); err != nil {
		t.Fatal(err)
	}
	late := time.After(time.Minute)
	for gone := false; !gone; {
		select {
		case e := <-events:
			gone = e.Type == "peer_gone" && e.Key == ada.id.ID.String()
		case <-late:
			t.Fatal("the stranger does not forget it")
		}
	}
	greet(eve)
	greet(bob)
	lists(eve, false)
	lists(bob, true)
	// Who missed that word, and looks after its guest, hears it then.
	at := localAddress(ada)
	missed := guest{id: ada.id.ID, s: sighting{key: "greeted/lo/" + ada.id.ID.String(), kind: kindLAN, ifname: "lo", addrs: []netip.AddrPort{at}}}
	eve.inbound.welcome(missed)
	lists(eve, true)
	eve.inbound.visit(t.Context(), missed)
	lists(eve, false)

	visibility = VisibleEveryone
	if err := ada.Reload(); err != nil {
		t.Fatal(err)
	}
	greet(eve)
	lists(eve, true)
}
