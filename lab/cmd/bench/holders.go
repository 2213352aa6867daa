package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nigh/agent/content"
	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// holders has two devices, each behind a link of 200 Mbit/s, that share the same film: from both of them it comes nearly twice
// as fast as from one, and it goes on when one is lost, killed or silent.
func holders(s *stage) []row {
	const (
		mbit   = 200
		size   = 96 << 20
		ratio  = 1.7
		gapMax = 500 * time.Millisecond
	)
	n := lab.NewNet(s)
	lan, hosts := s.segment(n, "eve", "ada", "bob")
	eve := s.start(hosts[0], "eve")
	var both []*node.Agent
	for i, name := range []string{"ada", "bob"} {
		lan.Slow(hosts[i+1], ifname, mbit)
		both = append(both, s.start(hosts[i+1], name))
	}
	s.befriend(eve, both[0])
	s.befriend(eve, both[1])
	events := s.watch(eve)
	var ratios []float64
	var killed, silent []time.Duration
	for round := range s.rounds {
		fetch := func(name string, from []*node.Agent, each func(control.Transfer)) (took, gap time.Duration) {
			name = fmt.Sprintf("%s-%d", name, round)
			hash := s.shareFilm(name, size, from)
			x, err := eve.Client().Get(s.within(patience), control.GetRequest{Hash: hash})
			s.must(err)
			took, gap = s.follow(events, x.ID, each)
			s.must(os.Remove(filepath.Join(eve.Inbox, name)))
			for _, a := range from {
				s.must(os.Remove(filepath.Join(a.Dir, "films", name)))
			}
			return took, gap
		}
		nothing := func(control.Transfer) {}
		one, _ := fetch("one", both[:1], nothing)
		two, _ := fetch("two", both, nothing)
		ratios = append(ratios, one.Seconds()/two.Seconds())

		lost := false
		lose := func(how func()) func(control.Transfer) {
			lost = false
			return func(x control.Transfer) {
				if !lost && x.BytesDone > size/3 {
					how()
					lost = true
				}
			}
		}
		_, gap := fetch("silent", both, lose(func() { lan.Cut(hosts[2], ifname) }))
		silent = append(silent, gap)
		lan.Mend(hosts[2], ifname)
		s.ready(eve, both[1])
		_, gap = fetch("killed", both, lose(func() { s.must(both[1].Kill()) }))
		killed = append(killed, gap)
		s.must(both[1].Start(s.ctx))
		s.ready(eve, both[1])
	}
	r, k, q := middle(ratios), middle(killed), middle(silent)
	gap := func(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
	return []row{
		judge(fmt.Sprintf("two holders at %d Mbit/s each", mbit), fmt.Sprintf("≥ %.1f × one", ratio), fmt.Sprintf("%.2f ×", r), r >= ratio),
		judge("one of two holders killed: longest gap", "≤ "+gap(gapMax), gap(k), k <= gapMax),
		judge("one of two holders silent: longest gap", "≤ "+gap(gapMax), gap(q), q <= gapMax),
	}
}

// ready waits until the agents see each other ready.
func (s *stage) ready(a, b *node.Agent) {
	for _, w := range [][2]*node.Agent{{a, b}, {b, a}} {
		s.must(w[0].Await(s.within(patience), func(st control.State) bool { return peerIs(st, w[1].Name, "ready") }))
	}
}

// shareFilm makes a file that each of the agents shares, waits until each has hashed it, and returns its hash.
func (s *stage) shareFilm(name string, size int64, agents []*node.Agent) string {
	raw := noise(size, name)
	hash := content.Sum(raw).String()
	for _, a := range agents {
		folder := filepath.Join(a.Dir, "films")
		fresh := false
		if _, err := os.Stat(folder); err != nil {
			fresh = true
			s.must(os.MkdirAll(folder, 0o700))
		}
		s.must(os.WriteFile(filepath.Join(folder, name), raw, 0o600))
		if fresh {
			s.nigh(a, "share", "add", folder)
		}
		s.must(until(s.ctx, "a share is not hashed", func() bool {
			found, err := a.Client().Shares(s.ctx)
			return err == nil && len(found) == 1 && found[0].State == "ready" && found[0].Files == 1 && found[0].Hashed == 1
		}))
	}
	return hash
}

// follow follows a transfer to its end: how long bytes moved (the end, a sync, is the disk's), and the longest time in which
// none did. each is called with every report.
func (s *stage) follow(events <-chan seen, id string, each func(control.Transfer)) (took, gap time.Duration) {
	var first, last time.Time
	done := int64(0)
	s.transferAt(events, id, func(at time.Time, x control.Transfer) bool {
		if first.IsZero() {
			first, last = at, at
		}
		if x.BytesDone > done {
			gap = max(gap, at.Sub(last))
			done, last = x.BytesDone, at
		}
		if x.State == "done" {
			return true
		}
		each(x)
		return false
	})
	return last.Sub(first), gap
}
