package session

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// TestMain also lets the test binary be a device in a network namespace; see
// netns_test.go.
func TestMain(m *testing.M) {
	if os.Getenv("SESSION_TEST_NODE") != "" {
		nodeMain()
		return
	}
	// Those that run beside each other mostly wait, each in namespaces of its own.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// wait bounds what a test waits for.
const wait = 15 * time.Second

// quick is what takes milliseconds may take on a busy machine; what it is told
// from takes 5 s or more.
const quick = 4 * time.Second

// device is a Sessions with the tables that the agent would keep.
type device struct {
	*Sessions
	id identity.DeviceID

	mu        sync.Mutex
	standings map[identity.DeviceID]trust.Standing
	addresses map[identity.DeviceID][]Candidate
	states    []PeerState
	news      chan struct{}
}

type option func(*Config)

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newDevice(t testing.TB, listen string, options ...option) *device {
	t.Helper()
	d := &device{
		standings: make(map[identity.DeviceID]trust.Standing),
		addresses: make(map[identity.DeviceID][]Candidate),
		news:      make(chan struct{}, 1),
	}
	cfg := Config{
		Identity: newIdentity(t),
		Listen:   listen,
		Name:     func(Peer) string { return "device " + listen },
		Standing: func(id identity.DeviceID) trust.Standing {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.standings[id]
		},
		Addresses: func(id identity.DeviceID) []Candidate {
			d.mu.Lock()
			defer d.mu.Unlock()
			return append([]Candidate(nil), d.addresses[id]...)
		},
		Changed: func(s PeerState) {
			d.mu.Lock()
			d.states = append(d.states, s)
			d.mu.Unlock()
			select {
			case d.news <- struct{}{}:
			default:
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p := PeerFrom(r.Context())
			fmt.Fprintf(w, "%s %v %s", p.ID, p.Standing, p.Ifname)
		}),
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, o := range options {
		o(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Sessions, d.id = s, cfg.Identity.ID
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(wait):
			t.Error("Run did not end")
		}
	})
	return d
}

func (d *device) set(id identity.DeviceID, s trust.Standing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.standings[id] = s
}

func (d *device) at(id identity.DeviceID, candidates ...Candidate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses[id] = candidates
}

func (d *device) addr() netip.AddrPort {
	return addrPort(d.listener.Addr())
}

// loopback is an address of a device that listens on all of them.
func (d *device) loopback() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.Port())
}

func (d *device) lan() Candidate { return Candidate{Addr: d.addr(), Kind: "lan", Ifname: "lo"} }

// until waits for a state of a held peer that ok accepts.
func (d *device) until(t testing.TB, what string, ok func(PeerState) bool) PeerState {
	t.Helper()
	deadline := time.After(wait)
	for {
		d.mu.Lock()
		for i, s := range d.states {
			if ok(s) {
				d.states = d.states[i+1:]
				d.mu.Unlock()
				return s
			}
		}
		d.states = nil
		d.mu.Unlock()
		select {
		case <-d.news:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, wait)
		}
	}
}

func connected(s PeerState) bool { return s.Connected }
func lost(s PeerState) bool      { return !s.Connected }

// friends makes two devices that trust each other and know their addresses.
func friends(t testing.TB, options ...option) (a, b *device) {
	t.Helper()
	a, b = newDevice(t, "127.0.0.1:0", options...), newDevice(t, "127.0.0.1:0", options...)
	a.set(b.id, trust.Trusted)
	b.set(a.id, trust.Trusted)
	a.at(b.id, b.lan())
	b.at(a.id, a.lan())
	return a, b
}

func get(t testing.TB, client *http.Client, path string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

func mustGet(t testing.TB, client *http.Client, path string) string {
	t.Helper()
	status, body, err := get(t, client, path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d, %v", path, status, err)
	}
	return body
}

// rawDial makes a TLS connection to d as an attacker would, with any setting.
func rawDial(t testing.TB, d *device, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	cfg.InsecureSkipVerify = true
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: wait}, "tcp", d.addr().String(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// served reports whether d answers a hello on c.
func served(c *tls.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := fmt.Fprintf(c, "GET /v1/hello HTTP/1.1\r\nHost: %s\r\n\r\n", Host); err != nil {
		return false
	}
	b := make([]byte, 64)
	n, err := io.ReadAtLeast(c, b, 12)
	return err == nil && strings.HasPrefix(string(b[:n]), "HTTP/1.1 200")
}
