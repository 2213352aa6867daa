//go:build radio

package wpa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nigh/lab/radio"
)

// limit is how long anything may take in the lab's guest, which runs under emulation on a busy machine.
const limit = 90 * time.Second

// station is a node with a running Radio and everything that it told.
type station struct {
	*Radio
	t    *testing.T
	node *radio.Node
	name string
	stop context.CancelFunc
	done chan struct{} // closed when Run returned and all events are in

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every event; guarded by mu
	events  []Event       // guarded by mu
	runErr  error         // valid after done
}

// newStation opens and runs a Radio on a node; it is stopped at the end of the test.
func newStation(t *testing.T, node *radio.Node, cfg Config) *station {
	t.Helper()
	if cfg.DeviceName == "" {
		cfg.DeviceName = "nigh " + node.Name
	}
	cfg.Bus = node.Bus
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", node.Name)
	}
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &station{Radio: r, t: t, node: node, name: cfg.DeviceName, stop: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	var runs sync.WaitGroup
	runs.Go(func() {
		for e := range r.Events() {
			s.mu.Lock()
			s.events = append(s.events, e)
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
		}
	})
	runs.Go(func() { s.runErr = r.Run(ctx) })
	go func() { runs.Wait(); close(s.done) }()
	t.Cleanup(s.end)
	s.awaitState(Ready)
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p[:len(p)-1])
	return len(p), nil
}

// end stops the Radio and waits for Run.
func (s *station) end() {
	s.t.Helper()
	s.stop()
	select {
	case <-s.done:
	case <-time.After(limit):
		s.t.Errorf("%s: Run does not return", s.name)
		return
	}
	if s.runErr != nil {
		s.t.Errorf("%s: Run: %v", s.name, s.runErr)
	}
}

// mark is a position in the events told so far.
func (s *station) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// await returns the first event since mark that match likes.
func (s *station) await(mark int, what string, match func(Event) bool) Event {
	s.t.Helper()
	deadline := time.After(limit)
	for {
		s.mu.Lock()
		events, changed := s.events, s.changed
		s.mu.Unlock()
		for _, e := range events[mark:] {
			if match(e) {
				return e
			}
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("%s: no %s; events since: %s", s.name, what, describe(events[mark:]))
		}
	}
}

func describe(events []Event) string {
	out := ""
	for _, e := range events {
		out += fmt.Sprintf("\n  %T %+v", e, e)
	}
	return out
}

// count counts the events since mark that match likes.
func (s *station) count(mark int, match func(Event) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events[mark:] {
		if match(e) {
			n++
		}
	}
	return n
}

// awaitState waits for a state, which may be there already.
func (s *station) awaitState(state State) {
	s.t.Helper()
	if s.Status().State == state {
		return
	}
	s.await(0, "state "+string(state), func(e Event) bool {
		_, ok := e.(StateChanged)
		return ok && s.Status().State == state
	})
}

func (s *station) awaitRequest(mark int) Request {
	s.t.Helper()
	return s.await(mark, "request", func(e Event) bool { _, ok := e.(RequestReceived); return ok }).(RequestReceived).Request
}

func (s *station) awaitGone(mark int) GroupGone {
	s.t.Helper()
	return s.await(mark, "group gone", func(e Event) bool { _, ok := e.(GroupGone); return ok }).(GroupGone)
}

func (s *station) awaitUp(mark int) Group {
	s.t.Helper()
	return s.await(mark, "group up", func(e Event) bool { _, ok := e.(GroupUp); return ok }).(GroupUp).Group
}

// meet lets seeker find other and returns other's device address.
func meet(seeker, other *station) net.HardwareAddr {
	seeker.t.Helper()
	if err := other.Listen(seeker.t.Context(), 10*time.Minute); err != nil {
		seeker.t.Fatal(err)
	}
	return seeker.findName(other.name).Address
}

