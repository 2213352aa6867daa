package contract

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"nigh/wpa"
)

// station is a supplicant with a running Radio and everything that it told.
type station struct {
	*wpa.Radio
	whole *testing.T // the test that the station lives in
	t     *testing.T // the step that runs
	name  string
	limit time.Duration
	stop  context.CancelFunc
	done  chan struct{} // closed when Run returned and all events are in

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every event; guarded by mu
	events  []wpa.Event   // guarded by mu
	runErr  error         // valid after done
}

// newStation opens and runs a Radio on a node; it is stopped at the end of the test.
func newStation(t *testing.T, node Node, limit time.Duration, cfg wpa.Config) *station {
	t.Helper()
	cfg.DeviceName, cfg.Bus = "contract "+node.Name, node.Bus
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", node.Name)
	r, err := wpa.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &station{Radio: r, whole: t, t: t, name: cfg.DeviceName, limit: limit, stop: cancel, done: make(chan struct{}), changed: make(chan struct{})}
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
	s.state(wpa.Ready)
	return s
}

// end stops the Radio and waits for Run; a second time it does nothing.
func (s *station) end() {
	s.t.Helper()
	s.stop()
	select {
	case <-s.done:
	case <-time.After(s.limit):
		s.t.Errorf("%s: Run does not return", s.name)
		return
	}
	if s.runErr != nil {
		s.t.Errorf("%s: Run: %v", s.name, s.runErr)
	}
}

