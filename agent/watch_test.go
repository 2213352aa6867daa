package agent

import (
	"testing"

	"nigh/agent/control"
)

func one(e control.Event) func() (control.Event, bool) {
	return func() (control.Event, bool) { return e, true }
}

func TestWatcherGetsStateThenChanges(t *testing.T) {
	var h hub
	events, cancel, err := h.watch(func() control.State { return control.State{Status: control.Status{Name: "ada"}} })
	if err != nil {
		t.Fatal(err)
	}
	h.publish(one(control.Event{Type: "peer_gone", Key: "x"}))
	h.publish(func() (control.Event, bool) { return control.Event{}, false })
	cancel()
	cancel()
	var got []control.Event
	for e := range events {
		got = append(got, e)
	}
	if len(got) != 2 || got[0].Type != "state" || got[0].State.Status.Name != "ada" || got[1].Key != "x" || got[0].Seq != 1 || got[1].Seq != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestSlowWatcherIsCutWithAReason(t *testing.T) {
	var h hub
	slow, _, err := h.watch(func() control.State { return control.State{} })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * watchBuffer {
		h.publish(one(control.Event{Type: "status"}))
	}
	n := 0
	var last control.Event
	for e := range slow {
		n, last = n+1, e
		if e.Seq != uint64(n) {
			t.Fatalf("event %d has number %d", n, e.Seq)
		}
	}
	if n != watchBuffer || last.Type != "end" || last.Reason == "" {
		t.Errorf("%d events, the last %+v", n, last)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	var h hub
	for range maxWatchers {
		if _, _, err := h.watch(func() control.State { return control.State{} }); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.watch(func() control.State { return control.State{} }); err == nil {
		t.Error("one watcher too many was let in")
	}
	h.close("over")
	if len(h.watchers) != 0 {
		t.Error("close left watchers")
	}
}
