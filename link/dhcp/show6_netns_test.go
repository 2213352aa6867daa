//go:build netns

package dhcp

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/lab"
	"nigh/link"
)

// plainBound is how long a plain device may wait for its address.
const plainBound = time.Second

// owned gives a group owner, set up as the agent does it, and a plain device that has joined.
func owned(t *testing.T) (plain *lab.Host) {
	t.Helper()
	n := lab.NewNet(t)
	owner, plain := n.Host("owner"), n.Host("plain")
	n.Cable(owner, "grp0", plain, "grp0")
	book, err := link.OpenBook(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var g *link.GroupLink
	err = owner.Do(func() error {
		ifi, err := net.InterfaceByName("grp0")
		if err != nil {
			return err
		}
		subnet, err := link.FreeSubnet()
		if err != nil {
			return err
		}
		g, err = book.EnsureGroup(t.Context(), link.GroupSpec{Ifname: "grp0", Index: ifi.Index, Owner: true, V4: netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits())})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := owner.Do(g.Close); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	member := hardware(t, plain)
	c := config()
	c.Last = netip.MustParseAddr("192.168.49.199")
	c.Allowed = func(m net.HardwareAddr) bool { return slices.Equal(m, member) }
	start(t, owner, server(t, c))
	return plain
}

// configured checks that the link has an address of the group, and that neither a route out nor a name server came with it.
func configured(t *testing.T, plain *lab.Host, told string) {
	t.Helper()
	out := plain.IP("-4", "-oneline", "address", "show", "dev", "grp0")
	if !strings.Contains(out, "inet 192.168.49.") || !strings.Contains(out, "/24") {
		t.Errorf("no address of the group: %q", out)
	}
	if out := plain.IP("route", "show", "default"); out != "" {
		t.Errorf("a default route: %s", out)
	}
	raw, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		for _, not := range []string{"router", "dns", "domain", "name_server", "staticroutes", "rfc3442", "ntp", "captive"} {
			if strings.Contains(strings.ToLower(name), not) && value != "" && !strings.HasPrefix(name, "old_") && !strings.HasPrefix(name, "requested_") {
				t.Errorf("the client was told %s", line)
			}
		}
	}
}

// clientScript writes a program that a client calls with what it learned in the environment.
func clientScript(t *testing.T, body string) (path, told string) {
	t.Helper()
	dir := t.TempDir()
	path, told = filepath.Join(dir, "script"), filepath.Join(dir, "told")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nenv >"+told+"\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, told
}

// plainRuns lets a plain client get an address several times, each on a group of its own, and checks the time of the worst.
func plainRuns(t *testing.T, get func(t *testing.T, ctx context.Context, plain *lab.Host) (told string)) {
	t.Helper()
	const runs = 5
	var took []time.Duration
	for range runs {
		plain := owned(t)
		ctx, cancel := context.WithTimeout(t.Context(), late)
		began := time.Now()
		told := get(t, ctx, plain)
		took = append(took, time.Since(began))
		cancel()
		configured(t, plain, told)
	}
	slices.Sort(took)
	t.Logf("start of the client to its address: %v in the middle, %v at worst (%d runs)", took[runs/2], took[runs-1], runs)
	if limit := lab.Bound(t, plainBound); took[runs-1] > limit {
		t.Errorf("an address only after %v, the bound is %v", took[runs-1], limit)
	}
}

// busybox's client, as routers, cameras and small systems have it.
func TestShow6Udhcpc(t *testing.T) {
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("needs busybox: apt-get install busybox-static")
	}
	plainRuns(t, func(t *testing.T, ctx context.Context, plain *lab.Host) string {
		path, told := clientScript(t, `[ "$1" = bound ] && exec ip address add "$ip/$mask" dev "$interface"`+"\nexit 0\n")
		out, err := plain.Command(ctx, "busybox", "udhcpc", "-f", "-q", "-n", "-i", "grp0", "-s", path, "-O", "router", "-O", "dns", "-O", "staticroutes").CombinedOutput()
		if err != nil {
			t.Fatalf("udhcpc: %v\n%s", err, out)
		}
		return told
	})
}

// ISC's client, as older Debian and Ubuntu have it.
func TestShow6Dhclient(t *testing.T) {
	if _, err := exec.LookPath("dhclient"); err != nil {
		t.Skip("needs dhclient: apt-get install isc-dhcp-client")
	}
	plainRuns(t, func(t *testing.T, ctx context.Context, plain *lab.Host) string {
		path, told := clientScript(t, `case "$reason" in BOUND|REBOOT) exec ip address add "$new_ip_address/24" dev "$interface";; esac`+"\nexit 0\n")
		dir := filepath.Dir(path)
		config := filepath.Join(dir, "dhclient.conf")
		if err := os.WriteFile(config, []byte("request subnet-mask, routers, domain-name, domain-name-servers, ntp-servers;\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"-4", "-v", "-cf", config, "-sf", path, "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid")}
		// It goes into the background once it has its address.
		out, err := plain.Command(ctx, "dhclient", append(args, "-1", "grp0")...).CombinedOutput()
		if err != nil {
			t.Fatalf("dhclient: %v\n%s", err, out)
		}
		t.Cleanup(func() {
			if out, err := plain.Command(context.Background(), "dhclient", append(args, "-x", "grp0")...).CombinedOutput(); err != nil {
				t.Errorf("dhclient -x: %v\n%s", err, out)
			}
		})
		return told
	})
}
