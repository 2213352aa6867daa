package discovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// message is a response with answers, each of them given by its bytes.
func message(answers ...[]byte) []byte {
	head := []byte{0, 0, 0x84, 0, 0, 0, 0, byte(len(answers)), 0, 0, 0, 0}
	return append(head, bytes.Join(answers, nil)...)
}

// answer is a record: name and data as they are on the wire.
func answer(name []byte, kind uint16, data []byte) []byte {
	rr := binary.BigEndian.AppendUint16(bytes.Clone(name), kind)
	rr = append(rr, 0, 1, 0, 0, 0, 120)
	return append(binary.BigEndian.AppendUint16(rr, uint16(len(data))), data...)
}

// wire is a name on the wire.
func wire(labels ...string) (out []byte) {
	for _, l := range labels {
		out = append(append(out, byte(len(l))), l...)
	}
	return append(out, 0)
}

// Damaged, oversized and misleading packets are dropped, or what is good in them is taken, and the link works as before.
func TestBadPackets(t *testing.T) {
	service := wire("_nigh", "_tcp", "local")
	instance := wire("x", "_nigh", "_tcp", "local")
	long := func(n int) []byte { // a name of n bytes on the wire, below the service
		var labels []string
		for left := n - len(service); left > 1; {
			l := min(63, left-1)
			labels, left = append(labels, strings.Repeat("l", l)), left-l-1
		}
		return append(bytes.TrimSuffix(wire(labels...), []byte{0}), service...)
	}
	for what, data := range map[string][]byte{
		"oversized, all PTR records":         message(bytes.Repeat(answer([]byte{0xc0, 12}, dns.TypePTR, []byte{0xc0, 12}), 600)),
		"records counted but not there":      append([]byte{0, 0, 0x84, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, answer(service, dns.TypePTR, instance)[:20]...),
		"a compressed name in a loop":        message(answer([]byte{0xc0, 14, 0xc0, 12}, dns.TypePTR, instance)),
		"a name that points forwards":        message(answer([]byte{0xc0, 40}, dns.TypePTR, instance)),
		"a name that points at its middle":   message(answer([]byte{1, 'a', 0xc0, 12}, dns.TypePTR, instance)),
		"a name of 256 bytes":                message(answer(service, dns.TypePTR, long(256))),
		"a label of 64 bytes":                message(answer(service, dns.TypePTR, append([]byte{64}, append(bytes.Repeat([]byte{'x'}, 64), service...)...))),
		"a PTR record without data":          message(answer(service, dns.TypePTR, nil)),
		"a PTR record with text":             message(answer(service, dns.TypePTR, []byte("\x05hello"))),
		"an SRV record of three bytes":       message(answer(instance, dns.TypeSRV, []byte{0, 0, 0})),
		"an A record of sixteen bytes":       message(answer(instance, dns.TypeA, make([]byte, 16))),
		"an AAAA record of four bytes":       message(answer(instance, dns.TypeAAAA, make([]byte, 4))),
		"a TXT record with a length too far": message(answer(instance, dns.TypeTXT, []byte{200, 'a'})),
		"a header alone":                     message(),
		"half a header":                      message()[:7],
		"an OPT record in the answers":       message(answer([]byte{0}, dns.TypeOPT, []byte{0, 1, 0xff, 0xff})),
		"an NSEC record with a wrong bitmap": message(answer(instance, dns.TypeNSEC, append(bytes.Clone(instance), 255, 255, 1))),
	} {
		l := offline(t)
		for range 2 {
			l.take(epoch, packet{data: data, src: neighbour, hops: 255})
			l.step(context.Background(), epoch)
		}
		if n := len(l.cache.instances); n != 0 {
			t.Errorf("%s: %d instances", what, n)
		}
		l.take(epoch, packet{data: response(t, serviceOf(t)), src: neighbour, hops: 255})
		if n := len(l.cache.view(eth0, nil)); n != 1 {
			t.Errorf("%s: after it %d instances are shown", what, n)
		}
	}
	// 255 bytes are allowed in a name, but not in one label of it, and an instance has one.
	l := offline(t)
	l.take(epoch, packet{data: message(answer(service, dns.TypePTR, long(255))), src: neighbour, hops: 255})
	if len(l.cache.instances) != 0 || l.status.Dropped != 0 {
		t.Errorf("a name of 255 bytes: %d instances, %d dropped", len(l.cache.instances), l.status.Dropped)
	}
}

func serviceOf(t *testing.T) []dns.RR { return service(t, "good", "10.0.0.2") }

// Control characters in keys are not taken; in values they are, because values are anybody's text: who shows them escapes
// them.
func TestTextWithControlCharacters(t *testing.T) {
	l := offline(t)
	rrs := service(t, "pi", "10.0.0.2")
	rrs[2].(*dns.TXT).Txt = []string{`n=\027[31mred\007`, `\027k=1`, `v=1`, `raw=\255\254`, strings.Repeat("x", 255)}
	l.take(epoch, packet{data: response(t, rrs), src: neighbour, hops: 255})
	for _, e := range l.cache.view(eth0, nil) {
		if len(e.TXT) != 3 || e.TXT["n"] != "\x1b[31mred\a" || e.TXT["v"] != "1" {
			t.Errorf("TXT %q", e.TXT)
		}
	}
	for _, name := range []string{`\027[2J`, `a\010b`, `\127`, `\000`} {
		l.take(epoch, packet{data: response(t, records(t, testService+" 120 IN PTR "+name+"."+testService)), src: neighbour, hops: 255})
	}
	if len(l.cache.instances) != 1 {
		t.Errorf("%d instances: names with control characters were taken", len(l.cache.instances))
	}
}

// Two devices with one instance name are two, each with its own TXT record and port, also when only one says a new text.
func TestOneNameTwoDevices(t *testing.T) {
	c := newCache(testService)
	one, two := service(t, "pi", "10.0.0.2"), service(t, "pi", "10.0.0.3")
	two[1].(*dns.SRV).Target, two[1].(*dns.SRV).Port, two[3].Header().Name = "other.local.", 7500, "other.local."
	two[2].(*dns.TXT).Txt = []string{"v=2"}
	other := netip.MustParseAddr("10.0.0.3")
	c.apply(at(0), one, source)
	c.apply(at(0.5), two, other)
	// Each says its records again before the other's cache-flush bit takes effect.
	c.apply(at(1.2), one, source)
	c.apply(at(1.3), two, other)
	c.expire(at(2.5))
	got := map[string]string{}
	for _, e := range c.view(eth0, nil) {
		got[e.Host] = fmt.Sprint(e.Addrs, e.TXT["v"])
	}
	if len(got) != 2 || got["pi.local"] != "[10.0.0.2:7421]1" || got["other.local"] != "[10.0.0.3:7500]2" {
		t.Errorf("shown: %v", got)
	}
	if !c.apply(at(3), records(t, "flush pi."+testService+` 120 IN TXT "v=3"`), other) {
		t.Error("a new TXT record is no change")
	}
	for _, e := range c.view(eth0, nil) {
		if want := map[string]string{"pi.local": "1", "other.local": "3"}[e.Host]; e.TXT["v"] != want {
			t.Errorf("%s has text %v, want %s", e.Host, e.TXT, want)
		}
	}
}

// clones returns what the reader of events is told.
func told(l *link) (out []Event) {
	for {
		e, ok := l.d.queue.next()
		if !ok {
			return out
		}
		out = append(out, e)
	}
}

// Another device that says our names is told of once, and once that it is gone; nothing that it says is believed.
func TestCloneIsToldOf(t *testing.T) {
	foreign := func(l *link) []dns.RR {
		rrs := service(t, "x", "10.0.0.2")
		for _, rr := range rrs[1:3] {
			rr.Header().Name = l.said.name
		}
		rrs[0].(*dns.PTR).Ptr, rrs[1].(*dns.SRV).Target, rrs[3].Header().Name = l.said.name, l.said.host, l.said.host
		return rrs
	}
	for what, c := range map[string]struct {
		change func(l *link, rrs []dns.RR) []dns.RR
		src    string
		clone  bool
	}{
		"a clone":                   {func(_ *link, rrs []dns.RR) []dns.RR { return rrs }, "10.0.0.2", true},
		"its addresses alone":       {func(_ *link, rrs []dns.RR) []dns.RR { return rrs[3:] }, "10.0.0.2", true},
		"our name on another host":  {func(_ *link, rrs []dns.RR) []dns.RR { rrs[1].(*dns.SRV).Target = "a.local."; return rrs[:3] }, "10.0.0.2", true},
		"from a link-local address": {func(_ *link, rrs []dns.RR) []dns.RR { return rrs }, "fe80::9", true},
		"a reflection of ours": {func(_ *link, rrs []dns.RR) []dns.RR {
			rrs[3] = records(t, "nigh-me.local. 120 IN A 10.0.0.1")[0]
			return rrs
		}, "10.0.0.2", false},
		"ours":                         {func(_ *link, rrs []dns.RR) []dns.RR { return rrs }, "10.0.0.1", false},
		"its goodbye":                  {func(_ *link, rrs []dns.RR) []dns.RR { return withTTL(rrs, 0) }, "10.0.0.2", false},
		"somebody else":                {func(_ *link, _ []dns.RR) []dns.RR { return service(t, "x", "10.0.0.2") }, "10.0.0.2", false},
		"our name without a way to it": {func(_ *link, rrs []dns.RR) []dns.RR { return rrs[:3] }, "10.0.0.2", false},
		"our host at an address of none": {func(_ *link, rrs []dns.RR) []dns.RR {
			rrs[3] = records(t, "nigh-me.local. 120 IN A 127.0.0.1")[0]
			return rrs
		}, "10.0.0.2", false},
	} {
		l := offline(t)
		l.d.SetInterfaces([]Interface{eth0})
		rrs := c.change(l, foreign(l))
		src := netip.AddrPortFrom(netip.MustParseAddr(c.src), mdnsPort)
		for range 3 {
			l.take(epoch, packet{data: response(t, rrs), src: src, hops: 255})
		}
		l.step(context.Background(), epoch)
		var clones []Event
		for _, e := range told(l) {
			if e.Instance == l.d.Name() && e.Op != Clone {
				t.Errorf("%s: event %+v", what, e)
			}
			if e.Op == Clone {
				clones = append(clones, e)
			}
		}
		if (len(clones) == 1) != c.clone || len(clones) > 1 {
			t.Fatalf("%s: %d times told of a clone", what, len(clones))
		}
		if !c.clone {
			continue
		}
		if e := clones[0]; len(e.Addrs) != 1 || e.Addrs[0].Addr().WithZone("").String() != c.src || e.Ifname != "eth0" || e.Instance != l.d.Name() {
			t.Errorf("%s: event %+v", what, e)
		}
		for _, after := range []time.Duration{time.Minute, 2 * time.Minute, cloneSilent + time.Second} {
			l.step(context.Background(), epoch.Add(after))
			want := after > cloneSilent
			if got := told(l); (len(got) > 0 && got[len(got)-1].Op == CloneGone) != want {
				t.Errorf("%s: after %v without a word: %v", what, after, got)
			}
		}
	}
}

func withTTL(rrs []dns.RR, ttl uint32) []dns.RR {
	for _, rr := range rrs {
		rr.Header().Ttl = ttl
	}
	return rrs
}

// Who forges a clone does not make us talk without end.
func TestDefenceIsBounded(t *testing.T) {
	var c clone
	n := 0
	for ms := range 60_000 {
		if c.mayDefend(epoch.Add(time.Duration(ms) * time.Millisecond)) {
			n++
		}
	}
	if n != defendMax || !c.mayDefend(epoch.Add(61*time.Second)) {
		t.Errorf("%d times in a minute", n)
	}
}

// What the Server says of an address that we are not told of is taken back once; what we are told of in time is not.
func TestUnknownOwnAddressIsWithdrawn(t *testing.T) {
	l := offline(t)
	own := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), mdnsPort)
	say := func(now time.Time, addrs ...string) {
		var rrs []dns.RR
		for _, a := range addrs {
			rrs = append(rrs, addressRecord(l.said.host, netip.MustParseAddr(a), ttlMax))
		}
		l.take(now, packet{data: response(t, rrs), src: own, hops: 255})
	}
	say(at(0), "10.0.0.1", "10.0.9.1", "10.0.8.1")
	if next := l.nextDoubt(); !next.Equal(at(0).Add(doubtWait)) {
		t.Errorf("due at %v", next.Sub(epoch))
	}
	l.ifi.Prefixes = append(l.ifi.Prefixes[:len(l.ifi.Prefixes):len(l.ifi.Prefixes)], netip.MustParsePrefix("10.0.8.1/24"))
	l.settleDoubts(at(0.4))
	if len(l.lost) != 1 || l.lost[0].String() != "10.0.9.1" || l.lostAt.IsZero() {
		t.Errorf("withdrawn: %v", l.lost)
	}
	l.lost, l.lostAt = nil, time.Time{}
	say(at(1), "10.0.9.1")
	l.settleDoubts(at(2))
	if len(l.lost) != 0 || !l.nextDoubt().IsZero() {
		t.Errorf("withdrawn again: %v", l.lost)
	}
}

