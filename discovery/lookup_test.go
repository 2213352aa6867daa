package discovery

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

func lookupAnswer(t testing.TB, rrs ...dns.RR) []byte {
	t.Helper()
	msg := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: rrs}
	data, err := msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHostAddresses(t *testing.T) {
	hdr := func(name string, kind uint16, ttl uint32) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET | cacheFlush, Ttl: ttl}
	}
	msg := new(dns.Msg)
	data := lookupAnswer(t,
		&dns.A{Hdr: hdr("Kitchen.local.", dns.TypeA, 120), A: net.IPv4(10, 0, 0, 2)},
		&dns.AAAA{Hdr: hdr("kitchen.local.", dns.TypeAAAA, 120), AAAA: net.ParseIP("fe80::2")},
		&dns.A{Hdr: hdr("other.local.", dns.TypeA, 120), A: net.IPv4(10, 0, 0, 3)},
		&dns.A{Hdr: hdr("kitchen.local.", dns.TypeA, 0), A: net.IPv4(10, 0, 0, 4)},
		&dns.A{Hdr: hdr("kitchen.local.", dns.TypeA, 120), A: net.IPv4(127, 0, 0, 1)},
		&dns.A{Hdr: hdr("kitchen.local.", dns.TypeA, 120), A: net.IPv4(224, 0, 0, 251)})
	if err := msg.Unpack(data); err != nil {
		t.Fatal(err)
	}
	got := hostAddresses(msg, Interface{Name: "eth0"}, "kitchen.local.")
	if len(got) != 2 || got[0] != netip.MustParseAddr("10.0.0.2") || got[1] != netip.MustParseAddr("fe80::2%eth0") {
		t.Errorf("got %v", got)
	}
}

func TestLookupOfOtherNames(t *testing.T) {
	d, err := New(Config{NoPublish: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"", "kitchen", "kitchen.lan", "local", "..local", "a..local"} {
		if addrs, err := d.Lookup(t.Context(), host); !errors.Is(err, ErrUnknownHost) {
			t.Errorf("%q: %v, %v", host, addrs, err)
		}
	}
}

func FuzzHostAddresses(f *testing.F) {
	f.Add(lookupAnswer(f, &dns.A{Hdr: dns.RR_Header{Name: "k.local.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(10, 0, 0, 2)}))
	f.Add([]byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12})
	f.Fuzz(func(t *testing.T, data []byte) {
		msg := new(dns.Msg)
		if len(data) > packetMaxBytes || msg.Unpack(data) != nil {
			return
		}
		for _, addr := range hostAddresses(msg, Interface{Name: "eth0"}, "k.local.") {
			if addr.IsMulticast() || addr.IsLoopback() || !addr.IsValid() {
				t.Errorf("%v is taken for a host's address", addr)
			}
		}
	})
}
