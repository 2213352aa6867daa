package discovery

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// As avahi-daemon does: it answers with a PTR record what it still probes for, and announces the service without the
// addresses of its host.
func TestCacheAsksForAddressesAfterAProbe(t *testing.T) {
	c := newCache(testService)
	all := service(t, "pi", "10.0.0.2")
	names := func(questions []dns.Question) (out []string) {
		for _, q := range questions {
			out = append(out, dns.TypeToString[q.Qtype]+" "+q.Name)
		}
		return out
	}
	c.apply(at(0), all[:1], source)
	c.due(at(0), false, false)
	want := []string{"SRV pi." + testService, "TXT pi." + testService}
	if got := names(c.due(at(0.1), false, false)); !cmp.Equal(got, want) {
		t.Errorf("for the records: %v", got)
	}
	probe := &dns.Msg{Question: []dns.Question{{Name: "pi." + testService, Qtype: dns.TypeANY, Qclass: dns.ClassINET}}, Ns: all[1:3]}
	c.hear(at(0.15), probe, source)
	if got := names(c.due(at(0.3), false, false)); !cmp.Equal(got, want) {
		t.Errorf("for the records, after a probe: %v", got)
	}
	c.apply(at(0.9), all[:3], source)
	c.due(at(0.9), false, false)
	if at := c.next(); at.After(epoch.Add(time.Second)) {
		t.Errorf("the next question comes after %v", at.Sub(epoch))
	}
	want = append(want, "A pi.local.", "AAAA pi.local.")
	if got := names(c.due(at(1), false, false)); !cmp.Equal(got, want) {
		t.Errorf("for the addresses: %v", got)
	}
	// Others that ask for them ask for us too.
	c.hear(at(1.1), &dns.Msg{Question: []dns.Question{{Name: "pi.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}}, source)
	if got := names(c.due(at(1.25), false, false)); !cmp.Equal(got, want[:2]) {
		t.Errorf("while others ask: %v", got)
	}
	c.apply(at(1.3), all[3:], source)
	c.due(at(1.3), false, false)
	if got := names(c.due(at(2), false, false)); len(got) > 0 {
		t.Errorf("when nothing is missing: %v", got)
	}
}

func TestCacheKeepsAddressesThatComeBeforeTheirService(t *testing.T) {
	c := newCache(testService)
	all := service(t, "pi", "10.0.0.2")
	c.apply(at(0), all[3:], source)
	for i := range 1000 { // others do not fill it without bound
		c.apply(at(0.1), records(t, fmt.Sprintf("x%d.local. 120 IN A 10.0.0.9", i)), source)
	}
	if len(c.strays) != straysMax {
		t.Errorf("%d addresses kept", len(c.strays))
	}
	c.apply(at(0.2), all[3:], source)
	c.apply(at(0.3), all[:3], source)
	if got := addrs(c, nil); got != "1 [10.0.0.2:7421]" {
		t.Errorf("view %s", got)
	}
	if c.due(at(0.3), false, false); len(c.due(at(0.5), false, false)) > 0 {
		t.Error("asks although nothing is missing")
	}
	if !c.expire(at(120.3)) || addrs(c, nil) != "0" {
		t.Error("the address outlives its time")
	}

	c = newCache(testService)
	c.apply(at(0), all[3:], source)
	c.apply(at(6), all[:3], source)
	if got := addrs(c, nil); got != "0" {
		t.Errorf("of long ago: %s", got)
	}
}
