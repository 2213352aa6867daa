package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"nigh/agent/identity"
)

// The application protocols.
const (
	Asking  = "nigh/1"  // who dials asks
	Serving = "nigh/1r" // who dials serves
)

// Patience bounds what an attacker waits for.
const Patience = 20 * time.Second

// Target is the agent that is attacked, and where from.
type Target struct {
	// Addr is where it listens.
	Addr netip.AddrPort
	// Inside runs fn where the attacker's sockets are to be made; nil: here.
	Inside func(fn func() error) error
	// From are the attacker's addresses, used in turn; none: the system chooses.
	From []netip.Addr
	// Friend is where a device listens that the target trusts; invalid: there is none,
	// and attacks that need one are left out.
	Friend netip.AddrPort
	// Send has the target offer a file of 1 MiB and more to a device that is connected to
	// it; nil leaves attacks that need it out.
	Send func(context.Context, identity.DeviceID) error
}

// turn counts connections, for Target.From.
var turn atomic.Uint32

// Peer is one device of the attacker, with a key of its own. It is safe for concurrent use.
type Peer struct {
	Target
	ID   identity.DeviceID
	cert tls.Certificate
}

// New makes a device with a fresh key.
func New(t Target) (*Peer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := identity.FromKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	cert, err := certificate(key, key.Public(), 0)
	if err != nil {
		return nil, err
	}
	return &Peer{Target: t, ID: id, cert: cert}, nil
}

// certificate makes one that is signed by key, padded by some bytes.
func certificate(key, public any, pad int) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "x" + string(bytes.Repeat([]byte("x"), pad))},
		NotBefore:    time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Dial opens a TCP connection on which nothing was said. Everything on it has to be over within [Patience].
func (p *Peer) Dial(ctx context.Context) (net.Conn, error) { return p.dial(ctx, p.Addr) }

func (p *Peer) dial(ctx context.Context, to netip.AddrPort) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: Patience}
	if len(p.From) > 0 {
		from := p.From[int(turn.Add(1))%len(p.From)]
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	dial := func() error {
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return err
	}
	if p.Inside != nil {
		err = p.Inside(dial)
	} else {
		err = dial()
	}
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(Patience))
}

// Secure opens a connection and proves the peer's key on it; change may spoil the handshake.
func (p *Peer) Secure(ctx context.Context, protocol string, change func(*tls.Config)) (*tls.Conn, error) {
	raw, err := p.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return p.secure(ctx, raw, protocol, change)
}

func (p *Peer) secure(ctx context.Context, raw net.Conn, protocol string, change func(*tls.Config)) (*tls.Conn, error) {
	cfg := &tls.Config{NextProtos: []string{protocol}, Certificates: []tls.Certificate{p.cert}, InsecureSkipVerify: true}
	if change != nil {
		change(cfg)
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// Say opens a connection, says text on it and returns the status of the answer, 0 when the connection ended without one.
func (p *Peer) Say(ctx context.Context, text string) (status int, err error) {
	conn, err := p.Secure(ctx, Asking, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	written := make(chan struct{})
	go func() { // ends with the connection
		defer close(written)
		_, _ = io.WriteString(conn, text)
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	_ = conn.Close()
	<-written
	if err != nil {
		return 0, nil
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// Client makes requests on one connection.
type Client struct {
	conn *tls.Conn
	in   *bufio.Reader
}

// Client opens a connection to ask on.
func (p *Peer) Client(ctx context.Context) (*Client, error) {
	conn, err := p.Secure(ctx, Asking, nil)
	if err != nil {
		return nil, err
	}
	return &Client{conn, bufio.NewReader(conn)}, nil
}

// Close closes the connection.
func (c *Client) Close() { _ = c.conn.Close() }

// Do makes one request; body is sent as it is when it is bytes or a string, as JSON when not, and not at all when nil.
func (c *Client) Do(method, path string, body any) (status int, answer []byte, err error) {
	var raw []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		raw = b
	case string:
		raw = []byte(b)
	default:
		if raw, err = json.Marshal(b); err != nil {
			return 0, nil, err
		}
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: nigh\r\nContent-Length: %d\r\n\r\n%s", method, path, len(raw), raw)
	if _, err := c.conn.Write(text.Bytes()); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	return resp.StatusCode, answer, err
}

// Do makes one request on a connection of its own.
func (p *Peer) Do(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	c, err := p.Client(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	return c.Do(method, path, body)
}
