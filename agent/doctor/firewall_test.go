package doctor

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"nigh/lab"
	"nigh/link"
)

// fakeFirewalld answers as firewalld 1.3 does, at the level of messages: the real one needs packet filters of its own.
type fakeFirewalld struct {
	zones    map[string]string // by interface
	services map[string][]string
	ports    map[string][][]string
	denied   bool
}

func (f fakeFirewalld) GetDefaultZone() (string, *dbus.Error) { return "public", nil }

func (f fakeFirewalld) GetZoneOfInterface(ifname string) (string, *dbus.Error) {
	return f.zones[ifname], nil
}

func (f fakeFirewalld) GetServices(zone string) ([]string, *dbus.Error) {
	if f.denied {
		return nil, dbus.NewError("org.fedoraproject.FirewallD1.NotAuthorizedException", []any{"not authorized"})
	}
	return f.services[zone], nil
}

func (f fakeFirewalld) GetPorts(zone string) ([][]string, *dbus.Error) { return f.ports[zone], nil }

func (f fakeFirewalld) serve(t *testing.T, address string) {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	lower := func(names ...string) map[string]string {
		m := map[string]string{}
		for _, n := range names {
			m[n] = strings.ToLower(n[:1]) + n[1:]
		}
		return m
	}
	if err := conn.ExportWithMap(f, lower("GetDefaultZone"), firewalldPath, firewalldName); err != nil {
		t.Fatal(err)
	}
	if err := conn.ExportWithMap(f, lower("GetZoneOfInterface", "GetServices", "GetPorts"), firewalldPath, firewalldZone); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(firewalldName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
}

func TestFirewalld(t *testing.T) {
	links := []link.Link{{Name: "eth0", Usable: true}, {Name: "wlan0", Usable: true}}
	for _, tt := range []struct {
		name string
		fake *fakeFirewalld
		want State
		part string
	}{
		{"not there", nil, OK, ""},
		{"blocks", &fakeFirewalld{services: map[string][]string{"public": {"ssh", "dhcpv6-client"}}}, Warn, "firewalld (zone public) keeps other devices from connecting to this one on eth0"},
		{"service", &fakeFirewalld{services: map[string][]string{"public": {"ssh", "nigh"}}}, OK, "lets nigh through"},
		{"port", &fakeFirewalld{ports: map[string][][]string{"public": {{"7421", "tcp"}}}}, OK, "lets nigh through"},
		{"workstation", &fakeFirewalld{ports: map[string][][]string{"public": {{"1025-65535", "udp"}, {"1025-65535", "tcp"}}}}, OK, "lets nigh through"},
		{"udp alone", &fakeFirewalld{ports: map[string][][]string{"public": {{"7421", "udp"}}}}, Warn, "keeps"},
		{"trusted cable", &fakeFirewalld{zones: map[string]string{"eth0": "trusted"}}, Warn, "firewalld (zone public) keeps other devices from connecting to this one on wlan0"},
		{"silent", &fakeFirewalld{denied: true}, Warn, "may keep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := lab.SessionBus(t)
			if tt.fake != nil {
				tt.fake.serve(t, address)
			}
			c := Config{Bus: address, etc: t.TempDir()}
			c.complete()
			got := firewall(t.Context(), c, links)
			if len(got) != 1 || got[0].State != tt.want || !strings.Contains(got[0].Cause, tt.part) {
				t.Errorf("%+v, want %s with %q", got, tt.want, tt.part)
			}
			if got[0].State != OK && !strings.Contains(got[0].Fix, "firewall-cmd") {
				t.Errorf("fix %q", got[0].Fix)
			}
		})
	}
}

