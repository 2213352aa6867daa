package desktop

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"nigh/agent/control"
	"nigh/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers as a notification server does, at the level of messages, and notes what it is to show.
type server struct {
	mu     sync.Mutex
	can    []string
	number uint32
	count  int
	shown  chan string // every notification, and every one that is taken back
}

func (s *server) GetCapabilities() ([]string, *dbus.Error) { return s.can, nil }

func (s *server) Notify(app string, _ uint32, _, summary, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	s.mu.Lock()
	s.number++
	s.count++
	n := s.number
	s.mu.Unlock()
	if s.shown != nil {
		s.shown <- fmt.Sprintf("%d %s %d|%s|%s", n, app, len(actions), summary, body)
	}
	return n, nil
}

func (s *server) CloseNotification(n uint32) *dbus.Error {
	if s.shown != nil {
		s.shown <- fmt.Sprintf("closed %d", n)
	}
	return nil
}

// serve puts a server on a bus.
func serve(t *testing.T, address string, s *server) {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Export(s, "/org/freedesktop/Notifications", notifications); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName(notifications, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("the name: %v, %v", r, err)
	}
}

// stream is an agent of which only the events are wanted.
type stream chan control.Event

func (s stream) Watch(context.Context) (<-chan control.Event, error) { return s, nil }

func (s stream) begin(quiet bool) {
	st := control.State{Inbox: []control.InboxItem{{ID: "old", Kind: "transfer", PeerName: "bob", Transfer: &control.Transfer{}}}, Messages: []control.Message{{Seq: 4, Direction: "receive"}}}
	st.Status.Short, st.Status.Agent.Quiet = "7Q4K-M2XD", quiet
	s <- control.Event{Type: "state", State: &st}
}

func (s stream) message(seq uint64, text string) {
	s <- control.Event{Type: "message", Message: &control.Message{Seq: seq, Direction: "receive", PeerName: "Ana's <b>laptop</b>", Text: text}}
}

// settled returns when all that was sent before is handled: the event is taken, and changes nothing.
func (s stream) settled() { s <- control.Event{Type: "log"}; s <- control.Event{Type: "log"} }

// follow follows a stream until the test or the returned function ends it.
func follow(t *testing.T, s stream, address string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		Follow(ctx, s, address)
		close(over)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		close(s)
		<-over
	})
	t.Cleanup(stop)
	return stop
}

func expect(t *testing.T, shown chan string, want string) {
	t.Helper()
	select {
	case got := <-shown:
		if got != want {
			t.Errorf("shown is %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%q is not shown", want)
	}
}

func TestNotifications(t *testing.T) {
	address := lab.SessionBus(t)
	desk := &server{can: []string{"body", "body-markup"}, shown: make(chan string, 100)}
	serve(t, address, desk)
	s := make(stream)
	follow(t, s, address)
	s.begin(false)
	offer := control.InboxItem{ID: "i1", Kind: "transfer", PeerName: "Ana", Transfer: &control.Transfer{Name: "<img src='http://x'> & more", Files: 3}}
	old, own := offer, control.InboxItem{ID: "p1", Kind: "pair", Own: true, PeerName: "bob"}
	old.ID = "old"
	for _, i := range []control.InboxItem{old, own, offer, offer} {
		s <- control.Event{Type: "inbox", Inbox: &i}
	}
	expect(t, desk.shown, "1 nigh 0|Files are offered|Ana wants to send 3 files: &lt;img src='http://x'&gt; &amp; more")
	s <- control.Event{Type: "inbox_gone", Key: "i1"}
	expect(t, desk.shown, "closed 1")
	s.message(4, "was there before")
	s.message(5, "two\n lines "+strings.Repeat("ü", 500))
	expect(t, desk.shown, "2 nigh 0|Message|Ana's &lt;b&gt;laptop&lt;/b&gt;: two lines "+strings.Repeat("ü", maxBody-len("Ana's <b>laptop</b>: two lines "))+"...")
	s.settled()
	if len(desk.shown) > 0 {
		t.Errorf("more is shown: %q", <-desk.shown)
	}

	// Its user wants none.
	st := control.Status{Short: "7Q4K-M2XD", Agent: control.AgentInfo{Quiet: true}}
	s <- control.Event{Type: "status", Status: &st}
	s.message(6, "not for the desktop")
	s.settled()
	if len(desk.shown) > 0 {
		t.Errorf("shown though it is off: %q", <-desk.shown)
	}
}

// Two programs that follow one agent show everything once, and the second one goes on when the first has ended. A server that
// knows no markup gets none.
func TestNotificationsAreShownOnce(t *testing.T) {
	address := lab.SessionBus(t)
	desk := &server{can: []string{"body"}, shown: make(chan string, 100)}
	serve(t, address, desk)
	first, second := make(stream), make(stream)
	stop := follow(t, first, address)
	follow(t, second, address)
	first.begin(false)
	second.begin(false)
	first.message(5, "a & b")
	expect(t, desk.shown, "1 nigh 0|Message|Ana's <b>laptop</b>: a & b")
	second.message(5, "a & b")
	second.settled()
	if len(desk.shown) > 0 {
		t.Errorf("shown twice: %q", <-desk.shown)
	}
	stop()
	second.message(6, "c")
	expect(t, desk.shown, "2 nigh 0|Message|Ana's <b>laptop</b>: c")
}

// A flood is cut off; without a server and without a bus nothing is shown and nothing waits.
func TestNotificationsAreBounded(t *testing.T) {
	address := lab.SessionBus(t)
	bare := make(stream)
	leave := follow(t, bare, address)
	bare.begin(false)
	bare.message(5, "nobody shows it")
	bare.settled()
	leave()

	desk := &server{}
	serve(t, address, desk)
	s := make(stream)
	follow(t, s, address)
	began := time.Now()
	s.begin(false)
	for i := range 200 {
		s.message(uint64(5+i), "flood")
	}
	s.settled()
	desk.mu.Lock()
	defer desk.mu.Unlock()
	if most := showBurst + int(time.Since(began)/showPause) + 1; desk.count < showBurst || desk.count > most {
		t.Errorf("%d of 200 are shown, at most %d should", desk.count, most)
	}

	Follow(t.Context(), s, "")
	gone := make(stream)
	stop := follow(t, gone, "unix:path=/does/not/exist")
	gone.begin(false)
	gone.message(5, "no bus")
	gone.settled()
	stop()
}

func TestBus(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ address, dir, want string }{
		{"unix:path=/run/user/1/bus,guid=1", dir, "unix:path=/run/user/1/bus,guid=1"},
		{"unixexec:path=/bin/sh", dir, ""}, {"autolaunch:", dir, ""}, {"tcp:host=10.0.0.1,port=1", dir, ""}, {"", dir, ""}, {"", "", ""},
	} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", tt.address)
		t.Setenv("XDG_RUNTIME_DIR", tt.dir)
		if got := Bus(); got != tt.want {
			t.Errorf("with %+v: %q", tt, got)
		}
	}
}
