package e2e_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// rules loads nftables rules on a host, in a table of their own.
func rules(t *testing.T, h *lab.Host, text string) {
	t.Helper()
	cmd := h.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet nighlab {\n" + text + "\n}\n")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs nft: package nftables")
	}
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// walled are rules as a firewall of a machine has them: what it began may be answered, all else is kept out but for what
// more lets in.
func walled(verdict, more string) string {
	return `chain input {
		type filter hook input priority 0; policy accept;
		ct state established,related accept
		iif lo accept
		meta l4proto ipv6-icmp accept
		` + more + `
		` + verdict + `
	}`
}

const mdnsIn = "udp dport 5353 accept"

// inboundIs tells whether status says of eth0 how connections from outside fare.
func inboundIs(outcome string) func(control.State) bool {
	return func(s control.State) bool {
		return slices.ContainsFunc(s.Status.Links, func(l control.Link) bool { return l.Ifname == "eth0" && l.Inbound == outcome })
	}
}

// exchange moves files, shared files and messages between two devices in both directions, begun on either side.
func exchange(t *testing.T, a, b *node.Agent) {
	t.Helper()
	for _, w := range [][2]*node.Agent{{a, b}, {b, a}} {
		from, to := w[0], w[1]
		src := filepath.Join(t.TempDir(), "sent-by-"+from.Name)
		random(t, src, 3<<20)
		began := time.Now()
		defer func() { t.Logf("%s to %s: %.1f s", from.Name, to.Name, time.Since(began).Seconds()) }()
		must(t, from, "send", src, "--to", to.Name, "--wait")
		if digest(t, src) != digest(t, filepath.Join(to.Inbox, filepath.Base(src))) {
			t.Errorf("what %s sent to %s differs", from.Name, to.Name)
		}
		folder := filepath.Join(t.TempDir(), "of-"+from.Name)
		random(t, filepath.Join(folder, "shared"), 2<<20)
		shareFolder(t, from, folder)
		into := t.TempDir()
		must(t, to, "get", from.Name+":of-"+from.Name+"/shared", "--into", into, "--wait")
		if digest(t, filepath.Join(folder, "shared")) != digest(t, filepath.Join(into, "shared")) {
			t.Errorf("what %s got from %s differs", to.Name, from.Name)
		}
		text := "from " + from.Name
		msg(t, from, 0, text, "--to", to.Name)
		if got := texts(t, to, "receive"); !slices.Contains(got, text) {
			t.Errorf("%s has the messages %q", to.Name, got)
		}
	}
}

// firewallCheck is what nigh doctor says about firewalls.
func firewallCheck(t *testing.T, a *node.Agent) control.Check {
	t.Helper()
	began := time.Now()
	checks, err := a.Client().Doctor(within(t, 60*time.Second))
	t.Logf("doctor on %s took %.1f s", a.Name, time.Since(began).Seconds())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(checks, func(c control.Check) bool { return c.ID == "firewall" })
	if i < 0 {
		t.Fatalf("doctor says nothing of firewalls: %+v", checks)
	}
	return checks[i]
}

func TestShow5Firewall(t *testing.T) {
	for name, c := range map[string]struct{ rules, outcome string }{
		"drop":   {walled("drop", mdnsIn), "silent"},
		"reject": {walled("reject with icmpx type admin-prohibited", mdnsIn), "rejected"},
		"reset":  {walled("meta l4proto tcp reject with tcp reset", mdnsIn), "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			n := lab.NewNet(t)
			lan := n.Bridge("lan")
			ha, hb := n.Host("ada"), n.Host("bob")
			lan.Join(ha, "eth0", "10.0.0.1/24")
			lan.Join(hb, "eth0", "10.0.0.2/24")
			rules(t, hb, c.rules)
			ada, bob := start(t, ha, "ada", "--accept", "trusted"), start(t, hb, "bob", "--accept", "trusted")
			// Before they know each other: the one behind the wall is listed, too.
			began := time.Now()
			for a, who := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
				if err := a.Await(within(t, 30*time.Second), hasPeer(who, "visible")); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("strangers listed on both sides after %.2f s", time.Since(began).Seconds())
			befriend(t, ada, bob)
			for a, who := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
				if err := a.Await(within(t, 30*time.Second), hasPeer(who, "ready")); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("ready on both sides after %.2f s", time.Since(began).Seconds())
			exchange(t, ada, bob)

			if err := bob.Await(within(t, 30*time.Second), inboundIs(c.outcome)); err != nil {
				t.Error(err)
			}
			if err := ada.Await(within(t, 30*time.Second), inboundIs("open")); err != nil {
				t.Error(err)
			}
			t.Logf("known on both sides after %.2f s", time.Since(began).Seconds())
			check := firewallCheck(t, bob)
			t.Logf("doctor behind the wall: %s %s [%s]", check.State, check.Cause, check.Fix)
			if check.State != "warn" || !strings.Contains(check.Cause, "nftables") || !strings.Contains(check.Cause, "ada") || !strings.Contains(check.Fix, "nft") {
				t.Errorf("doctor: %+v", check)
			}
			if check := firewallCheck(t, ada); check.State != "ok" {
				t.Errorf("doctor on the open side: %+v", check)
			}
			// The wall falls: the next connection from outside tells.
			if out, err := hb.Command(t.Context(), "nft", "delete", "table", "inet", "nighlab").CombinedOutput(); err != nil {
				t.Fatalf("nft: %v: %s", err, out)
			}
			if check := firewallCheck(t, bob); check.State != "ok" {
				t.Errorf("doctor without the firewall: %+v", check)
			}
		})
	}
}

