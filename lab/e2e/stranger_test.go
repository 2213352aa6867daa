package e2e_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"nigh/agent/identity"
	"nigh/lab"
)

// stranger is a hostile device on a host of the bed: it has a key of its own, speaks the protocol on real sockets, and says
// in it whatever a test wants.
type stranger struct {
	t    *testing.T
	host *lab.Host
	id   identity.DeviceID
	cert tls.Certificate
}

func newStranger(t *testing.T, h *lab.Host) *stranger {
	t.Helper()
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
	return &stranger{t, h, id, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

func (s *stranger) tls(protos ...string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS13, NextProtos: protos,
		InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
	}
}

// line is one TLS connection to a device, on which the stranger asks.
type line struct {
	conn    *tls.Conn
	client  *http.Client
	peer    identity.DeviceID
	binding [32]byte // what pairing is bound to
}

// dial connects to a device, from an address of the stranger's choice when from is valid.
func (s *stranger) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (*line, error) {
	d := net.Dialer{}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	var tcp net.Conn
	if err := s.host.Do(func() (err error) { tcp, err = d.DialContext(ctx, "tcp", to.String()); return err }); err != nil {
		return nil, err
	}
	c := tls.Client(tcp, s.tls("nigh/1"))
	if err := c.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return lineOf(c)
}

func lineOf(c *tls.Conn) (*line, error) {
	state := c.ConnectionState()
	x, err := state.ExportKeyingMaterial("EXPORTER-nigh-pair", nil, 32)
	if err != nil {
		return nil, err
	}
	peer, err := identity.FromCertificate(state.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	once := make(chan net.Conn, 1)
	once <- c
	return &line{c, &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		},
	}}, peer, [32]byte(x)}, nil
}

// close ends the connection without a word, as a device that goes away does.
func (l *line) close() { _ = l.conn.NetConn().Close() }

// ask makes a request with a body in JSON, or without one, and returns the status and the answer; status 0 says that the
// connection broke.
func (l *line) ask(method, path string, body any) (int, map[string]any) {
	var r io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, nil
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, "http://nigh"+path, r)
	if err != nil {
		return 0, nil
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	var v map[string]any
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		v = nil // an answer in words
	}
	return resp.StatusCode, v
}

// word writes 32 bytes as messages have them.
func word(b [32]byte) string { return base64.RawStdEncoding.EncodeToString(b[:]) }

// random32 returns bytes that nobody can know.
func random32() (b [32]byte) {
	rand.Read(b[:]) // never fails
	return b
}

// served is a connection that a device opened to a stranger. It hides that it is TLS, because net/http would refuse to speak
// on a protocol that it does not know.
type served struct{ *tls.Conn }

type servedKey struct{}

// doors is a listener whose connections are [served].
type doors struct {
	net.Listener
	tls *tls.Config
}

func (d doors) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return served{tls.Server(c, d.tls)}, nil
}

// serve answers requests at an address of the stranger's host, on a port that it returns, until the test ends.
func (s *stranger) serve(at netip.Addr, h http.Handler) netip.AddrPort {
	s.t.Helper()
	var l net.Listener
	if err := s.host.Do(func() (err error) { l, err = net.Listen("tcp", netip.AddrPortFrom(at, 0).String()); return err }); err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{
		Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, servedKey{}, c) },
	}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(doors{l, s.tls("nigh/1")}) })
	s.t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// hello is the answer to the first question of every device.
func (s *stranger) hello(w http.ResponseWriter, name string) {
	say(w, http.StatusOK, map[string]any{"version": 1, "id": s.id, "name": name})
}

// say answers a request in JSON.
func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a device that hangs up has its reasons
}

// announce says by mDNS, again and again until the test ends, that a device with this name and short ID is at the address.
func (s *stranger) announce(name, short string, at netip.AddrPort) {
	s.t.Helper()
	text := func(s string) string { // as a master file has it, whatever is in it
		var b bytes.Buffer
		for i := range len(s) {
			fmt.Fprintf(&b, `\%03d`, s[i])
		}
		return b.String()
	}
	instance := "nigh-" + s.id.Short() + "._nigh._tcp.local."
	host := "nigh-" + s.id.Short() + ".local."
	m := &dns.Msg{Compress: true}
	m.Response, m.Authoritative = true, true
	for _, rr := range []string{
		"_nigh._tcp.local. 120 IN PTR " + instance,
		fmt.Sprintf("%s 120 IN SRV 0 0 %d %s", instance, at.Port(), host),
		instance + ` 120 IN TXT "v=1" "n=` + text(name) + `" "id=` + short + `"`,
		host + " 120 IN A " + at.Addr().String(),
	} {
		r, err := dns.NewRR(rr)
		if err != nil {
			s.t.Fatal(err)
		}
		m.Answer = append(m.Answer, r)
	}
	raw, err := m.Pack()
	if err != nil {
		s.t.Fatal(err)
	}
	var conn *net.UDPConn
	if err := s.host.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: at.Addr().AsSlice(), Port: 5353})
		if err != nil {
			return err
		}
		p := ipv4.NewPacketConn(conn)
		ifi, err := ifaceOf(at.Addr())
		if err != nil {
			return err
		}
		return errors.Join(p.SetMulticastInterface(ifi), p.SetMulticastTTL(255))
	}); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := conn.WriteTo(raw, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	s.t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = conn.Close()
	})
}

// ifaceOf returns the interface with an address, of the namespace that the thread is in.
func ifaceOf(addr netip.Addr) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, ifi := range all {
		addrs, err := ifi.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr {
				return &ifi, nil
			}
		}
	}
	return nil, errors.New("no interface has " + addr.String())
}
