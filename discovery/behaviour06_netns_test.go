//go:build netns

package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"nigh/lab/avahi"
)

// Row 6: a TXT record changes, at Avahi and at nigh, and nobody seems to go.
func TestBehaviour06TextChanges(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 5)
	client := avahi.Start(t, h[0]).Client()
	watcher := start(t, h[1], Config{ShortID: id(1)})
	group := client.Publish(7600, []string{"n=0"}, "thing")
	want := map[string]bool{"thing": true}
	var peers []*peer
	var resolvers []*avahi.Resolver
	for i, host := range h[2:] {
		p := start(t, host, Config{ShortID: id(2 + i)})
		peers, want[p.label] = append(peers, p), true
	}
	watcher.await("all", func(e Event) bool { delete(want, e.Instance); return len(want) == 0 })
	for _, p := range peers {
		r := client.Resolve(p.label)
		r.Await("our service", func(r avahi.Resolved) bool { return r.Failure == "" })
		resolvers = append(resolvers, r)
	}

	var ofAvahi, ofNigh, toAvahi []time.Duration
	changed := func(instance, n string) func(Event) bool {
		return func(e Event) bool {
			if e.Op != Changed {
				t.Errorf("%v of %s while its TXT record changes", e.Op, e.Instance)
			}
			return e.Instance == instance && e.TXT["n"] == n
		}
	}
	for i := 1; i <= 6; i++ {
		n := fmt.Sprint(i)
		began := time.Now()
		group.UpdateTXT("thing", "n="+n)
		_, at := watcher.await("Avahi's TXT record "+n, changed("thing", n))
		ofAvahi = append(ofAvahi, at.Sub(began))

		// In turn: what is younger than a second is not replaced at once (RFC 6762 10.2).
		p, resolver := peers[i%len(peers)], resolvers[i%len(peers)]
		began = time.Now()
		p.setTXT("v=1", "n="+n)
		_, at = watcher.await("nigh's TXT record "+n, changed(p.label, n))
		ofNigh = append(ofNigh, at.Sub(began))
		r := resolver.Await("TXT record "+n, func(r avahi.Resolved) bool {
			if r.Failure != "" {
				t.Errorf("Avahi's resolver fails: %s", r.Failure)
			}
			return strings.Contains(r.TXT, "n="+n)
		})
		toAvahi = append(toAvahi, r.At.Sub(began))
	}
	within(t, "Avahi's UpdateServiceTxt to Changed", 1500*time.Millisecond, ofAvahi)
	within(t, "SetTXT to another nigh's Changed", 1500*time.Millisecond, ofNigh)
	within(t, "SetTXT to Avahi's resolver", 2500*time.Millisecond, toAvahi)
}
