package recognise

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"nigh/agent/identity"
)

// Labels that separate the uses of a pair secret.
const (
	tagLabel  = "nigh tag 1"
	pinLabel  = "nigh pin 1"
	formLabel = "negotiation"
	joinLabel = "join"
)

// pair is what this device has in common with another one.
type pair struct {
	self, other identity.DeviceID
	tagKey      []byte
	pinKey      []byte
}

// newPair derives the keys of a pair from its secret.
func newPair(self, other identity.DeviceID, secret [32]byte) (pair, error) {
	p := pair{self: self, other: other}
	var err error
	if p.tagKey, err = hkdf.Expand(sha256.New, secret[:], tagLabel, sha256.Size); err == nil {
		p.pinKey, err = hkdf.Expand(sha256.New, secret[:], pinLabel, sha256.Size)
	}
	if err != nil {
		return pair{}, fmt.Errorf("recognise: %w", err)
	}
	return p, nil
}

// mac is HMAC-SHA256; every part but the last has a fixed length.
func mac(key []byte, label string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(label))
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// tagOf is the tag in the advert of from by which to knows it: another one in
// each direction, so that our own advert sent back to us says nothing.
func (p pair) tagOf(from, to identity.DeviceID, n Nonce) Tag {
	return Tag(mac(p.tagKey, tagLabel, from[:], to[:], n[:])[:tagSize])
}

// negotiationPIN is the PIN of a group that the two negotiate, whoever asks. Both
// nonces are in it because either may become the registrar of WPS, from whom an
// impostor learns half of the PIN in each attempt: it must not be the same twice,
// whichever side's advert the impostor repeats.
func (p pair) negotiationPIN(own, others Nonce) string {
	first, second := own, others
	if p.self.Compare(p.other) > 0 {
		first, second = others, own
	}
	return pin(mac(p.pinKey, formLabel, first[:], second[:]))
}

// joinPIN is the PIN with which client joins a running group of owner. Only the
// owner's nonce is in it: the owner is the registrar, and cannot hear the client's
// advert while it runs a group.
func (p pair) joinPIN(owner, client identity.DeviceID, n Nonce) string {
	return pin(mac(p.pinKey, joinLabel, owner[:], client[:], n[:]))
}

// pin makes eight digits of a MAC, the last one being WPS's check digit.
func pin(sum []byte) string {
	n := binary.BigEndian.Uint64(sum) % 10_000_000
	return fmt.Sprintf("%07d%d", n, checkDigit(n))
}

// checkDigit is that of Wi-Fi Simple Configuration 2.0.8, section 7.4.1: the sum
// of the digits, every other one threefold from the last, is made a multiple of ten.
func checkDigit(n uint64) uint64 {
	sum := uint64(0)
	for weight := uint64(3); n > 0; n /= 10 {
		sum += weight * (n % 10)
		weight ^= 3 ^ 1
	}
	return (10 - sum%10) % 10
}