// findName searches until a peer of that name is near.
func (s *station) findName(name string) Peer {
	s.t.Helper()
	if err := s.Find(s.t.Context(), 2*time.Minute); err != nil {
		s.t.Fatal(err)
	}
	var found Peer
	s.await(0, "peer "+name, func(Event) bool {
		for _, p := range s.Peers() {
			if p.Name == name {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// result is what Connect or Accept returned.
type result struct {
	group Group
	err   error
	took  time.Duration
}

// later runs a formation in the background.
func later(f func() (Group, error)) <-chan result {
	ch := make(chan result, 1)
	begin := time.Now()
	go func() {
		g, err := f()
		ch <- result{g, err, time.Since(begin)}
	}()
	return ch
}

// wait waits for a formation.
func (s *station) wait(ch <-chan result) result {
	s.t.Helper()
	select {
	case r := <-ch:
		return r
	case <-time.After(2 * limit):
		s.t.Fatalf("%s: formation does not end", s.name)
		panic("unreachable")
	}
}

// answer accepts the next request since mark.
func (s *station) answer(mark int, method Method, o ConnectOptions) <-chan result {
	s.t.Helper()
	req := s.awaitRequest(mark)
	return later(func() (Group, error) { return s.Accept(s.t.Context(), req, method, o) })
}

// form makes a group: a asks, b accepts.
func form(a, b *station, ma, mb Method, oa, ob ConnectOptions) (ga, gb Group) {
	a.t.Helper()
	peer := meet(a, b)
	mark := b.mark()
	asked := later(func() (Group, error) { return a.Connect(a.t.Context(), peer, ma, oa) })
	accepted := b.answer(mark, mb, ob)
	ra, rb := a.wait(asked), b.wait(accepted)
	if ra.err != nil || rb.err != nil {
		a.t.Fatalf("formation failed: %s: %v, %s: %v", a.name, ra.err, b.name, rb.err)
	}
	a.t.Logf("group after %.2f s at the asking side, %.2f s after accepting", ra.took.Seconds(), rb.took.Seconds())
	return ra.group, rb.group
}

// checkGroup compares the two ends of a group with each other and with the kernel.
func checkGroup(owner, client *station, o, c Group, pool netip.Prefix) {
	t := owner.t
	t.Helper()
	if o.Role != Owner || c.Role != Client {
		t.Fatalf("roles are %s and %s", o.Role, c.Role)
	}
	if o.SSID == "" || o.SSID != c.SSID || o.SSID[:7] != "DIRECT-" {
		t.Errorf("SSIDs are %q and %q", o.SSID, c.SSID)
	}
	if len(o.Passphrase) < 8 || c.Passphrase != "" {
		t.Errorf("passphrases have %d and %d bytes", len(o.Passphrase), len(c.Passphrase))
	}
	if o.Frequency < 2412 || o.Frequency != c.Frequency {
		t.Errorf("frequencies are %d and %d", o.Frequency, c.Frequency)
	}
	if len(o.Members) == 0 || o.BSSID.String() != c.BSSID.String() {
		t.Errorf("owner has members %v; BSSIDs are %s and %s", o.Members, o.BSSID, c.BSSID)
	}
	owner.checkLink(o)
	client.checkLink(c)
	if !pool.IsValid() {
		if c.Local.IsValid() {
			t.Errorf("client got %s without a pool", c.Local)
		}
		return
	}
	if !pool.Contains(c.Local) || c.Owner4 != poolOf(pool).owner || c.Local.Compare(poolOf(pool).start) < 0 || c.Local.Compare(poolOf(pool).end) > 0 {
		t.Errorf("client got %s, owner %s, of pool %s", c.Local, c.Owner4, pool)
	}
}

// checkLink checks that the group's interface is there.
func (s *station) checkLink(g Group) {
	s.t.Helper()
	if err := s.node.Do(func() error { _, err := net.InterfaceByName(g.Ifname); return err }); err != nil {
		s.t.Errorf("%s: interface %q: %v", s.name, g.Ifname, err)
	}
}

// checkNoLink checks that it is not.
func (s *station) checkNoLink(g Group) {
	s.t.Helper()
	if err := s.node.Do(func() error { _, err := net.InterfaceByName(g.Ifname); return err }); err == nil {
		s.t.Errorf("%s: interface %q is still there", s.name, g.Ifname)
	}
}

// mustFail checks an error.
func mustFail(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error is %v, not %v", what, err, want)
	}
}
