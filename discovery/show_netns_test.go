//go:build netns

package discovery

import (
	"fmt"
	"testing"
	"time"

	"nigh/lab"
)

// A nigh starts beside another, twenty times: each shows the other soon, and its end. On links with both families, with IPv6
// alone and with IPv4 alone.
func TestStartToSeenAndStopToGone(t *testing.T) {
	t.Parallel()
	for _, families := range []string{"both families", "IPv6 alone", "IPv4 alone"} {
		t.Run(families, func(t *testing.T) {
			alone(t)
			n := lab.NewNet(t)
			lan := n.Bridge("lan")
			join := func(i int) *lab.Host {
				h := n.Host(fmt.Sprintf("h%d", i))
				var addrs []string
				if families != "IPv6 alone" {
					addrs = append(addrs, fmt.Sprintf("10.0.0.%d/24", i+1))
				}
				if families == "IPv4 alone" {
					h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
					h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
				}
				lan.Join(h, "eth0", addrs...)
				return h
			}
			a := start(t, join(0), Config{ShortID: id(1)})
			a.awaitPublishing()
			var hosts []*lab.Host
			for i := range 5 {
				hosts = append(hosts, join(i+1))
			}
			var there, here, gone []time.Duration
			for round := range 4 {
				var peers []*peer
				for i, h := range hosts {
					b := start(t, h, Config{ShortID: id(100 + 10*round + i)})
					e, at := a.await("the newcomer", of(Found, b))
					there = append(there, at.Sub(b.begun))
					for _, p := range e.Addrs {
						if p.Addr().Is4() && families == "IPv6 alone" || p.Addr().Is6() && families == "IPv4 alone" {
							t.Errorf("addresses %v", e.Addrs)
						}
					}
					_, at = b.await("the one that was here", of(Found, a))
					here = append(here, at.Sub(b.begun))
					peers = append(peers, b)
				}
				stopped := map[string]time.Time{}
				for _, p := range peers {
					stopped[p.label] = p.stop()
				}
				for name, at := range a.all("all gone", Gone, peers) {
					gone = append(gone, at.Sub(stopped[name]))
				}
			}
			for what, took := range map[string][]time.Duration{"start to being shown": there, "start to showing the other": here} {
				median, _ := summary(took)
				if median > lab.Bound(t, time.Second) {
					t.Errorf("%s: median %v, bound %v", what, median, time.Second)
				}
				within(t, families+": "+what, 2*time.Second, took)
			}
			within(t, families+": stop to gone", 1500*time.Millisecond, gone)
		})
	}
}
