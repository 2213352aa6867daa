//go:build netns

package discovery

import (
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Row 9: a link is deleted and made again under its name, twenty times.
func TestBehaviour09LinkComesBackUnderItsName(t *testing.T) {
	alone(t)
	n := lab.NewNet(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	one.Join(a, "eth0", "10.1.0.1/24")
	two.Join(a, "eth1", "10.2.0.1/24")
	two.Join(b, "eth0", "10.2.0.2/24")
	two.Join(c, "eth0", "10.2.0.3/24")
	avahi.Start(t, c).Client().Publish(7600, nil, "thing").Await(avahi.Established)
	pa, pb := start(t, a, Config{ShortID: id(1)}), start(t, b, Config{ShortID: id(2)})
	both := func(op Op) (nigh, ofAvahi time.Time) {
		for nigh.IsZero() || ofAvahi.IsZero() {
			e, at := pa.await(op.String()+" on both", func(e Event) bool { return e.Op == op && e.Ifname == "eth1" })
			if e.Instance == pb.label {
				nigh = at
			} else {
				ofAvahi = at
			}
		}
		return nigh, ofAvahi
	}
	both(Found)
	before := pa.do("status")
	var gone, found, foundAvahi []time.Duration
	for range 20 {
		began := time.Now()
		a.IP("link", "del", "eth1")
		at, alsoAt := both(Gone)
		gone = append(gone, at.Sub(began), alsoAt.Sub(began))
		began = time.Now()
		two.Join(a, "eth1", "10.2.0.1/24")
		at, alsoAt = both(Found)
		found, foundAvahi = append(found, at.Sub(began)), append(foundAvahi, alsoAt.Sub(began))
	}
	within(t, "link deleted to Gone", 500*time.Millisecond, gone)
	within(t, "link made again to a nigh's Found", time.Second, found)
	// Avahi says nothing twice in a second, so the second question may be the one it answers.
	within(t, "link made again to Avahi's service Found", 1500*time.Millisecond, foundAvahi)
	// The library's goroutines of the last link outlive it by four seconds.
	var now report
	for deadline := time.Now().Add(late); time.Now().Before(deadline); {
		if now = pa.do("status"); now.Files <= before.Files && now.Goroutines <= before.Goroutines+1 {
			t.Logf("%d open files and %d goroutines at first, %d and %d at the end", before.Files, before.Goroutines, now.Files, now.Goroutines)
			return
		}
	}
	t.Errorf("%d open files and %d goroutines at first, %d and %d at the end", before.Files, before.Goroutines, now.Files, now.Goroutines)
}
