package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const testService = "_nigh._tcp.local."

var (
	epoch  = time.Now() // any time: only differences count
	source = netip.MustParseAddr("10.0.0.2")
	eth0   = Interface{Index: 2, Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fe80::1/64")}}
)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

func records(t testing.TB, lines ...string) (out []dns.RR) {
	t.Helper()
	for _, line := range lines {
		// The zone format has no cache-flush bit.
		line, flush := strings.CutPrefix(line, "flush ")
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		if flush {
			rr.Header().Class |= cacheFlush
		}
		out = append(out, rr)
	}
	return out
}

// service is what a peer announces.
func service(t testing.TB, name, addr string) []dns.RR {
	t.Helper()
	kind := "A"
	if strings.Contains(addr, ":") {
		kind = "AAAA"
	}
	return records(t,
		fmt.Sprintf("%s 120 IN PTR %s.%s", testService, name, testService),
		fmt.Sprintf("flush %s.%s 120 IN SRV 0 0 7421 %s.local.", name, testService, name),
		fmt.Sprintf("flush %s.%s 120 IN TXT \"v=1\"", name, testService),
		fmt.Sprintf("flush %s.local. 120 IN %s %s", name, kind, addr))
}

// addrs returns the one event of the view, as a list of addresses.
func addrs(c *cache, old map[key]Event) string {
	view := c.view(eth0, old)
	for _, e := range view {
		return fmt.Sprint(len(view), e.Addrs)
	}
	return "0"
}

func TestCacheLife(t *testing.T) {
	c := newCache(testService)
	if !c.apply(at(0), service(t, "pi", "10.0.0.2"), source) {
		t.Error("a new service changed nothing")
	}
	if got := addrs(c, nil); got != "1 [10.0.0.2:7421]" {
		t.Fatalf("view %s", got)
	}
	if c.apply(at(10), service(t, "pi", "10.0.0.2"), source) {
		t.Error("the same again counts as a change")
	}
	if c.expire(at(129)) {
		t.Error("expired 119 s after it came again")
	}
	if !c.expire(at(130.1)) || len(c.view(eth0, nil)) != 0 {
		t.Error("still there after its time")
	}
	if len(c.instances) != 0 || len(c.hosts) != 0 {
		t.Errorf("left over: %v %v", c.instances, c.hosts)
	}
}

func TestCacheGoodbyeCountsAfterASecondUnlessRescued(t *testing.T) {
	bye := func() []dns.RR { return records(t, testService+" 0 IN PTR pi."+testService) }
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2"), source)
	c.apply(at(5), bye(), source)
	if c.expire(at(5.9)) {
		t.Error("gone within the grace time")
	}
	c.apply(at(5.95), service(t, "pi", "10.0.0.2"), source)
	if c.expire(at(7)) {
		t.Error("gone although it came again")
	}
	c.apply(at(10), bye(), source)
	if !c.expire(at(11.1)) || len(c.instances) != 0 {
		t.Error("still there a second after its goodbye")
	}
}

func TestCacheFlushReplacesAddresses(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2"), source)
	c.apply(at(0), records(t, "flush pi.local. 120 IN AAAA fe80::2"), source)
	// Both families in one announcement: neither flushes the other, nor what came within the last second.
	if got := addrs(c, nil); got != "1 [10.0.0.2:7421 [fe80::2%eth0]:7421]" {
		t.Errorf("view %s", got)
	}
	if !c.apply(at(30), records(t, "flush pi.local. 120 IN A 10.0.0.3"), source) {
		t.Error("a new address is no change")
	}
	if got := addrs(c, nil); got != "1 [10.0.0.2:7421 10.0.0.3:7421 [fe80::2%eth0]:7421]" {
		t.Errorf("within the grace time: %s", got)
	}
	c.expire(at(31.1))
	if got := addrs(c, nil); got != "1 [10.0.0.3:7421 [fe80::2%eth0]:7421]" {
		t.Errorf("after it: %s", got)
	}
}

// An instance never loses its last address while it lives: the peer is asked again.
func TestCacheKeepsTheLastAddressOfALivingInstance(t *testing.T) {
	c := newCache(testService)
	rrs := service(t, "pi", "10.0.0.2")
	rrs[3].Header().Ttl = 10
	c.apply(at(0), rrs, source)
	old := c.view(eth0, nil)
	c.expire(at(10.1))
	if got := addrs(c, old); got != "1 [10.0.0.2:7421]" {
		t.Errorf("view %s", got)
	}
	if len(c.view(eth0, nil)) != 0 {
		t.Error("an instance without any address is shown")
	}
	questions := c.due(at(10.3), false, false)
	want := []dns.Question{
		{Name: "pi." + testService, Qtype: dns.TypeSRV, Qclass: 1}, {Name: "pi." + testService, Qtype: dns.TypeTXT, Qclass: 1},
		{Name: "pi.local.", Qtype: dns.TypeA, Qclass: 1}, {Name: "pi.local.", Qtype: dns.TypeAAAA, Qclass: 1},
	}
	if d := cmp.Diff(want, questions); d != "" {
		t.Error(d)
	}
}

func TestCacheTakesNewTextAndPort(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2"), source)
	if !c.apply(at(1), records(t, "flush pi."+testService+" 120 IN TXT \"v=2\""), source) {
		t.Error("a new TXT record is no change")
	}
	if !c.apply(at(2), records(t, "flush pi."+testService+" 120 IN SRV 0 0 7500 pi.local."), source) {
		t.Error("a new port is no change")
	}
	for _, e := range c.view(eth0, nil) {
		if e.TXT["v"] != "2" || e.Addrs[0].Port() != 7500 {
			t.Errorf("view %+v", e)
		}
	}
}

// A host that names only addresses of a network that we are not in is reached where its packets come from.
func TestCacheFallsBackToTheSender(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "2001:db8::2"), source)
	if got := addrs(c, nil); got != "0" {
		t.Errorf("view %s", got)
	}
	if !c.apply(at(1), service(t, "pi", "2001:db8::2"), netip.MustParseAddr("fe80::2")) {
		t.Error("a way to reach it is no change")
	}
	c.apply(at(2), service(t, "pi", "2001:db8::2"), source)
	if got := addrs(c, nil); got != "1 [[fe80::2%eth0]:7421]" {
		t.Errorf("view %s", got)
	}
	c.apply(at(3), records(t, "pi.local. 120 IN A 10.0.0.2"), source)
	if got := addrs(c, nil); got != "1 [10.0.0.2:7421]" {
		t.Errorf("view %s", got)
	}
}

