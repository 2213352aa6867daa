package control_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/control"
)

func TestWatch(t *testing.T) {
	b := &backend{events: make(chan control.Event, 8)}
	socket, _ := serve(t, b)
	b.events <- control.Event{Seq: 1, Type: "state", State: &control.State{Status: sampleStatus}}
	events, err := (&control.Client{Socket: socket}).Watch(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	first := <-events
	if first.Type != "state" || first.State == nil || first.State.Peers == nil || first.State.Transfers == nil {
		t.Fatalf("first event %+v", first)
	}
	if p := first.State.Status.Groups[0].Passphrase; p != "" {
		t.Errorf("the passphrase %q is in the event stream", p)
	}
	if sampleStatus.Groups[0].Passphrase == "" {
		t.Error("the backend's own slice was changed")
	}
	// Each event arrives by itself, without another one behind it.
	for seq := uint64(2); seq < 5; seq++ {
		b.events <- control.Event{Seq: seq, Type: "peer", Peer: &control.Peer{Name: "x"}}
		if e := <-events; e.Seq != seq || e.Peer == nil || e.Peer.Paths == nil {
			t.Fatalf("event %+v", e)
		}
	}
	// The backend cuts a slow watcher with a reason.
	b.events <- control.Event{Seq: 5, Type: "end", Reason: "fell behind"}
	close(b.events)
	if e := <-events; e.Type != "end" || e.Reason != "fell behind" {
		t.Errorf("end %+v", e)
	}
	if e, open := <-events; open {
		t.Errorf("after the end: %+v", e)
	}
}

// The log comes to who asks for it, and to nobody else.
func TestWatchLog(t *testing.T) {
	b := &backend{events: make(chan control.Event, 8)}
	socket, _ := serve(t, b)
	b.events <- control.Event{Seq: 1, Type: "state", State: &control.State{Log: []control.LogLine{}}}
	b.events <- control.Event{Seq: 2, Type: "log", Log: &control.LogLine{Message: "Session is up", Missed: 3}}
	events, err := (&control.Client{Socket: socket}).WatchLog(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.State == nil || e.State.Log == nil {
		t.Errorf("no empty log in %+v", e)
	}
	if e := <-events; e.Log == nil || e.Log.Message != "Session is up" || e.Log.Missed != 3 {
		t.Errorf("%+v", e)
	}
	if b.last() != "watch log" {
		t.Errorf("the backend was asked for %v", b.last())
	}
}

func TestWatchEnds(t *testing.T) {
	b := &backend{events: make(chan control.Event, 1)}
	socket, stop := serve(t, b)
	c := &control.Client{Socket: socket}
	b.events <- control.Event{Seq: 41, Type: "state", State: &control.State{}}

	// The caller's context ends the stream without an event.
	ctx, cancel := context.WithCancel(t.Context())
	events, err := c.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-events
	cancel()
	for e := range events {
		t.Errorf("after cancel: %+v", e)
	}

	// So does the agent's stop, with a reason. The server may not have noticed yet
	// that the first watcher went: this one has a channel of its own.
	b.events = make(chan control.Event, 1)
	b.events <- control.Event{Seq: 41, Type: "state", State: &control.State{}}
	events, err = c.Watch(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	<-events
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	e, open := <-events
	if !open || e.Type != "end" || e.Seq != 42 || e.Reason == "" {
		t.Errorf("the agent's stop gave %+v", e)
	}
	if _, open := <-events; open {
		t.Error("the channel is not closed after the end")
	}
}

// A server that dies in the middle of a line still gives the reader an end.
func TestWatchBrokenStream(t *testing.T) {
	socket := folder(t) + "/agent.sock"
	ln, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for line := ""; line != "\r\n"; {
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nNigh-Api: 1\r\nConnection: close\r\n\r\n{\"seq\":1,\"type\":\"state\"}\n{\"seq\":2,\"ty"))
	}()
	events, err := (&control.Client{Socket: socket}).Watch(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Type != "state" {
		t.Errorf("first event %+v", e)
	}
	if e := <-events; e.Type != "end" || e.Reason == "" {
		t.Errorf("broken stream gave %+v", e)
	}
	<-done
}

// stuck opens a watcher at socket that reads nothing, and feeds it events until the
// end of the test; fed returns how many went out.
func stuck(t *testing.T, socket string, b *backend) (fed func() int) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte("GET /v1/events HTTP/1.1\r\nHost: nigh\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 1<<16)
	feeding, cancel := context.WithCancel(context.Background())
	count := make(chan int, 1)
	go func() {
		n := 0
		for {
			select {
			case b.events <- control.Event{Type: "log", Log: &control.LogLine{Message: text}}:
				n++
			case <-feeding.Done():
				count <- n
				return
			}
		}
	}()
	fed = sync.OnceValue(func() int {
		cancel()
		return <-count
	})
	t.Cleanup(func() { fed() })
	return fed
}

// A watcher that reads nothing is cut, and gets no more than the socket's buffer.
func TestStuckWatcherIsCut(t *testing.T) {
	b := &backend{events: make(chan control.Event), left: make(chan struct{})}
	socket := filepath.Join(folder(t), "agent.sock")
	ln, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := control.NewServer(control.Config{Backend: b})
	s.SetPatience(100 * time.Millisecond)
	run(t, s, ln)
	fed := stuck(t, socket, b)
	select {
	case <-b.left:
	case <-deadline(t).Done():
		t.Error("the watcher was never given up")
	}
	if n := fed(); n == 0 || n > 64 {
		t.Errorf("%d events of 64 KiB went to a reader that reads nothing", n)
	}
	if _, err := (&control.Client{Socket: socket}).Status(deadline(t)); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// Nor does it hold the agent's stop up for long.
func TestStuckWatcherAtStop(t *testing.T) {
	b := &backend{events: make(chan control.Event)}
	socket, stop := serve(t, b)
	fed := stuck(t, socket, b)
	waitFor(t, func() bool { return b.last() == "watch" })
	if err := stop(); err != nil {
		t.Errorf("stop with a stuck watcher: %v", err)
	}
	if n := fed(); n > 64 {
		t.Errorf("%d events of 64 KiB went to a reader that reads nothing", n)
	}
}

func TestTooManyWatchers(t *testing.T) {
	b := &backend{events: make(chan control.Event)}
	socket, _ := serve(t, b)
	c := &control.Client{Socket: socket}
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	var streams []<-chan control.Event
	for {
		events, err := c.Watch(ctx)
		if err != nil {
			if !errors.Is(err, &control.Error{Code: control.CodeBusy}) || len(streams) < 32 {
				t.Errorf("watcher %d: %v", len(streams), err)
			}
			break
		}
		if streams = append(streams, events); len(streams) > 1000 {
			t.Fatal("no bound on watchers")
		}
	}
	cancel()
	for _, events := range streams {
		for range events {
		}
	}
}
