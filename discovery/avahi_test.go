package discovery

import (
	"strings"
	"testing"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Our host name resolves although the zeroconf library does not answer for it, also beside an avahi-daemon on our own host.
func TestHostNameResolves(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	daemons := map[string]*avahi.Daemon{"a": avahi.Start(t, a), "b": avahi.Start(t, b)}
	start(t, b, Config{ShortID: "BBBB-0002"}).awaitPublishing()
	for on, d := range daemons {
		for kind, want := range map[string]string{"-4": "10.0.0.2", "-6": "fe80::"} {
			out, _ := d.Run("avahi-resolve", kind, "-n", "nigh-bbbb-0002.local").Await("an answer", func(string) bool { return true })
			if f := strings.Fields(out); len(f) != 2 || !strings.HasPrefix(f[1], want) {
				t.Errorf("%s on %s: %q", kind, on, out)
			}
		}
	}
}
