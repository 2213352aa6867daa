package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// messages sends messages while a large file fills a slow link, with the file and against it: how long they take from the
// request to the event that shows them, and how much of the link is used. A token bucket with a queue of 50 ms at each end
// stands for the link.
func messages(s *stage) []row {
	var rows []row
	for _, link := range []struct {
		mbit  int
		bound time.Duration
	}{{100, 30 * time.Millisecond}, {20, 150 * time.Millisecond}} {
		p95, use := s.overFullLink(link.mbit)
		took, used := middle(p95), middle(use)
		const least = 0.88
		rows = append(rows,
			judge(fmt.Sprintf("messages while a file fills %d Mbit/s: p95", link.mbit), fmt.Sprintf("≤ %d ms", link.bound.Milliseconds()),
				fmt.Sprintf("%.0f ms", took.Seconds()*1e3), took <= link.bound),
			judge(fmt.Sprintf("use of these %d Mbit/s", link.mbit), fmt.Sprintf("≥ %.0f %%", least*100), fmt.Sprintf("%.0f %%", used*100), used >= least))
	}
	return rows
}

// overFullLink returns the p95 of the messages, and the part of the link that was used, of each round.
func (s *stage) overFullLink(mbit int) (p95 []time.Duration, use []float64) {
	n := lab.NewNet(s)
	_, hosts := s.segment(n, "ada", "bob")
	for _, h := range hosts {
		h.Run("tc", "qdisc", "add", "dev", ifname, "root", "tbf", "rate", strconv.Itoa(mbit)+"mbit", "burst", "16kb", "latency", "50ms")
	}
	ada, bob := s.start(hosts[0], "ada", "--accept", "trusted"), s.start(hosts[1], "bob", "--accept", "trusted")
	s.befriend(ada, bob)
	s.nigh(ada, "send", s.sparse(8<<30), "--to", "bob")
	// About a second of the link, so that the queue is full.
	s.must(bob.Await(s.within(patience), func(st control.State) bool {
		return len(st.Transfers) == 1 && st.Transfers[0].BytesDone > int64(mbit)*1e6/8
	}))
	for round := range s.rounds {
		before, began := s.came(hosts[1]), time.Now()
		type answer struct {
			took []time.Duration
			err  error
		}
		answers := make(chan answer)
		for _, w := range []struct{ from, to *node.Agent }{{ada, bob}, {bob, ada}} {
			go func() { // ends with chat; both are waited for
				took, err := s.chat(w.from, w.to, fmt.Sprintf("%s %d ", w.from.Name, round))
				answers <- answer{took, err}
			}()
		}
		var all []time.Duration
		for range 2 {
			a := <-answers
			if a.err != nil {
				s.Error(a.err)
			}
			all = append(all, a.took...)
		}
		s.mu.Lock()
		failed := len(s.errs) > 0
		s.mu.Unlock()
		if failed {
			s.FailNow()
		}
		moved, lasted := s.came(hosts[1])-before, time.Since(began)
		slices.Sort(all)
		p95 = append(p95, all[len(all)*95/100])
		use = append(use, float64(moved)*8/1e6/float64(mbit)/lasted.Seconds())
		progress("%d Mbit/s: %d messages in p50 %v, p95 %v, at most %v; %.0f %% of the link were used", mbit, len(all), all[len(all)/2], p95[round], all[len(all)-1], 100*use[round])
	}
	// The next link has the processors for itself.
	s.end(ada)
	s.end(bob)
	return p95, use
}

// chat sends ten messages a second for four seconds, and returns how long each took, from the request until the other agent
// shows it.
func (s *stage) chat(from, to *node.Agent, prefix string) (took []time.Duration, err error) {
	const many = 40
	events, err := to.Client().Watch(s.ctx)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	sent := make([]time.Time, many)
	asked := make(chan error, many)
	over := time.NewTimer(patience)
	defer over.Stop()
	for next := 0; len(took) < many; {
		select {
		case <-tick.C:
			if next == many {
				continue
			}
			text := prefix + strconv.Itoa(next)
			sent[next] = time.Now()
			next++
			go func() { // its answer has room
				_, err := from.Client().SendMessage(s.ctx, control.MessageRequest{Text: text, To: []string{to.Name}})
				asked <- err
			}()
		case err := <-asked:
			if err != nil {
				return took, err
			}
		case e, ok := <-events:
			if !ok {
				return took, fmt.Errorf("the events of %s ended", to.Name)
			}
			if e.Type != "message" || e.Message.Direction != "receive" {
				continue
			}
			rest, own := strings.CutPrefix(e.Message.Text, prefix)
			if i, err := strconv.Atoi(rest); own && err == nil && i < next && !sent[i].IsZero() {
				took = append(took, time.Since(sent[i]))
				sent[i] = time.Time{}
			}
		case <-over.C:
			return took, fmt.Errorf("of %d messages from %s %d came", next, from.Name, len(took))
		}
	}
	return took, nil
}

// sparse makes a file of zeros that takes no space.
func (s *stage) sparse(size int64) string {
	path := filepath.Join(s.TempDir(), "film")
	s.must(os.WriteFile(path, nil, 0o600))
	s.must(os.Truncate(path, size))
	return path
}
