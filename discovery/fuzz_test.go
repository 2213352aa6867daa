package discovery

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// offline is a link without sockets: everything but sending.
func offline(t testing.TB) *link {
	t.Helper()
	d, err := New(Config{Instance: "me", ShortID: "ME", Port: 7421})
	if err != nil {
		t.Fatal(err)
	}
	return newLink(d, linkState{eth0, d.txt})
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func response(t testing.TB, rrs []dns.RR) []byte {
	t.Helper()
	return packed(t, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Compress: true, Answer: rrs})
}

var neighbour = netip.AddrPortFrom(source, mdnsPort)

// Only what RFC 6762 11 allows is taken.
func TestTakeRefusesSpoofs(t *testing.T) {
	good := packet{data: response(t, service(t, "pi", "10.0.0.2")), src: neighbour, hops: 255}
	for what, change := range map[string]func(*packet){
		"":                func(*packet) {},
		"from link-local": func(p *packet) { p.src = netip.MustParseAddrPort("[fe80::9]:5353") },
		"another port":    func(p *packet) { p.src = netip.AddrPortFrom(source, 40000) },
		"TTL 254":         func(p *packet) { p.hops = 254 },
		"unknown TTL":     func(p *packet) { p.hops = -1 },
		"another subnet":  func(p *packet) { p.src = netip.MustParseAddrPort("10.0.1.2:5353") },
		"global address":  func(p *packet) { p.src = netip.MustParseAddrPort("[2001:db8::2]:5353") },
		"query":           func(p *packet) { p.data = packed(t, &dns.Msg{Answer: service(t, "pi", "10.0.0.2")}) },
		"authority section": func(p *packet) {
			p.data = packed(t, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Ns: service(t, "pi", "10.0.0.2")})
		},
		"another opcode": func(p *packet) { p.data = bytes.Clone(p.data); p.data[2] |= 0x10 },
		"error code":     func(p *packet) { p.data = bytes.Clone(p.data); p.data[3] |= 3 },
		"cut":            func(p *packet) { p.data = p.data[:len(p.data)-3] },
		"empty":          func(p *packet) { p.data = nil },
		"name that points at itself": func(p *packet) {
			p.data = []byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 120, 0, 2, 0xc0, 12}
		},
	} {
		l, p := offline(t), good
		change(&p)
		l.take(epoch, p)
		taken := what == "" || what == "from link-local"
		if (len(l.cache.instances) == 1) != taken {
			t.Errorf("%q: %d instances", what, len(l.cache.instances))
		}
	}
}

// Whatever comes, the cache stays within its bounds and what it shows is well formed.
func FuzzTake(f *testing.F) {
	f.Add(response(f, service(f, "pi", "10.0.0.2")))
	f.Add(response(f, records(f, testService+" 0 IN PTR pi."+testService)))
	f.Add(packed(f, &dns.Msg{Question: []dns.Question{{Name: testService, Qtype: dns.TypePTR, Qclass: 1}}, Answer: service(f, "pi", "10.0.0.2")[:1]}))
	f.Add(packed(f, &dns.Msg{Question: []dns.Question{{Name: "nigh-me.local.", Qtype: dns.TypeANY, Qclass: 1}}}))
	f.Add([]byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 120, 0, 2, 0xc0, 12})
	f.Fuzz(func(t *testing.T, data []byte) {
		l := offline(t)
		l.publisher.server = nil
		for i, raw := range [][]byte{response(t, service(t, "pi", "10.0.0.2")), data, data} {
			now := epoch.Add(time.Duration(i) * 1100 * time.Millisecond)
			l.take(now, packet{data: raw, src: neighbour, hops: 255})
			l.step(context.Background(), now)
			if _, err := pack(l.cache.due(now, true), l.cache.answers(now, l.d.name)); err != nil {
				t.Errorf("question that cannot be packed: %v", err)
			}
			for _, e := range l.cache.view(eth0, nil) {
				if e.Instance == "" || len(e.Instance) > labelMaxBytes || len(e.Addrs) == 0 || len(e.Addrs) > addressesMax || e.TXT == nil || e.Instance == l.d.Name() {
					t.Errorf("shown: %+v", e)
				}
			}
		}
	})
}
