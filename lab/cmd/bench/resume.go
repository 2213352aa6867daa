package main

import (
	"fmt"
	"os"
	"path/filepath"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// resume kills each side in the middle of a large file and starts it again. What the receiver's link takes in beyond what it
// does for the same file undisturbed was sent twice.
func resume(s *stage) []row {
	const (
		mbit   = 1000 // so that there is a middle
		size   = 256 << 20
		resent = 64 << 20
	)
	n := lab.NewNet(s)
	lan, hosts := s.segment(n, "ada", "bob")
	lan.Slow(hosts[0], ifname, mbit)
	ada, bob := s.start(hosts[0], "ada", "--accept", "trusted"), s.start(hosts[1], "bob", "--accept", "trusted")
	s.befriend(ada, bob)
	source := filepath.Join(s.TempDir(), "film")
	s.must(os.WriteFile(source, noise(size, "resume"), 0o600))

	send := func(victim *node.Agent, at int64) int64 {
		before := s.came(hosts[1])
		events := s.watch(bob)
		_, err := ada.Client().Send(s.ctx, control.SendRequest{Paths: []string{source}, To: []string{"bob"}})
		s.must(err)
		// Earlier ones have ended and are not reported again, but for the list that the events begin with.
		_, x := s.transfer(events, "", func(x control.Transfer) bool { return x.State == "running" })
		if victim != nil {
			s.transfer(events, x.ID, func(x control.Transfer) bool { return x.BytesDone >= at })
			s.must(victim.Kill())
			s.must(victim.Start(s.ctx))
			s.await(bob, x.ID)
		} else {
			s.transfer(events, x.ID, func(x control.Transfer) bool { return x.State == "done" })
		}
		came := s.came(hosts[1]) - before
		arrived := filepath.Join(bob.Inbox, "film")
		s.must(sameBytes(source, arrived))
		s.must(os.Remove(arrived))
		return came
	}
	undisturbed := send(nil, 0)
	var rows []row
	for _, victim := range []struct {
		agent *node.Agent
		what  string
	}{{bob, "receiver"}, {ada, "sender"}} {
		var twice []int64
		for round := range s.rounds {
			// From a fifth to four fifths of the file.
			at := size * int64(s.rounds+3*round) / int64(5*s.rounds)
			twice = append(twice, max(0, send(victim.agent, at)-undisturbed))
		}
		m := middle(twice)
		rows = append(rows, judge("sent again after kill -9 of the "+victim.what, fmt.Sprintf("≤ %d MiB", resent>>20), fmt.Sprintf("%.1f MiB", float64(m)/(1<<20)), m <= resent))
	}
	return rows
}

// await waits until a transfer is done, whether that was before or is later.
func (s *stage) await(a *node.Agent, id string) {
	s.must(a.Await(s.within(2*patience), func(st control.State) bool {
		for _, x := range st.Transfers {
			if x.ID == id && (x.State == "failed" || x.State == "refused") {
				s.Fatalf("the transfer of %s failed: %s", x.Name, x.Error)
			}
			if x.ID == id && x.State == "done" {
				return true
			}
		}
		return false
	}))
}
