//go:build netns

package discovery

import (
	"fmt"
	"testing"
	"time"

	"nigh/lab/avahi"
)

// Row 3: Avahi publishes while nigh runs. Avahi itself probes for 0.8 s.
func TestBehaviour03AvahiPublishes(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 2)
	client := avahi.Start(t, h[0]).Client()
	p := start(t, h[1], Config{ShortID: id(1)})
	p.awaitPublishing()
	var took []time.Duration
	for i := range 8 {
		name := fmt.Sprintf("Avahi's %d.", i)
		began := time.Now()
		client.Publish(7600, []string{"v=1", "n=x"}, name)
		e, at := p.await(name, func(e Event) bool { return e.Op == Found && e.Instance == name })
		took = append(took, at.Sub(began))
		if e.Host != "avahi-h1.local" || e.TXT["n"] != "x" || len(e.Addrs) == 0 || e.Addrs[0].String() != "10.0.0.1:7600" {
			t.Errorf("event %+v", e)
		}
	}
	within(t, "Avahi's commit to Found", 1500*time.Millisecond, took)
}