// Ten thousand sources that each announce one device fill the table, and who is here, and who comes again, stays in it.
func TestForgedSourcesMakeRoom(t *testing.T) {
	c := newCache(testService)
	c.apply(at(0), service(t, "old", "10.0.0.2"), source)
	c.apply(at(1), service(t, "old", "10.0.0.2"), source)
	for i := range 10_000 {
		from := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		c.apply(at(2), service(t, fmt.Sprintf("fake%d", i), from.String()), from)
	}
	newcomer := netip.MustParseAddr("10.0.0.3")
	c.apply(at(3), service(t, "new", "10.0.0.3"), newcomer)
	c.apply(at(3.5), service(t, "new", "10.0.0.3"), newcomer)
	for i := range 10_000 {
		from := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		c.apply(at(4), service(t, fmt.Sprintf("more%d", i), from.String()), from)
	}
	if c.instances["old."+testService] == nil || c.instances["new."+testService] == nil || len(c.instances) != instancesMax || len(c.hosts) > instancesMax {
		t.Errorf("%d instances, %d hosts; old %v, new %v", len(c.instances), len(c.hosts), c.instances["old."+testService] != nil, c.instances["new."+testService] != nil)
	}
	if len(c.sources) != len(c.instances) {
		t.Errorf("%d sources of %d instances", len(c.sources), len(c.instances))
	}
}

