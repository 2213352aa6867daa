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
	one, two := s.shareFilm("one", size, both[:1]), s.shareFilm("two", size, both)
	s.shares(both[0], 2)
	s.shares(both[1], 1)
	events := s.watch(eve)
	fetch := func(hash string, each func(control.Transfer)) (took, gap time.Duration) {
		x, err := eve.Client().Get(s.within(patience), control.GetRequest{Hash: hash})
		s.must(err)
		took, gap = s.follow(events, x.ID, each)
		arrived := filepath.Join(eve.Inbox, x.Name)
		s.must(sameBytes(filepath.Join(both[0].Dir, "films", x.Name), arrived))
		s.must(os.Remove(arrived))
		return took, gap
	}
	var ratios []float64
	var killed, silent []time.Duration
	for round := range s.rounds {
		nothing := func(control.Transfer) {}
		slow, _ := fetch(one, nothing)
		fast, _ := fetch(two, nothing)
		ratios = append(ratios, slow.Seconds()/fast.Seconds())

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
		_, gap := fetch(two, lose(func() { lan.Cut(hosts[2], ifname) }))
		silent = append(silent, gap)
		lan.Mend(hosts[2], ifname)
		s.ready(eve, both[1])
		_, gap = fetch(two, lose(func() { s.must(both[1].Kill()) }))
		killed = append(killed, gap)
		progress("round %d of %d: one holder %.2f s, both %.2f s; gap when one is silent %.2f s, killed %.2f s",
			round+1, s.rounds, slow.Seconds(), fast.Seconds(), silent[round].Seconds(), gap.Seconds())
		s.must(both[1].Start(s.ctx))
		s.ready(eve, both[1])
		s.shares(both[1], 1)
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

// shareFilm makes a file in the shared folder of each of the agents, and returns its hash.
func (s *stage) shareFilm(name string, size int64, agents []*node.Agent) string {
	raw := noise(size, name)
	for _, a := range agents {
		folder := filepath.Join(a.Dir, "films")
		s.must(os.MkdirAll(folder, 0o700))
		s.must(os.WriteFile(filepath.Join(folder, name), raw, 0o600))
		found, err := a.Client().Shares(s.ctx)
		s.must(err)
		if len(found) == 0 {
			s.nigh(a, "share", "add", folder)
		}
	}
	return content.Sum(raw).String()
}

// shares waits until the only share of an agent has so many files, all of them hashed.
func (s *stage) shares(a *node.Agent, files int) {
	s.must(until(s.ctx, "a share is not hashed", func() bool {
		found, err := a.Client().Shares(s.ctx)
		return err == nil && len(found) == 1 && found[0].State == "ready" && found[0].Files == files && found[0].Hashed == files
	}))
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
