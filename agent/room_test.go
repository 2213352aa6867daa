package agent

import (
	"fmt"
	"testing"
	"time"
)

// One machine with as many keys as the table has places keeps nobody out, and
// several share what they take.
func TestOneHostDoesNotFillTheTable(t *testing.T) {
	b := newBench()
	near := func(n uint32, addr string) bool {
		s := on(fmt.Sprint(n), kindLAN, "eth0", "10.0.0.99:1", addr)
		s.at = s.addrs[1] // the address before it is only claimed
		b.clock = b.clock.Add(time.Second)
		return b.attach(someID(n), "x", s)
	}
	for i := range uint32(2 * maxPeers) {
		near(10_000+i, fmt.Sprintf("10.0.0.66:%d", 1000+i))
	}
	if got := len(b.views()); got != maxPeers {
		t.Fatalf("%d listed, want %d", got, maxPeers)
	}
	const real = 300
	for i := range uint32(real) {
		if !near(1+i, fmt.Sprintf("10.0.%d.%d:7421", 1+i/200, i%200+1)) {
			t.Fatalf("no place for device %d", i)
		}
	}
	for i := range uint32(maxPeers) {
		near(20_000+i, fmt.Sprintf("10.0.0.67:%d", 1000+i))
	}
	if len(b.peers) != maxPeers {
		t.Errorf("%d peers, want %d", len(b.peers), maxPeers)
	}
	for i := range uint32(real) {
		if _, ok := b.one(someID(1 + i)); !ok {
			t.Fatalf("device %d gave way to one host's keys", i)
		}
	}
	// The first flood had to make room for the devices and for half of the second flood.
	if got, want := len(b.gaveWay()), maxPeers-(maxPeers-real)/2; got != want || len(b.gaveWay()) != 0 {
		t.Errorf("%d gave way, want %d, told once", got, want)
	}
}
