package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

func TestRequestsCarryTheIdentity(t *testing.T) {
	a, b := friends(t)
	want := a.id.String() + " trusted lo"
	if got := mustGet(t, a.Control(b.id), "/v1/any"); got != want {
		t.Errorf("control: %q, want %q", got, want)
	}
	if got := mustGet(t, a.Bulk(b.id), "/v1/any"); got != want {
		t.Errorf("bulk: %q, want %q", got, want)
	}
	if first, second := a.Control(b.id), a.Control(b.id); first != second {
		t.Error("each call of Control makes a client")
	}
}

func TestHello(t *testing.T) {
	a, b := friends(t)
	id, hello, err := a.Greet(t.Context(), b.addr())
	if err != nil {
		t.Fatal(err)
	}
	if id != b.id || hello != (Hello{Version: 1, Name: "device 127.0.0.1:0", ID: b.id}) {
		t.Errorf("Greet = %v, %+v", id, hello)
	}
	if _, _, err := a.Greet(t.Context(), a.addr()); !errors.Is(err, ErrSelf) {
		t.Errorf("greeting ourselves: %v", err)
	}
}

func TestStrangersAreNamedAsSuch(t *testing.T) {
	a, b := newDevice(t, "127.0.0.1:0"), newDevice(t, "127.0.0.1:0")
	a.at(b.id, b.lan())
	if got := mustGet(t, a.Control(b.id), "/v1/any"); !strings.Contains(got, " new ") {
		t.Errorf("standing of a stranger: %q", got)
	}
}

func TestWrongDeviceAtTheAddress(t *testing.T) {
	a, b := friends(t)
	other := newDevice(t, "127.0.0.1:0")
	a.at(b.id, other.lan())
	if _, _, err := get(t, a.Control(b.id), "/v1/any"); !errors.Is(err, ErrWrongDevice) {
		t.Errorf("another device answered and the error is %v", err)
	}
	// The right one at a later address is found all the same.
	a.at(b.id, other.lan(), b.lan())
	mustGet(t, a.Control(b.id), "/v1/any")
}

func TestNoAddress(t *testing.T) {
	a, b := friends(t)
	a.at(b.id)
	for _, c := range []*http.Client{a.Control(b.id), a.Bulk(b.id)} {
		if _, _, err := get(t, c, "/v1/any"); !errors.Is(err, ErrNoAddress) {
			t.Errorf("no address: %v", err)
		}
	}
}

func TestOnlyURLsOfDevices(t *testing.T) {
	a, b := friends(t)
	for _, url := range []string{"http://example.invalid/", "https://nigh/v1/hello"} {
		answer, err := a.Control(b.id).Get(url)
		if err == nil {
			_ = answer.Body.Close()
			t.Errorf("%s was asked for", url)
		}
	}
}

func TestHoldAndLose(t *testing.T) {
	a, b := friends(t)
	a.Hold(b.id)
	a.Hold(b.id)
	s := a.until(t, "connected", connected)
	if s.ID != b.id || s.Path != b.lan() || s.RTT <= 0 || s.Hello.Name == "" || s.Err != nil {
		t.Errorf("state = %+v", s)
	}
	began := time.Now()
	b.Close(a.id)
	s = a.until(t, "noticed", lost)
	if d := time.Since(began); d > quick {
		t.Errorf("a closed socket was noticed after %v", d)
	}
	if !errors.Is(s.Err, ErrLost) {
		t.Errorf("state = %+v", s)
	}
	a.until(t, "connected again", connected)
	a.Release(b.id)
	a.Close(b.id)
	if n := len(a.connsOf(b.id)); n != 0 {
		t.Errorf("%d connections after Close", n)
	}
}

func TestHoldWaitsForAnAddress(t *testing.T) {
	a, b := friends(t)
	a.at(b.id)
	a.Hold(b.id)
	if s := a.until(t, "no address", lost); !errors.Is(s.Err, ErrNoAddress) {
		t.Errorf("state = %+v", s)
	}
	a.at(b.id, b.lan())
	began := time.Now()
	a.Kick(b.id)
	a.until(t, "connected", connected)
	if d := time.Since(began); d > quick {
		t.Errorf("a kick took %v", d)
	}
}

func TestHoldReconnectsWhenThePeerComes(t *testing.T) {
	a, b := friends(t)
	dead := deadAddress(t)
	a.at(b.id, Candidate{Addr: dead, Kind: "lan"})
	a.Hold(b.id)
	if s := a.until(t, "not there", lost); !errors.Is(s.Err, ErrUnreachable) {
		t.Errorf("state = %+v", s)
	}
	a.at(b.id, b.lan()) // without a kick: the connection from b is the sign
	mustGet(t, b.Control(a.id), "/v1/any")
	a.until(t, "connected", connected)
}

