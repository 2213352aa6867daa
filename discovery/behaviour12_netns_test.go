//go:build netns

package discovery

import (
	"strings"
	"testing"
	"time"

	"nigh/lab/avahi"
)

// changes counts the Changed events of each sighting that come until a time, and fails the test on Gone of those that stay.
func changes(t *testing.T, p *peer, until <-chan time.Time) map[string]int {
	t.Helper()
	n := map[string]int{}
	for {
		select {
		case r := <-p.events:
			p.note(*r.Event)
			switch r.Event.Op {
			case Changed:
				n[r.Event.Instance+" on "+r.Event.Host]++
			case Gone:
				t.Errorf("%s: %v %s on %s", p.name, r.Event.Op, r.Event.Instance, r.Event.Host)
			}
		case <-until:
			return n
		}
	}
}

// Row 12: a card was copied, and two nighs have one ID and one name. Both say so, and a third one's list does not flap.
func TestBehaviour12ClonedCard(t *testing.T) {
	wait := long(t)
	_, _, h := segment(t, 5)
	browser := avahi.Start(t, h[3]).Browse()
	third := start(t, h[2], Config{ShortID: id(3)})
	card := Config{Instance: "Kitchen Pi", ShortID: id(1)}
	pa := start(t, h[0], card)
	third.await("the first", of(Found, pa))
	browser.Await("the first", func(s string) bool { f := avahi.Parse(s); return f.Op == "=" && f.Name == pa.label })
	pb := start(t, h[1], card)
	minute := time.After(time.Minute)
	var took []time.Duration
	for p, other := range map[*peer]string{pa: "10.0.0.2", pb: "10.0.0.1"} {
		e, at := p.await("its clone", func(e Event) bool { return e.Op == Clone })
		took = append(took, at.Sub(pb.begun))
		if a := e.Addrs[0].Addr(); e.Ifname != "eth0" || e.Instance != pa.label || len(e.Addrs) != 1 || a.String() != other && a.Zone() != "eth0" {
			t.Errorf("event %+v", e)
		}
	}
	within(t, "two with one ID know it", 5*time.Second, took)
	// Somebody comes and asks, so that both answer.
	start(t, h[4], Config{ShortID: id(5)})
	wait()
	for who, n := range changes(t, third, minute) {
		t.Logf("the third nigh had %d Changed of %s in a minute", n, who)
		if n > 2 {
			t.Errorf("%d Changed of %s in a minute", n, who)
		}
	}
	for _, p := range []*peer{pa, pb} {
		for _, e := range p.pending() {
			if e.Op == Clone || e.Op == CloneGone {
				t.Errorf("%s: %v again", p.name, e.Op)
			}
		}
	}
}

// Row 12: Avahi has the name of a nigh, before nigh comes and after. One of the two learns of it: nigh says so, or Avahi calls its
// service otherwise; and nigh is listed all the time.
func TestBehaviour12AvahiHasTheName(t *testing.T) {
	wait := long(t)
	_, _, h := segment(t, 4)
	daemon := avahi.Start(t, h[0])
	third := start(t, h[1], Config{ShortID: id(3)})
	third.awaitPublishing()
	var took []time.Duration
	settled := func(p *peer, publisher *avahi.Lines, began time.Time) {
		t.Helper()
		name := make(chan time.Time, 1)
		go func() {
			for at := range publisher.Times("#2") {
				name <- at
				return
			}
		}()
		deadline := time.After(late)
		for {
			select {
			case at := <-name:
				t.Logf("Avahi renames its service after %v", at.Sub(began).Round(time.Millisecond))
				took = append(took, at.Sub(began))
				return
			case r := <-p.events:
				p.note(*r.Event)
				if r.Event.Op == Clone {
					t.Logf("nigh knows that %s has its name after %v", r.Event.Host, r.At.Sub(began).Round(time.Millisecond))
					took = append(took, r.At.Sub(began))
					return
				}
			case <-deadline:
				t.Fatalf("%s: neither knows of the other in %v", p.name, late)
			}
		}
	}
	later := Config{Instance: "later", ShortID: id(1)}
	publisher := daemon.Publish(instanceLabel(later.Instance, later.ShortID), 7600, "n=Avahi")
	third.await("Avahi's", func(e Event) bool { return e.Op == Found && e.Host == "avahi-h1.local" })
	pa := start(t, h[2], later)
	settled(pa, publisher, pa.begun)
	third.await("nigh", func(e Event) bool { return e.Op == Found && e.Instance == pa.label && e.Host == "nigh-t000-0001.local" })

	pb := start(t, h[3], Config{Instance: "first", ShortID: id(2)})
	third.await("the next", of(Found, pb))
	began := time.Now()
	publisher = daemon.Publish(pb.label, 7600, "n=Avahi")
	settled(pb, publisher, began)
	within(t, "name in two hands to one of them knowing", 5*time.Second, took)

	minute := time.After(time.Minute)
	wait()
	n := map[string]int{}
	for open := true; open; {
		select {
		case r := <-third.events:
			third.note(*r.Event)
			if strings.HasPrefix(r.Event.Host, "nigh-") && r.Event.Op == Gone {
				t.Errorf("%s seems to go", r.Event.Instance)
			}
			if r.Event.Op == Changed {
				n[r.Event.Instance+" on "+r.Event.Host]++
			}
		case <-minute:
			open = false
		}
	}
	for who, n := range n {
		t.Logf("the third nigh had %d Changed of %s in a minute", n, who)
		if n > 2 {
			t.Errorf("%d Changed of %s in a minute", n, who)
		}
	}
}
