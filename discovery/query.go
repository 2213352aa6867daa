package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	queryMaxBytes     = 1400 // below the smallest usual MTU with headers
	questionsPerQuery = 25
	packetsPerQuery   = 12
)

// due returns the questions that are due and counts them as asked. all says that the question for the instances is due by the
// schedule, early that it is one of the first on a link: those are asked whatever others asked just now. A newcomer to a
// crowd may lose many of the answers that come at once, and those that it hears asking may not be heard by all.
func (c *cache) due(now time.Time, all, early bool) []dns.Question {
	var out []dns.Question
	ask := func(name string, kinds ...uint16) {
		for _, kind := range kinds {
			out = append(out, dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET})
		}
	}
	c.settle(now)
	stale := map[string]bool{}
	for h, host := range c.hosts {
		for _, l := range host.addrs {
			stale[h] = l.due(now) || stale[h]
		}
	}
	for _, in := range c.instances {
		ptr, refresh := in.ptr.due(now), in.txtLife.due(now)
		for h, t := range in.targets {
			refresh = t.due(now) || stale[h] || refresh
		}
		missing := !in.askAt.IsZero() && !now.Before(in.askAt)
		if missing {
			in.askWait = min(2*in.askWait, missingMax)
			in.askAt = now.Add(in.askWait)
		}
		// One question for the instances refreshes them all, with their other records, but for those that we would list as
		// known: these are asked for directly.
		all = all || ptr || refresh && !in.ptr.known(now)
		if !missing && (!refresh || !in.ptr.known(now)) {
			continue
		}
		if now.Sub(in.heard) >= heardWindow {
			ask(in.name, dns.TypeSRV, dns.TypeTXT)
		}
		if missing {
			// The zeroconf library answers no questions for addresses, but sends them with the SRV record. Others do not.
			for h, t := range in.targets {
				if host := c.hosts[h]; len(host.addrs) == 0 && now.Sub(host.heard) >= heardWindow {
					ask(t.host+".", dns.TypeA, dns.TypeAAAA)
				}
			}
		}
	}
	if all && (early || now.Sub(c.heard) >= heardWindow) {
		out = append([]dns.Question{{Name: c.service, Qtype: dns.TypePTR, Qclass: dns.ClassINET}}, out...)
	}
	return out
}

// hear takes note of a question that somebody else asked, so that we need not ask it (RFC 6762 7.3). A question for the
// instances counts only when every answer it suppresses is one that we would suppress too. Known answers that did not fit
// follow in packets without a question (7.2); where there are so many instances, hardly one packet holds all.
func (c *cache) hear(now time.Time, msg *dns.Msg, from netip.Addr) {
	if len(msg.Question) == 0 && from == c.asker && now.Sub(c.heard) < grace {
		if !c.allKnown(now, msg.Answer) {
			c.heard, c.asker = c.heardBefore, netip.Addr{}
		}
		return
	}
	if len(msg.Ns) > 0 {
		// A probe (RFC 6762 8.1): it comes from who owns the name, and nobody answers.
		return
	}
	for _, q := range msg.Question {
		if q.Qclass&cacheFlush != 0 {
			// The answer goes to the asker alone.
			continue
		}
		switch {
		case q.Qtype == dns.TypePTR && strings.EqualFold(q.Name, c.service):
			if c.allKnown(now, msg.Answer) {
				c.heardBefore, c.heard, c.asker = c.heard, now, netip.Addr{}
				if msg.Truncated {
					c.asker = from
				}
			}
		case q.Qtype == dns.TypeSRV || q.Qtype == dns.TypeANY:
			if in := c.instances[fold(q.Name)]; in != nil {
				in.heard = now
			}
		case q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA:
			if host := c.hosts[fold(q.Name)]; host != nil {
				host.heard = now
			}
		}
	}
}

func (c *cache) allKnown(now time.Time, answers []dns.RR) bool {
	for _, rr := range answers {
		ptr, ok := rr.(*dns.PTR)
		if !ok || !strings.EqualFold(ptr.Hdr.Name, c.service) {
			continue
		}
		k := fold(ptr.Ptr)
		if in := c.instances[k]; !c.own.instance(k) && (in == nil || !in.ptr.known(now)) {
			return false
		}
	}
	return true
}

// answers lists what need not be answered: the instances with more than half of their life left, and our own.
func (c *cache) answers(now time.Time, own string) []dns.RR {
	ptr := func(name string, ttl time.Duration) dns.RR {
		return &dns.PTR{
			Hdr: dns.RR_Header{Name: c.service, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)},
			Ptr: name,
		}
	}
	var out []dns.RR
	if own != "" {
		out = append(out, ptr(own, serverTTL*time.Second))
	}
	for _, in := range c.instances {
		if in.ptr.known(now) {
			// What is left as its sender counts: it compares with its own TTL.
			out = append(out, ptr(in.name, in.ptr.sent-now.Sub(in.ptr.got)))
		}
	}
	return out
}

// pack builds queries. Known answers that do not fit follow in further packets, announced by the TC bit (RFC 6762 7.2).
func pack(questions []dns.Question, known []dns.RR) ([][]byte, error) {
	var out [][]byte
	add := func(m *dns.Msg) error {
		raw, err := m.Pack()
		if err != nil {
			return fmt.Errorf("discovery: pack: %w", err)
		}
		out = append(out, raw)
		return nil
	}
	// The first question is the one with known answers.
	for first := true; len(questions) > 0 && len(out) < packetsPerQuery; first = false {
		n := min(len(questions), questionsPerQuery)
		if first && questions[0].Qtype == dns.TypePTR {
			n = 1
		}
		m := &dns.Msg{Compress: true, Question: questions[:n]}
		questions = questions[n:]
		if !first || m.Question[0].Qtype != dns.TypePTR {
			if err := add(m); err != nil {
				return nil, err
			}
			continue
		}
		for {
			known = fill(m, known)
			m.Truncated = len(known) > 0 && len(out)+1 < packetsPerQuery
			if err := add(m); err != nil {
				return nil, err
			}
			if !m.Truncated {
				break
			}
			m = &dns.Msg{Compress: true}
		}
	}
	return out, nil
}

// fill moves known answers into a message while it stays small, and returns the rest.
func fill(m *dns.Msg, known []dns.RR) []dns.RR {
	const header, perRecord = 64, 16 // a record repeats the two names as pointers
	size := header
	for i, rr := range known {
		ptr := rr.(*dns.PTR)
		size += perRecord + len(unescape(ptr.Ptr)) - len(ptr.Hdr.Name)
		if size > queryMaxBytes && i > 0 {
			return known[i:]
		}
		m.Answer = append(m.Answer, rr)
	}
	return nil
}

// goodbye is a response that withdraws an instance (RFC 6762 10.1).
func goodbye(service, name string) ([]byte, error) {
	m := &dns.Msg{Compress: true}
	m.Response, m.Authoritative = true, true
	m.Answer = []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: service, Rrtype: dns.TypePTR, Class: dns.ClassINET}, Ptr: name}}
	return m.Pack()
}
