package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"nigh/agent/identity"
)

// No clock has a say in a handshake: with the configuration of both sides as it is, only that one lives in 1970 and the other in
// 2099, both prove their keys. A client that does look at dates refuses the same certificate: the clocks do reach crypto/tls.
func TestClocksAreNotAsked(t *testing.T) {
	clocks := map[string]time.Time{
		"before 1970": time.Unix(-86400, 0), "1970": time.Unix(1, 0), "2026": time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
		"2099": time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC), "after all dates": time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	a, b := newIdentity(t), newIdentity(t)
	shake := func(server, client *tls.Config) (tls.ConnectionState, tls.ConnectionState, error) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		type end struct {
			state tls.ConnectionState
			err   error
		}
		served := make(chan end, 1)
		go func() {
			c, err := listener.Accept()
			if err != nil {
				served <- end{err: err}
				return
			}
			defer c.Close()
			s := tls.Server(c, server)
			err = s.HandshakeContext(t.Context())
			served <- end{s.ConnectionState(), err}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		c := tls.Client(raw, client)
		err = c.HandshakeContext(ctx)
		if err != nil {
			_ = raw.Close()
		}
		s := <-served
		return s.state, c.ConnectionState(), fmt.Errorf("server: %w, client: %w", orNone(s.err), orNone(err))
	}
	verify := func(want identity.DeviceID) func(identity.DeviceID) error {
		return func(got identity.DeviceID) error {
			if got != want {
				return ErrWrongDevice
			}
			return nil
		}
	}
	for here, serverTime := range clocks {
		for there, clientTime := range clocks {
			server := tlsConfig(a, []string{protoDirect, protoReverse}, verify(b.ID), nil)
			client := tlsConfig(b, []string{protoDirect}, verify(a.ID), nil)
			server.Time, client.Time = func() time.Time { return serverTime }, func() time.Time { return clientTime }
			s, c, err := shake(server, client)
			seen, serr := peerID(s)
			met, cerr := peerID(c)
			if serr != nil || cerr != nil || seen != b.ID || met != a.ID {
				t.Errorf("server in %s, client in %s: %v, %v, %v", here, there, err, serr, cerr)
			}
		}
	}
	// The attack: what every ordinary client does with a clock that is wrong.
	server := tlsConfig(a, []string{protoDirect}, verify(b.ID), nil)
	strict := tlsConfig(b, []string{protoDirect}, verify(a.ID), nil)
	strict.InsecureSkipVerify, strict.ServerName = false, "nigh"
	strict.Time = func() time.Time { return clocks["after all dates"] }
	_, _, err := shake(server, strict)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); !ok || invalid.Reason != x509.Expired {
		t.Errorf("a client that looks at dates, after all of them: %v", err)
	}
}

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

var errNone = fmt.Errorf("no error")
