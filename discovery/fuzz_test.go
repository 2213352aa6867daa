package discovery

import (
	"bytes"
	"context"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/grandcat/zeroconf"
	"github.com/miekg/dns"
)

// offline is a link without sockets: everything but sending.
func offline(t testing.TB) *link {
	t.Helper()
	d, err := New(Config{Instance: "me", ShortID: "ME", Port: 7421})
	if err != nil {
		t.Fatal(err)
	}
	return newLink(d, linkState{Interface: eth0, said: d.said})
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
			if _, err := pack(l.cache.due(now, true, false), l.cache.answers(now, l.said.name)); err != nil {
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

// Whatever is asked, what we answer and what we still ask can be packed, and nothing is asked that was not due.
func FuzzQuery(f *testing.F) {
	ask := func(name string, kind uint16, known ...dns.RR) []byte {
		return packed(f, &dns.Msg{Question: []dns.Question{{Name: name, Qtype: kind, Qclass: dns.ClassINET}}, Answer: known})
	}
	f.Add(ask(testService, dns.TypePTR))
	f.Add(ask(testService, dns.TypePTR, service(f, "pi", "10.0.0.2")[0]))
	f.Add(ask("pi."+testService, dns.TypeSRV))
	f.Add(ask("nigh-me.local.", dns.TypeA))
	f.Add(ask("nigh-me.local.", dns.TypeANY, records(f, "nigh-me.local. 100 IN A 10.0.0.1", "nigh-me.local. 100 IN AAAA fe80::1")...))
	f.Add(packed(f, &dns.Msg{Question: []dns.Question{{Name: "nigh-me.local.", Qtype: dns.TypeAAAA, Qclass: dns.ClassINET | cacheFlush}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2 {
			data[2] &^= 0x80 // a question
		}
		l := offline(t)
		l.publisher.server = new(zeroconf.Server)
		l.take(epoch, packet{data: response(t, service(t, "pi", "10.0.0.2")), src: neighbour, hops: 255})
		for i := range 3 {
			now := epoch.Add(time.Duration(i) * 700 * time.Millisecond)
			l.take(now, packet{data: data, src: neighbour, hops: 255})
			for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
				rrs := l.addresses(kind)
				if len(rrs) != 1 {
					t.Fatalf("addresses %v", rrs)
				}
				packed(t, &dns.Msg{Answer: rrs})
			}
			if _, err := pack(l.cache.due(now, true, false), l.cache.answers(now, l.said.name)); err != nil {
				t.Errorf("question that cannot be packed: %v", err)
			}
		}
		if view := l.cache.view(eth0, nil); len(view) != 1 {
			t.Errorf("a question changed what is shown: %v", view)
		}
	})
}

// Known answers of any names fill packets that are small, whole, and have all of them.
func FuzzPack(f *testing.F) {
	f.Add("pi", uint16(3))
	f.Add("a.b \"\\ \x00\xff", uint16(300))
	f.Add("0123456789012345678901234567890123456789012345678901234567890", uint16(512))
	f.Fuzz(func(t *testing.T, label string, n uint16) {
		if len(label) == 0 || len(label) > 58 || n > instancesMax {
			return
		}
		var known []dns.RR
		for i := range n {
			known = append(known, &dns.PTR{
				Hdr: dns.RR_Header{Name: testService, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: 100},
				Ptr: escapeLabel(label+strconv.Itoa(int(i))) + "." + testService,
			})
		}
		packets, err := pack([]dns.Question{{Name: testService, Qtype: dns.TypePTR, Qclass: dns.ClassINET}}, known)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for i, raw := range packets {
			var m dns.Msg
			if err := m.Unpack(raw); err != nil {
				t.Fatal(err)
			}
			if len(raw) > queryMaxBytes+256 || m.Truncated != (i < len(packets)-1) || (len(m.Question) == 1) != (i == 0) {
				t.Errorf("packet %d of %d: %d bytes, %+v, %d questions", i, len(packets), len(raw), m.MsgHdr, len(m.Question))
			}
			total += len(m.Answer)
		}
		if total != int(n) && len(packets) < packetsPerQuery {
			t.Errorf("%d of %d known answers in %d packets", total, n, len(packets))
		}
	})
}

// Nobody else's response makes us believe anything of ourselves, or shows us to our own reader.
func FuzzMeet(f *testing.F) {
	own := func(rrs []dns.RR) []byte {
		rrs[0].(*dns.PTR).Ptr, rrs[1].Header().Name, rrs[2].Header().Name = "me\\ [ME]."+testService, "me\\ [ME]."+testService, "me\\ [ME]."+testService
		rrs[1].(*dns.SRV).Target, rrs[3].Header().Name = "nigh-me.local.", "nigh-me.local."
		return response(f, rrs)
	}
	f.Add(own(service(f, "x", "10.0.0.2")), true)
	f.Add(own(service(f, "x", "10.0.0.1")), false)
	f.Add(own(service(f, "x", "fe80::2")), false)
	f.Fuzz(func(t *testing.T, data []byte, ours bool) {
		l := offline(t)
		l.publisher.server = new(zeroconf.Server)
		l.d.SetInterfaces([]Interface{eth0})
		src := neighbour
		if ours {
			src = netip.AddrPortFrom(eth0.Prefixes[0].Addr(), mdnsPort)
		}
		for i := range 3 {
			now := epoch.Add(time.Duration(i) * 400 * time.Millisecond)
			l.take(now, packet{data: data, src: src, hops: 255})
			l.step(context.Background(), now)
		}
		for _, e := range told(l) {
			if e.Op != Clone && e.Instance == l.d.Name() {
				t.Errorf("our own name as event %+v", e)
			}
			if e.Op == Clone && ours {
				t.Errorf("we are a clone of ourselves: %+v", e)
			}
		}
		if len(l.doubts) > addressesMax || len(l.lost) > addressesMax || len(l.doubts) > 0 && !ours {
			t.Errorf("%d addresses in doubt, %d withdrawn", len(l.doubts), len(l.lost))
		}
	})
}
