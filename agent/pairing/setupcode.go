package pairing

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"nigh/agent/identity"
)

// SetupCode lets whoever knows it pair with a device without a question there: 80
// random bits. Its text is 16 base32 characters and a check character, in groups of
// four such as "7Q4K-M2XD-PL9A-TT3C-V". It is a secret: it is not logged, and String
// does not show it.
type SetupCode [10]byte

// ErrBadCode is returned for text that is no setup code, before anything is tried.
var ErrBadCode = errors.New("pairing: not a setup code")

const (
	codeChars   = 16
	maxCodeText = 4 * (codeChars + 1) // with generous white space and dashes
)

var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSetupCode draws a code.
func NewSetupCode() (c SetupCode) {
	rand.Read(c[:]) // never fails (crypto/rand)
	return c
}

// Text returns the written form.
func (c SetupCode) Text() string {
	text := base32Text.EncodeToString(c[:])
	var b strings.Builder
	for i := 0; i < len(text); i += 4 {
		b.WriteString(text[i:i+4] + "-")
	}
	b.WriteByte(identity.CheckCharacter(0, text))
	return b.String()
}

// String hides the code from logs and formatted text.
func (c SetupCode) String() string { return "(setup code)" }

// ParseSetupCode reads a code as people type it: case, dashes and white space do not
// matter, and 0, 1 and 8 are read as O, I and B. A mistyped character, or two that
// changed places, are found. The error wraps [ErrBadCode] and never quotes the text.
func ParseSetupCode(s string) (SetupCode, error) {
	if len(s) > maxCodeText {
		return SetupCode{}, fmt.Errorf("%w: too long", ErrBadCode)
	}
	text, err := identity.Letters(s)
	if err != nil {
		return SetupCode{}, fmt.Errorf("%w: it has letters and the digits 2 to 7", ErrBadCode)
	}
	if len(text) != codeChars+1 {
		return SetupCode{}, fmt.Errorf("%w: %d characters, want %d", ErrBadCode, len(text), codeChars+1)
	}
	if identity.CheckCharacter(0, string(text[:codeChars])) != text[codeChars] {
		return SetupCode{}, fmt.Errorf("%w: mistyped", ErrBadCode)
	}
	var c SetupCode
	if n, err := base32Text.Decode(c[:], text[:codeChars]); err != nil || n != len(c) {
		return SetupCode{}, fmt.Errorf("%w: mistyped", ErrBadCode)
	}
	return c, nil
}
