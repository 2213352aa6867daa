// Package clean makes text that came from outside safe to show: device names,
// file names, messages and error texts of peers, records from the network. It is
// the one place that escapes; the agent calls it before anything reaches the
// control API, so the terminal programs never meet a raw byte of a peer.
//
// It does not decide whether a name may be used on the disk (package receive
// does), and its result is for reading, not for finding the file again.
package clean

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is the longest run of combining marks that is shown. Real scripts
// need fewer; longer runs are drawn over the lines above and below.
const maxMarks = 8

// invisible holds the characters that Unicode counts as graphic but that draw
// nothing, so that two different names would look the same. The characters of
// category Cf (bidirectional controls, zero-width joiners, tags) are not graphic
// and need no entry.
var invisible = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x034F, Hi: 0x034F, Stride: 1}, // combining grapheme joiner
		{Lo: 0x115F, Hi: 0x1160, Stride: 1}, // Hangul fillers
		{Lo: 0x17B4, Hi: 0x17B5, Stride: 1}, // Khmer inherent vowels
		{Lo: 0x180B, Hi: 0x180F, Stride: 1}, // Mongolian selectors
		{Lo: 0x2800, Hi: 0x2800, Stride: 1}, // blank braille pattern
		{Lo: 0x3164, Hi: 0x3164, Stride: 1}, // Hangul filler
		{Lo: 0xFE00, Hi: 0xFE0E, Stride: 1}, // variation selectors, but for the emoji one
		{Lo: 0xFFA0, Hi: 0xFFA0, Stride: 1}, // halfwidth Hangul filler
	},
	R32: []unicode.Range32{
		{Lo: 0xE0100, Hi: 0xE01EF, Stride: 1}, // variation selectors supplement
	},
}

// Text returns s with everything that could act on a terminal, hide or reorder
// the text around it written out: control characters (C0, DEL, C1, so every
// escape sequence, tab and line break), line and paragraph separators,
// bidirectional controls, zero-width and other invisible characters, private and
// unassigned code points, and bytes that are not UTF-8. They appear as \x1b,
// \u202e, \U000e0041; a backslash in s stays as it is. The result is valid UTF-8
// on one line, and Text of it is itself.
func Text(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	each(s, func(shown string) bool {
		b.WriteString(shown)
		return true
	})
	return b.String()
}

// Lines returns s as [Text] does, but keeps its line breaks and tabs: a line break
// is "\n", also where s has CR LF. What shows it must mark the lines after the first
// as belonging to it, for they can say anything. Lines of the result is itself.
func Lines(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	each(strings.ReplaceAll(s, "\r\n", "\n"), func(shown string) bool {
		switch shown {
		case `\x0a`:
			shown = "\n"
		case `\x09`:
			shown = "\t"
		}
		b.WriteString(shown)
		return true
	})
	return b.String()
}

// Name returns s as [Text] does, without white space at its ends and cut to at
// most max characters (runes); a cut is shown by a last "…". An escape is never
// cut in two. Name returns "" when nothing is left or max is not positive.
func Name(s string, max int) string {
	if max <= 0 {
		return ""
	}
	// A rune is at most 4 bytes and shows at least one character: bytes past this
	// can only be cut off, so a hostile megabyte costs nothing.
	const slack = 8
	if limit := (max + slack) * utf8.UTFMax; len(s) > limit {
		s = strings.TrimSpace(s[:limit]) + "…"
	}
	s = strings.TrimSpace(s)
	var parts []string
	n := 0
	each(s, func(shown string) bool {
		parts = append(parts, shown)
		n += utf8.RuneCountInString(shown)
		return n <= max
	})
	if n <= max {
		return strings.Join(parts, "")
	}
	for len(parts) > 0 && n > max-1 {
		last := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		n -= utf8.RuneCountInString(last)
	}
	return strings.TrimSpace(strings.Join(parts, "")) + "…"
}

// plain reports whether s is printable ASCII, which is most text.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// each calls fn with what is shown for each character of s, until fn returns
// false.
func each(s string, fn func(shown string) bool) {
	marks := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		shown := s[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			shown = fmt.Sprintf(`\x%02x`, s[i])
		case unicode.IsGraphic(r) && !unicode.Is(invisible, r) && marks <= maxMarks:
		case r <= 0xff:
			shown = fmt.Sprintf(`\x%02x`, r)
		case r <= 0xffff:
			shown = fmt.Sprintf(`\u%04x`, r)
		default:
			shown = fmt.Sprintf(`\U%08x`, r)
		}
		if !fn(shown) {
			return
		}
		i += size
	}
}
