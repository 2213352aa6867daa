package link

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
	groups := func(proc string) Finding {
		var links []Link
		if _, err := os.Stat(filepath.Join(proc, "sys")); err == nil {
			links = []Link{{Name: "eth0", Kind: Ethernet, Up: true}, {Name: "p2p-wlan0-0", Kind: Direct, Up: true}}
		}
		return checkGroupLinks(links, proc)
	}
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
		{"no group", groups, nil, "ok", "no Wi-Fi Direct group"},
		{"group as it should be", groups, map[string]string{"sys/net/ipv6/conf/p2p-wlan0-0/accept_ra": "0\n", "sys/net/ipv4/conf/p2p-wlan0-0/forwarding": "0\n"}, "ok", "as they should be"},
		{"group takes routers", groups, map[string]string{"sys/net/ipv6/conf/p2p-wlan0-0/accept_ra": "1\n"}, "warn", "ReadWritePaths"},
		{"group forwards", groups, map[string]string{"sys/net/ipv4/conf/p2p-wlan0-0/forwarding": "1\n"}, "warn", "ipv4 forwarding of p2p-wlan0-0 is 1"},
		{"one right", checkCapabilities, map[string]string{"self/status": "CapEff:\t0000000000003000\n"}, "warn", "lacks CAP_NET_BIND_SERVICE)"},
		{"strange status", checkCapabilities, map[string]string{"self/status": "CapEff:\tx\n"}, "warn", "cannot be read"},
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
		if want := []string{"links", "ipv6-off", "caps", "subnet", "mdns", "foreign-dhcp", "group-link"}; !slices.Equal(ids, want) {
			t.Errorf("findings %v", ids)
		}
		return out
	}
	for _, f := range diagnose() {
		if f.State != stateOK {
			t.Errorf("on a healthy host: %+v", f)
		}
	}

	a.IP("link", "add", "grp1", "type", "veth", "peer", "name", "grp2")
	a.IP("address", "add", "10.1.0.1/24", "dev", "grp0")
	a.IP("address", "add", "10.1.0.2/16", "dev", "grp1")
	a.IP("link", "set", "grp1", "up")
	a.IP("link", "set", "grp0", "down")
	a.IP("link", "set", "grp0", "up")
	if f := diagnose()["subnet"]; f.State != stateWarn || !strings.Contains(f.Cause, "grp0 and grp1") {
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
	if f := diagnose()["mdns"]; f.State != stateFail || !strings.Contains(f.Cause, "5353") {
		t.Errorf("port taken: %+v", f)
	}
	if f := diagnose()["foreign-dhcp"]; f.State != stateOK {
		t.Errorf("nobody serves DHCP: %+v", f)
	}
	serve := func(ifname string) (fd int) {
		t.Helper()
		err := a.Do(func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			if ifname != "" {
				if err := unix.BindToDevice(fd, ifname); err != nil {
					return err
				}
			}
			return unix.Bind(fd, &unix.SockaddrInet4{Port: dhcpPort})
		})
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	other := serve("grp0") // as the DHCP server for virtual machines does
	if f := diagnose()["foreign-dhcp"]; f.State != stateOK {
		t.Errorf("a DHCP server on a link that is no group's: %+v", f)
	}
	_ = unix.Close(other)

	a.IP("link", "del", "grp1")
	a.IP("route", "add", "192.168.0.0/16", "dev", "grp0")
	a.IP("route", "add", "10.0.0.0/8", "dev", "grp0")
	if f := diagnose()["subnet"]; f.State != stateWarn || !strings.Contains(f.Cause, "All subnets") {
		t.Errorf("no subnet left: %+v", f)
	}
}

// A DHCP server of another process on the link of a group, which a veth stands for here.
func TestForeignDHCPServerIsNamed(t *testing.T) {
	a, _ := cabled(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs the program busybox: apt-get install busybox-static")
	}
	conf := filepath.Join(tree(t, map[string]string{
		"udhcpd.conf": "start 10.3.0.10\nend 10.3.0.20\ninterface grp0\npidfile /dev/null\nlease_file /dev/null\n",
	}), "udhcpd.conf")
	a.IP("address", "add", "10.3.0.1/24", "dev", "grp0")
	cmd := a.Command(t.Context(), busybox, "udhcpd", "-f", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(10 * time.Second)
	for {
		var f Finding
		_ = a.Do(func() error {
			links, err := read(nil)
			for i := range links {
				if links[i].Name == "grp0" {
					links[i].Kind = Direct
				}
			}
			f = checkDHCP(links)
			return err
		})
		if f.State == stateWarn {
			if !strings.Contains(f.Cause, "on grp0") || !strings.Contains(f.Cause, fmt.Sprintf("(process %d)", cmd.Process.Pid)) || !strings.Contains(f.Fix, "dnsmasq") {
				t.Errorf("%+v", f)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %+v", f)
		}
		runtime.Gosched()
	}
}

func FuzzSocketInode(f *testing.F) {
	for _, s := range []string{"socket:[4711]", "socket:[]", "pipe:[1]", "socket:[99999999999]", "/dev/null"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if inode, ok := socketInode(s); ok && !strings.Contains(s, strconv.FormatUint(uint64(inode), 10)) {
			t.Errorf("%q gives %d", s, inode)
		}
		if w := plainWord(s); strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", w)
		}
	})
}
