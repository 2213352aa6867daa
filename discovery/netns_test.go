package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"nigh/lab"
)

// Goals of design.md 6, for the middle of several tries: a busy machine may be late once.
const (
	seenGoal = time.Second
	goneGoal = 1500 * time.Millisecond
)

func TestTwoSeeEachOtherAndPart(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	pa := start(t, a, Config{ShortID: "AAAA-0001", Instance: "Küche 1.5 \"x\" \\"})
	pa.do("status")
	var seen, gone []time.Duration
	for range 5 {
		pb := start(t, b, Config{ShortID: "BBBB-0002", Port: 7500})
		e, took := pa.await("b", of(Found, pb))
		seen = append(seen, took)
		if e.Host != "nigh-bbbb-0002.local" || e.TXT["v"] != "1" || e.TXT["id"] != "BBBB-0002" || e.Ifname != "eth0" {
			t.Errorf("event %+v", e)
		}
		if want := netip.MustParseAddrPort("10.0.0.2:7500"); len(e.Addrs) != 2 || e.Addrs[0] != want || e.Addrs[1].Addr().Zone() != "eth0" {
			t.Errorf("addresses %v", e.Addrs)
		}
		e, _ = pb.await("a", of(Found, pa))
		if e.Instance != "Küche 1.5 \"x\" \\ [AAAA-0001]" {
			t.Errorf("instance %q", e.Instance)
		}
		pb.stop()
		_, took = pa.await("b's goodbye", of(Gone, pb))
		gone = append(gone, took)
	}
	for what, m := range map[string]struct {
		took []time.Duration
		goal time.Duration
	}{"process start to seen": {seen, seenGoal}, "stop to gone": {gone, goneGoal}} {
		median, largest := summary(m.took)
		t.Logf("%s: median %v, largest %v of %d", what, median, largest, len(m.took))
		if median > m.goal {
			t.Errorf("%s: median %v, goal %v", what, median, m.goal)
		}
	}
}

func TestOneFamilyOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup func(h *lab.Host)
		addrs map[string][]string
		is    func(netip.Addr) bool
	}{
		"IPv6 link-local": {func(*lab.Host) {}, nil, func(a netip.Addr) bool { return a.IsLinkLocalUnicast() && a.Zone() == "eth0" }},
		"IPv6 unique local": {func(*lab.Host) {}, map[string][]string{"a": {"fd00::a/64"}, "b": {"fd00::b/64"}},
			func(a netip.Addr) bool {
				return a == netip.MustParseAddr("fd00::a") || a == netip.MustParseAddr("fd00::b")
			}},
		"IPv6, another network on one side": {func(*lab.Host) {}, map[string][]string{"b": {"fd00::b/64"}},
			func(a netip.Addr) bool { return a.IsLinkLocalUnicast() && a.Zone() == "eth0" }},
		"IPv4": {func(h *lab.Host) {
			h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
			h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
		}, map[string][]string{"a": {"10.0.0.1/16"}, "b": {"10.0.9.2/16"}}, netip.Addr.Is4},
	} {
		t.Run(name, func(t *testing.T) {
			n := lab.NewNet(t)
			lan := n.Bridge("lan")
			var peers []*peer
			for _, h := range []*lab.Host{n.Host("a"), n.Host("b")} {
				c.setup(h)
				lan.Join(h, "eth0", c.addrs[h.Name]...)
				peers = append(peers, start(t, h, Config{ShortID: h.Name + h.Name}))
			}
			for i, p := range peers {
				e, _ := p.await("the other", of(Found, peers[1-i]))
				if len(e.Addrs) != 1 || !c.is(e.Addrs[0].Addr()) {
					t.Errorf("addresses %v", e.Addrs)
				}
			}
			peers[0].stop()
			peers[1].await("goodbye", of(Gone, peers[0]))
		})
	}
}

