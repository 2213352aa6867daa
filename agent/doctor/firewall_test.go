package doctor

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"nigh/link"
)

// privateBus starts a real dbus-daemon and returns its address.
func privateBus(t *testing.T) string {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs the program dbus-daemon: apt-get install dbus")
	}
	cmd := exec.Command(daemon, "--session", "--nofork", "--nopidfile", "--print-address=1",
		"--address=unix:path="+filepath.Join(t.TempDir(), "bus"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

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
		{"not there", nil, "", ""},
		{"blocks", &fakeFirewalld{services: map[string][]string{"public": {"ssh", "dhcpv6-client"}}}, Warn, "blocks nigh on eth0 (zone public)"},
		{"service", &fakeFirewalld{services: map[string][]string{"public": {"ssh", "nigh"}}}, OK, "lets nigh through"},
		{"port", &fakeFirewalld{ports: map[string][][]string{"public": {{"7421", "tcp"}}}}, OK, "lets nigh through"},
		{"workstation", &fakeFirewalld{ports: map[string][][]string{"public": {{"1025-65535", "udp"}, {"1025-65535", "tcp"}}}}, OK, "lets nigh through"},
		{"udp alone", &fakeFirewalld{ports: map[string][][]string{"public": {{"7421", "udp"}}}}, Warn, "blocks"},
		{"trusted cable", &fakeFirewalld{zones: map[string]string{"eth0": "trusted"}}, Warn, "blocks nigh on wlan0 (zone public)"},
		{"silent", &fakeFirewalld{denied: true}, Warn, "does not say"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := privateBus(t)
			if tt.fake != nil {
				tt.fake.serve(t, address)
			}
			got := firewall(t.Context(), Config{Bus: address, Port: defaultPort}, links)
			if tt.fake == nil {
				if len(got) != 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].State != tt.want || !strings.Contains(got[0].Cause, tt.part) {
				t.Errorf("%+v, want %s with %q", got, tt.want, tt.part)
			}
			if got[0].State != OK && !strings.Contains(got[0].Fix, "firewall-cmd") {
				t.Errorf("fix %q", got[0].Fix)
			}
		})
	}
}
