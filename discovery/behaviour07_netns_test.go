//go:build netns

package discovery

import (
	"fmt"
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Row 7: a link with IPv4 alone appears on either side. Nothing happens on the other link.
func TestBehaviour07LinkAppears(t *testing.T) {
	alone(t)
	n := lab.NewNet(t)
	one := n.Bridge("one")
	four := func(name string) *lab.Host {
		h := n.Host(name)
		h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
		return h
	}
	a, b, c := four("a"), four("b"), four("c")
	one.Join(a, "eth0", "10.1.0.1/24")
	one.Join(c, "eth0", "10.1.0.3/24")
	two := n.Bridge("two")
	two.Join(b, "eth0", "10.2.0.2/24")
	daemon := avahi.Start(t, b)
	group := daemon.Client().Publish(7600, nil, "thing")
	group.Await(avahi.Established)
	browser := daemon.Browse()
	pa, pb, pc := start(t, a, Config{ShortID: id(1)}), start(t, b, Config{ShortID: id(2)}), start(t, c, Config{ShortID: id(3)})
	pa.await("c on the first link", of(Found, pc))
	pc.await("a", of(Found, pa))
	pb.await("Avahi on the same host", func(e Event) bool { return e.Instance == "thing" })

	var here, there, ofAvahi, toAvahi []time.Duration
	// At a, and then at b on a link of its own, five times in all.
	for i := range 5 {
		ifname, aSide, bSide := "eth1", "eth1", "eth0"
		began := time.Now()
		segment := two
		if i == 0 {
			two.Join(a, ifname, "10.2.0.1/24")
		} else {
			aSide, bSide = fmt.Sprintf("eth%d", i+1), fmt.Sprintf("eth%d", i)
			segment = n.Bridge(fmt.Sprintf("more%d", i))
			net := fmt.Sprintf("10.%d.0.", i+2)
			segment.Join(a, aSide, net+"1/24")
			began = time.Now()
			segment.Join(b, bSide, net+"2/24")
		}
		want := map[string]bool{pb.label: true, "thing": true}
		for len(want) > 0 {
			e, at := pa.await("b and Avahi", func(e Event) bool { return e.Op == Found })
			if e.Ifname != aSide || len(e.Addrs) != 1 || !e.Addrs[0].Addr().Is4() {
				t.Errorf("event %+v, on %s", e, aSide)
			}
			delete(want, e.Instance)
			if e.Instance == "thing" {
				ofAvahi = append(ofAvahi, at.Sub(began))
			} else {
				here = append(here, at.Sub(began))
			}
		}
		_, at := pb.await("a", func(e Event) bool { return of(Found, pa)(e) && e.Ifname == bSide })
		there = append(there, at.Sub(began))
		_, at = browser.Await("a", func(s string) bool {
			f := avahi.Parse(s)
			return f.Op == "=" && f.Name == pa.label && f.Ifname == bSide
		})
		toAvahi = append(toAvahi, at.Sub(began))
	}
	within(t, "link appears, nigh shows a nigh there", 2*time.Second, here)
	within(t, "link appears, the nigh there shows it", 2*time.Second, there)
	within(t, "link appears, nigh shows Avahi's service there", 2*time.Second, ofAvahi)
	within(t, "link appears, Avahi there resolves nigh", 2*time.Second, toAvahi)
	for _, p := range []*peer{pa, pc} {
		for _, e := range p.pending() {
			if e.Ifname == "eth0" {
				t.Errorf("%s: an event on a link where nothing happened: %+v", p.name, e)
			}
		}
	}
}
