//go:build netns

package discovery

import (
	"fmt"
	"testing"
	"time"

	"nigh/lab/avahi"
)

// Row 4: a clean stop of either side, seen by Avahi and by another nigh. The records live on for one second by RFC 6762 10.1.
func TestBehaviour04StopIsSeen(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 3)
	daemon := avahi.Start(t, h[0])
	client, browser := daemon.Client(), daemon.Browse()
	watcher := start(t, h[1], Config{ShortID: id(1)})
	var toAvahi, toNigh, ofAvahi []time.Duration
	for i := range 5 {
		p := start(t, h[2], Config{ShortID: id(100 + i)})
		browser.Await("+", func(s string) bool { f := avahi.Parse(s); return f.Op == "+" && f.Name == p.label })
		watcher.await("the newcomer", of(Found, p))
		name := fmt.Sprintf("thing %d", i)
		group := client.Publish(7600, nil, name)
		watcher.await(name, func(e Event) bool { return e.Op == Found && e.Instance == name })

		began := p.stop()
		group.Free()
		_, at := browser.Await("-", func(s string) bool { f := avahi.Parse(s); return f.Op == "-" && f.Name == p.label })
		toAvahi = append(toAvahi, at.Sub(began))
		for range 2 {
			e, at := watcher.await("both gone", func(e Event) bool { return e.Op == Gone && (e.Instance == p.label || e.Instance == name) })
			if e.Instance == p.label {
				toNigh = append(toNigh, at.Sub(began))
			} else {
				ofAvahi = append(ofAvahi, at.Sub(began))
			}
		}
	}
	within(t, "stop to Avahi's -", 1500*time.Millisecond, toAvahi)
	within(t, "stop to another nigh's Gone", 1500*time.Millisecond, toNigh)
	within(t, "Avahi's stop to Gone", 1500*time.Millisecond, ofAvahi)
}

// Row 4 with every third packet lost where it is waited for: the goodbye is said three times, in both families.
func TestBehaviour04StopIsSeenUnderLoss(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 17)
	daemon := avahi.Start(t, h[0])
	client := daemon.Client()
	watcher := start(t, h[1], Config{ShortID: id(1)})
	lose(h[1], 30)
	var peers []*peer
	var groups []*avahi.Group
	for i := range 15 {
		peers = append(peers, start(t, h[2+i], Config{ShortID: id(100 + i)}))
		groups = append(groups, client.Publish(7600, nil, fmt.Sprintf("thing %d", i)))
	}
	want := map[string]bool{}
	for i, p := range peers {
		want[p.label], want[fmt.Sprintf("thing %d", i)] = true, true
	}
	watcher.await("all", func(e Event) bool { delete(want, e.Instance); return len(want) == 0 })

	stopped := map[string]time.Time{}
	for i, p := range peers {
		stopped[p.label] = p.stop()
		groups[i].Free()
		stopped[fmt.Sprintf("thing %d", i)] = time.Now()
	}
	var ofNigh, ofAvahi []time.Duration
	limit := time.After(6 * time.Second)
	for len(stopped) > 0 {
		select {
		case r := <-watcher.events:
			watcher.note(*r.Event)
			began, ok := stopped[r.Event.Instance]
			if r.Event.Op != Gone || !ok {
				continue
			}
			delete(stopped, r.Event.Instance)
			if took := r.At.Sub(began); r.Event.Instance[0] == 't' {
				ofAvahi = append(ofAvahi, took)
			} else {
				ofNigh = append(ofNigh, took)
			}
			continue
		case <-limit:
		}
		break
	}
	// What did not come counts as late.
	for range 15 - len(ofNigh) {
		ofNigh = append(ofNigh, ttlMax)
	}
	for range 15 - len(ofAvahi) {
		ofAvahi = append(ofAvahi, ttlMax)
	}
	share(t, "stop to Gone under 30 % loss", 1500*time.Millisecond, ofNigh, 13)
	// Avahi says goodbye once in each family: of 15 one in eleven is lost.
	share(t, "Avahi's stop to Gone under 30 % loss", 1500*time.Millisecond, ofAvahi, 11)
}