// Rows 7 and 10 of mdns.md 6: links are kept apart, also when a process listens on both, and come while it runs.
func TestLinksAreKeptApart(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	one.Join(a, "eth0", "10.1.0.1/24")
	one.Join(c, "eth0", "10.1.0.3/24")
	two.Join(b, "eth0")
	pa, pb, pc := start(t, a, Config{ShortID: "A"}), start(t, b, Config{ShortID: "B", Port: 7500}), start(t, c, Config{ShortID: "C"})
	pa.await("c on the first link", of(Found, pc))
	pc.await("a", of(Found, pa))

	// The second link appears at a, with IPv4 on this side only.
	two.Join(a, "eth1", "10.2.0.1/24")
	pa.do("refresh")
	e, took := pa.await("b on the second link", func(e Event) bool { return e.Instance == pb.label })
	_, back := pb.await("a", of(Found, pa))
	t.Logf("7: a link appears: found after %v, and by the other side %v later", took, back)
	if e.Op != Found || e.Ifname != "eth1" || len(e.Addrs) != 1 || e.Addrs[0].Addr().Zone() != "eth1" || !e.Addrs[0].Addr().IsLinkLocalUnicast() {
		t.Fatalf("event %+v", e)
	}
	// The zone says which way to dial.
	var ln net.Listener
	if err := b.Do(func() (err error) { ln, err = net.Listen("tcp6", "[::]:7500"); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err := a.Do(func() error {
		// By index: this process caches the names of the namespace it was started in.
		to := netip.AddrPortFrom(e.Addrs[0].Addr().WithZone(strconv.Itoa(e.Index)), 7500)
		conn, err := net.DialTimeout("tcp6", to.String(), late)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Errorf("10: dial %v: %v", e.Addrs[0], err)
	}
	// Each side is told only what is on its link. The restart makes everybody say everything again.
	pb.stop()
	pa.await("b's goodbye", of(Gone, pb))
	pb2 := start(t, b, Config{ShortID: "B2"})
	pa.await("b again", of(Found, pb2))
	e, _ = pb2.await("a again", of(Found, pa))
	for _, p := range e.Addrs {
		if p.Addr().Is4() || p.Addr().Zone() != "eth0" {
			t.Errorf("b is told %v of a, which is an address of the other link", p)
		}
	}
	for _, p := range []*peer{pa, pc} {
		for _, e := range p.pending() {
			t.Errorf("%s: an event on a link where nothing happened: %+v", p.name, e)
		}
	}
	for _, s := range pa.seen {
		if strings.Contains(s, "eth0 b") || strings.Contains(s, "eth1 c") {
			t.Errorf("attributed to the wrong link: %s", s)
		}
	}
}

// Row 9: a link that is deleted and made again under the same name, many times.
func TestLinkComesBackUnderItsName(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	a, b := n.Host("a"), n.Host("b")
	one.Join(a, "eth0", "10.1.0.1/24")
	two.Join(a, "eth1", "10.2.0.1/24")
	two.Join(b, "eth0", "10.2.0.2/24")
	pa, pb := start(t, a, Config{ShortID: "A"}), start(t, b, Config{ShortID: "B"})
	pa.await("b", of(Found, pb))
	files := pa.do("status").Files
	var gone, found []time.Duration
	for range 20 {
		a.IP("link", "del", "eth1")
		began := time.Now()
		pa.do("refresh")
		pa.await("b gone with the link", of(Gone, pb))
		gone = append(gone, time.Since(began))
		two.Join(a, "eth1", "10.2.0.1/24")
		began = time.Now()
		pa.do("refresh")
		pa.await("b back with the link", of(Found, pb))
		found = append(found, time.Since(began))
	}
	median, largest := summary(gone)
	t.Logf("9: gone: median %v, largest %v", median, largest)
	if median > 500*time.Millisecond {
		t.Errorf("gone: median %v", median)
	}
	median, largest = summary(found)
	t.Logf("9: back: median %v, largest %v", median, largest)
	if median > time.Second {
		t.Errorf("back: median %v", median)
	}
	// The old Server closes its sockets a moment later.
	for deadline := time.Now().Add(late); ; {
		now := pa.do("status")
		if now.Files <= files {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d open files at first, %d at the end", files, now.Files)
		}
	}
}

// Row 11: addresses come and go, and the peer never seems to.
func TestAddressesChange(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24", "10.9.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	pa, pb := start(t, a, Config{ShortID: "A"}), start(t, b, Config{ShortID: "B"})
	pa.await("b", of(Found, pb))
	shows := func(addr string, want bool) func(Event) bool {
		return func(e Event) bool {
			if e.Op != Changed {
				t.Errorf("the peer seems to go or come: %+v", e)
			}
			has := slices.ContainsFunc(e.Addrs, func(p netip.AddrPort) bool { return p.Addr().String() == addr })
			return has == want
		}
	}
	b.IP("address", "add", "10.9.0.2/24", "dev", "eth0")
	pb.do("refresh")
	_, took := pa.await("the new address", shows("10.9.0.2", true))
	t.Logf("11: a new address is seen after %v", took)
	b.IP("address", "del", "10.9.0.2/24", "dev", "eth0")
	pb.do("refresh")
	_, took = pa.await("the old address to go", shows("10.9.0.2", false))
	t.Logf("11: an old address is gone after %v", took)
	b.IP("address", "del", "10.0.0.2/24", "dev", "eth0")
	b.IP("address", "add", "10.0.0.22/24", "dev", "eth0")
	pb.do("refresh")
	pa.await("the address to be replaced", func(e Event) bool { return shows("10.0.0.22", true)(e) && shows("10.0.0.2", false)(e) })
	// a's own address matters too: what is not on its link is not shown.
	a.IP("address", "del", "10.0.0.1/24", "dev", "eth0")
	pa.do("refresh")
	pa.await("addresses of the lost subnet to go", shows("10.0.0.22", false))
	for _, e := range append(pa.pending(), pb.pending()...) {
		if e.Op == Gone {
			t.Errorf("event %+v", e)
		}
	}
}

// Row 15, real packets: of everything a hostile neighbour sends only what is genuine multicast DNS is taken.
func TestHostileNeighbour(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, x := n.Host("a"), n.Host("x")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(x, "eth0", "10.0.0.66/24", "10.0.0.67/24", "10.9.9.9/24")
	pa := start(t, a, Config{ShortID: "A", Port: 7421})
	pa.do("status")

	good := func(name string) []byte { return response(t, service(t, name, "10.0.0.66")) }
	type spoof struct {
		what string
		from string
		to   string
		ttl  int
		data []byte
	}
	ptr := service(t, "x", "10.0.0.66")
	var spoofs []spoof
	for _, s := range []spoof{
		{"unicast", "10.0.0.66:5353", "10.0.0.1:5353", 255, good("unicast")},
		{"ephemeral port", "10.0.0.66:0", "224.0.0.251:5353", 255, good("ephemeral")},
		{"TTL 1", "10.0.0.66:5353", "224.0.0.251:5353", 1, good("ttl")},
		{"another subnet", "10.9.9.9:5353", "224.0.0.251:5353", 255, good("subnet")},
		{"a query with answers", "10.0.0.66:5353", "224.0.0.251:5353", 255, packed(t, &dns.Msg{Answer: ptr})},
		{"a probe", "10.0.0.66:5353", "224.0.0.251:5353", 255, packed(t, &dns.Msg{Question: []dns.Question{{Name: "x." + testService, Qtype: dns.TypeANY, Qclass: 1}}, Ns: ptr})},
		{"a broken packet", "10.0.0.66:5353", "224.0.0.251:5353", 255, good("cut")[:40]},
		{"our own instance", "10.0.0.66:5353", "224.0.0.251:5353", 255, response(t, service(t, escapeLabel(pa.label), "10.0.0.66"))},
	} {
		// Twice: the second may be taken for the first one's continuation.
		spoofs = append(spoofs, s, s)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		data := good("mutated")
		for range 1 + rnd.IntN(8) {
			data[rnd.IntN(len(data))] = byte(rnd.Uint32())
		}
		spoofs = append(spoofs, spoof{"mutated", "10.0.0.66:5353", "224.0.0.251:5353", 255, data[:rnd.IntN(len(data)+1)]})
	}
	// From another address: the first one has used up its rate.
	spoofs = append(spoofs, spoof{"genuine", "10.0.0.67:5353", "224.0.0.251:5353", 255, good("genuine")})
	for _, s := range spoofs {
		if err := x.Do(func() error { return send(s.from, s.to, s.ttl, s.data) }); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
	}
	pa.await("the genuine one", func(e Event) bool { return e.Instance == "genuine" })
	for _, s := range pa.seen {
		for _, name := range []string{" unicast", " ephemeral", " ttl", " subnet", " x ", " cut"} {
			if strings.Contains(s, name) {
				t.Errorf("taken: %s", s)
			}
		}
	}
	if st := pa.do("status").Status; len(st) != 1 || st[0].Dropped < 10 || !st[0].Publishing || st[0].Error != "" {
		t.Errorf("status %+v", st)
	}
}

// send sends one datagram.
func send(from, to string, ttl int, data []byte) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, ttl)
			_ = unix.BindToDevice(int(fd), "eth0")
		})
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", from)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.WriteTo(data, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
	return err
}

