package session

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

func TestHalfOpenHandshakesDoNotKeepOthersOut(t *testing.T) {
	d := newDevice(t, ":0")
	friend := newDevice(t, "127.0.0.1:0")
	d.set(friend.id, trust.Trusted)
	friend.set(d.id, trust.Trusted)
	friend.at(d.id, Candidate{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.Port()), Kind: "lan"})
	mustGet(t, friend.Control(d.id), "/v1/any")

	// Forty addresses open 400 connections and say half a ClientHello, or nothing.
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range 400 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%40))}, Timeout: wait}
		c, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.9", itoa(int(d.Port()))))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if i%2 == 0 {
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0})
		}
		if i%40 == 39 {
			friend.Close(d.id)
			// A friend has a lane of its own: while the strangers' one is full, or has been, it is served.
			mustGet(t, friend.Control(d.id), "/v1/any")
		}
	}
	d.gate.mu.Lock()
	strangers := 0
	for _, a := range d.gate.waiting {
		if !a.familiar { // the friend's may not have left yet, although it is served already
			strangers++
		}
	}
	d.gate.mu.Unlock()
	if strangers > maxHandshakes {
		t.Errorf("%d handshakes are open", strangers)
	}
}

func TestStrangersCannotUseUpConnections(t *testing.T) {
	d := newDevice(t, ":0")
	friend := newDevice(t, "127.0.0.1:0")
	d.set(friend.id, trust.Trusted)
	friend.at(d.id, Candidate{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.Port()), Kind: "lan"})
	mustGet(t, friend.Control(d.id), "/v1/any")
	before := d.connsOf(friend.id)

	ed, _, _ := keys(t)
	one := certificate(t, ed, time.Time{}, time.Now(), 4)
	dial := func(i int, cert tls.Certificate) {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i%8))}, Timeout: wait}
		c, err := tls.DialWithDialer(dialer, "tcp", net.JoinHostPort("127.0.0.9", itoa(int(d.Port()))),
			&tls.Config{NextProtos: []string{protoDirect}, InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if !served(c) {
			t.Errorf("stranger %d was not served", i)
		}
	}
	count := func(of func(*conn) bool) (n int) {
		d.Sessions.mu.Lock()
		defer d.Sessions.mu.Unlock()
		for c := range d.active {
			if of(c) {
				n++
			}
		}
		return n
	}
	id, _ := identity.FromKey(ed.Public().(ed25519.PublicKey))
	for i := range 3 * maxStrangerEach {
		dial(i, one)
	}
	if n := count(func(c *conn) bool { return c.id == id }); n > maxStrangerEach {
		t.Errorf("one stranger has %d connections", n)
	}
	for i := range 3 * maxStrangerConns {
		_, k, _ := ed25519.GenerateKey(rand.Reader)
		dial(i, certificate(t, k, time.Time{}, time.Now(), 4))
	}
	if n := count(func(c *conn) bool { return c.id != friend.id }); n > maxStrangerConns {
		t.Errorf("strangers have %d connections", n)
	}
	for _, c := range before {
		select {
		case <-c.done:
			t.Error("a friend lost its connection to strangers")
		default:
		}
	}
	mustGet(t, friend.Control(d.id), "/v1/any")
}

func TestAcceptRateOfOneAddress(t *testing.T) {
	t.Parallel()
	d := newDevice(t, ":0")
	var conns []net.Conn
	refused := 0
	for range acceptBurst + 20 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 3, 1)}, Timeout: wait}
		c, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.9", itoa(int(d.Port()))))
		if err != nil {
			refused++ // reset at once
			continue
		}
		defer c.Close()
		conns = append(conns, c)
	}
	// Those let in are closed for newer ones or after their time; the others are reset.
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(wait))
	}
	for i := len(conns) - 1; i >= 0; i-- {
		if _, err := conns[i].Read(make([]byte, 1)); errors.Is(err, syscall.ECONNRESET) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no connection was refused")
	}
	for i := range 2 * maxAddresses {
		d.gate.mu.Lock()
		d.gate.allowed(origin(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})))
		d.gate.mu.Unlock()
	}
	if n := len(d.gate.rates); n > maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
}

func TestOrigin(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":        "192.0.2.1/32",
		"::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8::1":      "2001:db8::/64",
		"fe80::1%eth0":     "fe80::1/128",
	} {
		if got := origin(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("origin(%s) = %s, want %s", in, got, want)
		}
	}
}

// asStranger makes an authenticated connection on which anything can be said.
func asStranger(t testing.TB, d *device) *tls.Conn {
	t.Helper()
	ed, _, _ := keys(t)
	c, err := rawDial(t, d, &tls.Config{NextProtos: []string{protoDirect}, Certificates: []tls.Certificate{certificate(t, ed, time.Time{}, time.Now(), 4)}})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(wait))
	return c
}

func TestRequestBounds(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0")
	for name, c := range map[string]struct{ send, want string }{
		"wrong host":         {"GET /v1/hello HTTP/1.1\r\nHost: example.org\r\n\r\n", "421"},
		"no host":            {"GET /v1/hello HTTP/1.0\r\n\r\n", "421"},
		"large header":       {"GET /v1/hello HTTP/1.1\r\nHost: nigh\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		"large body":         {"POST /v1/any HTTP/1.1\r\nHost: nigh\r\nContent-Length: 9223372036854775807\r\n\r\n", "413"},
		"large body, chunks": {"POST /v1/any HTTP/1.1\r\nHost: nigh\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", 0x20000) + "\r\n0\r\n\r\n", "413"},
		"negative length":    {"POST /v1/any HTTP/1.1\r\nHost: nigh\r\nContent-Length: -1\r\n\r\n", "400"},
		"HTTP/2 preface":     {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "421"},
		"dial back":          {"POST /v1/dialback HTTP/1.1\r\nHost: nigh\r\n\r\n", "403"},
		"a good body":        {"POST /v1/any HTTP/1.1\r\nHost: nigh\r\nContent-Length: 3\r\n\r\nabc", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := asStranger(t, d)
			go func() { _, _ = io.WriteString(conn, c.send) }()
			b := make([]byte, 12)
			if _, err := io.ReadFull(conn, b); err != nil || string(b[9:]) != c.want {
				t.Errorf("answer %q, %v; want %s", b, err, c.want)
			}
		})
	}
}

func TestStrangersRequestsAreBounded(t *testing.T) {
	d := newDevice(t, "127.0.0.1:0")
	conn := asStranger(t, d)
	r := bufio.NewReader(conn)
	refused := 0
	for range strangerBurst + maxRefused {
		_, _ = io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n")
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		if answer.StatusCode == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no request was refused")
	}
	// Who goes on asking is cut off.
	for range 3 * (strangerBurst + maxRefused) {
		_, _ = io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n")
	}
	for {
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("who asks too much is never cut off")
			}
			return
		}
		_, _ = io.Copy(io.Discard, answer.Body)
	}
}

func TestSlowRequestsEnd(t *testing.T) {
	t.Parallel()
	d := newDevice(t, "127.0.0.1:0")
	for name, send := range map[string]string{
		"half a header": "GET /v1/hello HTTP/1.1\r\nHost: ni",
		"nothing":       "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := asStranger(t, d)
			_, _ = io.WriteString(conn, send)
			began := time.Now()
			_, err := io.Copy(io.Discard, conn)
			if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || took > readHeaderTimeout+3*time.Second {
				t.Errorf("ended after %v: %v", took, err)
			}
		})
	}
}