// A reader that takes nothing does not make the queue grow with what came and went.
func TestQueueIsBounded(t *testing.T) {
	q := newQueue()
	for i := range 100_000 {
		k := key{2, fmt.Sprint("fake", i), "x."}
		q.set(k, &Event{Instance: k.instance})
		if i >= instancesMax {
			q.set(key{2, fmt.Sprint("fake", i-instancesMax), "x."}, nil)
		}
	}
	if len(q.order) > instancesMax+2*queueSlack || len(q.queued) != len(q.order) || len(q.want) != instancesMax {
		t.Errorf("%d keys wait, %d of them known, for %d sightings", len(q.order), len(q.queued), len(q.want))
	}
	for n := 0; ; n++ {
		if _, ok := q.next(); !ok {
			if n != instancesMax {
				t.Errorf("%d events", n)
			}
			return
		}
	}
}

// Some packets of each source are looked at however many others come, and it is told, once a second, that some were not.
func TestFloodLeavesRoomForOthers(t *testing.T) {
	var f flood
	for i := range 1000 {
		from := netip.AddrFrom4([4]byte{10, 3, byte(i >> 8), byte(i)})
		for range 10 {
			f.allow(at(0), from)
		}
	}
	if !f.tell() || f.tell() {
		t.Error("not told once that packets were not looked at")
	}
	for i := range floodAlways + 1 {
		if got := f.allow(at(0.5), source); got != (i < floodAlways) {
			t.Errorf("packet %d of another source: %v", i, got)
		}
	}
	l := offline(t)
	l.askAt, l.asked = at(60), 9
	l.take(at(1), packet{lost: true})
	if l.askAt.After(at(2)) {
		t.Errorf("asks %v after a flood", l.askAt.Sub(at(1)))
	}
	for s := 1.0; s < 60; s += 0.5 {
		l.take(at(s), packet{lost: true})
		l.step(context.Background(), at(s))
	}
	if l.asked == 0 || l.askAt.After(at(75)) {
		t.Errorf("asked %d times in a flood of a minute, next in %v", l.asked, l.askAt.Sub(at(60)))
	}
}

// The library is used in the one way that works: its other calls mix links, hide departures, and race.
func TestLibraryIsUsedInOneWay(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`zeroconf\.(\w+)`).FindAllStringSubmatch(string(text), -1) {
			if m[1] != "RegisterProxy" && m[1] != "Server" {
				t.Errorf("%s uses zeroconf.%s", f.Name(), m[1])
			}
		}
		if strings.Contains(string(text), ".SetText(") {
			t.Errorf("%s uses SetText", f.Name())
		}
	}
}