// Browsing without publishing shows others and is not shown.
func TestBrowseOnly(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	for i, h := range []*lab.Host{a, b, c} {
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
	}
	pa := start(t, a, Config{ShortID: "A"})
	start(t, b, Config{ShortID: "B", NoPublish: true}).await("a", of(Found, pa))
	pc := start(t, c, Config{ShortID: "C"})
	// When a has found c, which came later, it has had its time to find b.
	pa.await("c", of(Found, pc))
	for _, s := range pa.seen {
		if strings.Contains(s, "B") {
			t.Errorf("a saw %s", s)
		}
	}
}

// An agent without any rights finds and is found all the same.
func TestWithoutRights(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "eth0", b, "eth0")
	a.IP("address", "add", "10.0.0.1/24", "dev", "eth0")
	b.IP("address", "add", "10.0.0.2/24", "dev", "eth0")
	pa := start(t, a, Config{ShortID: "A"}, userVariable+"=65534")
	pb := start(t, b, Config{ShortID: "B"}, userVariable+"=65534")
	pa.await("b", of(Found, pb))
	pb.await("a", of(Found, pa))
	if st := pa.do("status").Status; len(st) != 1 || !st[0].IPv4 || !st[0].IPv6 || !st[0].Publishing || st[0].Error != "" {
		t.Errorf("status %+v", st)
	}
}
