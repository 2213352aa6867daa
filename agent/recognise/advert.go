package recognise

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"nigh/agent/identity"
)

// ErrNotAdvert is returned for bytes that are no advert of a version we know.
var ErrNotAdvert = errors.New("not an advert")

// The form of an advert: vendor ID, version, flags, nonce, the key if a flag says
// so, and tags to the end.
const (
	version   = 1
	nonceSize = 8
	tagSize   = 4
	vendorIDs = 3
	headSize  = vendorIDs + 2 + nonceSize
	keySize   = len(identity.PublicKey{})

	// MaxAdvert bounds an encoded advert, in bytes. In a P2P probe response it
	// shares one WPS information element of 255 bytes with a name of 32, the device's
	// type, UUID and four short texts, and wpa_supplicant 2.10 does not check.
	MaxAdvert = 100
	// MaxTags is how many tags fit without the key.
	MaxTags = (MaxAdvert - headSize) / tagSize

	flagKey    = 0x01 // the key is in it
	flagManual = 0x02
	// The upper half of the flags is the number of members.
	membersShift = 4
	maxMembers   = 15
)

// vendorID marks our WPS vendor extensions. It is in no registry: private
// enterprise numbers of three bytes begin with 0.
var vendorID = [vendorIDs]byte{'N', 'G', 'H'}

// Nonce makes tags and PINs new.
type Nonce [nonceSize]byte

// Tag is for one device to recognise the sender by.
type Tag [tagSize]byte

// Advert is what a device tells everybody.
type Advert struct {
	Nonce  Nonce
	Manual bool               // a group asked for now has a PIN that people type
	Key    identity.PublicKey // zero unless everybody may know who it is
	Tags   []Tag              // newest friends first
	// Members is how many devices are in the group that the sender owns, with it, at
	// most 15, which means that many or more; 0 = it owns none.
	Members int
}

// Encode returns the WPS vendor extension, at most [MaxAdvert] bytes. Tags for
// which there is no room are left out.
func (a Advert) Encode() []byte {
	b := append(make([]byte, 0, MaxAdvert), vendorID[:]...)
	flags := byte(0)
	if !a.Key.IsZero() {
		flags |= flagKey
	}
	if a.Manual {
		flags |= flagManual
	}
	flags |= byte(max(0, min(a.Members, maxMembers))) << membersShift
	b = append(b, version, flags)
	b = append(b, a.Nonce[:]...)
	if !a.Key.IsZero() {
		b = append(b, a.Key[:]...)
	}
	for _, t := range a.Tags {
		if len(b)+tagSize > MaxAdvert {
			break
		}
		b = append(b, t[:]...)
	}
	return b
}

// Decode reads a WPS vendor extension. The error wraps [ErrNotAdvert]. What
// flags and bytes of a later version mean is not guessed.
func Decode(b []byte) (Advert, error) {
	var a Advert
	switch {
	case len(b) < headSize || len(b) > MaxAdvert:
		return a, fmt.Errorf("%w: %d bytes", ErrNotAdvert, len(b))
	case !slices.Equal(b[:vendorIDs], vendorID[:]):
		return a, fmt.Errorf("%w: another vendor's", ErrNotAdvert)
	case b[vendorIDs] != version:
		return a, fmt.Errorf("%w: version %d", ErrNotAdvert, b[vendorIDs])
	case b[vendorIDs+1]&^(flagKey|flagManual|maxMembers<<membersShift) != 0:
		return a, fmt.Errorf("%w: flags %#x", ErrNotAdvert, b[vendorIDs+1])
	}
	a.Manual = b[vendorIDs+1]&flagManual != 0
	a.Members = int(b[vendorIDs+1] >> membersShift)
	rest := b[vendorIDs+2:]
	rest = rest[copy(a.Nonce[:], rest):]
	if b[vendorIDs+1]&flagKey != 0 {
		if len(rest) < keySize {
			return Advert{}, fmt.Errorf("%w: half a key", ErrNotAdvert)
		}
		if rest = rest[copy(a.Key[:], rest):]; a.Key.IsZero() {
			return Advert{}, fmt.Errorf("%w: no key", ErrNotAdvert)
		}
	}
	if len(rest)%tagSize != 0 {
		return Advert{}, fmt.Errorf("%w: half a tag", ErrNotAdvert)
	}
	for t := range slices.Chunk(rest, tagSize) {
		a.Tags = append(a.Tags, Tag(t))
	}
	return a, nil
}

// The name of a device that tells strangers none: what [Advert.Name] makes.
const (
	nameTags = 4
	nameSize = nonceSize + nameTags*tagSize // 32 characters in base64
)

// Name returns a P2P device name of 32 characters that says as much as the first
// four tags, and to others nothing. Unlike vendor extensions, names are in every
// frame that may be the first one heard of a device (GO negotiation, provision
// discovery of one that joins a group).
func (a Advert) Name() string {
	b := append(make([]byte, 0, nameSize), a.Nonce[:]...)
	for _, t := range a.Tags[:min(len(a.Tags), nameTags)] {
		b = append(b, t[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(b[:nameSize])
}

// FromName reads what [Advert.Name] makes. Any name of 32 characters of that
// alphabet reads as an advert whose tags nobody knows.
func FromName(name string) (Advert, error) {
	if len(name) != base64.RawURLEncoding.EncodedLen(nameSize) {
		return Advert{}, ErrNotAdvert
	}
	b, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil || len(b) != nameSize { // the decoder passes over line ends
		return Advert{}, ErrNotAdvert
	}
	return fromBytes(b), nil
}

// fromBytes reads a nonce and whole tags.
func fromBytes(b []byte) Advert {
	a := Advert{Nonce: Nonce(b[:nonceSize])}
	for t := range slices.Chunk(b[nonceSize:], tagSize) {
		a.Tags = append(a.Tags, Tag(t))
	}
	return a
}

// The text form in an mDNS TXT record is as long as one string may be.
const maxTextTags = (255 - len("t=")) * 3 / 4 / tagSize

// Text returns nonce and tags for the t= string of a TXT record.
func (a Advert) Text() string {
	b := slices.Clone(a.Nonce[:])
	for _, t := range a.Tags[:min(len(a.Tags), maxTextTags-nonceSize/tagSize)] {
		b = append(b, t[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// FromText reads what [Advert.Text] makes; the error wraps [ErrNotAdvert].
func FromText(s string) (Advert, error) {
	if len(s) > 255 {
		return Advert{}, ErrNotAdvert
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < nonceSize || len(b)%tagSize != 0 {
		return Advert{}, ErrNotAdvert
	}
	return fromBytes(b), nil
}
