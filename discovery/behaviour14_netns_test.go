//go:build netns

package discovery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Row 14: a hundred services on one Avahi, and a newcomer.
func TestBehaviour14HundredServices(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 2)
	client := avahi.Start(t, h[0]).Client()
	want := map[string]bool{}
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("thing number %d", i))
		want[names[i]] = true
	}
	// Avahi takes 32 entries in a group.
	for some := range slices.Chunk(names, 10) {
		client.Publish(7600, []string{"v=1"}, some...).Await(avahi.Established)
	}
	// Avahi says each service twice, a second apart, and for a second after that answers no question for it (RFC 6762 6).
	<-time.After(3 * time.Second)
	p := start(t, h[1], Config{ShortID: id(1)})
	var took []time.Duration
	for len(want) > 0 {
		e, at := p.await("all hundred", func(e Event) bool { return e.Op == Found && want[e.Instance] })
		delete(want, e.Instance)
		took = append(took, at.Sub(p.begun))
	}
	within(t, "each of a hundred services found", time.Second, took)
}

// Row 14: thirty nighs start together. Their packets are counted on the bridge.
func TestBehaviour14MeshOfThirty(t *testing.T) {
	wait := long(t)
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	var hosts []*lab.Host
	for i := range 30 {
		h := n.Host(fmt.Sprintf("h%d", i))
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		hosts = append(hosts, h)
	}
	ear := n.Host("ear")
	lan.Join(ear, "eth0", "10.0.0.99/24")
	packets := count(t, ear, "eth0")
	var peers []*peer
	for i, h := range hosts {
		peers = append(peers, start(t, h, Config{ShortID: id(100 + i)}))
	}
	last := peers[len(peers)-1].begun
	half, after := time.After(30*time.Second), time.After(90*time.Second)
	var full []time.Duration
	for _, p := range peers {
		at := last
		for _, when := range p.all("the others", Found, others(peers, p)) {
			at = maxTime(at, when)
		}
		full = append(full, at.Sub(last))
	}
	within(t, "last of thirty started, to each having the full view", 2*time.Second, full)
	wait()
	<-half
	first := packets.total()
	<-after
	later := packets.total() - first
	var cpu time.Duration
	for _, p := range peers {
		cpu += p.do("status").CPU
	}
	t.Logf("%d packets in the first 30 s, %d in the 60 s after; %v of a processor for each device", first, later, (cpu / 30).Round(time.Millisecond))
	if first > 2000 || later > 300 {
		t.Errorf("%d packets in the first 30 s (bound 2000), %d in the minute after (bound 300)", first, later)
	}
	for _, p := range peers {
		for _, e := range p.pending() {
			if e.Op == Gone {
				t.Errorf("%s: %v %s", p.name, e.Op, e.Instance)
			}
		}
		p.stop()
	}
}

func others(peers []*peer, but *peer) (out []*peer) {
	for _, p := range peers {
		if p != but {
			out = append(out, p)
		}
	}
	return out
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
