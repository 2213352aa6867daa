package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nigh/lab"
)

const eventWait = 10 * time.Second

// watch runs a monitor in h's namespace for the life of the test.
func watch(t *testing.T, h *lab.Host, only ...string) *Monitor {
	t.Helper()
	m := NewMonitor(Config{Only: only})
	run(t, h, m)
	return m
}

func run(t *testing.T, h *lab.Host, m *Monitor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Do(func() error { return m.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, open := <-m.Changes(); open {
			// One change may have been waiting; then the channel must be closed.
			if _, open := <-m.Changes(); open {
				t.Error("the channel of changes is open after Run")
			}
		}
	})
	first := await(t, m, func(Change) bool { return true })
	if !strings.HasPrefix(first.Reason, "initial") {
		t.Errorf("first change: %q", first.Reason)
	}
}

// await returns the first change that ok accepts.
func await(t *testing.T, m *Monitor, ok func(Change) bool) Change {
	t.Helper()
	deadline := time.After(eventWait)
	var seen []string
	for {
		select {
		case c, open := <-m.Changes():
			if !open {
				t.Fatal("the monitor stopped")
			}
			if ok(c) {
				return c
			}
			seen = append(seen, c.Reason)
		case <-deadline:
			t.Fatalf("no such change in %v; seen %q", eventWait, seen)
		}
	}
}

func named(links []Link, name string) (Link, bool) {
	i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return links[i], true
}

func has(c Change, name string, ok func(Link) bool) bool {
	l, found := named(c.Links, name)
	return found && ok(l)
}

func TestMonitorFollowsALink(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	m := watch(t, a)

	n.Cable(a, "eth0", b, "eth0")
	c := await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })
	l, _ := named(c.Links, "eth0")
	if l.Kind != Ethernet || !l.Up || l.MTU != 1500 || len(l.HardwareAddr) != 6 || len(l.Prefixes) != 1 || !l.Prefixes[0].Addr().IsLinkLocalUnicast() {
		t.Errorf("link %+v", l)
	}

	a.IP("address", "add", "10.1.0.1/24", "dev", "eth0")
	c = await(t, m, func(c Change) bool { return strings.Contains(c.Reason, "address 10.1.0.1/24 added") })
	if !has(c, "eth0", func(l Link) bool { return slices.Contains(l.Prefixes, netip.MustParsePrefix("10.1.0.1/24")) }) {
		t.Errorf("the address is missing in %+v", c.Links)
	}
	a.IP("address", "del", "10.1.0.1/24", "dev", "eth0")
	await(t, m, func(c Change) bool { return strings.Contains(c.Reason, "address 10.1.0.1/24 removed") })

	b.IP("link", "set", "eth0", "down")
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool { return !l.Up && !l.Usable && l.Why == "no carrier" })
	})
	b.IP("link", "set", "eth0", "up")
	await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })

	a.IP("link", "set", "eth0", "down")
	a.IP("link", "set", "eth0", "name", "lan0")
	a.IP("link", "set", "lan0", "up")
	c = await(t, m, func(c Change) bool { return has(c, "lan0", func(l Link) bool { return l.Usable }) })
	if r, _ := named(c.Links, "lan0"); r.Index != l.Index {
		t.Errorf("the index changed with the name: %d, %d", l.Index, r.Index)
	}

	a.IP("link", "del", "lan0")
	c = await(t, m, func(c Change) bool { _, ok := named(c.Links, "lan0"); return !ok })
	if !strings.Contains(c.Reason, "lan0 removed") {
		t.Errorf("reason %q", c.Reason)
	}
	if got := m.Links(); len(got) != 1 || got[0].Kind != Loopback {
		t.Errorf("links at the end: %+v", got)
	}
}

// A link that leaves a bridge is reported as deleted in family AF_BRIDGE, and yet it is there.
func TestMonitorSurvivesBridgePorts(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "eth0", b, "eth0")
	m := watch(t, a)
	a.IP("link", "add", "br0", "type", "bridge", "forward_delay", "0")
	a.IP("link", "set", "br0", "up")
	a.IP("link", "set", "eth0", "master", "br0")
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool { return l.Why == "part of br0" }) && has(c, "br0", func(l Link) bool { return l.Usable })
	})
	a.IP("link", "set", "eth0", "nomaster")
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool { return l.Usable }) && has(c, "br0", func(l Link) bool { return !l.Usable })
	})
}

func TestMonitorObeysTheChoice(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "eth0", b, "eth0")
	n.Cable(a, "vethx", b, "eth1")
	m := watch(t, a, "vethx")
	links := m.Links()
	if l, _ := named(links, "vethx"); !l.Usable || l.Kind != Virtual {
		t.Errorf("chosen link: %+v", l)
	}
	if l, _ := named(links, "eth0"); l.Usable || l.Why == "" {
		t.Errorf("link that was not chosen: %+v", l)
	}
}

