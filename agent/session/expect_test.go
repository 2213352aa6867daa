package session

import (
	"testing"
	"time"

	"nigh/lab"
)

// conns waits until a has n connections to b.
func (d *device) conns(t *testing.T, b *device, n int, limit time.Duration) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); len(d.connsOf(b.id)) != n; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections after %v, want %d", len(d.connsOf(b.id)), limit, n)
		}
	}
}

// An expected device's bulk connection is there before the first request, which takes it; one that nobody needs is closed again.
func TestExpectOpensTheBulkConnection(t *testing.T) {
	a, b := friends(t)
	a.Expect(b.id)
	a.Expect(b.id)
	a.conns(t, b, 1, wait)
	mustGet(t, a.Bulk(b.id), "/v1/any")
	a.conns(t, b, 1, 0)
	a.Close(b.id)
	a.conns(t, b, 0, wait)

	a.Expect(b.id)
	a.conns(t, b, 1, wait)
	a.conns(t, b, 0, warmLife+wait)

	// A request that comes while it is being opened waits for it.
	a.Expect(b.id)
	mustGet(t, a.Bulk(b.id), "/v1/any")
	a.conns(t, b, 1, 0)

	// Nobody there is no trouble for the request that follows.
	a.Close(b.id)
	a.conns(t, b, 0, wait)
	a.at(b.id)
	a.Expect(b.id)
	a.at(b.id, b.lan())
	mustGet(t, a.Bulk(b.id), "/v1/any")
}

// A connection whose address was taken away is closed by Check, not by a timeout.
func TestCheckFindsLostAddresses(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	a.tell(order{Op: "hold", ID: b.id})
	a.connected("")
	a.tell(order{Op: "check"})
	a.get(b, false) // it is still there
	a.host.IP("addr", "flush", "dev", "eth0")
	a.at(b)
	began := time.Now()
	a.tell(order{Op: "check"})
	s := a.lost(wait)
	if d := s.at.Sub(began); d > quick {
		t.Errorf("the loss was noticed after %v", d)
	}
}

// What is sent before the other side is ready is lost; the next attempt does not wait for the kernel, which repeats after a
// second.
func TestAttemptsOverlap(t *testing.T) {
	t.Parallel()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	net.Cable(ha, "p2p-a-0", hb, "p2p-b-0")
	a, b := startNode(t, ha), startNode(t, hb)
	a.at(b, b.candidate("direct", "p2p-a-0", linkLocal(t, hb, "p2p-b-0", "p2p-a-0")))
	firewall(t, b, "limit rate 1/hour burst 1 packets drop") // the first one
	began := time.Now()
	a.tell(order{Op: "hold", ID: b.id})
	s := a.connected("direct")
	if d := s.at.Sub(began); d < overlapAfter || d > 3*overlapAfter {
		t.Errorf("with one SYN lost it took %v, want a little over %v", d, overlapAfter)
	}
}
