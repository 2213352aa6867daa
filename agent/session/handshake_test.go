package session

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
)

func itoa(n int) string { return strconv.Itoa(n) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// certificate makes one for key with the given dates and padding.
func certificate(t testing.TB, key crypto.Signer, from, to time.Time, pad int) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: strings.Repeat("x", pad)},
		NotBefore:    from, NotAfter: to,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func keys(t testing.TB) (ed ed25519.PrivateKey, ec *ecdsa.PrivateKey, rs *rsa.PrivateKey) {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if rs, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	return ed, ec, rs
}

func TestHandshakesThatAreRefused(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0")
	ed, ec, rs := keys(t)
	now := time.Now()
	day := 24 * time.Hour
	ok := certificate(t, ed, now, now.Add(day), 4)
	two := tls.Certificate{Certificate: [][]byte{ok.Certificate[0], ok.Certificate[0]}, PrivateKey: ed}
	nigh := []string{protoDirect}
	for name, c := range map[string]struct {
		cfg  *tls.Config
		want bool
	}{
		"a good one":            {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, true},
		"expired":               {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{certificate(t, ed, now.Add(-9999*day), now.Add(-9998*day), 4)}}, true},
		"not yet valid":         {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{certificate(t, ed, now.Add(9998*day), now.Add(9999*day), 4)}}, true},
		"no certificate":        {&tls.Config{NextProtos: nigh}, false},
		"RSA":                   {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{certificate(t, rs, now, now.Add(day), 4)}}, false},
		"ECDSA":                 {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{certificate(t, ec, now, now.Add(day), 4)}}, false},
		"two certificates":      {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{two}}, false},
		"a large certificate":   {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{certificate(t, ed, now, now.Add(day), 4000)}}, false},
		"TLS 1.2":               {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}, MaxVersion: tls.VersionTLS12}, false},
		"no application":        {&tls.Config{Certificates: []tls.Certificate{ok}}, false},
		"another application":   {&tls.Config{NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{ok}}, false},
		"a later one of theirs": {&tls.Config{NextProtos: []string{"nigh/2", protoDirect}, Certificates: []tls.Certificate{ok}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := rawDial(t, d, c.cfg)
			if got := err == nil && served(conn); got != c.want {
				t.Errorf("served: %v (%v), want %v", got, err, c.want)
			}
		})
	}
}

func TestNothingIsResumed(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0")
	ed, _, _ := keys(t)
	cache := tls.NewLRUClientSessionCache(4)
	cfg := &tls.Config{
		NextProtos: []string{protoDirect}, ClientSessionCache: cache, ServerName: "nigh",
		Certificates: []tls.Certificate{certificate(t, ed, time.Time{}, time.Now(), 4)},
	}
	for range 2 {
		c, err := rawDial(t, d, cfg)
		if err != nil || !served(c) {
			t.Fatalf("not served: %v", err)
		}
		if c.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
	}
}

// fakeServer answers on a TLS connection with what handler says.
func fakeServer(t testing.TB, cfg *tls.Config, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return addrPort(l.Addr())
}

// answerWith reads one request and sends text.
func answerWith(text func(c net.Conn) string) func(net.Conn) {
	return func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(wait))
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, text(c))
			_, _ = io.Copy(io.Discard, c)
		}
	}
}

func TestServersThatAreRefused(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0")
	ed, ec, _ := keys(t)
	now := time.Now()
	ok := certificate(t, ed, now.Add(time.Hour), now.Add(-time.Hour), 4) // the dates are nonsense
	id, err := identity.FromKey(ed.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hello := func(body string) func(net.Conn) {
		return answerWith(func(net.Conn) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
	}
	say := func(h Hello) string { b, _ := json.Marshal(h); return string(b) }
	nigh := []string{protoDirect}
	for name, c := range map[string]struct {
		cfg   *tls.Config
		serve func(net.Conn)
		want  error
	}{
		"a good one":        {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, hello(say(Hello{Version: 1, ID: id})), nil},
		"claims another ID": {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, hello(say(Hello{Version: 1, ID: d.id})), ErrWrongDevice},
		"no ID":             {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, hello("{}"), ErrNotNigh},
		"not JSON":          {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, hello("hello"), ErrNotNigh},
		"a long hello":      {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, hello(strings.Repeat(" ", 1<<20) + say(Hello{Version: 1, ID: id})), ErrNotNigh},
		"ECDSA":             {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{certificate(t, ec, now, now, 4)}}, hello(""), ErrNotNigh},
		"TLS 1.2":           {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}, MaxVersion: tls.VersionTLS12}, hello(""), ErrNotNigh},
		"a web server":      {&tls.Config{Certificates: []tls.Certificate{ok}}, hello(""), ErrNotNigh},
		"a header without end": {&tls.Config{NextProtos: nigh, Certificates: []tls.Certificate{ok}}, answerWith(func(c net.Conn) string {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			_, _ = io.CopyN(c, zeros{}, 64<<20)
			return ""
		}), errAny},
	} {
		t.Run(name, func(t *testing.T) {
			addr := fakeServer(t, c.cfg, c.serve)
			began := time.Now()
			got, h, err := d.Greet(t.Context(), addr)
			switch {
			case c.want == nil && (err != nil || got != id || h.ID != id):
				t.Errorf("Greet = %v, %+v, %v", got, h, err)
			case errors.Is(c.want, errAny) && err == nil, c.want != nil && !errors.Is(c.want, errAny) && !errors.Is(err, c.want):
				t.Errorf("Greet: %v, want %v", err, c.want)
			}
			if d := time.Since(began); d > handshakeTimeout {
				t.Errorf("took %v", d)
			}
		})
	}
}

var errAny = errors.New("any error")

func TestPlainTextIsNotNigh(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}()
	if _, _, err := d.Greet(t.Context(), addrPort(l.Addr())); !errors.Is(err, ErrNotNigh) {
		t.Errorf("an SSH server: %v", err)
	}
}

func TestHelloNamesAreCleaned(t *testing.T) {
	evil := "evil\x1b[2K\u202e" + strings.Repeat("x", 1000)
	a, b := friends(t, func(c *Config) { c.Name = func(Peer) string { return evil } })
	_, h, err := a.Greet(t.Context(), b.addr())
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(h.Name, "\x1b\u202e") || len([]rune(h.Name)) > maxHelloName {
		t.Errorf("name = %q", h.Name)
	}
}

func TestNothingPrivateIsSentInTheClear(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0", func(c *Config) { c.Name = func(Peer) string { return "secretname" } })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 8<<10)
		n, _ := c.Read(b)
		seen <- b[:n]
	}()
	_, _, _ = d.Greet(t.Context(), addrPort(l.Addr()))
	first := <-seen
	if len(first) < 100 {
		t.Fatalf("only %d bytes were sent", len(first))
	}
	host, _ := os.Hostname()
	for _, s := range []string{"secretname", d.id.Short(), host, "127.0.0.1", string(d.id[:8]), "root@"} {
		if s != "" && bytes.Contains(first, []byte(s)) {
			t.Errorf("the first bytes hold %q", s)
		}
	}
}