func TestCacheAsksForWhatIsMissing(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2")[:1], source)
	var asked []float64
	for s := 0.0; s < 10; s += 0.01 {
		c.expire(at(s))
		if len(c.due(at(s), false, false)) > 0 {
			asked = append(asked, s)
		}
	}
	if len(asked) < 6 || asked[0] > 0.12 || asked[1]-asked[0] < 0.19 || asked[3]-asked[2] < 0.79 {
		t.Errorf("asked at %v", asked)
	}
	c.apply(at(10), service(t, "pi", "10.0.0.2")[1:], source)
	if q := c.due(at(70), false, false); len(q) > 0 {
		t.Errorf("asks %v with nothing missing", q)
	}
}

// Refresh questions come at 80, 85, 90 and 95 percent and no more; one for the instances serves all records.
func TestCacheRefreshes(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2"), source)
	var asked []float64
	for s := 0.0; s < 120; s += 0.25 {
		for _, q := range c.due(at(s), false, false) {
			if q.Qtype != dns.TypePTR {
				t.Errorf("asks %v at %v s", q, s)
			}
			asked = append(asked, s)
		}
	}
	// Four records have four moments of their own for each of the four steps.
	if len(asked) == 0 || len(asked) > 16 || asked[0] < 95.9 || asked[0] > 100.5 || asked[len(asked)-1] > 118.5 {
		t.Errorf("asked at %v", asked)
	}
}

// After a step, nothing may be due in the past, or the link's goroutine would spin: also when a machine slept, and when a TXT
// record ran out while its instance was kept alive.
func TestCacheIsNeverDueInThePast(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2"), source)
	c.apply(at(0), service(t, "incomplete", "10.0.0.3")[:2], source)
	for _, s := range []float64{0, 0.2, 50, 97, 119, 119.5} {
		if s == 119 {
			c.apply(at(s), service(t, "pi", "10.0.0.2")[:2], source)
		}
		c.expire(at(s))
		c.due(at(s), false, false)
		if next := c.next(); !next.After(at(s)) {
			t.Errorf("at %v s due at %v", s, next.Sub(epoch))
		}
	}
	for _, s := range []float64{150, 300, 1000} {
		c.expire(at(s))
		c.due(at(s), true, false)
		if next := c.next(); !next.IsZero() && !next.After(at(s)) {
			t.Errorf("at %v s due at %v", s, next.Sub(epoch))
		}
	}
	if len(c.instances)+len(c.hosts)+len(c.sources) != 0 {
		t.Error("something is left")
	}
}

