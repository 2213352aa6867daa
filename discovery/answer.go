package discovery

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// answer sends our addresses on this link to whoever asks for our host: the Server does not. A record is multicast at most
// once a second (RFC 6762 6).
func (l *link) answer(now time.Time, msg *dns.Msg) {
	if l.publisher.server == nil {
		return
	}
	for _, q := range msg.Question {
		if !strings.EqualFold(q.Name, l.said.host) || q.Qclass&classMask != dns.ClassINET {
			continue
		}
		for i, kind := range [...]uint16{dns.TypeA, dns.TypeAAAA} {
			if q.Qtype != kind && q.Qtype != dns.TypeANY || now.Sub(l.replied[i]) < time.Second {
				continue
			}
			if rrs := l.addresses(kind); len(rrs) > 0 && !suppressed(rrs, msg.Answer) {
				l.replied[i] = now
				l.reply(rrs)
			}
		}
	}
}

// addresses are those that the Server announces: the link-local one only when there is no other of its family.
func (l *link) addresses(kind uint16) []dns.RR {
	var out []dns.RR
	global := slices.ContainsFunc(l.ifi.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsGlobalUnicast() })
	for _, p := range l.ifi.Prefixes {
		a := p.Addr()
		if a.Is4() == (kind == dns.TypeA) && (a.Is4() || !global || !a.IsLinkLocalUnicast()) {
			rr := addressRecord(l.said.host, a, ttlMax)
			rr.Header().Class |= cacheFlush
			out = append(out, rr)
		}
	}
	return out
}

// addressRecord is the A or AAAA record of an address; a ttl of 0 withdraws it.
func addressRecord(host string, a netip.Addr, ttl time.Duration) dns.RR {
	hdr := dns.RR_Header{Name: host, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
	if a.Is4() {
		return &dns.A{Hdr: hdr, A: a.AsSlice()}
	}
	hdr.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()}
}

// suppressed says that the asker knows all of it already (RFC 6762 7.1).
func suppressed(rrs, known []dns.RR) bool {
	for _, rr := range rrs {
		if !slices.ContainsFunc(known, func(k dns.RR) bool {
			return sameAddress(rr, k) && k.Header().Ttl >= rr.Header().Ttl/2
		}) {
			return false
		}
	}
	return true
}

// sameAddress says that two records give the same host the same address, whatever their times to live and cache-flush bits. It is
// not [dns.IsDuplicate], which keeps the code for every kind of record in the program.
func sameAddress(r, s dns.RR) bool {
	a, b := r.Header(), s.Header()
	return a.Rrtype == b.Rrtype && (a.Class^b.Class)&classMask == 0 && strings.EqualFold(a.Name, b.Name) &&
		rawAddress(r) != nil && rawAddress(r).Equal(rawAddress(s))
}

// rawAddress is what an A or AAAA record holds, else nil.
func rawAddress(rr dns.RR) net.IP {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A
	case *dns.AAAA:
		return rr.AAAA
	}
	return nil
}

func (l *link) reply(rrs []dns.RR) {
	m := &dns.Msg{Compress: true, Answer: rrs}
	m.Response, m.Authoritative = true, true
	raw, err := m.Pack()
	if err == nil {
		err = l.sockets.send(raw)
	}
	if err != nil {
		l.d.logger.Debug("Answer not sent", "ifname", l.ifi.Name, "err", err)
	}
}
