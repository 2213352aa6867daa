//go:build netns

package discovery

import (
	"os"
	"strings"
	"testing"
	"time"

	"nigh/lab/avahi"
)

// longVariable makes the test below hold its resolvers for the whole 300 s of mdns.md 6. Without it, it is 150 s: in that time
// every record is refreshed once and would expire.
const longVariable = "NIGH_LONG"

// Row 13: Avahi, which knew nothing before, resolves names with every kind of character, and goes on doing so; and another
// avahi-daemon on our own host is not disturbed, and does not disturb, when it is restarted.
func TestBehaviour13AvahiHoldsOn(t *testing.T) {
	wait := long(t)
	_, _, h := segment(t, 7)
	own := avahi.Start(t, h[1])
	names := []string{"with space", "a.b.c", "José ✓", `quote " and '`, `back \ slash`}
	var peers []*peer
	for i, name := range names {
		p := start(t, h[1+i], Config{Instance: name, ShortID: id(1 + i), Port: uint16(7500 + i), TXT: []string{"v=1", "n=" + name}})
		p.awaitPublishing()
		peers = append(peers, p)
	}
	cold := avahi.Start(t, h[6]).Client()
	var resolvers []*avahi.Resolver
	var took []time.Duration
	for i, p := range peers {
		began := time.Now()
		r := cold.Resolve(p.label)
		e := r.Await(p.label, func(avahi.Resolved) bool { return true })
		if e.Failure != "" || e.Port != uint16(7500+i) || !strings.Contains(e.TXT, "n="+names[i]) {
			t.Errorf("%s: %+v", p.label, e)
		}
		took = append(took, e.At.Sub(began))
		resolvers = append(resolvers, r)
	}
	within(t, "cold Avahi resolves a name", time.Second, took)

	own.Restart()
	fromOwn := own.Client().Resolve(peers[1].label)
	if e := fromOwn.Await("our neighbour, by the daemon on our host", func(avahi.Resolved) bool { return true }); e.Failure != "" {
		t.Errorf("the daemon on our own host: %s", e.Failure)
	}
	fromOwn = own.Client().Resolve(peers[0].label)
	if e := fromOwn.Await("ourselves, by the daemon on our host", func(avahi.Resolved) bool { return true }); e.Failure != "" {
		t.Errorf("the daemon on our own host, of us: %s", e.Failure)
	}
	hold := 150 * time.Second
	if os.Getenv(longVariable) != "" {
		hold = 300 * time.Second
	}
	over := time.After(hold)
	wait()
	<-over
	t.Logf("held for %v", hold)
	for i, r := range append(resolvers, fromOwn) {
		for _, e := range r.Pending() {
			if e.Failure != "" {
				t.Errorf("resolver %d: %s", i, e.Failure)
			}
		}
	}
	// When it ends it withdraws its own records; what is meant here is another's making.
	_, since, _ := strings.Cut(own.Log(), "exiting.")
	for _, bad := range []string{"conflict", "Withdrawing"} {
		if strings.Contains(since, bad) {
			t.Errorf("the daemon on our own host says %q:\n%s", bad, own.Log())
		}
	}
	for _, p := range peers {
		for _, e := range p.pending() {
			if e.Op == Gone || e.Op == Clone {
				t.Errorf("%s: %+v", p.name, e)
			}
		}
	}
}
