package hostile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// handshakes are attacks before a key was proved.
func handshakes() []Attack {
	spoilt := func(name, protocol string, change func(*Peer, *tls.Config) error) Attack {
		return Attack{Name: "handshake/" + name, Run: func(ctx context.Context, p *Peer) (string, error) {
			var failed error
			conn, err := p.Secure(ctx, protocol, func(c *tls.Config) { failed = change(p, c) })
			if failed != nil {
				return "", failed
			}
			if err == nil {
				// In TLS 1.3 the target judges our certificate after our handshake is over.
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n")
				var b [1]byte
				if n, rerr := conn.Read(b[:]); n > 0 {
					return "", errors.New("the target answered a request after a spoilt handshake")
				} else {
					err = rerr
				}
			}
			if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "read") {
				return err.Error(), nil
			}
			return "", fmt.Errorf("no alert and no end from the target: %w", err)
		}}
	}
	said := func(name string, say func(net.Conn) int, most int) Attack {
		return Attack{Name: "handshake/" + name, Run: func(ctx context.Context, p *Peer) (string, error) {
			conn, err := p.Dial(ctx)
			if err != nil {
				return "", err
			}
			defer func() { _ = conn.Close() }()
			took := make(chan int, 1)
			go func() { took <- say(conn) }() // ends with the connection
			answer, err := io.ReadAll(io.LimitReader(conn, 1<<20))
			_ = conn.Close()
			n := <-took
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return "", fmt.Errorf("the target still listens after %d bytes", n)
			case bytes.Contains(answer, []byte("HTTP/")):
				return "", errors.New("the target speaks HTTP in the clear")
			case n > most:
				return "", fmt.Errorf("the target took %d bytes", n)
			}
			return fmt.Sprintf("ended after %d bytes, with %d bytes of an alert", n, len(answer)), nil
		}}
	}
	const kernel = 8 << 20 // what the buffers of the two kernels may hold beside
	return []Attack{
		said("plain text", func(c net.Conn) int {
			n, _ := io.WriteString(c, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n")
			return n
		}, 1<<10),
		said("a line without end", func(c net.Conn) int { return endless(c, "A", 64<<20) }, kernel),
		said("a record longer than records are", func(c net.Conn) int {
			_, _ = c.Write([]byte{22, 3, 1, 0xff, 0xff})
			return endless(c, "\x01", 64<<20)
		}, kernel),
		said("a ClientHello of 16 MiB", func(c net.Conn) int {
			_, _ = c.Write([]byte{22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff})
			n := endless(c, "\x00", 0x4000-4)
			for n < 64<<20 {
				m, err := c.Write(append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...))
				n += m
				if err != nil {
					break
				}
			}
			return n
		}, kernel),
		said("change cipher spec without end", func(c net.Conn) int { return endless(c, "\x14\x03\x03\x00\x01\x01", 64<<20) }, kernel),
		said("empty records without end", func(c net.Conn) int { return endless(c, "\x16\x03\x03\x00\x00", 64<<20) }, kernel),
		said("alerts without end", func(c net.Conn) int { return endless(c, "\x15\x03\x03\x00\x02\x01\x5a", 64<<20) }, kernel),
		said("an SSLv2 hello", func(c net.Conn) int { n, _ := c.Write([]byte("\x80\x2e\x01\x03\x01\x00\x15")); return n }, 1<<10),

		spoilt("downgrade to TLS 1.2", Asking, func(_ *Peer, c *tls.Config) error { c.MaxVersion = tls.VersionTLS12; return nil }),
		spoilt("downgrade to TLS 1.0", Asking, func(_ *Peer, c *tls.Config) error {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
			return nil
		}),
		spoilt("another version of the protocol", "nigh/2", func(*Peer, *tls.Config) error { return nil }),
		spoilt("an older version of the protocol", "nigh/0", func(*Peer, *tls.Config) error { return nil }),
		spoilt("another protocol", "h2", func(*Peer, *tls.Config) error { return nil }),
		spoilt("no protocol", "", func(_ *Peer, c *tls.Config) error { c.NextProtos = nil; return nil }),
		spoilt("no certificate", Asking, func(_ *Peer, c *tls.Config) error { c.Certificates = nil; return nil }),
		spoilt("two certificates", Asking, func(p *Peer, c *tls.Config) error {
			one := p.cert.Certificate[0]
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{one, one}, PrivateKey: p.cert.PrivateKey}}
			return nil
		}),
		spoilt("a key of another kind", Asking, func(_ *Peer, c *tls.Config) error {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return err
			}
			cert, err := certificate(key, key.Public(), 0)
			c.Certificates = []tls.Certificate{cert}
			return err
		}),
		spoilt("a certificate of 60 KB", Asking, func(p *Peer, c *tls.Config) error {
			key := p.cert.PrivateKey.(ed25519.PrivateKey)
			cert, err := certificate(key, key.Public(), 60_000)
			c.Certificates = []tls.Certificate{cert}
			return err
		}),
		// The certificate of a device that the target trusts, which anybody gets who connects to that device.
		spoilt("another device's certificate", Asking, func(p *Peer, c *tls.Config) error {
			theirs, err := p.friendCertificate()
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{theirs}, PrivateKey: p.cert.PrivateKey}}
			return err
		}),
		// A certificate with a trusted device's key in it, that the attacker signed himself.
		spoilt("another device's key", Asking, func(p *Peer, c *tls.Config) error {
			theirs, err := p.friendKey()
			if err != nil {
				return err
			}
			cert, err := certificate(p.cert.PrivateKey, theirs, 0)
			cert.PrivateKey = p.cert.PrivateKey
			c.Certificates = []tls.Certificate{cert}
			return err
		}),
		{Name: "handshake/replay", Run: replay},
	}
}

