package message

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"nigh/agent/identity"
)

// A Direction of a message, seen from this device.
type Direction string

// The directions.
const (
	Send    Direction = "send"
	Receive Direction = "receive"
)

// A State of a message on its way to one device. doc.go says what each means.
type State string

// The states.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered"
	Refused   State = "refused"
	Failed    State = "failed"
)

// A Recipient is a device that a message of ours is for.
type Recipient struct {
	Peer  identity.DeviceID `json:"peer"`
	State State             `json:"state"`
	// Code is the word of the error that explains the state, see [Code]; while it waits, of the last try.
	Code string `json:"code,omitempty"`
}

// A Message is a text that was written here or received. It is a copy: what happens later does not show in it. Text came from the
// peer and is to be escaped before it reaches a terminal.
type Message struct {
	// Seq is the place of the message among all that this device wrote or received. It grows by one with each.
	Seq uint64 `json:"seq"`
	// ID is our own name for it, "m" and 12 hexadecimal digits.
	ID        string            `json:"id"`
	Direction Direction         `json:"direction"`
	Peer      identity.DeviceID `json:"peer,omitzero"` // Receive: who sent it
	To        []Recipient       `json:"to,omitempty"`  // Send
	Text      string            `json:"text"`
	// Time is this device's clock when it was written or received: for showing only, clocks may be wrong.
	Time time.Time `json:"time"`
}

// Check returns nil for a text that can be a message, else an error that wraps [ErrEmpty], [ErrTooLong] or [ErrNotText].
func Check(text string) error {
	switch {
	case text == "":
		return ErrEmpty
	case len(text) > MaxText:
		return fmt.Errorf("%w: %d bytes", ErrTooLong, len(text))
	case !utf8.ValidString(text):
		return fmt.Errorf("%w: bytes that are not UTF-8", ErrNotText)
	case strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%w: a NUL", ErrNotText)
	}
	return nil
}

// A wireID names a message between two devices. The sender makes it.
type wireID [16]byte

func newWireID() (w wireID) {
	rand.Read(w[:]) // never fails (crypto/rand)
	return w
}

func (w wireID) String() string { return hex.EncodeToString(w[:]) }

// MarshalText returns 32 hexadecimal digits.
func (w wireID) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads 32 hexadecimal digits.
func (w *wireID) UnmarshalText(text []byte) error {
	var v wireID
	if hex.DecodedLen(len(text)) != len(v) || len(text)%2 != 0 {
		return fmt.Errorf("%w: an id of %d characters", ErrProtocol, len(text))
	}
	if _, err := hex.Decode(v[:], text); err != nil {
		return fmt.Errorf("%w: an id that is not hexadecimal", ErrProtocol)
	}
	*w = v
	return nil
}

func newID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return "m" + hex.EncodeToString(b[:])
}