// TestDialBackIsProof puts what devices found beside what is read of firewalls: only the first proves anything.
func TestDialBackIsProof(t *testing.T) {
	ufw := &barrier{name: "ufw", fix: "sudo ufw allow Nigh"}
	sure := &barrier{name: "firewalld (zone public)", fix: "sudo firewall-cmd ...", sure: true}
	deaf := &barrier{name: "nftables (table inet filter, chain input)", fix: "sudo nft ...", sure: true, udp: true}
	for _, tt := range []struct {
		name    string
		b       *barrier
		outcome string
		want    State
		cause   string
		fix     string
	}{
		{"nothing known", nil, "", OK, "", ""},
		{"ufw is on", ufw, "", Warn, "ufw is on and may keep other devices from connecting", "ufw allow"},
		{"ufw is on and lets in", ufw, DialOpen, OK, "", ""},
		{"ufw drops", ufw, DialSilent, Warn, "bob got no answer from this device on eth0: ufw keeps it out", "ufw allow"},
		{"firewalld rejects", sure, DialRejected, Warn, "bob was turned away from this device on eth0: firewalld (zone public)", "firewall-cmd"},
		{"reset", sure, DialRefused, Warn, "bob was refused by this device on eth0", "firewall-cmd"},
		{"rules say no, a device got in", sure, DialOpen, OK, "", ""},
		{"somebody else drops", nil, DialSilent, Warn, "the network may keep its devices apart", "another network"},
		{"discovery is kept out", deaf, DialOpen, Warn, "keeps discovery (UDP port 5353) out on eth0", "nft"},
		{"an outcome from the future", nil, "tarpit", OK, "", ""},
	} {
		d := outcome([]DialBack{{"wlan0", "eve", DialSilent}, {"eth0", "bob", tt.outcome}}, "eth0")
		c := weigh("eth0", tt.b, d)
		if c.State != tt.want || !strings.Contains(c.Cause, tt.cause) || !strings.Contains(c.Fix, tt.fix) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
	// One that got in counts more than one that did not: that may be about the other.
	if d := outcome([]DialBack{{"eth0", "bob", DialSilent}, {"eth0", "eve", DialOpen}, {"eth0", "mia", DialRefused}}, "eth0"); d.Peer != "eve" {
		t.Errorf("%+v", d)
	}
	if s := shown("b\x1b[31m\u202eob" + strings.Repeat("x", 100)); strings.ContainsAny(s, "\x1b\u202e") || len(s) > 60 {
		t.Errorf("%q", s)
	}
}

func TestUfwRules(t *testing.T) {
	const drop = "DEFAULT_INPUT_POLICY=\"DROP\"\n"
	for _, tt := range []struct {
		name, rules, policy string
		want                fate
	}{
		{"nothing", "*filter\n", drop, dropped},
		{"open by default", "*filter\n", "DEFAULT_INPUT_POLICY=ACCEPT\n", accepted},
		{"our profile", "### tuple ### allow tcp 7421 0.0.0.0/0 any 0.0.0.0/0 Nigh - in\n", drop, accepted},
		{"another port", "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n", drop, dropped},
		{"a range", "### tuple ### allow any 7000:8000 0.0.0.0/0 any 0.0.0.0/0 in\n", drop, accepted},
		{"a list", "### tuple ### limit tcp 22,7421 0.0.0.0/0 any 0.0.0.0/0 in\n", drop, accepted},
		{"another link", "### tuple ### allow tcp 7421 0.0.0.0/0 any 0.0.0.0/0 in_wlan0\n", drop, dropped},
		{"our link", "### tuple ### allow tcp 7421 0.0.0.0/0 any 0.0.0.0/0 in_eth0\n", drop, accepted},
		{"the first counts", "### tuple ### deny_log tcp 7421 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### allow any any 0.0.0.0/0 any 0.0.0.0/0 in\n", drop, dropped},
		{"for some", "### tuple ### allow tcp 7421 0.0.0.0/0 any 192.168.0.0/16 in\n", drop, anything},
		{"out", "### tuple ### allow tcp 7421 0.0.0.0/0 any 0.0.0.0/0 out\n", drop, dropped},
		{"unknown policy", "", "", anything},
	} {
		if got := ufwRules(tt.rules, tt.policy, "eth0", 7421); got != tt.want {
			t.Errorf("%s: %b, want %b", tt.name, got, tt.want)
		}
	}
}
