package pairing

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/store"
	"nigh/agent/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for.
const patience = 20 * time.Second

// device is one that pairs: real sessions on loopback, a real book, a real store.
type device struct {
	*Engine
	t        testing.TB
	id       *identity.Identity
	sessions *session.Sessions
	book     *trust.Book
	store    *store.Store
	stop     func()

	mu   sync.Mutex
	at   map[identity.DeviceID]netip.AddrPort
	news chan struct{} // closed and replaced at each change
	seen []Pairing
	wrap func(http.Handler) http.Handler // around what answers other devices; nil: nothing
}

// testLimits are short where a test waits for them to pass.
func testLimits() limits {
	l := defaultLimits
	l.question, l.reveal, l.hold, l.crossed, l.dropped = 10*time.Second, 2*time.Second, 50*time.Millisecond, 5*time.Second, 0
	return l
}

func newDevice(t testing.TB, name string) *device { return startDevice(t, name, t.TempDir()) }

// startDevice runs a device with the state in dir.
func startDevice(t testing.TB, name, dir string) *device {
	t.Helper()
	d := &device{t: t, at: map[identity.DeviceID]netip.AddrPort{}, news: make(chan struct{})}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	d.store, err = store.Open(dir)
	must(err)
	d.id, err = identity.Load(dir)
	must(err)
	d.book, err = trust.Open(d.store)
	must(err)
	mux := http.NewServeMux()
	d.sessions, err = session.New(session.Config{
		Identity: d.id, Listen: "127.0.0.1:0", Handler: mux, Standing: d.book.Standing,
		Addresses: func(id identity.DeviceID) []session.Candidate {
			d.mu.Lock()
			defer d.mu.Unlock()
			if a, ok := d.at[id]; ok {
				return []session.Candidate{{Addr: a, Kind: "lan"}}
			}
			return nil
		},
	})
	must(err)
	d.Engine, err = New(Config{
		Self: d.id.ID, Store: d.store, Book: d.book, Open: d.sessions.Open,
		Name: func(identity.DeviceID, bool) string { return name },
		Changed: func(p Pairing) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.seen = append(d.seen, p)
			close(d.news)
			d.news = make(chan struct{})
		},
	})
	must(err)
	d.limits = testLimits()
	mux.HandleFunc("/v1/pair/", func(w http.ResponseWriter, r *http.Request) {
		h := d.Handler()
		d.mu.Lock()
		if d.wrap != nil {
			h = d.wrap(h)
		}
		d.mu.Unlock()
		h.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = d.sessions.Run(ctx) })
	running.Go(func() { _ = d.Run(ctx) })
	d.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		_ = d.store.Close()
	})
	t.Cleanup(d.stop)
	return d
}

func (d *device) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.sessions.Port())
}

// knows tells d where others are.
func (d *device) knows(others ...*device) {
	for _, o := range others {
		d.put(o.id.ID, o.addr())
	}
}

func (d *device) put(id identity.DeviceID, at netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at[id] = at
}

// two makes two devices that know where the other is.
func two(t testing.TB) (a, b *device) {
	a, b = newDevice(t, "ada"), newDevice(t, "bob")
	a.knows(b)
	b.knows(a)
	return a, b
}

