package clean

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "report (1).pdf", "report (1).pdf"},
		{"unicode", "Ünïcødé 猫 ファイル", "Ünïcødé 猫 ファイル"},
		{"emoji", "❤️ 🚀", "❤️ 🚀"},
		{"CSI clear line", "evil\x1b[2K\x1b[1A\rok", `evil\x1b[2K\x1b[1A\x0dok`},
		{"C1 CSI as a rune", "a\u009b2Kb", `a\x9b2Kb`},
		{"C1 CSI as a byte", "a\x9b2Kb", `a\x9b2Kb`},
		{"OSC 52", "\x1b]52;c;AAAA\x07", `\x1b]52;c;AAAA\x07`},
		{"OSC 8", "\x1b]8;;http://x\x1b\\y", `\x1b]8;;http://x\x1b\y`},
		{"newline, tab, NUL, DEL", "a\nb\tc\x00d\x7f", `a\x0ab\x09c\x00d\x7f`},
		{"right-to-left override", "exe\u202egpj.txt", `exe\u202egpj.txt`},
		{"isolates and marks", "\u2066\u2069\u200e\u200f\u061c", `\u2066\u2069\u200e\u200f\u061c`},
		{"zero width", "a\u200bb\u200cc\u200dd\u2060e\ufefff", `a\u200bb\u200cc\u200dd\u2060e\ufefff`},
		{"soft hyphen", "a\u00adb", `a\xadb`},
		{"fillers", "\u3164\u115f\uffa0", `\u3164\u115f\uffa0`},
		{"line separators", "\u2028\u2029\u0085", `\u2028\u2029\x85`},
		{"tags", "\U000e0041", `\U000e0041`},
		{"private use", "\ue000", `\ue000`},
		{"invalid UTF-8", "a\xff\xc3(", `a\xff\xc3(`},
		{"surrogate bytes", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"real replacement character", "\ufffd", "\ufffd"},
		{"backslash stays", `a\b`, `a\b`},
		{"empty", "", ""},
	} {
		if got := Text(c.in); got != c.want {
			t.Errorf("%s: Text(%q) = %q, want %q", c.name, c.in, got, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "hello", "hello"},
		{"line breaks and tabs stay", "a\n\tb\n\n", "a\n\tb\n\n"},
		{"CR LF is a line break", "a\r\nb\r\n", "a\nb\n"},
		{"CR alone acts on the line", "safe\revil\r\r\nx", "safe\\x0devil\\x0d\nx"},
		{"other breaks", "a\vb\fc\u2028d\u0085e", `a\x0bb\x0cc\u2028d\x85e`},
		{"escapes", "a\n\x1b[2J\u202eb\x00\xff", "a\n\\x1b[2J\\u202eb\\x00\\xff"},
		{"what looks like an escape", `a\x0ab`, `a\x0ab`},
		{"unicode", "größe 👍\nñ", "größe 👍\nñ"},
		{"empty", "", ""},
	} {
		got := Lines(c.in)
		if got != c.want {
			t.Errorf("%s: Lines(%q) = %q, want %q", c.name, c.in, got, c.want)
		}
		if again := Lines(got); again != got {
			t.Errorf("%s: Lines of %q is %q", c.name, got, again)
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(got, "\t", ""), "\n") {
			if Text(line) != line {
				t.Errorf("%s: the line %q is not safe", c.name, line)
			}
		}
	}
}

func TestTextBoundsCombiningMarks(t *testing.T) {
	in := "a" + strings.Repeat("\u0301", 200)
	got := Text(in)
	if n := strings.Count(got, "\u0301"); n != maxMarks {
		t.Errorf("%d marks shown in a row, want %d", n, maxMarks)
	}
}

func TestName(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"kitchen", 32, "kitchen"},
		{"  kitchen \n", 32, "kitchen"},
		{"kitchen", 7, "kitchen"},
		{"kitchen", 6, "kitch…"},
		{"猫猫猫猫", 3, "猫猫…"},
		{"ab\x1bcd", 5, "ab…"},
		{"\x1b", 3, "…"},
		{"\x1b", 4, `\x1b`},
		{"a b c", 3, "a…"},
		{"", 5, ""},
		{"abc", 0, ""},
		{"abc", 1, "…"},
		{strings.Repeat("x", 1<<20), 8, "xxxxxxx…"},
		{strings.Repeat("\u0301", 1<<20), 12, strings.Repeat("\u0301", 8) + "…"},
	} {
		if got := Name(c.in, c.max); got != c.want {
			t.Errorf("Name(%.20q, %d) = %q, want %q", c.in, c.max, got, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"a", "\x1b[2K", "\u202e", "\xff\xfe", "a\u0301", `\x1b`} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, max int) {
		got := Text(s)
		if !utf8.ValidString(got) {
			t.Fatalf("Text(%q) is not UTF-8", s)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
				t.Fatalf("Text(%q) = %q holds %U", s, got, r)
			}
		}
		if again := Text(got); again != got {
			t.Fatalf("Text is not stable: %q, then %q", got, again)
		}
		lines := Lines(s)
		if again := Lines(lines); again != lines {
			t.Fatalf("Lines is not stable: %q, then %q", lines, again)
		}
		for _, r := range lines {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)) {
				t.Fatalf("Lines(%q) = %q holds %U", s, lines, r)
			}
		}
		if max > 1<<16 {
			max = 1 << 16
		}
		if n := utf8.RuneCountInString(Name(s, max)); n > 0 && n > max {
			t.Fatalf("Name(%q, %d) has %d characters", s, max, n)
		}
	})
}
