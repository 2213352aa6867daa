package identity

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"filippo.io/edwards25519"
)

// ErrBadKey is returned for a public key that no device of ours can have: not a
// point of the curve, not in its one written form, or of small order (such a key
// gives a shared secret that everybody knows).
var ErrBadKey = errors.New("not a usable device key")

// PublicKey is a device's Ed25519 public key (RFC 8032). It is comparable. The
// zero value means that the key is not known.
type PublicKey [ed25519.PublicKeySize]byte

// ID returns the ID of the device that has this key.
func (k PublicKey) ID() DeviceID {
	id, err := FromKey(k[:])
	if err != nil {
		return DeviceID{} // of another length only
	}
	return id
}

// IsZero reports whether the key is not known.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// MarshalText returns the key in base64, "" for the zero key.
func (k PublicKey) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, nil
	}
	return base64.RawStdEncoding.AppendEncode(nil, k[:]), nil
}

// UnmarshalText reads what MarshalText writes; the error wraps [ErrBadKey].
func (k *PublicKey) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*k = PublicKey{}
		return nil
	}
	if base64.RawStdEncoding.DecodedLen(len(text)) != len(k) {
		return fmt.Errorf("%w: %d characters", ErrBadKey, len(text))
	}
	var v PublicKey
	if _, err := base64.RawStdEncoding.Decode(v[:], text); err != nil {
		return fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	*k = v
	return nil
}

// KeyFromCertificate returns the key of cert, on the terms of [FromCertificate].
func KeyFromCertificate(cert *x509.Certificate) (PublicKey, error) {
	if _, err := FromCertificate(cert); err != nil {
		return PublicKey{}, err
	}
	return PublicKey(cert.PublicKey.(ed25519.PublicKey)), nil
}

// Key returns this device's public key.
func (i *Identity) Key() PublicKey {
	key, err := KeyFromCertificate(i.Certificate.Leaf)
	if err != nil {
		return PublicKey{} // an Identity that Load did not make
	}
	return key
}

// sharedLabel separates the pair secret from every other use of the keys.
const sharedLabel = "nigh pair secret 1"

// Shared returns the secret that this device and the one with the key peer have
// in common and nobody else can know: HKDF-SHA256 (RFC 5869) of X25519 (RFC 7748)
// over both keys in Montgomery form, bound to both DeviceIDs, the smaller first.
// Both sides get the same without a word between them. It returns an error
// wrapping [ErrBadKey] for a key that cannot be a device's, and for our own.
func (i *Identity) Shared(peer PublicKey) ([32]byte, error) {
	own, ok := i.Certificate.PrivateKey.(ed25519.PrivateKey)
	if !ok {
		return [32]byte{}, fmt.Errorf("%w: no private key", ErrBadKey)
	}
	id := peer.ID()
	if id == i.ID {
		return [32]byte{}, fmt.Errorf("%w: this device's own", ErrBadKey)
	}
	point, err := new(edwards25519.Point).SetBytes(peer[:])
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	if PublicKey(point.Bytes()) != peer {
		return [32]byte{}, fmt.Errorf("%w: not in canonical form", ErrBadKey)
	}
	if new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return [32]byte{}, fmt.Errorf("%w: of small order", ErrBadKey)
	}
	public, err := ecdh.X25519().NewPublicKey(point.BytesMontgomery())
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	// RFC 8032 5.1.5: the scalar is the first half of the seed's SHA-512; X25519
	// clamps it as Ed25519 does.
	digest := sha512.Sum512(own.Seed())
	private, err := ecdh.X25519().NewPrivateKey(digest[:32])
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	secret, err := private.ECDH(public) // refuses an all-zero result
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	first, second := i.ID, id
	if first.Compare(second) > 0 {
		first, second = second, first
	}
	pair, err := hkdf.Key(sha256.New, secret, nil, sharedLabel+string(first[:])+string(second[:]), 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("identity: %w", err)
	}
	return [32]byte(pair), nil
}