// rest ends what a step may have left, so that a failed step does not fail all that follow.
func (s *station) rest() {
	select {
	case <-s.done:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	for _, g := range s.Status().Groups {
		if err := s.Leave(ctx, g.ID); err != nil {
			s.t.Logf("%s: leave after the step: %v", s.name, err)
		}
	}
	_ = s.StopFind(ctx) // nothing to stop when the supplicant is gone
}

// mark is a position in the events told so far.
func (s *station) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// await returns the first event of its type since mark that match likes.
func await[E wpa.Event](s *station, mark int, what string, match func(E) bool) E {
	s.t.Helper()
	deadline := time.After(s.limit)
	for {
		s.mu.Lock()
		events, changed := s.events, s.changed
		s.mu.Unlock()
		for _, e := range events[mark:] {
			if e, ok := e.(E); ok && match(e) {
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

func describe(events []wpa.Event) string {
	out := ""
	for _, e := range events {
		out += fmt.Sprintf("\n  %T %+v", e, e)
	}
	return out
}

// count counts the events of a type since mark that match likes.
func count[E wpa.Event](s *station, mark int, match func(E) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events[mark:] {
		if e, ok := e.(E); ok && match(e) {
			n++
		}
	}
	return n
}

// state waits for a state, which may be there already.
func (s *station) state(state wpa.State) {
	s.t.Helper()
	mark := s.mark()
	if s.Status().State == state {
		return
	}
	await(s, mark, "state "+string(state), func(wpa.StateChanged) bool { return s.Status().State == state })
}

func (s *station) request(mark int) wpa.Request {
	s.t.Helper()
	return await(s, mark, "request", func(wpa.RequestReceived) bool { return true }).Request
}

func (s *station) gone(mark int, why wpa.Reason) {
	s.t.Helper()
	if e := await(s, mark, "end of the group", func(wpa.GroupGone) bool { return true }); e.Reason != why {
		s.t.Errorf("%s: the group is gone for %q, not %q", s.name, e.Reason, why)
	}
}

func saved(s *station, mark int) wpa.Persistent {
	s.t.Helper()
	return await(s, mark, "saved profile", func(wpa.PersistentSaved) bool { return true }).Persistent
}

// findName searches until a peer of that name is near.
func (s *station) findName(name string) wpa.Peer {
	s.t.Helper()
	return s.findPeer(name, func(wpa.Peer) bool { return true })
}

// findOwner searches until a peer of that name is seen to own a group.
func (s *station) findOwner(name string) wpa.Peer {
	s.t.Helper()
	return s.findPeer(name, func(p wpa.Peer) bool { return p.IsGO })
}

func (s *station) findPeer(name string, match func(wpa.Peer) bool) wpa.Peer {
	s.t.Helper()
	mark := s.mark()
	must(s.t, "find", s.Find(s.t.Context(), 2*time.Minute))
	look := func() (wpa.Peer, bool) {
		for _, p := range s.Peers() {
			if p.Name == name && match(p) {
				return p, true
			}
		}
		return wpa.Peer{}, false
	}
	if p, ok := look(); ok {
		return p
	}
	var found wpa.Peer
	await(s, mark, "peer "+name, func(wpa.Event) (ok bool) { found, ok = look(); return ok })
	return found
}

// result is what Connect or Accept returned.
type result struct {
	group wpa.Group
	err   error
	took  time.Duration
}

// later runs a formation in the background.
func later(f func() (wpa.Group, error)) <-chan result {
	ch := make(chan result, 1)
	begin := time.Now()
	go func() {
		g, err := f()
		ch <- result{g, err, time.Since(begin)}
	}()
	return ch
}

func (s *station) wait(ch <-chan result) result {
	s.t.Helper()
	select {
	case r := <-ch:
		return r
	case <-time.After(2 * s.limit):
		s.t.Fatalf("%s: formation does not end", s.name)
		panic("unreachable")
	}
}

// meet lets seeker find other and returns other's device address.
func (s *suite) meet(t *testing.T, seeker, other *station) net.HardwareAddr {
	t.Helper()
	must(t, "listen", other.Listen(t.Context(), 10*time.Minute))
	return seeker.findName(other.name).Address
}

// forming is how two stations make a group: the asking one first.
type forming struct {
	asks, answers wpa.Method
	of, by        wpa.ConnectOptions
}

// form makes a group: a asks, b accepts.
func (s *suite) form(t *testing.T, name string, a, b *station, f forming) (ga, gb wpa.Group) {
	t.Helper()
	s.part(name + "/meet")
	peer := s.meet(t, a, b)
	s.part(name + "/ask")
	mark := b.mark()
	asked := later(func() (wpa.Group, error) { return a.Connect(t.Context(), peer, f.asks, f.of) })
	req := b.request(mark)
	s.part(name + "/accept")
	accepted := later(func() (wpa.Group, error) { return b.Accept(t.Context(), req, f.answers, f.by) })
	ra, rb := a.wait(asked), b.wait(accepted)
	if ra.err != nil || rb.err != nil {
		t.Fatalf("formation failed: %s: %v, %s: %v", a.name, ra.err, b.name, rb.err)
	}
	t.Logf("group after %.2f s at the asking side, %.2f s after accepting", ra.took.Seconds(), rb.took.Seconds())
	return ra.group, rb.group
}

// reinvoke starts the persistent group of two stations again: to must not be asked.
func (s *suite) reinvoke(t *testing.T, name string, from, to *station) wpa.Group {
	t.Helper()
	s.part(name + "/meet")
	peer := s.meet(t, from, to)
	mark := to.mark()
	s.part(name + "/invite")
	r := from.wait(later(func() (wpa.Group, error) {
		return from.Connect(t.Context(), peer, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	}))
	must(t, "connect", r.err)
	g := await(to, mark, "group", func(wpa.GroupUp) bool { return true }).Group
	t.Logf("group again after %.2f s, %s at the inviting side", r.took.Seconds(), r.group.Role)
	if g.SSID != r.group.SSID || !slices.Equal(r.group.Peer, peer) || len(g.Peer) != 6 || g.Role == r.group.Role {
		t.Errorf("groups are %s and %s", r.group, g)
	}
	if n := count(to, mark, func(wpa.RequestReceived) bool { return true }); n != 0 {
		t.Errorf("the invited side was asked %d times", n)
	}
	if r.group.Role == wpa.Owner {
		return r.group
	}
	return g
}

// check compares the two ends of a group.
func (s *suite) check(t *testing.T, o, c wpa.Group, address bool) {
	t.Helper()
	if o.Role != wpa.Owner || c.Role != wpa.Client {
		t.Fatalf("roles are %s and %s", o.Role, c.Role)
	}
	if len(o.SSID) < 9 || o.SSID != c.SSID || o.SSID[:7] != "DIRECT-" {
		t.Errorf("SSIDs are %q and %q", o.SSID, c.SSID)
	}
	if len(o.Passphrase) < 8 || c.Passphrase != "" {
		t.Errorf("passphrases have %d and %d bytes", len(o.Passphrase), len(c.Passphrase))
	}
	if o.Frequency < 2412 || o.Frequency != c.Frequency || o.Ifname == "" || c.Ifname == "" {
		t.Errorf("frequencies are %d and %d, interfaces %q and %q", o.Frequency, c.Frequency, o.Ifname, c.Ifname)
	}
	if len(o.Members) == 0 || len(o.BSSID) != 6 || !slices.Equal(o.BSSID, c.BSSID) || len(o.Peer) != 6 && len(o.Members) == 1 || len(c.Peer) != 6 {
		t.Errorf("owner has members %v and peer %s, client has peer %s; BSSIDs are %s and %s", o.Members, o.Peer, c.Peer, o.BSSID, c.BSSID)
	}
	if address && (!Pool.Contains(c.Local) || !Pool.Contains(c.Owner4) || c.Local == c.Owner4) {
		t.Errorf("client got %s, owner %s", c.Local, c.Owner4)
	}
}

// leaveBoth ends a group of two, at its owner.
func (s *suite) leaveBoth(t *testing.T, name string, a, b *station, ga wpa.Group) {
	t.Helper()
	s.part(name + "/leave")
	owner, client := a, b
	if !slices.ContainsFunc(a.Status().Groups, func(g wpa.Group) bool { return g.Role == wpa.Owner && g.SSID == ga.SSID }) {
		owner, client = b, a
	}
	mo, mc := owner.mark(), client.mark()
	for _, g := range owner.Status().Groups {
		must(t, "leave", owner.Leave(t.Context(), g.ID))
	}
	owner.gone(mo, wpa.ReasonLeft)
	client.gone(mc, wpa.ReasonPeerLeft)
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