// friendCertificate returns the certificate that a device shows which the target trusts.
func (p *Peer) friendCertificate() (der []byte, err error) {
	state, err := p.friendState()
	if err != nil {
		return nil, err
	}
	return state.PeerCertificates[0].Raw, nil
}

func (p *Peer) friendKey() (any, error) {
	state, err := p.friendState()
	if err != nil {
		return nil, err
	}
	return state.PeerCertificates[0].PublicKey, nil
}

func (p *Peer) friendState() (state tls.ConnectionState, err error) {
	if !p.Friend.IsValid() {
		return state, ErrNeeds
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	raw, err := p.dial(ctx, p.Friend)
	if err != nil {
		return state, err
	}
	conn, err := p.secure(ctx, raw, Asking, nil)
	if err != nil {
		return state, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState(), nil
}

// recorder keeps what is written.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	said bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.said.Write(p)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// replay records a connection on which a request was answered, and says all of it again on another.
func replay(ctx context.Context, p *Peer) (string, error) {
	raw, err := p.Dial(ctx)
	if err != nil {
		return "", err
	}
	kept := &recorder{Conn: raw}
	conn, err := p.secure(ctx, kept, Asking, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n"); err != nil {
		return "", err
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		return "", fmt.Errorf("what is to be replayed was not answered: %q: %w", answer, err)
	}
	again, err := p.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer again.Close()
	kept.mu.Lock()
	said := bytes.Clone(kept.said.Bytes())
	kept.mu.Unlock()
	_, _ = again.Write(said)
	heard, err := io.ReadAll(io.LimitReader(again, 1<<20))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", errors.New("the target goes on with what was replayed")
	}
	// It says what it says before it has heard from us: its hello, certificate and so on; and an alert.
	if len(heard) > 4<<10 {
		return "", fmt.Errorf("the target answered a replay with %d bytes", len(heard))
	}
	return fmt.Sprintf("ended the replay of %d bytes", len(said)), nil
}

// resets breaks handshakes off with a reset.
func resets(ctx context.Context, p *Peer) (string, error) {
	for i := range 200 {
		conn, err := p.Dial(ctx)
		if err != nil {
			continue // it was reset before the kernel told us that it stood
		}
		if i%2 == 0 {
			_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1, 0})
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	return "200 connections reset", nil
}

// HalfOpen opens connections that say half a ClientHello, or nothing, and returns those that it opened and how many of
// them the target had ended when the last one was open.
func (p *Peer) HalfOpen(ctx context.Context, n int) (open []net.Conn, ended int, err error) {
	for i := range n {
		conn, err := p.Dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return open, ended, ctx.Err()
			}
			ended++ // refused or reset at once
			continue
		}
		if i%2 == 0 {
			_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1, 0})
		}
		open = append(open, conn)
	}
	for _, conn := range open {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			ended++
		}
	}
	return open, ended, nil
}
