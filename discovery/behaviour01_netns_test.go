//go:build netns

package discovery

import (
	"strings"
	"testing"
	"time"

	"nigh/lab/avahi"
)

// Row 1 of mdns.md 6: nigh starts, and Avahi and another nigh show it, with name, port, TXT record and address.
func TestBehaviour01StartIsSeen(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 3)
	browser := avahi.Start(t, h[0]).Browse()
	watcher := start(t, h[1], Config{ShortID: id(1)})
	watcher.awaitPublishing()
	var plus, resolved, seen []time.Duration
	for i := range 10 {
		p := start(t, h[2], Config{Instance: `Zoë's "Pi" 1.5 \`, ShortID: id(100 + i), Port: 7500, TXT: []string{"v=1", `n=Zoë "x" \`}})
		_, at := browser.Await("+", func(s string) bool {
			f := avahi.Parse(s)
			return f.Op == "+" && f.Name == p.label && f.Ifname == "eth0"
		})
		plus = append(plus, at.Sub(p.begun))
		line, at := browser.Await("= with the IPv4 address", func(s string) bool {
			f := avahi.Parse(s)
			return f.Op == "=" && f.Name == p.label && f.Address == "10.0.0.3"
		})
		resolved = append(resolved, at.Sub(p.begun))
		if f := avahi.Parse(line); f.Host != "nigh-"+strings.ToLower(p.name)+".local" || f.Port != "7500" || !strings.Contains(f.TXT, `"v=1"`) || !strings.Contains(f.TXT, "Zo") {
			t.Errorf("resolved as %+v", f)
		}
		e, at := watcher.await("the newcomer", of(Found, p))
		seen = append(seen, at.Sub(p.begun))
		if e.TXT["n"] != `Zoë "x" \` || e.Ifname != "eth0" || len(e.Addrs) != 2 || e.Addrs[0].String() != "10.0.0.3:7500" || e.Addrs[1].Addr().Zone() != "eth0" {
			t.Errorf("event %+v", e)
		}
		p.kill()
	}
	within(t, "start to Avahi's +", time.Second, plus)
	within(t, "start to Avahi's =", time.Second, resolved)
	within(t, "start to another nigh's Found", time.Second, seen)
}
