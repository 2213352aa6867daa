package receive

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of names.
const (
	MaxName  = 255  // bytes in a component
	MaxPath  = 1024 // bytes in a path
	MaxDepth = 64   // components in a path
)

// ErrName means that a name from a peer is refused; the text around it says why.
var ErrName = errors.New("name refused")

// CheckName returns an error wrapping [ErrName] unless name may be one component of a path on this disk.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("receive: %w: empty", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("receive: %w: %d bytes long", ErrName, len(name))
	case name == "." || name == "..":
		return fmt.Errorf("receive: %w: %s", ErrName, name)
	case plain(name):
		return nil
	case !utf8.ValidString(name):
		return fmt.Errorf("receive: %w: not UTF-8", ErrName)
	}
	for _, r := range name {
		switch {
		case r == '/' || r == '\\':
			return fmt.Errorf("receive: %w: separator in %q", ErrName, name)
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
			return fmt.Errorf("receive: %w: control character in %q", ErrName, name)
		case unicode.Is(unicode.Bidi_Control, r):
			return fmt.Errorf("receive: %w: bidirectional mark in %q", ErrName, name)
		}
	}
	return nil
}

// plain reports whether name is of ASCII that needs no further look. Most names are, and each is checked several times.
func plain(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}

// CheckPath returns an error wrapping [ErrName] unless p is a relative path of checked names separated by single slashes.
func CheckPath(p string) error {
	if len(p) > MaxPath {
		return fmt.Errorf("receive: %w: path of %d bytes", ErrName, len(p))
	}
	if n := strings.Count(p, "/"); n >= MaxDepth {
		return fmt.Errorf("receive: %w: path of %d components", ErrName, n+1)
	}
	for name := range strings.SplitSeq(p, "/") {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	return nil
}

// Fold returns the key under which a file system that ignores case or Unicode form may take two names for one.
// It is the Unicode case folding of file systems (CaseFolding.txt, statuses C and F), but for which letter stands for those that
// are alike.
func Fold(name string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(name) {
		if whole, ok := folded[r]; ok {
			b.WriteString(whole)
		} else {
			b.WriteRune(alike(r))
		}
	}
	return norm.NFC.String(b.String())
}

// folded are the letters that fold to several and that NFD leaves whole.
var folded = map[rune]string{
	'ß': "ss", 'ẞ': "ss", 'ŉ': "ʼn", 'և': "եւ", 'ẚ': "aʾ",
	'ﬀ': "ff", 'ﬁ': "fi", 'ﬂ': "fl", 'ﬃ': "ffi", 'ﬄ': "ffl", 'ﬅ': "st", 'ﬆ': "st",
	'ﬓ': "մն", 'ﬔ': "մե", 'ﬕ': "մի", 'ﬖ': "վն", 'ﬗ': "մխ",
}

// alike returns one of the letters that differ from r only by case, the same for all of them: of ASCII the small one.
func alike(r rune) rune {
	first := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		first = min(first, next)
	}
	return unicode.ToLower(first)
}

// Numbered returns the name to try when the first n were taken: "name (1).ext" for a file, "name (1)" for a directory. It never
// exceeds [MaxName].
func Numbered(name string, dir bool, n int) string {
	if n == 0 {
		return name
	}
	ext := ""
	if !dir {
		ext = path.Ext(name)
		if stem := strings.TrimSuffix(name, ext); strings.HasSuffix(stem, ".tar") {
			ext = ".tar" + ext
		}
		// ".bashrc" is a name without extension, and what is longer than any real one is not one.
		if ext == name || len(ext) > 16 {
			ext = ""
		}
	}
	tail := fmt.Sprintf(" (%d)%s", n, ext)
	return shorten(strings.TrimSuffix(name, ext), MaxName-len(tail)) + tail
}

// PartName returns the name under which name lies until it is whole. The tag makes it unique to one transfer and one name of it.
func PartName(name, tag string) string {
	tail := "." + tag + partSuffix
	return shorten(name, MaxName-len(tail)) + tail
}

// IsPart reports whether name is one that [PartName] gives.
func IsPart(name string) bool { return strings.HasSuffix(name, partSuffix) }

const partSuffix = ".nigh-part"

// shorten cuts s to at most n bytes at the edge of a rune.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