// deadAddress returns a port on which nobody listens.
func deadAddress(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addrPort(l.Addr())
}

func TestCandidatesAreRaced(t *testing.T) {
	a, b := friends(t)
	// It accepts and says nothing: a handshake there would take 5 s.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a.at(b.id, Candidate{Addr: addrPort(silent.Addr()), Kind: "direct"}, b.lan())
	began := time.Now()
	mustGet(t, a.Control(b.id), "/v1/any")
	if d := time.Since(began); d < dialStagger || d > quick {
		t.Errorf("the second candidate won after %v, want a little over %v", d, dialStagger)
	}
	// A refused one costs nothing.
	a.at(b.id, Candidate{Addr: deadAddress(t), Kind: "direct"}, b.lan())
	best := wait
	for range 5 {
		a.Close(b.id)
		began = time.Now()
		mustGet(t, a.Bulk(b.id), "/v1/any")
		best = min(best, time.Since(began))
	}
	if best >= dialStagger {
		t.Errorf("after a refusal the next took %v at best", best)
	}
}

func TestBetterPathIsTaken(t *testing.T) {
	a := newDevice(t, "127.0.0.1:0")
	b := newDevice(t, ":0") // has both addresses
	a.set(b.id, trust.Trusted)
	lan := Candidate{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), b.Port()), Kind: "lan", Cost: 10}
	direct := Candidate{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), b.Port()), Kind: "direct"}
	a.at(b.id, lan)
	a.Hold(b.id)
	if s := a.until(t, "connected", connected); s.Path.Kind != "lan" || s.Path.Ifname != "lo" {
		t.Errorf("path = %+v", s.Path)
	}
	mustGet(t, a.Bulk(b.id), "/v1/any")
	a.at(b.id, direct, lan)
	a.Kick(b.id)
	s := a.until(t, "better path", func(s PeerState) bool { return s.Path.Kind == "direct" || !s.Connected })
	if !s.Connected {
		t.Fatalf("lost instead of moved: %+v", s)
	}
	mustGet(t, a.Bulk(b.id), "/v1/any")
	for _, l := range []*line{a.peer(b.id).control, a.peer(b.id).bulk} {
		l.mu.Lock()
		kind := l.path.Kind
		l.mu.Unlock()
		if kind != "direct" {
			t.Errorf("urgent %v: new connections go over %q", l.urgent, kind)
		}
	}
	// The old connections go, because nothing uses them.
	deadline := time.Now().Add(wait)
	for p := a.peer(b.id); ; {
		changed := p.changes()
		n := 0
		for _, c := range a.connsOf(b.id) {
			if c.path.Kind == "lan" && !c.serving {
				n++
			}
		}
		if n == 0 {
			break
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			t.Fatalf("%d connections stay on the old path", n)
		}
	}
}

func TestBlockedIsRefusedBothWays(t *testing.T) {
	a, b := friends(t)
	mustGet(t, a.Control(b.id), "/v1/any")
	b.set(a.id, trust.Blocked)
	b.Close(a.id)
	if _, _, err := get(t, a.Control(b.id), "/v1/any"); err == nil {
		t.Error("a blocked device was served")
	}
	if _, _, err := get(t, b.Control(a.id), "/v1/any"); !errors.Is(err, ErrBlocked) {
		t.Errorf("we dialled a device that we block: %v", err)
	}
	a.Hold(b.id)
	if s := a.until(t, "refused", lost); !errors.Is(s.Err, ErrRefused) {
		t.Errorf("a device that refuses us is reported as %v", s.Err)
	}
}

func TestBlockEndsAnOpenConnectionAtTheNextRequest(t *testing.T) {
	a, b := friends(t)
	mustGet(t, a.Control(b.id), "/v1/any")
	b.set(a.id, trust.Blocked) // and nobody called Close
	if _, _, err := get(t, a.Control(b.id), "/v1/any"); err == nil {
		t.Error("a blocked device was served on an old connection")
	}
}

func TestCloseEndsRequestsThatRun(t *testing.T) {
	began := make(chan struct{})
	a, b := friends(t, func(c *Config) {
		c.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
		})
	})
	failed := make(chan error, 1)
	go func() {
		_, _, err := get(t, a.Bulk(b.id), "/v1/any")
		failed <- err
	}()
	<-began
	b.Close(a.id)
	select {
	case err := <-failed:
		if err == nil {
			t.Error("the request went well")
		}
	case <-time.After(wait):
		t.Error("the request did not end")
	}
}

