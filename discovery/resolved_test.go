package discovery

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nigh/lab"
	"nigh/lab/avahi"
)

// resolved is the programs of the package systemd-resolved. It is unpacked and not installed, because its installation takes
// over /etc/resolv.conf.
func resolved(t *testing.T) (daemon, ctl string) {
	t.Helper()
	cache := os.Getenv("NIGH_LAB_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache", "nigh-lab")
	}
	for _, root := range []string{"/", filepath.Join(cache, "unpacked", "systemd-resolved")} {
		daemon, ctl = filepath.Join(root, "lib/systemd/systemd-resolved"), filepath.Join(root, "usr/bin/resolvectl")
		if exec.Command(daemon, "--version").Run() == nil {
			return daemon, ctl
		}
	}
	t.Skip("needs systemd-resolved: run .ci/unpack systemd-resolved")
	return "", ""
}

// systemd-resolved with multicast DNS on our own host: both go on working, and each finds the other's, there and elsewhere.
func TestBesideResolved(t *testing.T) {
	t.Parallel()
	daemon, ctl := resolved(t)
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	dir := avahi.Folder(t)
	bus := []string{"DBUS_SYSTEM_BUS_ADDRESS=" + avahi.Bus(t, a, dir), "SYSTEMD_LOG_LEVEL=info"}
	for name, text := range map[string]string{
		"resolved.conf": "[Resolve]\nMulticastDNS=yes\nLLMNR=no\nDNSStubListener=no\n",
		"thing.dnssd":   "[Service]\nName=Resolved thing\nType=_nigh._tcp\nPort=7700\nTxtText=v=1 n=x\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// It wants a user of its own, and folders that are its own.
	log := avahi.Background(t, a, bus, "sh", "-c", strings.Join([]string{
		"mount -t tmpfs -o mode=755 tmpfs /run/systemd", "mkdir /run/systemd/dnssd /run/systemd/resolved.conf.d",
		"cp " + dir + "/thing.dnssd /run/systemd/dnssd", "cp " + dir + "/resolved.conf /run/systemd/resolved.conf.d/nigh.conf",
		"(grep -v systemd-resolve: /etc/passwd; echo systemd-resolve:x:996:996::/:/usr/sbin/nologin) > /run/systemd/passwd",
		"(grep -v systemd-resolve: /etc/group; echo systemd-resolve:x:996:) > /run/systemd/group",
		"mount --bind /run/systemd/passwd /etc/passwd", "mount --bind /run/systemd/group /etc/group",
		"exec " + daemon,
	}, " && "))
	log.Await("its start", func(s string) bool { return strings.Contains(s, "Using system hostname") })
	resolvectl := func(args ...string) *avahi.Lines {
		return avahi.Background(t, a, bus, ctl, append([]string{"--no-pager"}, args...)...)
	}
	// It is on its bus a moment later.
	for tries := 0; ; tries++ {
		out, _ := avahi.Background(t, a, bus, "sh", "-c", ctl+" mdns eth0 yes && echo done || echo again").Await("an answer", func(s string) bool { return s == "done" || s == "again" })
		if out == "done" {
			break
		}
		if tries == 300 {
			t.Fatalf("systemd-resolved does not answer: %q, %q", log.Seen, log.Pending())
		}
	}

	pb := start(t, b, Config{Instance: "José's 1.5", ShortID: "BBBB-0002", Port: 7500})
	pa := start(t, a, Config{ShortID: "AAAA-0001"})
	want := map[string]bool{pa.label: true, "Resolved thing": true}
	e, _ := pb.await("the nigh and the service of systemd-resolved", func(e Event) bool {
		delete(want, e.Instance)
		return len(want) == 0 && e.Op != Gone
	})
	if e.TXT["v"] != "1" {
		t.Errorf("event %+v", e)
	}
	want = map[string]bool{pb.label: true, "Resolved thing": true}
	pa.await("the other nigh and the service of systemd-resolved beside it", func(e Event) bool { delete(want, e.Instance); return len(want) == 0 })

	resolvectl("query", "-4", "nigh-bbbb-0002.local").Await("the other's address", func(s string) bool { return strings.Contains(s, "10.0.0.2") })
	resolvectl("service", pb.label, "_nigh._tcp", "local").Await("the other's service", func(s string) bool { return strings.Contains(s, "nigh-bbbb-0002.local:7500") })

	// An end on either side is seen, and the other goes on.
	pa.stop()
	pb.await("the nigh gone", of(Gone, pa))
	pa = start(t, a, Config{ShortID: "AAAA-0003"})
	pb.await("a nigh again", of(Found, pa))
	log.Stop()
	pc := start(t, b, Config{ShortID: "CCCC-0004"})
	pa.await("a newcomer after the end of systemd-resolved", of(Found, pc))
	pc.await("the nigh that was beside it", of(Found, pa))
	for _, s := range log.Seen {
		if strings.Contains(strings.ToLower(s), "conflict") {
			t.Errorf("systemd-resolved says %q", s)
		}
	}
	if st := pa.do("status").Status; len(st) != 1 || !st[0].Publishing {
		t.Errorf("status %s", fmt.Sprint(st))
	}
}
