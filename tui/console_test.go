package tui

import (
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// On the Linux console a frame has the columns that it has elsewhere: what it would draw wider or narrower is replaced.
func TestOneColumn(t *testing.T) {
	for _, tt := range []struct{ frame, want string }{
		{"", ""},
		{"plain\r\nlines", "plain\r\nlines"},
		{"\x1b[1mgröße\x1b[m ─│█▒·↑", "\x1b[1mgröße\x1b[m ─│█▒·↑"},
		{"日本 x", "???? x"},
		{"e\u0301te\u0301 ö\u0323", "ete ö"},
		{"\x1b[2m日\x1b[m", "\x1b[2m??\x1b[m"},
		{"a🦊b", "a??b"},
		{"한글ｱ", "?????"},
	} {
		if got := oneColumn(tt.frame); got != tt.want || ansi.StringWidth(got) != ansi.StringWidth(tt.frame) {
			t.Errorf("%q gives %q, want %q", tt.frame, got, tt.want)
		}
	}
}
