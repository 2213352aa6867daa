//go:build netns

package discovery

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Row 11: addresses of a nigh, and of an Avahi, come, go and are replaced. Neither seems to go itself.
func TestBehaviour11AddressesChange(t *testing.T) {
	alone(t)
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b, x := n.Host("a"), n.Host("b"), n.Host("x")
	// The kernel takes the other addresses of a network away with its first one, unless it is told not to.
	b.Sysctl("net.ipv4.conf.all.promote_secondaries", "1")
	lan.Join(a, "eth0", "10.0.0.1/16")
	lan.Join(b, "eth0", "10.0.0.2/16")
	lan.Join(x, "eth0", "10.0.0.3/16")
	client := avahi.Start(t, x).Client()
	client.Publish(7600, nil, "thing").Await(avahi.Established)
	pa, pb := start(t, a, Config{ShortID: id(1)}), start(t, b, Config{ShortID: id(2)})
	want := map[string]bool{pb.label: true, "thing": true}
	pa.await("both", func(e Event) bool { delete(want, e.Instance); return len(want) == 0 })
	resolver := client.Resolve(pb.label)
	resolver.Await("b", func(r avahi.Resolved) bool { return r.Failure == "" })

	shows := func(label, addr string, want bool) func(Event) bool {
		return func(e Event) bool {
			if e.Op != Changed {
				t.Errorf("%v of %s while its addresses change", e.Op, e.Instance)
			}
			has := slices.ContainsFunc(e.Addrs, func(p netip.AddrPort) bool { return p.Addr().String() == addr })
			return e.Instance == label && has == want
		}
	}
	change := func(h *lab.Host, label, add, del string) (added, removed time.Duration) {
		began := time.Now()
		if add != "" {
			h.IP("address", "add", add+"/16", "dev", "eth0")
		}
		if del != "" {
			h.IP("address", "del", del+"/16", "dev", "eth0")
		}
		if add != "" {
			_, at := pa.await(add, shows(label, add, true))
			added = at.Sub(began)
		}
		if del != "" {
			_, at := pa.await("the end of "+del, shows(label, del, false))
			removed = at.Sub(began)
		}
		return added, removed
	}
	var fresh, old, oldYoung, ofAvahi, oldOfAvahi []time.Duration
	for range 4 {
		// One that was announced moments ago is withdrawn as fast as one that was there for long.
		took, _ := change(b, pb.label, "10.0.9.2", "")
		fresh = append(fresh, took)
		_, took = change(b, pb.label, "", "10.0.9.2")
		oldYoung = append(oldYoung, took)
	}
	now := "10.0.0.2"
	for _, next := range []string{"10.0.0.22", "10.0.0.23", "10.0.0.2"} {
		took, gone := change(b, pb.label, next, now)
		fresh, old, now = append(fresh, took), append(old, gone), next
	}
	// The last address of a family.
	_, took := change(b, pb.label, "", now)
	old = append(old, took)
	change(b, pb.label, now, "")
	for range 2 {
		took, _ := change(x, "thing", "10.0.9.3", "")
		ofAvahi = append(ofAvahi, took)
		_, took = change(x, "thing", "", "10.0.9.3")
		oldOfAvahi = append(oldOfAvahi, took)
	}
	within(t, "new address of a nigh", 300*time.Millisecond, fresh)
	within(t, "old address of a nigh gone", 2*time.Second, old)
	within(t, "address of a nigh gone that was just added", 2*time.Second, oldYoung)
	within(t, "new address of Avahi", 2*time.Second, ofAvahi)
	within(t, "old address of Avahi gone", 3*time.Second, oldOfAvahi)
	for _, r := range resolver.Pending() {
		if r.Failure != "" {
			t.Errorf("Avahi lost b meanwhile: %s", r.Failure)
		}
	}
	// a's own address matters too: what is not on its link is not shown.
	a.IP("address", "del", "10.0.0.1/16", "dev", "eth0")
	pa.await("addresses of the lost subnet to go", shows(pb.label, now, false))
}