func TestCacheSuppressesQuestionsThatOthersAsk(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "pi", "10.0.0.2"), source)
	query := func(known ...string) *dns.Msg {
		m := &dns.Msg{Question: []dns.Question{{Name: testService, Qtype: dns.TypePTR, Qclass: dns.ClassINET}}}
		m.Answer = records(t, known...)
		return m
	}
	c.hear(at(1), query(testService+" 110 IN PTR pi."+testService), source)
	if q := c.due(at(3), true, false); len(q) != 0 {
		t.Errorf("asked %v two seconds after somebody else", q)
	}
	if q := c.due(at(3), true, true); len(q) != 1 {
		t.Errorf("asked %v as one of the first questions on the link", q)
	}
	if q := c.due(at(5.1), true, false); len(q) != 1 {
		t.Errorf("asked %v four seconds after somebody else", q)
	}
	// That question keeps silent somebody we do not know: it is not ours.
	c.hear(at(10), query(testService+" 110 IN PTR other."+testService), source)
	if q := c.due(at(11), true, false); len(q) != 1 {
		t.Errorf("asked %v", q)
	}
	// And neither is this one when we want to hear of pi again.
	c.hear(at(70), query(testService+" 110 IN PTR pi."+testService), source)
	if q := c.due(at(71), true, false); len(q) != 1 {
		t.Errorf("asked %v", q)
	}
	// Where known answers follow in further packets, those count too, of the same asker.
	c.apply(at(75), service(t, "pi", "10.0.0.2"), source)
	cut := query()
	cut.Truncated = true
	more := query(testService + " 110 IN PTR other." + testService)
	more.Question = nil
	c.hear(at(80), cut, source)
	c.hear(at(80), more, netip.MustParseAddr("10.0.0.77"))
	if q := c.due(at(81), true, false); len(q) != 0 {
		t.Errorf("asked %v a second after somebody else", q)
	}
	c.hear(at(90), cut, source)
	c.hear(at(90.1), more, source)
	if q := c.due(at(91), true, false); len(q) != 1 {
		t.Errorf("asked %v after a question that keeps silent whom we do not know", q)
	}
}

func TestCacheIsBoundedAndShared(t *testing.T) {
	c := newCache(testService)
	flooder := netip.MustParseAddr("10.0.0.66")
	for i := range 10_000 {
		c.apply(at(0), service(t, fmt.Sprintf("fake%d", i), "10.0.0.66"), flooder)
	}
	if len(c.instances) != instancesMax || len(c.hosts) > instancesMax {
		t.Fatalf("%d instances, %d hosts", len(c.instances), len(c.hosts))
	}
	if !c.apply(at(1), service(t, "pi", "10.0.0.2"), source) || c.instances["pi."+testService] == nil {
		t.Error("a flooding device keeps others out")
	}
	c.expire(at(1))
	for i := range 100 {
		c.apply(at(2), records(t, fmt.Sprintf("pi.local. 120 IN A 10.0.0.%d", i+1), fmt.Sprintf("pi.%s 120 IN SRV 0 0 %d h%d.local.", testService, i+1, i)), source)
	}
	if got := len(c.hosts["pi.local."].addrs); got != addressesMax {
		t.Errorf("%d addresses of one host", got)
	}
	if got := len(c.instances["pi."+testService].targets); got != targetsMax {
		t.Errorf("%d targets of one instance", got)
	}
	if len(c.sources) != 2 || c.sources[flooder]+c.sources[source] != len(c.instances) {
		t.Errorf("sources %v", c.sources)
	}
	if got := c.next(); got.Before(at(1)) {
		t.Errorf("due in the past: %v", got.Sub(epoch))
	}
}

