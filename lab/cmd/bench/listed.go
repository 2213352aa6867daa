package main

import (
	"fmt"
	"time"

	"nigh/agent/control"
	"nigh/lab"
)

// listed starts new devices on a LAN, one after the other, and waits each time until the one that was there lists it.
func listed(s *stage) []row {
	const goal = time.Second
	n := lab.NewNet(s)
	_, hosts := s.segment(n, "ada", "new")
	ada := s.start(hosts[0], "ada")
	var took []time.Duration
	for i := range 3 * s.rounds {
		name := fmt.Sprintf("new-%d", i)
		found, ready := make(chan error, 1), make(chan struct{})
		ctx := s.within(patience)
		go func() { // ends when the device is found or ctx ends; waited for
			first := true
			found <- ada.Await(ctx, func(st control.State) bool {
				if first {
					first = false
					close(ready)
				}
				return peerIs(st, name, "visible", "ready", "connecting")
			})
		}()
		<-ready
		began := time.Now()
		arrived := make(chan time.Duration, 1)
		ended := make(chan error, 1)
		go func() { // ends with found
			err := <-found
			arrived <- time.Since(began)
			ended <- err
		}()
		agent := s.start(hosts[1], name)
		took = append(took, <-arrived)
		s.must(<-ended)
		s.must(agent.Stop())
		s.must(ada.Await(s.within(patience), func(st control.State) bool { return !peerIs(st, name, "visible", "ready", "connecting") }))
	}
	m := middle(took)
	return []row{judge("new device on a LAN: start to listed", fmt.Sprintf("≤ %.0f s", goal.Seconds()), fmt.Sprintf("%.2f s", m.Seconds()), m <= goal)}
}
