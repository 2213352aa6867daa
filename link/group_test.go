package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/lab"
)

// listing is everything about a host's links that a person can see and that must be put back.
func listing(t *testing.T, h *lab.Host, ifname string) string {
	t.Helper()
	var out strings.Builder
	out.WriteString(h.IP("-oneline", "address", "show", "dev", ifname))
	out.WriteString(h.IP("route", "show", "table", "all", "dev", ifname))
	out.WriteString(h.IP("-6", "route", "show", "table", "all", "dev", ifname))
	out.WriteString(h.IP("rule", "show"))
	err := h.Do(func() error {
		for _, s := range settings(true) {
			v, err := sysctl(s.Family, ifname, s.Key)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "%s %s %s\n", s.Family, s.Key, v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func group(t *testing.T, h *lab.Host, b *Book, spec GroupSpec) (g *GroupLink) {
	t.Helper()
	err := h.Do(func() (err error) {
		ifi, err := net.InterfaceByName(spec.Ifname)
		if err != nil {
			return err
		}
		spec.Index = ifi.Index
		g, err = b.EnsureGroup(t.Context(), spec)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func book(t *testing.T, dir string) *Book {
	t.Helper()
	b, err := OpenBook(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b.SetAside() != "" {
		t.Fatalf("the book was damaged: %s", b.SetAside())
	}
	return b
}

// cabled gives two hosts and a cable as a driver would give a group interface: up, and its addresses the kernel's business.
func cabled(t *testing.T) (a, b *lab.Host) {
	t.Helper()
	n := lab.NewNet(t)
	a, b = n.Host("a"), n.Host("b")
	n.Cable(a, "grp0", b, "grp0")
	return a, b
}

// Owner and client can talk the moment EnsureGroup returned, without waiting for duplicate address detection.
func TestEnsureGroupReachesTheOwnerAtOnce(t *testing.T) {
	a, b := cabled(t)
	for _, h := range []*lab.Host{a, b} {
		// From nothing, with the kernel's usual settings.
		h.IP("link", "set", "grp0", "down")
		h.Sysctl("net.ipv6.conf.grp0.accept_dad", "1")
	}
	start := time.Now()
	owner := group(t, a, book(t, t.TempDir()), GroupSpec{Ifname: "grp0", Owner: true, V4: netip.MustParsePrefix("192.168.49.1/24")})
	client := group(t, b, book(t, t.TempDir()), GroupSpec{Ifname: "grp0"})
	ready := time.Since(start)
	if ll := client.LinkLocal(); ll.Zone() != "grp0" || !ll.IsLinkLocalUnicast() {
		t.Errorf("link-local address %v", ll)
	}
	var ln net.Listener
	if err := a.Do(func() (err error) { ln, err = net.Listen("tcp6", "[::]:0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, to := range []string{"fe80::1%grp0", owner.LinkLocal().WithZone("grp0").String()} {
		err := b.Do(func() error {
			// The first neighbour solicitation may be lost right after carrier; the dial is repeated as a session would.
			var last error
			for deadline := time.Now().Add(eventWait); time.Now().Before(deadline); {
				d := net.Dialer{Timeout: 250 * time.Millisecond}
				conn, err := d.Dial("tcp6", net.JoinHostPort(to, fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)))
				if err == nil {
					return conn.Close()
				}
				last = err
			}
			return last
		})
		if err != nil {
			t.Errorf("dial %s: %v", to, err)
		}
	}
	t.Logf("both sides addressed after %v, both addresses dialled after %v", ready, time.Since(start))
	if out := a.IP("-oneline", "address", "show", "dev", "grp0"); strings.Contains(out, "tentative") || strings.Count(out, "inet6") != 2 || !strings.Contains(out, "192.168.49.1/24") {
		t.Errorf("owner's addresses:\n%s", out)
	}
	if out := a.IP("route", "show", "default"); out != "" {
		t.Errorf("a default route appeared: %s", out)
	}
	for _, g := range []struct {
		h *lab.Host
		g *GroupLink
	}{{a, owner}, {b, client}} {
		if err := g.h.Do(g.g.Close); err != nil {
			t.Error(err)
		}
	}
}

func TestEnsureGroupTwiceIsTheSame(t *testing.T) {
	a, _ := cabled(t)
	before := listing(t, a, "grp0")
	dir := t.TempDir()
	b := book(t, dir)
	spec := GroupSpec{Ifname: "grp0", Owner: true}
	group(t, a, b, spec)
	once := listing(t, a, "grp0")
	if once == before {
		t.Fatal("EnsureGroup changed nothing")
	}
	group(t, a, b, spec)
	if twice := listing(t, a, "grp0"); twice != once {
		t.Errorf("the second call changed something:\n%s\n%s", once, twice)
	}
	// The address from the handshake arrives later, and a lease may replace it.
	spec.V4 = netip.MustParsePrefix("192.168.49.1/24")
	group(t, a, b, spec)
	spec.V4 = netip.MustParsePrefix("192.168.50.1/24")
	g := group(t, a, b, spec)
	out := listing(t, a, "grp0")
	if strings.Contains(out, "192.168.49.1") || !strings.Contains(out, "192.168.50.1/24") {
		t.Errorf("IPv4 address was not replaced:\n%s", out)
	}
	if err := a.Do(g.Close); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, a, "grp0"); after != before {
		t.Errorf("not put back:\nbefore\n%s\nafter\n%s", before, after)
	}
	if err := a.Do(g.Close); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, bookName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the book is not empty: %v", err)
	}
}

// What was on the link before us belongs to somebody else, also when it is what we would have added.
func TestCloseLeavesForeignAddresses(t *testing.T) {
	a, _ := cabled(t)
	a.IP("address", "add", "192.168.49.1/24", "dev", "grp0")
	before := listing(t, a, "grp0")
	b := book(t, t.TempDir())
	g := group(t, a, b, GroupSpec{Ifname: "grp0", Owner: true, V4: netip.MustParsePrefix("192.168.49.1/24")})
	a.IP("address", "add", "10.3.0.1/24", "dev", "grp0")
	a.Sysctl("net.ipv4.conf.grp0.arp_ignore", "2")
	if err := a.Do(g.Close); err != nil {
		t.Fatal(err)
	}
	a.IP("address", "del", "10.3.0.1/24", "dev", "grp0")
	if v := listing(t, a, "grp0"); !strings.Contains(v, "arp_ignore 2") {
		t.Errorf("a setting that somebody changed after us was overwritten:\n%s", v)
	}
	a.Sysctl("net.ipv4.conf.grp0.arp_ignore", "0")
	if after := listing(t, a, "grp0"); after != before {
		t.Errorf("not put back:\nbefore\n%s\nafter\n%s", before, after)
	}
}

// A run that was killed leaves its book behind. The next one removes what the book names, and nothing else.
func TestCleanupAfterACrash(t *testing.T) {
	a, _ := cabled(t)
	before := listing(t, a, "grp0")
	dir := t.TempDir()
	group(t, a, book(t, dir), GroupSpec{Ifname: "grp0", Owner: true, V4: netip.MustParsePrefix("192.168.49.1/24")})
	// The address on another link must survive, and so must one that came to this link from elsewhere.
	a.IP("address", "add", "10.3.0.1/24", "dev", "grp0")
	if err := a.Do(book(t, dir).Cleanup); err != nil {
		t.Fatal(err)
	}
	if out := listing(t, a, "grp0"); !strings.Contains(out, "10.3.0.1/24") || strings.Contains(out, "192.168.49.1") {
		t.Errorf("after the clean-up:\n%s", out)
	}
	a.IP("address", "del", "10.3.0.1/24", "dev", "grp0")
	if after := listing(t, a, "grp0"); after != before {
		t.Errorf("not put back:\nbefore\n%s\nafter\n%s", before, after)
	}
	if err := a.Do(book(t, dir).Cleanup); err != nil {
		t.Errorf("second clean-up: %v", err)
	}
}

// A record from before a reboot, or from another namespace, names an index that is now another link's.
func TestCleanupIgnoresRecordsFromElsewhere(t *testing.T) {
	a, _ := cabled(t)
	dir := t.TempDir()
	g := group(t, a, book(t, dir), GroupSpec{Ifname: "grp0", Owner: true})
	path := filepath.Join(dir, bookName)
	mine, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel adds its multicast route when it notices the carrier, which may be a moment later.
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(listing(t, a, "grp0"), "multicast ff00::/8"); {
		if time.Now().After(deadline) {
			t.Fatal("the link does not carry")
		}
	}
	was := listing(t, a, "grp0")
	for name, forge := range map[string]func(*entry){
		"another boot":      func(e *entry) { e.Boot = "00000000-0000-0000-0000-000000000000" },
		"another namespace": func(e *entry) { e.NetNS++ },
		"a link that is gone": func(e *entry) {
			e.Index = 1 << 20
		},
	} {
		var entries []entry
		if err := json.Unmarshal(mine, &entries); err != nil {
			t.Fatal(err)
		}
		forge(&entries[0])
		raw, err := json.Marshal(entries)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.Do(book(t, dir).Cleanup); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if now := listing(t, a, "grp0"); now != was {
			t.Errorf("%s: the clean-up touched the link:\n%s\nwas\n%s", name, now, was)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the record was kept", name)
		}
	}
	if err := a.Do(g.Close); err != nil {
		t.Error(err)
	}
}

func TestVanishedLinkIsNoError(t *testing.T) {
	a, _ := cabled(t)
	b := book(t, t.TempDir())
	g := group(t, a, b, GroupSpec{Ifname: "grp0"})
	a.IP("link", "del", "grp0")
	if err := a.Do(g.Close); err != nil {
		t.Errorf("Close: %v", err)
	}
	err := a.Do(func() error {
		_, err := b.EnsureGroup(t.Context(), GroupSpec{Ifname: "grp0", Index: g.at.Index})
		return err
	})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("EnsureGroup: %v", err)
	}
}

func TestEnsureGroupWithoutIPv6(t *testing.T) {
	a, _ := cabled(t)
	a.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
	b := book(t, t.TempDir())
	err := a.Do(func() error {
		ifi, err := net.InterfaceByName("grp0")
		if err != nil {
			return err
		}
		_, err = b.EnsureGroup(t.Context(), GroupSpec{Ifname: "grp0", Index: ifi.Index})
		return err
	})
	if !errors.Is(err, ErrNoIPv6) {
		t.Errorf("without any address: %v", err)
	}
	g := group(t, a, b, GroupSpec{Ifname: "grp0", V4: netip.MustParsePrefix("192.168.49.2/24")})
	if g.LinkLocal().IsValid() {
		t.Errorf("link-local address %v with IPv6 off", g.LinkLocal())
	}
	if err := a.Do(g.Close); err != nil {
		t.Error(err)
	}
}

func TestFreeSubnetAvoidsAddressesAndRoutes(t *testing.T) {
	a, _ := cabled(t)
	free := func() (p netip.Prefix) {
		t.Helper()
		if err := a.Do(func() (err error) { p, err = FreeSubnet(); return err }); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := free(); p.String() != "192.168.49.0/24" {
		t.Errorf("on an empty machine %v", p)
	}
	a.IP("address", "add", "192.168.49.7/24", "dev", "grp0")
	a.IP("route", "add", "192.168.50.0/25", "dev", "grp0")
	a.IP("route", "add", "192.168.51.0/24", "dev", "grp0", "table", "77")
	a.IP("route", "add", "default", "dev", "grp0")
	a.IP("route", "add", "128.0.0.0/1", "dev", "grp0")
	if p := free(); p.String() != "192.168.52.0/24" {
		t.Errorf("with three of them taken %v", p)
	}
	a.IP("route", "add", "192.168.0.0/16", "dev", "grp0")
	a.IP("route", "add", "10.0.0.0/8", "dev", "grp0")
	if err := a.Do(func() error { _, err := FreeSubnet(); return err }); !errors.Is(err, ErrNoSubnet) {
		t.Errorf("with all taken: %v", err)
	}
}

func TestDamagedBookIsSetAside(t *testing.T) {
	for name, content := range map[string]string{
		"cut":            `[{"index":`,
		"a path":         `[{"index":3,"ifname":"../../etc"}]`,
		"a path as key":  `[{"index":3,"ifname":"grp0","settings":[{"family":"ipv6","key":"../../x","old":"1","new":"0"}]}]`,
		"another family": `[{"index":3,"ifname":"grp0","settings":[{"family":"../ipv6","key":"x","old":"1","new":"0"}]}]`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, bookName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBook(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kept, err := os.ReadFile(b.SetAside())
		if err != nil || string(kept) != content || len(b.entries) != 0 {
			t.Errorf("%s: set aside in %q: %v", name, b.SetAside(), err)
		}
	}
	if _, err := OpenBook(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent folder: %v", err)
	}
}
