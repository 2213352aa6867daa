package discovery

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// An answer that the asker holds already is not sent; one that it holds for less than half as long, of another host, kind or
// class, or of another address, is.
func TestSuppressed(t *testing.T) {
	a := func(name string, class uint16, ttl uint32, ip string) dns.RR {
		return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: class, Ttl: ttl}, A: net.ParseIP(ip).To4()}
	}
	aaaa := func(ip string) dns.RR {
		return &dns.AAAA{Hdr: dns.RR_Header{Name: "kitchen.local.", Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 120}, AAAA: net.ParseIP(ip)}
	}
	ours := a("kitchen.local.", dns.ClassINET|cacheFlush, 120, "10.0.0.2")
	for name, c := range map[string]struct {
		rr, known dns.RR
		want      bool
	}{
		"held":           {ours, a("Kitchen.local.", dns.ClassINET, 120, "10.0.0.2"), true},
		"held, flushed":  {ours, a("kitchen.local.", dns.ClassINET|cacheFlush, 60, "10.0.0.2"), true},
		"nearly forgot":  {ours, a("kitchen.local.", dns.ClassINET, 59, "10.0.0.2"), false},
		"other address":  {ours, a("kitchen.local.", dns.ClassINET, 120, "10.0.0.3"), false},
		"other host":     {ours, a("chicken.local.", dns.ClassINET, 120, "10.0.0.2"), false},
		"other class":    {ours, a("kitchen.local.", dns.ClassCHAOS, 120, "10.0.0.2"), false},
		"other kind":     {ours, aaaa("::ffff:10.0.0.2"), false},
		"IPv6":           {aaaa("fe80::2"), aaaa("fe80::2"), true},
		"no address":     {ours, &dns.PTR{Hdr: *a("kitchen.local.", dns.ClassINET, 120, "10.0.0.2").Header()}, false},
		"empty, as sent": {ours, &dns.A{Hdr: *ours.Header()}, false},
	} {
		if got := suppressed([]dns.RR{c.rr}, []dns.RR{c.known}); got != c.want {
			t.Errorf("%s: suppressed = %v, want %v", name, got, c.want)
		}
	}
}