func wait(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// question waits for a pairing that d's user sees and ok accepts.
func (d *device) question(ok func(Pairing) bool) Pairing {
	d.t.Helper()
	deadline := time.After(patience)
	for {
		d.mu.Lock()
		news := d.news
		d.mu.Unlock()
		for _, p := range d.List() {
			if ok(p) {
				return p
			}
		}
		select {
		case <-news:
		case <-deadline:
			d.t.Fatalf("the question did not come; there are %+v", d.List())
		}
	}
}

// forgive takes away the bounds on questions that earlier ones used up.
func (d *device) forgive() {
	d.Engine.mu.Lock()
	defer d.Engine.mu.Unlock()
	d.gate = newGate()
}

// idle waits until no pairing is under way.
func (d *device) idle() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ctx := wait(d.t)
	for {
		d.Engine.mu.Lock()
		n := len(d.live)
		d.Engine.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answer says yes or no.
func (d *device) answer(p Pairing, yes bool) {
	d.t.Helper()
	if err := d.Answer(p.ID, yes); err != nil {
		d.t.Fatalf("answer %v: %v", yes, err)
	}
}

func (d *device) trusts(other identity.DeviceID) bool { return d.book.Standing(other) == trust.Trusted }

// begin has a pair with b and returns both sides' pairings, not answered.
func begin(t testing.TB, a, b *device) (atA, atB Pairing) {
	t.Helper()
	atA, err := a.Compare(wait(t), b.id.ID)
	if err != nil {
		t.Fatal(err)
	}
	atB = b.question(func(p Pairing) bool { return p.Peer == a.id.ID })
	if atA.Code != atB.Code || len(atA.Code) != 6 {
		t.Fatalf("the codes are %q and %q", atA.Code, atB.Code)
	}
	return atA, atB
}

// outcome waits for the end of a pairing.
func (d *device) outcome(id string) error {
	d.t.Helper()
	_, err := d.Wait(wait(d.t), id)
	return err
}

// paired pairs a with b, both saying yes.
func paired(t testing.TB, a, b *device) {
	t.Helper()
	atA, atB := begin(t, a, b)
	b.answer(atB, true)
	a.answer(atA, true)
	for _, err := range []error{a.outcome(atA.ID), b.outcome(atB.ID)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !a.trusts(b.id.ID) || !b.trusts(a.id.ID) {
		t.Fatal("paired, and one does not trust the other")
	}
}

// stranger is a hostile peer: a key of its own, and any message in any order.
type stranger struct {
	t  testing.TB
	id *identity.Identity
}

func newStranger(t testing.TB) *stranger {
	t.Helper()
	// In memory, since some tests need hundreds and a key on the disk is synced.
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.FromKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return &stranger{t: t, id: &identity.Identity{ID: id, Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// dial makes a connection to a device as a nigh does.
func (s *stranger) dial(to netip.AddrPort) *raw {
	s.t.Helper()
	c, err := s.tryDial(to)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *stranger) tryDial(to netip.AddrPort) (*raw, error) {
	var local net.Addr
	if to.Addr().IsLoopback() {
		// Another address for each, so that no bound on addresses helps.
		var b [2]byte
		rand.Read(b[:])
		local = &net.TCPAddr{IP: net.IPv4(127, 7, b[0], 1+b[1]%254)}
	}
	tcp, err := (&net.Dialer{Timeout: patience, LocalAddr: local}).Dial("tcp", to.String())
	if err != nil {
		return nil, err
	}
	c := tls.Client(tcp, s.tls("nigh/1"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	r := newRaw(s.t, s.id.ID, c)
	s.t.Cleanup(r.close)
	return r, nil
}

func (s *stranger) tls(protos ...string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{s.id.Certificate}, MinVersion: tls.VersionTLS13, NextProtos: protos,
		InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
	}
}

// raw is one TLS connection on which anything can be said.
type raw struct {
	t       testing.TB
	client  *http.Client
	conn    *tls.Conn
	who     parties // with us as the asker
	binding [32]byte
}

func newRaw(t testing.TB, self identity.DeviceID, c *tls.Conn) *raw {
	state := c.ConnectionState()
	x, err := state.ExportKeyingMaterial("EXPORTER-nigh-pair", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := identity.FromCertificate(state.PeerCertificates[0])
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, conn: c, binding: [32]byte(x)}
	r.who = parties{asker: self, asked: peer, binding: r.binding}
	once := make(chan net.Conn, 1)
	once <- c
	r.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		},
	}}
	return r
}

func (r *raw) close() { _ = r.conn.NetConn().Close() }

// say posts a body, a string as it is and everything else as JSON, and returns the
// status and the answer; the status is 0 when the connection broke.
func (r *raw) say(what string, body any) (int, map[string]any) {
	r.t.Helper()
	text, ok := body.(string)
	if !ok {
		raw, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		text = string(raw)
	}
	resp, err := r.client.Post("http://"+session.Host+"/v1/pair/"+what, "application/json", bytes.NewReader([]byte(text)))
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	var v map[string]any
	_ = json.Unmarshal(answer, &v)
	return resp.StatusCode, v
}

// commit opens a pairing and returns the nonce that the device gave.
func (r *raw) commit(nonce word) (word, error) {
	status, a := r.say("commit", commitMessage{Version: 1, Name: "mallory", Commitment: r.who.commitment(nonce)})
	if status != http.StatusOK {
		return word{}, fmt.Errorf("commit: %d %v", status, a["code"])
	}
	return wordOf(r.t, a["nonce"]), nil
}

func wordOf(t testing.TB, v any) (w word) {
	t.Helper()
	s, _ := v.(string)
	if err := w.UnmarshalText([]byte(s)); err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	return w
}

func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
