package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"nigh/lab"
)

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
