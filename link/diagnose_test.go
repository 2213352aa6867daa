package link

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree writes files under a folder of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestChecksOfFiles(t *testing.T) {
	const conf = "sys/net/ipv6/conf/"
	for _, c := range []struct {
		what  string
		check func(root string) Finding
		files map[string]string
		state string
		says  string
	}{
		{"IPv6 on", checkIPv6, map[string]string{conf + "all/disable_ipv6": "0\n", conf + "default/disable_ipv6": "0\n"}, "ok", ""},
		{"IPv6 off", checkIPv6, map[string]string{conf + "all/disable_ipv6": "1\n"}, "warn", "all.disable_ipv6=0"},
		{"IPv6 off for new links", checkIPv6, map[string]string{conf + "all/disable_ipv6": "0\n", conf + "default/disable_ipv6": "1\n"}, "warn", "default.disable_ipv6=0"},
		{"no IPv6", checkIPv6, nil, "warn", "ipv6.disable=1"},
		{"all rights", checkCapabilities, map[string]string{"self/status": "Name:\tnigh\nCapEff:\t000001ffffffffff\n"}, "ok", ""},
		{"the unit's rights", checkCapabilities, map[string]string{"self/status": "CapEff:\t0000000000003400\n"}, "ok", ""},
		{"no rights", checkCapabilities, map[string]string{"self/status": "CapEff:\t0000000000000000\n"}, "warn", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE"},
		{"one right", checkCapabilities, map[string]string{"self/status": "CapEff:\t0000000000003000\n"}, "warn", "lacks CAP_NET_BIND_SERVICE)"},
		{"strange status", checkCapabilities, map[string]string{"self/status": "CapEff:\tx\n"}, "warn", "cannot be read"},
		{"no firewall", checkFirewall, map[string]string{"proc/1/comm": "systemd\n"}, "ok", ""},
		{"ufw off", checkFirewall, map[string]string{"etc/ufw/ufw.conf": "# on?\nENABLED=no\n"}, "ok", ""},
		{"ufw on", checkFirewall, map[string]string{"etc/ufw/ufw.conf": "LOGLEVEL=low\nENABLED=yes\n"}, "warn", "ufw allow Nigh"},
		{"firewalld", checkFirewall, map[string]string{"proc/77/comm": "firewalld\n"}, "warn", "firewall-cmd"},
		{"firewalld behind the sandbox", checkFirewall, map[string]string{"sys/fs/cgroup/system.slice/firewalld.service/cgroup.procs": "77\n"}, "warn", "firewall-cmd"},
	} {
		f := c.check(tree(t, c.files))
		if f.State != c.state || !strings.Contains(f.Cause+f.Fix, c.says) || f.Cause == "" || f.ID == "" {
			t.Errorf("%s: %+v", c.what, f)
		}
	}
}

func TestCheckUsableNamesWhatIsMissing(t *testing.T) {
	card := Link{Name: "eth0", Kind: Ethernet, Why: "no carrier"}
	for _, c := range []struct {
		links       []Link
		state, says string
	}{
		{[]Link{card, {Name: "wlan0", Kind: WiFi, Usable: true}}, "ok", "wlan0"},
		{[]Link{card, {Name: "docker0", Kind: Bridge, Why: "x"}}, "warn", "eth0: no carrier)"},
		{[]Link{{Name: "lo", Kind: Loopback}}, "warn", "no network card"},
	} {
		if f := checkUsable(c.links, nil); f.State != c.state || !strings.Contains(f.Cause, c.says) {
			t.Errorf("%+v", f)
		}
	}
	if f := checkUsable(nil, unix.EPERM); f.State != "fail" {
		t.Errorf("%+v", f)
	}
}

func TestDiagnoseInANamespace(t *testing.T) {
	a, _ := cabled(t)
	diagnose := func() map[string]Finding {
		t.Helper()
		out := map[string]Finding{}
		var ids []string
		_ = a.Do(func() error {
			for _, f := range Diagnose(t.Context()) {
				out[f.ID] = f
				ids = append(ids, f.ID)
				if f.State != stateOK && f.Fix == "" || f.Cause == "" {
					t.Errorf("says too little: %+v", f)
				}
			}
			return nil
		})
		if want := []string{"link_usable", "link_ipv6", "link_capabilities", "link_subnet", "link_mdns", "link_firewall"}; !slices.Equal(ids, want) {
			t.Errorf("findings %v", ids)
		}
		return out
	}
	for id, f := range diagnose() {
		if f.State != stateOK && id != "link_firewall" {
			t.Errorf("on a healthy host: %+v", f)
		}
	}

	a.IP("link", "add", "grp1", "type", "veth", "peer", "name", "grp2")
	a.IP("address", "add", "10.1.0.1/24", "dev", "grp0")
	a.IP("address", "add", "10.1.0.2/16", "dev", "grp1")
	a.IP("link", "set", "grp1", "up")
	a.IP("link", "set", "grp0", "down")
	a.IP("link", "set", "grp0", "up")
	if f := diagnose()["link_subnet"]; f.State != stateWarn || !strings.Contains(f.Cause, "grp0 and grp1") {
		t.Errorf("two links in one subnet: %+v", f)
	}

	// A program that will not share.
	var fd int
	err := a.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: mdnsPort})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if f := diagnose()["link_mdns"]; f.State != stateFail || !strings.Contains(f.Cause, "5353") {
		t.Errorf("port taken: %+v", f)
	}
	a.IP("link", "del", "grp1")
	a.IP("route", "add", "192.168.0.0/16", "dev", "grp0")
	a.IP("route", "add", "10.0.0.0/8", "dev", "grp0")
	if f := diagnose()["link_subnet"]; f.State != stateWarn || !strings.Contains(f.Cause, "All subnets") {
		t.Errorf("no subnet left: %+v", f)
	}
}
