package doctor

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"nigh/lab"
)

// session and discovered are the packets that have to come in.
var (
	session    = packet{ifname: "eth0", proto: "tcp", port: 7421}
	discovered = packet{ifname: "eth0", proto: "udp", port: 5353, group: "224.0.0.251"}
)

// TestRulesOfTheKernel has real rules read back, and compares what is made of them with what the kernel does with packets.
func TestRulesOfTheKernel(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the program nft: apt-get install nftables")
	}
	const begin = "table inet filter {\n set ok { type inet_service; flags interval; elements = { 22, 7000-7500 } }\n map what { type inet_service : verdict; elements = { 7421 : accept } }\n chain sub { tcp dport 7421 accept\n }\n chain back { return\n }\n chain input { type filter hook input priority 0; "
	for _, tt := range []struct {
		name, rules         string
		session, discovered fate
	}{
		{"nothing", "", accepted, accepted},
		{"policy drop", "policy drop;\n ct state established,related accept\n iif lo accept\n", dropped, dropped},
		{"reject at the end", "ct state vmap { invalid : drop, established : accept, related : accept }\n reject with icmpx admin-prohibited\n", rejected, rejected},
		{"reset", "meta l4proto tcp reject with tcp reset\n", rejected, accepted},
		{"our ports", "policy drop;\n tcp dport { 22, 7421 } accept\n udp dport 5353 accept\n", accepted, accepted},
		{"a range", "policy drop;\n tcp dport 7000-8000 accept\n", accepted, dropped},
		{"a named set", "policy drop;\n tcp dport @ok accept\n", accepted, dropped},
		{"a map of verdicts", "policy drop;\n tcp dport vmap @what\n", accepted, dropped},
		{"another link", "policy drop;\n iifname { \"wlan0\", \"br*\" } accept\n", dropped, dropped},
		{"a name that ends in a star", "policy drop;\n iifname \"eth*\" accept\n", accepted, accepted},
		{"not this link", "policy drop;\n iifname != \"wlan0\" accept\n", accepted, accepted},
		{"new connections", "policy drop;\n tcp flags & (fin|syn|rst|ack) == syn ct state new tcp dport 7421 accept\n", accepted, dropped},
		{"a jump", "policy drop;\n jump back\n jump sub\n", accepted, dropped},
		{"a goto", "goto back\n drop\n", accepted, accepted},
		{"multicast", "policy drop;\n meta pkttype multicast accept\n", dropped, accepted},
		{"to the group", "policy drop;\n ip daddr 224.0.0.0/24 udp dport 5353 accept\n", dropped, accepted},
		{"from some", "policy drop;\n ip saddr 10.0.0.0/8 tcp dport 7421 accept\n", dropped | accepted, dropped},
		{"the other family", "policy drop;\n ip6 nexthdr tcp accept\n meta nfproto ipv6 accept\n", dropped, dropped},
		{"as nigh writes it", "policy drop;\n meta l4proto { tcp, udp } th dport { 7421, 5353 } accept comment \"nigh\"\n", accepted, accepted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := lab.NewNet(t).Host("walled")
			load(t, h, begin+tt.rules+" }\n}\n")
			var r *ruleset
			err := h.Do(func() (err error) { r, err = readRules(t.Context()); return err })
			if err != nil {
				t.Fatal(err)
			}
			if got, at := r.input(session); got != tt.session || got.closed() && at != (place{"inet", "filter", "input"}) {
				t.Errorf("session: %b at %v, want %b", got, at, tt.session)
			}
			if got, _ := r.input(discovered); got != tt.discovered {
				t.Errorf("discovery: %b, want %b", got, tt.discovered)
			}
		})
	}
}

// load gives a host rules.
func load(t *testing.T, h *lab.Host, rules string) {
	t.Helper()
	cmd := h.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, out, rules)
	}
}

// TestRulesOfUfw reads what nft 1.0.6 said of ufw 0.36.2 on iptables 1.8.9, of Debian 12, before and after `ufw allow Nigh`.
func TestRulesOfUfw(t *testing.T) {
	for file, want := range map[string]fate{"testdata/ufw.json": dropped, "testdata/ufw-nigh.json": accepted} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseRules(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, at := r.input(session); got != want || want == dropped && at != (place{"ip", "filter", "INPUT"}) {
			t.Errorf("%s: session %b at %v, want %b", file, got, at, want)
		}
		if got, _ := r.input(discovered); got != accepted {
			t.Errorf("%s: discovery %b", file, got)
		}
		six := session
		six.v6 = true
		if got, _ := r.input(six); want == accepted && got != accepted {
			t.Errorf("%s: IPv6 %b", file, got)
		}
	}
}

// Chains that call each other without end cannot be loaded; what cannot be is not trusted all the same.
func TestRulesWithoutEnd(t *testing.T) {
	r, err := parseRules([]byte(`{"nftables":[{"chain":{"family":"ip","table":"f","name":"a","hook":"input","prio":0,"policy":"drop"}},
		{"rule":{"family":"ip","table":"f","chain":"a","expr":[{"jump":{"target":"a"}}]}},
		{"rule":{"family":"ip","table":"f","chain":"a","expr":[{"jump":{"target":"a"}}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := r.input(session); got.open() {
		t.Errorf("%b", got)
	}
}

func FuzzRules(f *testing.F) {
	// One rule at a time: the fuzzer is slow with inputs that are long.
	raw, err := os.ReadFile("testdata/nft.json")
	if err != nil {
		f.Fatal(err)
	}
	const chain = `{"nftables":[{"chain":{"family":"inet","table":"filter","name":"input","hook":"input","prio":0,"policy":"drop"}},`
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSuffix(strings.TrimSpace(line), ","); strings.HasPrefix(line, "{\"rule") || strings.HasPrefix(line, "{\"set") {
			f.Add([]byte(chain + line + "]}"))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRules(raw)
		if err != nil {
			return
		}
		for _, p := range []packet{session, discovered, {ifname: "eth0", proto: "tcp", port: 7421, v6: true}} {
			if got, at := r.input(p); got == 0 || got.closed() && at == (place{}) && len(r.chains) == 0 {
				t.Errorf("%b at %v", got, at)
			}
		}
	})
}
