package tui

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// maxText is the longest text from outside that is kept, in bytes. No screen
// shows as much.
const maxText = 4096

// printable returns s as it may be drawn: valid UTF-8 on one line, no control,
// bidirectional or invisible character, and no cluster whose width terminals
// disagree about, because one such cluster shifts the rest of its line. What is
// left out is shown as "?".
func printable(s string, asciiOnly bool) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		c, _ := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		s = s[len(c):]
		switch {
		case c == "…":
			b.WriteString("...")
		case asciiOnly && !isASCII(c), !drawable(c), ansi.StringWidth(c) != ansi.StringWidthWc(c):
			b.WriteByte('?')
		default:
			b.WriteString(c)
		}
	}
	return b.String()
}

// oneColumn returns a frame without what the Linux console would not draw as wide as other terminals do, which would break the
// frame: it gives a column to every character that joins with others, and its list of those that take two is its own. What is
// joined to a character is left out, and the rest is shown as a "?" for each column. Characters that the console only has no
// glyph for stay.
func oneColumn(frame string) string {
	var b strings.Builder
	for frame != "" {
		r, n := utf8.DecodeRuneInString(frame)
		if r < utf8.RuneSelf && (len(frame) == n || frame[n] < utf8.RuneSelf) { // characters that join are beyond ASCII
			b.WriteString(frame[:n])
			frame = frame[n:]
			continue
		}
		c, w := ansi.FirstGraphemeCluster(frame, ansi.GraphemeWidth)
		frame = frame[len(c):]
		if r < ' ' || w == 1 && sameOnConsole(r) {
			b.WriteString(c[:n])
		} else {
			b.WriteString(strings.Repeat("?", w))
		}
	}
	return b.String()
}

// sameOnConsole reports whether a character is in a range where all have one column everywhere, but for those that join.
func sameOnConsole(r rune) bool {
	return r < 0x1100 || r >= 0x2000 && r < 0x2300 || r >= 0x2500 && r < 0x2700
}

// isASCII reports whether s is printable ASCII.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// drawable reports whether every character of a grapheme cluster is graphic, and
// the cluster takes up room.
func drawable(cluster string) bool {
	n := 0
	for _, r := range cluster {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return false
		}
		n++
	}
	return n <= 4 && ansi.StringWidth(cluster) > 0
}

// scrub passes every string that v points to through printable, however deep it
// lies, so that a field added to the API later cannot be forgotten.
func scrub(v reflect.Value, asciiOnly bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scrub(v.Elem(), asciiOnly)
		}
	case reflect.Struct:
		if _, ok := v.Interface().(time.Time); ok {
			return
		}
		for i := range v.NumField() {
			scrub(v.Field(i), asciiOnly)
		}
	case reflect.Slice:
		for i := range v.Len() {
			scrub(v.Index(i), asciiOnly)
		}
	case reflect.String:
		if s := v.String(); s != "" {
			v.SetString(printable(s, asciiOnly))
		}
	}
}

// width is the number of columns that s takes.
func width(s string) int {
	if isASCII(s) {
		return len(s) // most text, and the general way is slow
	}
	return ansi.StringWidth(s)
}

// cut shortens s to at most w columns, with "..." where something is missing
// and there is room to say so.
func cut(s string, w int) string {
	if w <= 0 {
		return ""
	}
	if width(s) <= w {
		return s
	}
	tail := "..."
	if w < 8 {
		tail = ""
	}
	if isASCII(s) {
		return s[:w-len(tail)] + tail
	}
	return ansi.Truncate(s, w, tail)
}

// fit makes s exactly w columns wide.
func fit(s string, w int) string {
	n := width(s)
	if n > w {
		s = cut(s, w)
		n = width(s)
	}
	return s + strings.Repeat(" ", max(0, w-n))
}

// fitRight is fit with the text at the right end.
func fitRight(s string, w int) string {
	s = cut(s, w)
	return strings.Repeat(" ", max(0, w-width(s))) + s
}

// centre puts s in the middle of w columns.
func centre(s string, w int) string {
	s = cut(s, w)
	return fit(strings.Repeat(" ", (w-width(s))/2)+s, w)
}

// cutMiddle shortens a file name or path in its middle, so that its end stays.
func cutMiddle(s string, w int) string {
	n := width(s)
	if n <= w {
		return s
	}
	if w < 12 {
		return cut(s, w)
	}
	tail := (w - 3) / 2
	return ansi.Truncate(s, w-3-tail, "") + "..." + ansi.TruncateLeft(s, n-tail, "")
}

// wrap breaks plain text into lines of at most w columns: at spaces and after
// slashes, but not at hyphens, which short IDs and interface names have.
func wrap(s string, w int) []string {
	if s == "" || w <= 0 {
		return nil
	}
	const hyphen = "\u2011" // the one that does not break
	s = ansi.Wrap(strings.ReplaceAll(s, "-", hyphen), w, "/")
	return strings.Split(strings.ReplaceAll(s, hyphen, "-"), "\n")
}

// bytesText writes a number of bytes as people do, with decimal units.
func bytesText(n int64) string {
	if n < 0 {
		return "-"
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), "kMGTPE"
	i := -1
	for f >= 999.5 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, units[i])
	}
	return fmt.Sprintf("%.0f %cB", f, units[i])
}

// rateText writes bytes a second.
func rateText(r float64) string {
	if !(r > 0) || math.IsInf(r, 0) {
		return "-"
	}
	if mb := r / 1e6; mb >= 0.1 && mb < 999.5 {
		return fmt.Sprintf("%.1f MB/s", mb)
	}
	return bytesText(int64(min(r, math.MaxInt64/2))) + "/s"
}

// agoText says how long ago something was, given in seconds; -1 is never.
func agoText(s float64) string {
	switch {
	case !(s >= 0):
		return "-"
	case s < 5:
		return "now"
	case s < 60:
		return fmt.Sprintf("%d s", int(s))
	case s < 3600:
		return fmt.Sprintf("%d min", int(s/60))
	case s < 86400:
		return fmt.Sprintf("%d h", int(s/3600))
	case s < 86400*10000:
		return fmt.Sprintf("%d d", int(s/86400))
	}
	return "long"
}

// clockText writes a time span given in seconds as 0:42, 6:10 or 1:02:03.
func clockText(s float64) string {
	if !(s >= 0) || s > 359999 {
		return "-"
	}
	n := int(s + 0.5)
	if n >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
	}
	return fmt.Sprintf("%d:%02d", n/60, n%60)
}

// count writes a number with its word: "1 file", "3 files".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// idLines writes a DeviceID in lines of at most w columns, broken between its
// groups.
func idLines(id string, w int) []string {
	if width(id) <= w {
		return []string{id}
	}
	var lines []string
	line := ""
	groups := strings.Split(id, "-")
	for i, g := range groups {
		if i < len(groups)-1 {
			g += "-"
		}
		if line != "" && width(line)+width(g) > w {
			lines = append(lines, line)
			line = ""
		}
		line += cut(g, w)
	}
	return append(lines, line)
}