// Duplicate address detection holds an address back for a second or more: until then the link must not count as usable.
func TestMonitorWaitsForTentativeAddresses(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	a.Sysctl("net.ipv6.conf.default.accept_dad", "1")
	m := watch(t, a)
	// Cable returns when the address is no longer tentative.
	n.Cable(a, "eth0", b, "eth0")
	early := false
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool {
			early = early || l.Usable && len(l.Prefixes) == 0
			return l.Usable
		})
	})
	if early {
		t.Error("usable without an address")
	}
}

// A subscription that breaks, and cannot be had again at first, costs a re-read and nothing else.
func TestMonitorSubscribesAgain(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	m := NewMonitor(Config{})
	var socks []*nl.NetlinkSocket
	tries := 0
	again := make(chan struct{})
	m.open = func() (*nl.NetlinkSocket, error) {
		if tries++; tries == 2 {
			return nil, unix.ENOBUFS
		}
		sock, err := subscribe()
		socks = append(socks, sock)
		if tries == 3 {
			close(again)
		}
		return sock, err
	}
	run(t, a, m)
	socks[0].Close()
	// What happens now happens while nobody listens, or is heard by the new subscription: seen it must be.
	n.Cable(a, "eth0", b, "eth0")
	await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })
	select {
	case <-again:
	case <-time.After(eventWait):
		t.Fatal("no new subscription")
	}
	a.IP("link", "del", "eth0")
	await(t, m, func(c Change) bool { _, ok := named(c.Links, "eth0"); return !ok })
}

// overflows counts the log records about lost events.
type overflows struct {
	slog.Handler
	n *atomic.Int64
}

func (o overflows) Enabled(context.Context, slog.Level) bool { return true }

func (o overflows) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "Link events overflowed" {
		o.n.Add(1)
	}
	return nil
}

// With the smallest receive buffer the kernel drops events (ENOBUFS), and the state is still right in the end.
func TestMonitorOverflow(t *testing.T) {
	n := lab.NewNet(t)
	a := n.Host("a")
	var lost atomic.Int64
	m := NewMonitor(Config{Logger: slog.New(overflows{slog.DiscardHandler, &lost})})
	m.open = func() (*nl.NetlinkSocket, error) {
		sock, err := subscribe()
		if err != nil {
			return nil, err
		}
		return sock, sock.SetReceiveBufferSize(1, false)
	}
	run(t, a, m)
	storm(t, a, 30)
	await(t, m, func(c Change) bool {
		return len(c.Links) == 3 && has(c, "s7", func(l Link) bool { return l.Usable }) && has(c, "p7", func(l Link) bool { return l.Usable })
	})
	if lost.Load() == 0 {
		t.Error("the test lost no events, and proves nothing")
	}
}

// Two hundred links come and go while nobody reads: the monitor must end with the truth.
func TestMonitorStorm(t *testing.T) {
	n := lab.NewNet(t)
	a := n.Host("a")
	m := watch(t, a)
	storm(t, a, 100)
	// Whether this change or a later one shows it, the last word must be these three links.
	await(t, m, func(c Change) bool {
		return len(c.Links) == 3 && has(c, "s7", func(l Link) bool { return l.Usable }) && has(c, "p7", func(l Link) bool { return l.Usable })
	})
	if got := m.Links(); len(got) != 3 {
		t.Errorf("%d links at the end", len(got))
	}
}

// storm makes pairs of links and deletes them again, but the pair of s7.
func storm(t *testing.T, h *lab.Host, pairs int) {
	t.Helper()
	var batch strings.Builder
	for i := range pairs {
		fmt.Fprintf(&batch, "link add s%d type veth peer name p%d\nlink set s%d up\nlink set p%d up\n", i, i, i, i)
	}
	for i := range pairs {
		if i != 7 {
			fmt.Fprintf(&batch, "link del s%d\n", i)
		}
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h.IP("-batch", file)
}

// listing is everything about a host's links that a person can see and that must be put back.
func listing(t *testing.T, h *lab.Host, ifname string) string {
	t.Helper()
	var out strings.Builder
	out.WriteString(h.IP("-oneline", "address", "show", "dev", ifname))
	out.WriteString(h.IP("route", "show", "table", "all", "dev", ifname))
	out.WriteString(h.IP("-6", "route", "show", "table", "all", "dev", ifname))
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
			t.Errorf("%s: the clean-up touched the link:\n%s", name, now)
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
