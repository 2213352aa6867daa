package discovery

import (
	"net/netip"
	"testing"
	"time"

	"nigh/lab"
)

// Goals of design.md 6, for the middle of several tries: a busy machine may be late once.
const (
	seenGoal = time.Second
	goneGoal = 1500 * time.Millisecond
)

func TestTwoSeeEachOtherAndPart(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	pa := start(t, a, Config{ShortID: "AAAA-0001", Instance: "Küche 1.5 \"x\" \\"})
	pa.do("status")
	var seen, gone []time.Duration
	for range 5 {
		pb := start(t, b, Config{ShortID: "BBBB-0002", Port: 7500})
		e, took := pa.await("b", of(Found, pb))
		seen = append(seen, took)
		if e.Host != "nigh-bbbb-0002.local" || e.TXT["v"] != "1" || e.TXT["id"] != "BBBB-0002" || e.Ifname != "eth0" {
			t.Errorf("event %+v", e)
		}
		if want := netip.MustParseAddrPort("10.0.0.2:7500"); len(e.Addrs) != 2 || e.Addrs[0] != want || e.Addrs[1].Addr().Zone() != "eth0" {
			t.Errorf("addresses %v", e.Addrs)
		}
		e, _ = pb.await("a", of(Found, pa))
		if e.Instance != "Küche 1.5 \"x\" \\ [AAAA-0001]" {
			t.Errorf("instance %q", e.Instance)
		}
		pb.stop()
		_, took = pa.await("b's goodbye", of(Gone, pb))
		gone = append(gone, took)
	}
	for what, m := range map[string]struct {
		took []time.Duration
		goal time.Duration
	}{"process start to seen": {seen, seenGoal}, "stop to gone": {gone, goneGoal}} {
		median, largest := summary(m.took)
		t.Logf("%s: median %v, largest %v of %d", what, median, largest, len(m.took))
		if median > m.goal {
			t.Errorf("%s: median %v, goal %v", what, median, m.goal)
		}
	}
}
