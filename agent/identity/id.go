package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrBadID is returned for text that is not a DeviceID. It is wrapped with
	// what is wrong and where.
	ErrBadID = errors.New("not a device ID")
	// ErrBadCertificate is returned for a certificate that carries no usable key.
	ErrBadCertificate = errors.New("not a device certificate")
)

// DeviceID names a device: the SHA-256 of its public key. It is comparable and
// usable as a map key. The zero value is no device.
type DeviceID [sha256.Size]byte

// The text form of a DeviceID: 52 base32 characters (RFC 4648) in four blocks of
// 13, a check character after each, written in 14 groups of four.
const (
	dataChars  = 52
	blockChars = 13
	groupChars = 4
	textChars  = dataChars + dataChars/blockChars
	// maxText bounds what ParseDeviceID looks at: the text with generous white
	// space and dashes.
	maxText = 4 * textChars
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// String returns the whole ID in its written form, 14 groups of four characters
// such as "7Q4K-M2XD-…". Every block of 13 characters is followed by one check
// character, so that a wrong character, or two that changed places, are found in
// any group.
func (id DeviceID) String() string {
	data := encoding.EncodeToString(id[:])
	var b strings.Builder
	n := 0
	put := func(c byte) {
		if n > 0 && n%groupChars == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(c)
		n++
	}
	for i := 0; i < len(data); i += blockChars {
		block := data[i : i+blockChars]
		for j := range len(block) {
			put(block[j])
		}
		put(CheckCharacter(i/blockChars, block))
	}
	return b.String()
}

// Short returns the first eight characters, as "7Q4K-M2XD". It is for people to
// read; it is no proof and may be shared by two devices (40 bits).
func (id DeviceID) Short() string {
	s := encoding.EncodeToString(id[:5])
	return s[:groupChars] + "-" + s[groupChars:]
}

// IsZero reports whether id is the zero value, which names no device.
func (id DeviceID) IsZero() bool { return id == DeviceID{} }

// Compare orders IDs by their bytes; it returns -1, 0 or 1.
func (id DeviceID) Compare(other DeviceID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText returns the form of [DeviceID.String].
func (id DeviceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what [ParseDeviceID] reads.
func (id *DeviceID) UnmarshalText(text []byte) error {
	v, err := ParseDeviceID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// ParseDeviceID reads a whole DeviceID as [DeviceID.String] writes it. Case,
// dashes and white space do not matter, and digits that are not in the alphabet
// are read as the letters they look like (0 as O, 1 as I, 8 as B). It returns an
// error wrapping [ErrBadID] that names the group with the mistake.
func ParseDeviceID(s string) (DeviceID, error) {
	if len(s) > maxText {
		return DeviceID{}, fmt.Errorf("%w: %d characters, want %d", ErrBadID, len(s), textChars)
	}
	text, err := Letters(s)
	if err != nil {
		return DeviceID{}, err
	}
	if len(text) != textChars {
		return DeviceID{}, fmt.Errorf("%w: %d characters, want %d", ErrBadID, len(text), textChars)
	}
	data := make([]byte, 0, dataChars)
	for i := range textChars / (blockChars + 1) {
		block := text[i*(blockChars+1) : (i+1)*(blockChars+1)]
		if CheckCharacter(i, string(block[:blockChars])) != block[blockChars] {
			first := i*(blockChars+1)/groupChars + 1
			last := ((i+1)*(blockChars+1)-1)/groupChars + 1
			return DeviceID{}, fmt.Errorf("%w: mistyped in groups %d to %d", ErrBadID, first, last)
		}
		data = append(data, block[:blockChars]...)
	}
	var id DeviceID
	n, err := encoding.Decode(id[:], data)
	if err != nil || n != len(id) {
		return DeviceID{}, fmt.Errorf("%w: not base32", ErrBadID)
	}
	if encoding.EncodeToString(id[:]) != string(data) {
		// 52 characters hold 260 bits; the last four have to be zero, so that an
		// ID has one written form.
		return DeviceID{}, fmt.Errorf("%w: mistyped in group %d", ErrBadID, textChars/groupChars)
	}
	return id, nil
}

// Letters reads base32 text as people type it: case, dashes and white space do not
// matter, and digits that are not in the alphabet are read as the letters they look
// like (0 as O, 1 as I, 8 as B). The error wraps [ErrBadID] and names the group of
// four with the mistake. The caller bounds the length of s.
func Letters(s string) ([]byte, error) {
	var text []byte
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '-' || c == ' ' || c == '\t' || c == '\n' || c == '\r':
			continue
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		case c == '0':
			c = 'O'
		case c == '1':
			c = 'I'
		case c == '8':
			c = 'B'
		}
		if strings.IndexByte(alphabet, c) < 0 {
			return nil, fmt.Errorf("%w: %q in group %d", ErrBadID, s[i], len(text)/groupChars+1)
		}
		text = append(text, c)
	}
	return text, nil
}

// CheckCharacter returns the check character of a block of base32 characters: the value of the block as a
// polynomial over GF(32), at a generator of the field, started from the number
// of the block. Unlike a sum it finds every single wrong character, every two
// characters of a block that changed places and every two blocks that did.
func CheckCharacter(block int, chars string) byte {
	sum := block + 1
	for i := range len(chars) {
		sum = timesX(sum) ^ strings.IndexByte(alphabet, chars[i])
	}
	return alphabet[timesX(sum)]
}

// timesX multiplies by x in GF(32) with the primitive polynomial x^5 + x^2 + 1.
func timesX(v int) int {
	v <<= 1
	if v&0x20 != 0 {
		v ^= 0x25
	}
	return v
}

// FromKey returns the ID of the device whose public key is key.
func FromKey(key ed25519.PublicKey) (DeviceID, error) {
	if len(key) != ed25519.PublicKeySize {
		return DeviceID{}, fmt.Errorf("%w: key of %d bytes", ErrBadCertificate, len(key))
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return DeviceID{}, fmt.Errorf("%w: %w", ErrBadCertificate, err)
	}
	return sha256.Sum256(der), nil
}

// FromCertificate returns the ID that the key of cert gives. It reads nothing
// else: not the dates, the names or the signature (TLS proves that the peer
// holds the key). A certificate without an Ed25519 key is refused with
// [ErrBadCertificate].
func FromCertificate(cert *x509.Certificate) (DeviceID, error) {
	if cert == nil {
		return DeviceID{}, fmt.Errorf("%w: none", ErrBadCertificate)
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return DeviceID{}, fmt.Errorf("%w: %v key, want Ed25519", ErrBadCertificate, cert.PublicKeyAlgorithm)
	}
	return FromKey(key)
}
