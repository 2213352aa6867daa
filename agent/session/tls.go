package session

import (
	"crypto/tls"
	"errors"
	"fmt"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// The application protocols (ALPN): who asks on a connection.
const (
	protoDirect  = "nigh/1"  // the dialer is the HTTP client
	protoReverse = "nigh/1r" // the dialer serves
)

var (
	// ErrWrongDevice is returned when another device than the wanted one answered
	// at an address, or a device claims an ID that its key does not give.
	ErrWrongDevice = errors.New("session: another device answered")
	// ErrNotNigh is returned when what answered proves no device key or does not
	// speak this protocol.
	ErrNotNigh = errors.New("session: not a nigh device")
	// ErrRefused is returned when the device ended the connection because of our
	// key: it has blocked us.
	ErrRefused = errors.New("session: the device refuses us")
	// ErrSelf is returned when we reached ourselves.
	ErrSelf = errors.New("session: that is this device")
	// ErrBlocked is returned for a device that the user blocked.
	ErrBlocked = errors.New("session: the device is blocked")
)

// tlsConfig returns what both roles have in common. The peer's key is looked at
// in VerifyConnection only, after TLS has proved that the peer holds it. met, which
// may be nil, is told the keys that verify takes.
func tlsConfig(self *identity.Identity, protos []string, verify func(identity.DeviceID) error, met func(identity.PublicKey)) *tls.Config {
	return &tls.Config{
		Certificates:                []tls.Certificate{self.Certificate},
		MinVersion:                  tls.VersionTLS13,
		MaxVersion:                  tls.VersionTLS13,
		NextProtos:                  protos,
		ClientAuth:                  tls.RequireAnyClientCert,
		InsecureSkipVerify:          true, // chains and dates: the key is pinned instead
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			id, err := peerID(state)
			if err != nil {
				return err
			}
			if id == self.ID {
				return ErrSelf
			}
			if err := verify(id); err != nil || met == nil {
				return err
			}
			key, err := identity.KeyFromCertificate(state.PeerCertificates[0])
			if err != nil {
				return fmt.Errorf("%w: %w", ErrNotNigh, err)
			}
			met(key)
			return nil
		},
	}
}

// peerID returns the identity that the handshake proved.
func peerID(state tls.ConnectionState) (identity.DeviceID, error) {
	var zero identity.DeviceID
	if state.NegotiatedProtocol != protoDirect && state.NegotiatedProtocol != protoReverse {
		return zero, fmt.Errorf("%w: protocol %q", ErrNotNigh, state.NegotiatedProtocol)
	}
	if n := len(state.PeerCertificates); n != 1 {
		return zero, fmt.Errorf("%w: %d certificates", ErrNotNigh, n)
	}
	cert := state.PeerCertificates[0]
	if n := len(cert.Raw); n > maxCertificate {
		return zero, fmt.Errorf("%w: certificate of %d bytes", ErrNotNigh, n)
	}
	id, err := identity.FromCertificate(cert)
	if err != nil {
		return zero, fmt.Errorf("%w: %w", ErrNotNigh, err)
	}
	return id, nil
}

// accepted is the check of a device that connects to us.
func (s *Sessions) accepted(id identity.DeviceID) error {
	if s.standing(id) == trust.Blocked {
		return ErrBlocked
	}
	return nil
}

// wanted is the check of a device that we dialled; the zero ID accepts any.
func (s *Sessions) wanted(want identity.DeviceID) func(identity.DeviceID) error {
	return func(id identity.DeviceID) error {
		if !want.IsZero() && id != want {
			return fmt.Errorf("%w: %s, not %s", ErrWrongDevice, id.Short(), want.Short())
		}
		return s.accepted(id)
	}
}
