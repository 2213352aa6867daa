//go:build netns

package transfer

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/lab"
)

// Rates are kept to within 5 %, by the sender and by the receiver, for all and for one device, and after they changed while bytes move;
// a cancel takes at most 300 ms.
func TestRatesAndCancel(t *testing.T) {
	const mega = 1_000_000
	for _, c := range []struct {
		name           string
		sender, taker  Limits
		senderTo, from Rates
		want           float64 // bytes a second
	}{
		{"sender", Limits{Rates: Rates{Up: 8 * mega}}, Limits{}, Rates{}, Rates{}, 8 * mega},
		{"receiver", Limits{}, Limits{Rates: Rates{Down: 2 * mega}}, Rates{}, Rates{}, 2 * mega},
		{"device", Limits{Rates: Rates{Up: 64 * mega}}, Limits{}, Rates{Up: 40 * mega}, Rates{Down: 100 * mega}, 40 * mega},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			sender, taker := limits(c.sender), limits(c.taker)
			alice := b.device("alice", limited(sender, func(cfg *Config) { cfg.Rates = func(identity.DeviceID) Rates { return c.senderTo } }))
			bob := b.device("bob", limited(taker, acceptAll, func(cfg *Config) { cfg.Rates = func(identity.DeviceID) Rates { return c.from } }))
			alice.send(bob, sparse(t, 2<<30))
			bob.until("begun", func(t Transfer) bool { return t.State == Running && t.Sent > int64(c.want/2) })
			measure := func(want float64) {
				t.Helper()
				// Between two reports, so that no half of a group is counted.
				first := bob.moved()
				from := time.Now()
				last := bob.until("moved", func(t Transfer) bool { return float64(t.Sent) > float64(first)+2*want }).Sent
				took := time.Since(from)
				rate := float64(last-first) / took.Seconds()
				t.Logf("%.3f MB/s, %+.1f %% of the rate", rate/mega, 100*(rate/want-1))
				if fast := rate > 1.05*want; fast || took > lab.Bound(t, time.Duration(float64(last-first)/(0.95*want)*float64(time.Second))) {
					t.Errorf("%.0f bytes a second, the rate is %.0f", rate, want)
				}
			}
			measure(c.want)
			sender.Store(&Limits{Rates: Rates{Up: mega}})
			alice.LimitsChanged()
			if bob.until("slower", func(t Transfer) bool { return t.State == Running }); c.name == "sender" {
				bob.settled()
				measure(mega)
			}
			for _, d := range []*device{alice, bob} {
				tr := d.Transfers()[0]
				if tr.State.Ended() {
					continue
				}
				began := time.Now()
				if err := d.Cancel(tr.ID); err != nil {
					t.Fatal(err)
				}
				alice.failedWith("cancelled")
				bob.failedWith("cancelled")
				took := time.Since(began)
				t.Logf("cancelled in %v", took)
				if limit := lab.Bound(t, 300*time.Millisecond); took > limit {
					t.Errorf("the cancel took %v, the bound is %v", took, limit)
				}
			}
		})
	}
}

// moved waits for a report of progress and returns the bytes that came until then.
func (d *device) moved() int64 {
	before := d.Transfers()[0].Sent
	return d.until("reported", func(t Transfer) bool { return t.Sent > before }).Sent
}

// settled waits until what was sent at an earlier rate has come.
func (d *device) settled() {
	at := d.moved()
	d.until("settled", func(t Transfer) bool { return t.Sent >= at+(1<<20) })
}

// sparse makes a file of zeros that takes no space.
func sparse(t *testing.T, size int64) string {
	path := filepath.Join(t.TempDir(), "film")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}
