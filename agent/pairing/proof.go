package pairing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"nigh/agent/identity"
)

// Labels that separate what is computed.
const (
	commitLabel  = "nigh-pair-v1"
	codeLabel    = "nigh-sas-v1"
	confirmLabel = "nigh-pair-confirm-v1"
	setupLabel   = "nigh-setup-v1"
)

// word is a nonce, a commitment or a MAC: 32 bytes, in base64 in messages.
type word [32]byte

func newNonce() (n word) {
	rand.Read(n[:]) // never fails (crypto/rand)
	return n
}

// MarshalText returns base64.
func (w word) MarshalText() ([]byte, error) {
	return base64.RawStdEncoding.AppendEncode(nil, w[:]), nil
}

// UnmarshalText reads what MarshalText writes and nothing else.
func (w *word) UnmarshalText(text []byte) error {
	if len(text) != base64.RawStdEncoding.EncodedLen(len(w)) {
		return errors.New("not 32 bytes in base64")
	}
	var v word
	if _, err := base64.RawStdEncoding.Strict().Decode(v[:], text); err != nil {
		return fmt.Errorf("not base64: %w", err)
	}
	*w = v
	return nil
}

// equal compares in constant time.
func (w word) equal(other word) bool { return hmac.Equal(w[:], other[:]) }

// role is a side of a pairing.
type role byte

const (
	asker role = 'A'
	asked role = 'B'
)

// parties are who pairs over which connection. What is computed of them is bound to
// all three.
type parties struct {
	asker, asked identity.DeviceID
	binding      [32]byte
}

// commitment is what the asker says before it knows the other's nonce. Every part has
// a fixed length.
func (p parties) commitment(nonce word) word {
	h := sha256.New()
	h.Write([]byte(commitLabel))
	for _, part := range [][]byte{nonce[:], p.asker[:], p.asked[:], p.binding[:]} {
		h.Write(part)
	}
	return word(h.Sum(nil))
}

// code is the six digits that both users see.
func (p parties) code(askers, askeds word) string {
	sum := p.mac(append(askers[:], askeds[:]...), codeLabel, 0)
	// Of 2^64 values; a remainder is at most 2^-44 more likely than another.
	return fmt.Sprintf("%06d", binary.BigEndian.Uint64(sum[:8])%1_000_000)
}

// confirmation is the word of one side that its user said yes.
func (p parties) confirmation(of role, askers, askeds word) word {
	return p.mac(append(askers[:], askeds[:]...), confirmLabel, of)
}

// proof shows that a side knows the setup code.
func (p parties) proof(of role, code SetupCode) word {
	return p.mac(code[:], setupLabel, of)
}

func (p parties) mac(key []byte, label string, of role) word {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(label))
	m.Write([]byte{byte(of)})
	m.Write(p.asker[:])
	m.Write(p.asked[:])
	m.Write(p.binding[:])
	return word(m.Sum(nil))
}
