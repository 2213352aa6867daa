package agent

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
)

func one(e control.Event) func() (control.Event, bool) {
	return func() (control.Event, bool) { return e, true }
}

func TestWatcherGetsStateThenChanges(t *testing.T) {
	var h hub
	events, cancel, err := h.watch(false, func() control.State { return control.State{Status: control.Status{Name: "ada"}} })
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
	slow, _, err := h.watch(false, func() control.State { return control.State{} })
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
		if _, _, err := h.watch(false, func() control.State { return control.State{} }); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.watch(false, func() control.State { return control.State{} }); err == nil {
		t.Error("one watcher too many was let in")
	}
	h.close("over")
	if len(h.watchers) != 0 {
		t.Error("close left watchers")
	}
}

// Who asks for the log gets what is kept with the state, then what comes. A slow reader loses lines and is told how many, is
// not cut for it, and keeps room for changes; others get none.
func TestWatcherOfTheLog(t *testing.T) {
	ring := newLogRing()
	h := hub{ring: ring}
	line := func() { ring.add(control.LogLine{Message: fmt.Sprint(ring.total)}) }
	line()
	events, cancel, err := h.watch(true, func() control.State {
		line() // who is asked for the state may log
		return control.State{}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	others, stop, err := h.watch(false, func() control.State { return control.State{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if e := <-events; e.State == nil || len(e.State.Log) != 2 {
		t.Fatalf("%+v", e)
	}
	line()
	if h.tellLog() {
		t.Error("a watcher that reads is said to be behind")
	}
	if e := <-events; e.Type != "log" || e.Log.Message != "2" || e.Log.Missed != 0 || e.Seq != 2 {
		t.Errorf("%+v", e)
	}
	want, missed := 3, 0
	for range 20 { // nobody reads
		for range ringLines {
			line()
		}
		h.tellLog()
	}
	if !h.tellLog() || len(events) != watchBuffer/2 {
		t.Errorf("%d events wait", len(events))
	}
	for range watchBuffer/2 - 1 {
		h.publish(one(control.Event{Type: "status"}))
	}
	for n := uint64(3); want+missed < 3+20*ringLines; n++ {
		if len(events) == 0 {
			h.tellLog()
		}
		e := <-events
		if e.Seq != n || e.Type != "log" && e.Type != "status" {
			t.Fatalf("event %d: %+v", n, e)
		}
		if e.Type == "status" {
			continue
		}
		missed += e.Log.Missed
		if e.Log.Message != fmt.Sprint(want+missed) {
			t.Fatalf("line %d with %d missing: %+v", want, missed, *e.Log)
		}
		want++
	}
	if missed < 10*ringLines || h.tellLog() {
		t.Errorf("%d lines are told to be missing", missed)
	}
	if e := <-others; e.State == nil || e.State.Log != nil {
		t.Errorf("who did not ask: %+v", e)
	}
	if n := len(others); n != watchBuffer/2-1 {
		t.Errorf("who did not ask got %d events", n)
	}
}

// A real agent tells what it logs to who follows it, once: telling it is no reason to log.
func TestAgentTellsItsLog(t *testing.T) {
	a := runAgent(t, localConfig(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events, err := (&control.Client{Socket: a.Socket()}).WatchLog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first := <-events
	if first.State == nil {
		t.Fatalf("%+v", first)
	}
	told := len(first.State.Log)
	const said = 3 * ringLines
	for i := range said {
		a.log.Warn("Said by the test", "i", i)
	}
	last := -1
	for e := range events {
		if e.Log == nil {
			continue
		}
		told += 1 + e.Log.Missed
		if e.Log.Message != "Said by the test" {
			continue
		}
		i, err := strconv.Atoi(strings.TrimPrefix(e.Log.Attrs, "i="))
		if err != nil || i <= last || i > last+1 && e.Log.Missed < i-last-1 {
			t.Fatalf("after line %d: %+v", last, e.Log)
		}
		if last = i; last == said-1 {
			break
		}
	}
	if _, n := a.ring.last(); last != said-1 || n > said+20 || told > int(n) {
		t.Errorf("%d lines were logged, %d of them told or said to be missing, up to %d", n, told, last)
	}
}