func TestAPanicEndsOneConnectionOnly(t *testing.T) {
	var log lockedBuffer
	a, b := friends(t, func(c *Config) {
		c.Logger = log.logger()
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/panic" {
				panic("boom")
			}
			_, _ = io.WriteString(w, "fine")
		})
	})
	b.Hold(a.id)
	b.until(t, "connected", connected)
	if _, _, err := get(t, a.Bulk(b.id), "/v1/panic"); err == nil {
		t.Error("a panic was answered")
	}
	if got := mustGet(t, a.Control(b.id), "/v1/any"); got != "fine" {
		t.Errorf("after a panic: %q", got)
	}
	if s := log.String(); !strings.Contains(s, "boom") || !strings.Contains(s, "session_test.go") {
		t.Errorf("the panic and its stack are not in the log: %s", s)
	}
}

func TestBulkDataIsWhole(t *testing.T) {
	data := make([]byte, 9<<20+12345)
	_, _ = rand.Read(data)
	a, b := friends(t, func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		})
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://nigh/v1/data", nil)
			from := i * 1000001
			r.Header.Set("Range", "bytes="+itoa(from)+"-")
			answer, err := a.Bulk(b.id).Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			if err != nil || !bytes.Equal(got, data[from:]) {
				t.Errorf("%d bytes from %d, %v", len(got), from, err)
			}
		})
	}
	wg.Wait()
	if n := len(a.connsOf(b.id)); n > maxBulkConns {
		t.Errorf("%d bulk connections, want at most %d", n, maxBulkConns)
	}
}

func TestADeviceThatIsNotKnownToBeNearIsSeenAndHeld(t *testing.T) {
	var a *device
	seen := make(chan Peer, 16)
	a = newDevice(t, "127.0.0.1:0", func(c *Config) { c.Seen = func(p Peer) { seen <- p } })
	b := newDevice(t, "127.0.0.1:0")
	b.at(a.id, a.lan()) // and a knows no address of b
	b.Hold(a.id)
	p := <-seen
	if p.ID != b.id || p.Standing != trust.New || p.Ifname != "lo" || !p.Remote.IsValid() {
		t.Errorf("seen: %+v", p)
	}
	a.Hold(b.id)
	s := a.until(t, "held without an address", connected)
	if s.Path.Addr.Addr() != p.Remote.Addr() {
		t.Errorf("path = %+v", s.Path)
	}
	mustGet(t, a.Bulk(b.id), "/v1/any")
}

func TestAReceiverMayPause(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	a, b := friends(t, func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", itoa(size))
			_, _ = io.CopyN(w, zeros{}, size)
		})
	})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://nigh/v1/zeros", nil)
	answer, err := a.Bulk(b.id).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	first, err := io.CopyN(io.Discard, answer.Body, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(userTimeout + 4*time.Second) // the window is shut for longer than a silent peer is borne
	rest, err := io.Copy(io.Discard, answer.Body)
	if err != nil || first+rest != size {
		t.Errorf("%d bytes of %d, %v", first+rest, size, err)
	}
}

func TestCancelIsQuick(t *testing.T) {
	ended := make(chan time.Time)
	a, b := friends(t, func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, zeros{})
			ended <- time.Now()
		})
	})
	best := wait
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://nigh/v1/zeros", nil)
		answer, err := a.Bulk(b.id).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, answer.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		cancel()
		select {
		case at := <-ended:
			best = min(best, at.Sub(began))
		case <-time.After(wait):
			t.Fatal("the sender did not stop")
		}
		_ = answer.Body.Close()
	}
	if best > 300*time.Millisecond {
		t.Errorf("the sender stopped after %v at best", best)
	}
}

func TestEndWhileBusy(t *testing.T) {
	a, b := friends(t)
	a.Hold(b.id)
	b.Hold(a.id)
	a.until(t, "connected", connected)
	go func() { _, _, _ = get(t, a.Bulk(b.id), "/v1/any") }()
	// The clean-up of the devices checks that Run returns, goleak the rest.
}

func TestAfterRunNothingWorks(t *testing.T) {
	s, err := New(Config{Identity: newIdentity(t), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run = %v", err)
	}
	var id identity.DeviceID
	id[0] = 1
	s.Hold(id)
	s.Kick(id)
	s.Close(id)
	if _, _, err := s.Greet(t.Context(), netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Error("Greet after Run")
	}
	if _, _, err := get(t, s.Control(id), "/"); err == nil {
		t.Error("a request after Run")
	}
	s.Release(id)
}

func TestPeersAreForgotten(t *testing.T) {
	a := newDevice(t, "127.0.0.1:0")
	for i := range 3 * maxPeers {
		var id identity.DeviceID
		id[0], id[1] = byte(i), byte(i>>8+1)
		a.Control(id)
	}
	a.Sessions.mu.Lock()
	defer a.Sessions.mu.Unlock()
	if n := len(a.peers); n > maxPeers {
		t.Errorf("%d peers are remembered", n)
	}
}
