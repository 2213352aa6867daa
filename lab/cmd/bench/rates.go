package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// rates bounds a transfer in three ways while it runs, and then cancels one from each side.
func rates(s *stage) []row {
	const (
		mega     = 1_000_000
		off      = 0.05
		cancel   = 300 * time.Millisecond
		settling = 700 * time.Millisecond
		window   = 1500 * time.Millisecond
	)
	n := lab.NewNet(s)
	_, hosts := s.segment(n, "ada", "bob")
	settings := s.TempDir()
	config := func(name string) string { return filepath.Join(settings, name) }
	for _, name := range []string{"ada", "bob"} {
		s.must(os.WriteFile(config(name), nil, 0o600))
	}
	ada := s.start(hosts[0], "ada", "--accept", "trusted", "--config", config("ada"))
	bob := s.start(hosts[1], "bob", "--accept", "trusted", "--config", config("bob"))
	s.befriend(ada, bob)
	source := s.sparse(8 << 30)
	events := map[*node.Agent]<-chan seen{ada: s.watch(ada), bob: s.watch(bob)}
	begin := func() (id string) {
		_, err := ada.Client().Send(s.ctx, control.SendRequest{Paths: []string{source}, To: []string{"bob"}})
		s.must(err)
		_, x := s.transfer(events[bob], "", func(x control.Transfer) bool { return x.State == "running" && x.BytesDone > 0 })
		return x.ID
	}
	set := func(a *node.Agent, name, text string) {
		s.must(os.WriteFile(config(name), []byte(text), 0o600))
		s.nigh(a, "config", "reload")
	}
	kinds := []struct {
		what        string
		want        float64
		bound, free func()
	}{
		{"sender, all", 8 * mega, func() { set(ada, "ada", `rate_up = "8MB"`) }, func() { set(ada, "ada", "") }},
		{"receiver, all", 2 * mega, func() { set(bob, "bob", `rate_down = "2MB"`) }, func() { set(bob, "bob", "") }},
		{"sender, one device", 40 * mega,
			func() { s.nigh(ada, "trust", "set", "bob", "--rate-up", "40MB") }, func() { s.nigh(ada, "trust", "set", "bob", "--rate-up", "none") }},
	}
	errors := make([][]float64, len(kinds))
	ends := map[*node.Agent][]time.Duration{}
	for range s.rounds {
		kinds[0].bound()
		id := begin()
		for i, k := range kinds {
			if i > 0 {
				k.bound()
				kinds[i-1].free()
			}
			// What was on its way at the earlier rate comes first.
			settled := time.Now().Add(settling)
			from, first := s.transferAfter(events[bob], id, settled)
			to, last := s.transferAfter(events[bob], id, from.Add(window))
			rate := float64(last.BytesMoved-first.BytesMoved) / to.Sub(from).Seconds()
			errors[i] = append(errors[i], rate/k.want-1)
		}
		kinds[len(kinds)-1].free()
		for _, a := range []*node.Agent{ada, bob} {
			s.transferAfter(events[bob], id, time.Now().Add(500*time.Millisecond)) // at full speed
			began := time.Now()
			s.must(a.Client().CancelTransfer(s.ctx, s.unfinished(a)))
			took := time.Duration(0)
			for _, side := range []*node.Agent{ada, bob} {
				took = max(took, s.cancelled(events[side]).Sub(began))
			}
			ends[a] = append(ends[a], took)
			if a == ada {
				id = begin()
			}
		}
	}
	worst := 0.0
	var parts []string
	for i, k := range kinds {
		m := middle(errors[i])
		if math.Abs(m) > math.Abs(worst) {
			worst = m
		}
		parts = append(parts, fmt.Sprintf("%s %+.1f %%", k.what, 100*m))
	}
	slowest := max(middle(ends[ada]), middle(ends[bob]))
	return []row{
		judge("rate limits: 8, 2 and 40 MB/s", fmt.Sprintf("± %.0f %%", 100*off), strings.Join(parts, ", "), math.Abs(worst) <= off),
		judge("cancel, until both sides have ended", fmt.Sprintf("≤ %d ms", cancel.Milliseconds()), fmt.Sprintf("%d ms", slowest.Milliseconds()), slowest <= cancel),
	}
}

// transferAfter returns the first report on a transfer that came after a moment.
func (s *stage) transferAfter(events <-chan seen, id string, after time.Time) (at time.Time, x control.Transfer) {
	s.transferAt(events, id, func(came time.Time, found control.Transfer) bool {
		at, x = came, found
		return came.After(after)
	})
	return at, x
}

// unfinished returns the ID of the only transfer of an agent that has not ended.
func (s *stage) unfinished(a *node.Agent) string {
	all, err := a.Client().Transfers(s.ctx)
	s.must(err)
	for _, x := range all {
		if x.Ended == "" {
			return x.ID
		}
	}
	s.Fatalf("%s transfers nothing", a.Name)
	return ""
}

// cancelled returns when an agent said that its transfer was cancelled.
func (s *stage) cancelled(events <-chan seen) time.Time {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case e, open := <-events:
			if !open {
				s.Fatal("the events of an agent ended")
			}
			if x := e.event.Transfer; x != nil && x.Ended != "" {
				if !strings.Contains(x.Error, "cancelled") {
					s.Fatalf("the transfer ended as %s: %s", x.State, x.Error)
				}
				return e.at
			}
		case <-deadline.C:
			s.Fatal("a cancelled transfer does not end")
		}
	}
}
