//go:build netns

package link

import (
	"testing"
	"time"

	"nigh/lab"
)

// A cable between two machines without DHCP: a link-local address within two seconds of the carrier, whether the kernel makes
// addresses of its own, which it then probes for, or none.
func TestCableWithinTwoSeconds(t *testing.T) {
	const runs = 5
	for name, mode := range map[string]string{"the kernel makes addresses": "0", "the kernel makes none": "1"} {
		t.Run(name, func(t *testing.T) {
			var worst time.Duration
			for range runs {
				n := lab.NewNet(t)
				a, b := n.Host("a"), n.Host("b")
				for _, h := range []*lab.Host{a, b} {
					h.Sysctl("net.ipv6.conf.default.accept_dad", "1")
					h.Sysctl("net.ipv6.conf.default.addr_gen_mode", mode)
				}
				a.IP("link", "add", "name", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.Namespace)
				a.IP("link", "set", "eth0", "up")
				changes, stop := serveCables(t, a, book(t, t.TempDir()), nil)
				awaitIn(t, changes, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return !l.Up }) })
				b.IP("link", "set", "eth0", "up")
				plugged := time.Now()
				awaitIn(t, changes, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })
				worst = max(worst, time.Since(plugged))
				stop()
			}
			t.Logf("usable %v after the carrier at worst in %d runs", worst, runs)
			if limit := lab.Bound(t, 2*time.Second); worst > limit {
				t.Errorf("usable only after %v, the bound is %v", worst, limit)
			}
		})
	}
}
