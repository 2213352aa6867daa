//go:build netns

package crowd

import (
	"testing"
	"time"

	"nigh/lab"
)

// The agent's goals when nothing happens.
const (
	idleRSS   = 20 << 20
	idleShare = 0.001 // of one processor
)

// TestShowIdleAgent measures an agent that is alone on its link, after it has settled: memory, processor time, and how
// often it is woken.
func TestShowIdleAgent(t *testing.T) {
	c := New(t, 1)
	if err := c.Start(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	// The first questions on a link are 1, 3, 9 and 27 s apart.
	const settling, measured = 15 * time.Second, 30 * time.Second
	pause(t, settling)
	before := usage(t, c, 0)
	pause(t, measured)
	u := usage(t, c, 0)
	spent := u.Sub(before)
	share := spent.CPU.Seconds() / measured.Seconds()
	t.Logf("measured: an idle agent has %.1f MiB RSS, takes %.4f %% of a processor and is woken %.1f times a second",
		mib(u.RSS), 100*share, float64(spent.Wakeups)/measured.Seconds())
	if u.RSS > idleRSS {
		t.Errorf("%.1f MiB RSS, want at most %.1f", mib(u.RSS), mib(idleRSS))
	}
	if most := lab.Bound(t, time.Duration(idleShare*float64(measured))); spent.CPU > most {
		t.Errorf("%v of processor time in %v, want at most %v", spent.CPU, measured, most)
	}
}
