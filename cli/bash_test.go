package cli

import (
	"strings"
	"testing"
)

func TestParseBash(t *testing.T) {
	const breaks = " \t\n\"'@><=;|&(:"
	for _, c := range []struct {
		line, words, current string
		quote                byte
		from                 int
		closed               bool
	}{
		{"nigh", "", "nigh", 0, 0, false},
		{"nigh ", "nigh", "", 0, 0, false},
		{`nigh get a\ b:pho`, "nigh|get", "a b:pho", 0, 4, false},
		{`nigh get "a b:p`, "nigh|get", "a b:p", '"', 0, false},
		{`nigh get a:"b c`, "nigh|get", "a:b c", '"', 2, false},
		{`nigh send 'a;b' "c\"d" --to=A`, `nigh|send|a;b|c"d`, "--to=A", 0, 5, false},
		{`nigh get "a b":p`, "nigh|get", "a b:p", 0, 4, true},
		{`nigh get 'a\b`, "nigh|get", `a\b`, '\'', 0, false},
		{`nigh get "a\b\$`, "nigh|get", `a\b$`, '"', 0, false},
		{`nigh get $(reboot) \`, "nigh|get|$(reboot)", `\`, 0, 0, false},
		{`nigh '' `, "nigh|", "", 0, 0, false},
	} {
		l := parseBash(c.line, breaks)
		if strings.Join(l.words, "|") != c.words || l.current != c.current || l.quote != c.quote || l.from != c.from || l.closed != c.closed {
			t.Errorf("%s: %+v", c.line, l)
		}
	}
	for _, c := range []struct {
		quote      byte
		text, want string // "" = it cannot be typed there
	}{
		{0, `a b$(c)é~`, `a\ b\$\(c\)é\~`}, {'\'', `a b$(c)`, `a b$(c)`}, {'\'', "it's", ""},
		{'"', "a\"b$(c)`\\", "a\\\"b\\$(c)\\`\\\\"}, {'"', "a!", ""}, {0, "a!", `a\!`},
	} {
		got, ok := bashLine{quote: c.quote}.quoted(c.text)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%q in %q: %s, %v", c.text, c.quote, got, ok)
		}
	}
}
