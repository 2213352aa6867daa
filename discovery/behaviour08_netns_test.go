//go:build netns

package discovery

import (
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Row 8: a link comes up that has only a link-local address, for which the kernel looks for duplicates first.
func TestBehaviour08LinkLocalAppears(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what       string
		optimistic string
		bound      time.Duration
	}{{"duplicate address detection", "0", 2500 * time.Millisecond}, {"optimistic detection", "1", 500 * time.Millisecond}} {
		t.Run(c.what, func(t *testing.T) {
			alone(t)
			n := lab.NewNet(t)
			lan := n.Bridge("lan")
			a, b, x := n.Host("a"), n.Host("b"), n.Host("x")
			for key, value := range map[string]string{"accept_dad": "1", "optimistic_dad": c.optimistic, "use_optimistic": c.optimistic} {
				a.Sysctl("net.ipv6.conf.default."+key, value)
			}
			for _, h := range []*lab.Host{a, b, x} {
				lan.Join(h, "eth0")
			}
			daemon := avahi.Start(t, x)
			daemon.Client().Publish(7600, nil, "thing").Await(avahi.Established)
			browser := daemon.Browse()
			pa, pb := start(t, a, Config{ShortID: id(1)}), start(t, b, Config{ShortID: id(2)})
			pb.await("a", of(Found, pa))
			want := map[string]bool{pb.label: true, "thing": true}
			pa.await("both", func(e Event) bool { delete(want, e.Instance); return len(want) == 0 })
			var here, ofAvahi, there, toAvahi []time.Duration
			for range 5 {
				a.IP("link", "set", "eth0", "down")
				want := map[string]bool{pb.label: true, "thing": true}
				pa.await("all gone with the link", func(e Event) bool {
					if e.Op == Gone {
						delete(want, e.Instance)
					}
					return len(want) == 0
				})
				// The others hear no goodbye from a link that is down: they must forget a before they can find it. A restart of
				// theirs would take longer than the matter itself, so another device on a's link is told of instead.
				fresh := start(t, a, Config{ShortID: id(100 + len(here))})
				began := time.Now()
				a.IP("link", "set", "eth0", "up")
				for range 2 {
					e, at := pa.await("both again", func(e Event) bool { return e.Op == Found && (e.Instance == pb.label || e.Instance == "thing") })
					if len(e.Addrs) != 1 || e.Addrs[0].Addr().Zone() != "eth0" {
						t.Errorf("event %+v", e)
					}
					if e.Instance == "thing" {
						ofAvahi = append(ofAvahi, at.Sub(began))
					} else {
						here = append(here, at.Sub(began))
					}
				}
				_, at := pb.await("the other nigh on a", of(Found, fresh))
				there = append(there, at.Sub(began))
				_, at = browser.Await("the other nigh on a", func(s string) bool { f := avahi.Parse(s); return f.Op == "=" && f.Name == fresh.label })
				toAvahi = append(toAvahi, at.Sub(began))
				fresh.kill()
			}
			within(t, c.what+": nigh shows a nigh", c.bound, here)
			within(t, c.what+": the other nigh shows it", c.bound, there)
			within(t, c.what+": Avahi resolves it", c.bound, toAvahi)
			// Avahi says nothing twice in a second (RFC 6762 6): what it told another device just before this one could hear, it
			// tells this one a second later.
			within(t, c.what+": nigh shows Avahi's service", c.bound+time.Second, ofAvahi)
		})
	}
}