func TestCacheRefusesForeignAndOwnRecords(t *testing.T) {
	c := newCache(testService)
	c.own.now(said{name: "me." + testService, host: "nigh-me.local."})
	for range formerNames - 1 {
		c.own.now(said{name: "other." + testService, host: "nigh-other.local."}) // what was ours comes back from reflectors
	}
	for what, rrs := range map[string][]dns.RR{
		"own instance":     service(t, "me", "10.0.0.1"),
		"another service":  records(t, "_http._tcp.local. 120 IN PTR x._http._tcp.local.", "x._http._tcp.local. 120 IN SRV 0 0 80 x.local.", "x.local. 120 IN A 10.0.0.2"),
		"two labels":       records(t, testService+" 120 IN PTR a.b."+testService),
		"control bytes":    records(t, testService+` 120 IN PTR a\027b.`+testService),
		"not UTF-8":        records(t, testService+` 120 IN PTR a\255b.`+testService),
		"no label":         records(t, testService+" 120 IN PTR "+testService),
		"another class":    records(t, testService+" 120 CH PTR pi."+testService),
		"only an address":  records(t, "only.local. 120 IN A 10.0.0.2"),
		"SRV without PTR":  records(t, "pi."+testService+" 120 IN SRV 0 0 7421 pi.local."),
		"goodbye, unknown": records(t, testService+" 0 IN PTR pi."+testService),
	} {
		if c.apply(at(0), rrs, source) || len(c.instances) != 0 || len(c.hosts) != 0 {
			t.Errorf("%s was taken", what)
		}
	}
	// An instance of somebody else's that claims to live on our own host, nowhere, or where nobody can be.
	rrs := service(t, "pi", "10.0.0.2")
	rrs[1].(*dns.SRV).Target = "nigh-me.local."
	c.apply(at(0), rrs[:3], source)
	rrs[1].(*dns.SRV).Target = "."
	c.apply(at(0), rrs[:3], source)
	for _, a := range []string{"127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "ff02::1", "2001:db8::1"} {
		c.apply(at(0), service(t, "pi", a), source)
	}
	if view := c.view(eth0, nil); len(view) != 0 {
		t.Errorf("shown: %v", view)
	}
}

func TestPackSplitsKnownAnswers(t *testing.T) {
	c := newCache(testService)
	for i := range 300 {
		c.apply(at(0), service(t, fmt.Sprintf("device-number-%d", i), "10.0.0.2"), source)
	}
	packets, err := pack(c.due(at(1), true, false), c.answers(at(1), "me."+testService))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i, raw := range packets {
		var m dns.Msg
		if err := m.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		if len(raw) > queryMaxBytes+200 || m.Truncated != (i < len(packets)-1) || len(m.Question) != map[bool]int{true: 1, false: 0}[i == 0] || m.Response || m.Id != 0 {
			t.Errorf("packet %d: %d bytes, header %+v, %d questions", i, len(raw), m.MsgHdr, len(m.Question))
		}
		total += len(m.Answer)
	}
	if total != 301 || len(packets) < 2 {
		t.Errorf("%d known answers in %d packets", total, len(packets))
	}
}

func TestQueueTellsDifferences(t *testing.T) {
	k, e := key{2, "pi", "pi.local."}, Event{Index: 2, Instance: "pi", Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:1")}}
	moved := e
	moved.Addrs = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.3:1")}
	for _, c := range []struct {
		what string
		set  []*Event
		told *Event
		want Op
	}{
		{"found", []*Event{&e}, nil, Found},
		{"found and gone before anybody looked", []*Event{&e, nil}, nil, 0},
		{"changed", []*Event{&moved}, &e, Changed},
		{"gone", []*Event{nil}, &e, Gone},
		{"gone and back", []*Event{nil, &e}, &e, 0},
		{"gone and back elsewhere", []*Event{nil, &moved}, &e, Changed},
		{"twice the same", []*Event{&e, &e}, &e, 0},
	} {
		q := newQueue()
		if c.told != nil {
			q.set(k, c.told)
			q.next()
		}
		for _, s := range c.set {
			q.set(k, s)
		}
		got, ok := q.next()
		if ok != (c.want != 0) || got.Op != c.want {
			t.Errorf("%s: %v, %v", c.what, got.Op, ok)
		}
		if _, more := q.next(); more {
			t.Errorf("%s: two events", c.what)
		}
	}
}

func TestFloodLimits(t *testing.T) {
	var f flood
	passed := 0
	for range 1000 {
		if f.allow(at(0), source) {
			passed++
		}
	}
	for range 10_000 {
		f.allow(at(0.1), source)
	}
	if passed != floodPerSource || !f.allow(at(0.5), netip.MustParseAddr("10.0.0.3")) || !f.allow(at(1), source) {
		t.Errorf("%d packets of one source in a second", passed)
	}
	passed = 0
	for i := range 100_000 {
		if f.allow(at(5), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})) {
			passed++
		}
	}
	if passed > floodTotal || len(f.count) > floodSources {
		t.Errorf("%d packets of %d sources in a second", passed, len(f.count))
	}
}
