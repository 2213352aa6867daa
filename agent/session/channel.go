package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"nigh/agent/identity"
)

// bindingLabel is the label of the TLS exporter (RFC 8446 7.5) that pairing is bound
// to.
const bindingLabel = "EXPORTER-nigh-pair"

// Binding is what both ends of one connection, and nobody between them, know about
// it. Whoever relays between two connections has two bindings.
type Binding struct {
	// Value is the same on both ends of the connection and on no other one.
	Value [32]byte
	// Key is the public key that the other end proved.
	Key identity.PublicKey
	// Done is closed when the connection is.
	Done <-chan struct{}
	conn *conn
}

// Protect keeps the connection from being closed for newer ones, until it is called
// with false. The caller bounds how many it protects: a few.
func (b Binding) Protect(on bool) {
	if b.conn != nil {
		b.conn.protected.Store(on)
	}
}

func (c *conn) binding() (Binding, error) {
	state := c.ConnectionState()
	value, err := state.ExportKeyingMaterial(bindingLabel, nil, 32)
	if err != nil {
		return Binding{}, fmt.Errorf("session: binding: %w", err)
	}
	key, err := identity.KeyFromCertificate(state.PeerCertificates[0])
	if err != nil {
		return Binding{}, fmt.Errorf("session: binding: %w", err)
	}
	return Binding{Value: [32]byte(value), Key: key, Done: c.done, conn: c}, nil
}

// BindingFrom returns the binding of the connection that a request came on; ctx is
// the request's.
func BindingFrom(ctx context.Context) (Binding, error) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return Binding{}, errors.New("session: the request came on no connection of ours")
	}
	return c.binding()
}

// Channel is one connection to a device of its own. Close it.
type Channel struct {
	Binding
	// Client makes requests on this connection only; once it is closed they fail with
	// [ErrLost].
	Client *http.Client
}

// Close closes the connection.
func (c *Channel) Close() { _ = c.conn.Close() }

// Open makes a connection to the device id, or takes one that the device opened for
// us, for requests that belong together. It blocks until then, at most some seconds;
// the errors are those of requests with [Sessions.Control].
func (s *Sessions) Open(ctx context.Context, id identity.DeviceID) (*Channel, error) {
	ctx, cancel := s.bound(ctx, dialTimeout)
	defer cancel()
	c, err := s.peer(id).control.connectControl(ctx)
	if err != nil {
		return nil, err
	}
	b, err := c.binding()
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	unused := make(chan net.Conn, 1)
	unused <- c
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &Channel{Binding: b, Client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect },
		Timeout:       responseHeaderTimeout,
		Transport: &http.Transport{
			Protocols:              protocols,
			DisableCompression:     true,
			MaxConnsPerHost:        1,
			ResponseHeaderTimeout:  responseHeaderTimeout,
			MaxResponseHeaderBytes: maxResponseHeader,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				select {
				case c := <-unused:
					return c, nil
				default:
					return nil, ErrLost
				}
			},
		},
	}}, nil
}

// Refused returns err as [ErrRefused] when the other side ended the connection
// because of our key: in TLS 1.3 it judges that after our handshake is over.
func Refused(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return fmt.Errorf("%w: %w", ErrRefused, op)
	}
	return err
}