// TestDeafBehindAFirewall: not even announcements come in, so the walled side has to be told where the other one is.
func TestDeafBehindAFirewall(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	rules(t, hb, walled("drop", ""))
	ada, bob := start(t, ha, "ada", "--accept", "trusted"), start(t, hb, "bob", "--accept", "trusted")
	befriend(t, ada, bob)
	must(t, bob, "peers", "add", "10.0.0.1")
	for a, who := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
		if err := a.Await(within(t, 30*time.Second), hasPeer(who, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, ada, bob)
}

// TestTypedAddress: no multicast gets through, as on many office and guest networks.
func TestTypedAddress(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	for _, h := range []*lab.Host{ha, hb} {
		rules(t, h, `chain in { type filter hook input priority 0; udp dport 5353 drop; }`)
	}
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob", "--accept", "trusted")

	// A stranger, by its address: listed, and gone when it does not answer there.
	link := strings.Fields(ha.IP("-6", "-oneline", "address", "show", "dev", "eth0", "scope", "link"))
	fe80, _, _ := strings.Cut(link[3], "/")
	must(t, bob, "peers", "add", fe80+"%eth0")
	manual := func(s control.State) bool {
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
			return p.Trust == "new" && p.State == "visible" && len(p.Paths) > 0 && p.Paths[0].Kind == "manual"
		})
	}
	if err := bob.Await(within(t, 20*time.Second), manual); err != nil {
		t.Fatal(err)
	}
	must(t, bob, "peers", "remove", fe80+"%eth0")
	if err := bob.Await(within(t, 20*time.Second), func(s control.State) bool {
		return !slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
			return slices.ContainsFunc(p.Paths, func(path control.Path) bool { return path.Kind == "manual" })
		})
	}); err != nil {
		t.Fatal(err)
	}

	befriend(t, ada, bob)
	src := filepath.Join(t.TempDir(), "note")
	random(t, src, 100<<10)
	must(t, ada, "send", src, "--to", "10.0.0.2", "--wait")
	if digest(t, src) != digest(t, filepath.Join(bob.Inbox, "note")) {
		t.Error("the files differ")
	}
	// It is kept across a restart of both.
	for _, a := range []*node.Agent{ada, bob} {
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	if err := ada.Await(within(t, 90*time.Second), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready %.2f s after both were started again", time.Since(back).Seconds())
	must(t, ada, "send", src, "--to", "bob", "--wait")
	if out := must(t, ada, "peers", "addresses"); !strings.Contains(out, "10.0.0.2:7421  bob") || !strings.Contains(out, "yes   yes") {
		t.Errorf("addresses: %s", out)
	}
	// What is removed is not found again; what loses its trust neither.
	must(t, ada, "peers", "remove", "bob")
	if err := ada.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := must(t, ada, "peers", "addresses", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("addresses after they were removed: %s", out)
	}
	must(t, ada, "peers", "add", "10.0.0.2:7421")
	must(t, ada, "trust", "remove", "bob")
	if err := ada.Await(within(t, 20*time.Second), func(s control.State) bool { return !hasPeer("bob", "ready")(s) }); err != nil {
		t.Fatal(err)
	}
	if out := must(t, ada, "peers", "addresses", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("addresses of a device that lost its trust: %s", out)
	}
}

// TestTypedStrangerIsCheckedAgain: nothing else would tell that it is gone.
func TestTypedStrangerIsCheckedAgain(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	for _, h := range []*lab.Host{ha, hb} {
		rules(t, h, `chain in { type filter hook input priority 0; udp dport 5353 drop; }`)
	}
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	must(t, ada, "peers", "add", "10.0.0.2")
	if err := ada.Await(within(t, 20*time.Second), hasPeer("bob", "visible")); err != nil {
		t.Fatal(err)
	}
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if err := ada.Await(within(t, 90*time.Second), func(s control.State) bool { return !hasPeer("bob", "visible")(s) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("gone %.1f s after it stopped", time.Since(stopped).Seconds())
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, 90*time.Second), hasPeer("bob", "visible")); err != nil {
		t.Fatal(err)
	}
}

func TestTypedHostNames(t *testing.T) {
	ada, bob := pair(t, "--accept", "trusted")
	status, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "note")
	random(t, src, 1000)
	host := "nigh-" + strings.ToLower(status.Short) + ".local"
	must(t, ada, "send", src, "--to", host, "--wait")
	if out := must(t, ada, "peers", "addresses"); !strings.Contains(out, host+":7421  bob") {
		t.Errorf("addresses: %s", out)
	}
	for _, c := range []struct {
		to   string
		code int
		says string
	}{
		{"10.0.0.300", 2, "10.0.0.300 is no IPv4 address"},
		{"10.0.0.2:0", 2, "no port from 1 to 65535"},
		{"fe80::1", 2, "fe80::1 needs the link that it is on"},
		{"fe80::1%eth9", 2, "there is no link called eth9"},
		{"224.0.0.251", 2, "not the address of one device"},
		{"10.0.0.77", 4, "nobody answers at 10.0.0.77:7421"},
		{"10.0.0.2:9", 4, "nobody answers at 10.0.0.2:9"},
		{"10.0.0.1", 2, "this device itself"},
		{"no-such-host.local", 4, "no address is known for the host no-such-host.local"},
	} {
		_, errs, code := ada.Run(within(t, 60*time.Second), "send", src, "--to", c.to)
		if code != c.code || !strings.Contains(errs, c.says) || strings.Count(strings.TrimSpace(errs), "\n") > 1 {
			t.Errorf("--to %s: exit %d, want %d: %q", c.to, code, c.code, errs)
		}
	}
}
