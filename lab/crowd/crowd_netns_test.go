//go:build netns

package crowd

import (
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
)

const crowdRSS = 40 << 20

// TestShow3Crowd has a newcomer meet 300 devices on one bridge: it lists them all, they all list it, and what it takes of
// its machine is small. NIGH_CROWD is another number of devices.
//
// The 300 hear only the newcomer, as behind an access point with client isolation: all of them together would prove each
// other in 45 000 handshakes, on the few processors of one machine. For the newcomer that makes no difference: it is told
// of 300 devices, and makes 300 handshakes. TestShow3BurstsOfJoinsAndLeaves has no such walls.
func TestShow3Crowd(t *testing.T) {
	n := size(t, 300)
	c := New(t, n)
	c.LAN.Apart(true)
	c.Grow(1)
	count := c.LAN.Count(t)
	if err := c.Start(t.Context(), 0, n); err != nil {
		t.Fatal(err)
	}
	before := count.Total(t)
	began := time.Now()
	if err := c.Start(t.Context(), n, n+1); err != nil {
		t.Fatal(err)
	}
	await(t, c, n, 5*time.Minute, names(span(0, n, -1)...))
	listed := time.Since(began)
	var view []control.Peer
	asked := time.Now()
	if err := c.Agents[n].JSON(t.Context(), &view, "peers"); err != nil || len(view) != n {
		t.Errorf("nigh peers shows %d devices: %v", len(view), err)
	}
	shown := time.Since(asked)
	for i := range n {
		await(t, c, i, time.Minute, names(n))
	}
	traffic, u := count.Total(t).Sub(before), usage(t, c, n)
	t.Logf("measured: a newcomer lists %d devices %.2f s after its start, nigh peers takes %.2f s; %.1f MiB RSS, %.2f s of processor, %d packets on the bridge, %d connections",
		n, listed.Seconds(), shown.Seconds(), mib(u.Peak), u.CPU.Seconds(), traffic.All, traffic.Dial)
	if listed > lab.Bound(t, 10*time.Second) {
		t.Errorf("%d devices were listed after %v, want 10 s", n, listed)
	}
	if u.Peak > crowdRSS {
		t.Errorf("%.1f MiB RSS, want at most %.1f", mib(u.Peak), mib(crowdRSS))
	}

	// Those that started last still ask now and then who is there: the first questions of a device go on for 40 s.
	pause(t, 15*time.Second)
	quiet, spent := count.Total(t), usage(t, c, n)
	const measured = 20 * time.Second
	pause(t, measured)
	traffic, u = count.Total(t).Sub(quiet), usage(t, c, n).Sub(spent)
	t.Logf("measured: %.1f packets a second on the bridge of %d that do nothing, %.1f of them mDNS; the newcomer takes %.3f %% of a processor and has %.1f MiB RSS",
		float64(traffic.All)/measured.Seconds(), n+1, float64(traffic.MDNS)/measured.Seconds(), 100*u.CPU.Seconds()/measured.Seconds(), mib(u.RSS))
}

// TestShow3BurstsOfJoinsAndLeaves starts 30 devices at the same moment beside a few, and stops them: all list all, and then
// only who stayed.
func TestShow3BurstsOfJoinsAndLeaves(t *testing.T) {
	const stay = 4
	n := stay + size(t, 30)
	c := New(t, n)
	count := c.LAN.Count(t)
	if err := c.Start(t.Context(), 0, stay); err != nil {
		t.Fatal(err)
	}
	for i := range stay {
		await(t, c, i, time.Minute, names(span(0, stay, i)...))
	}
	quiet := count.Total(t)
	if err := c.Start(t.Context(), stay, n); err != nil {
		t.Fatal(err)
	}
	began := time.Now() // the processors of this machine started the last one now
	for i := range n {
		await(t, c, i, 5*time.Minute, names(span(0, n, i)...))
	}
	listed, traffic := time.Since(began), count.Total(t).Sub(quiet)
	pairs := n*(n-1)/2 - stay*(stay-1)/2
	t.Logf("measured: %d devices join %d: all list all %.1f s after the last was started; %d packets, %.2f connections a pair",
		n-stay, stay, listed.Seconds(), traffic.All, float64(traffic.Dial)/float64(pairs))
	if listed > lab.Bound(t, 10*time.Second) {
		t.Errorf("all were listed after %v, want 10 s", listed)
	}

	began = time.Now()
	if err := c.Stop(stay, n); err != nil {
		t.Error(err)
	}
	for i := range stay {
		await(t, c, i, time.Minute, names(span(0, stay, i)...))
	}
	left := time.Since(began)
	t.Logf("measured: %d devices leave at once: gone from all lists %.1f s after they were told to stop", n-stay, left.Seconds())
	if left > lab.Bound(t, 5*time.Second) {
		t.Errorf("they were gone after %v, want 5 s", left)
	}
	for i := range stay {
		if u := usage(t, c, i); u.Peak > crowdRSS {
			t.Errorf("%s: %.1f MiB RSS, want at most %.1f", Name(i), mib(u.Peak), mib(crowdRSS))
		}
	}
}
