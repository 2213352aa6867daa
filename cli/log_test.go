package cli

import (
	"testing"
	"time"

	"nigh/agent/control"
)

func TestNewLines(t *testing.T) {
	at := time.Date(1970, 1, 1, 0, 0, 7, 0, time.UTC)
	line := func(text string) control.LogLine {
		return control.LogLine{Time: at, Level: "INFO", Message: text}
	}
	texts := func(names string) (all []control.LogLine) {
		for _, name := range names {
			all = append(all, line(string(name)))
		}
		return all
	}
	for _, tt := range []struct{ seen, lines, want string }{
		{"", "abc", "abc"}, {"abc", "abc", ""}, {"abc", "abcd", "d"}, {"abc", "cde", "de"}, {"abc", "def", "def"}, {"aa", "aaa", ""}, {"a", "", ""},
	} {
		got := ""
		for _, l := range newLines(texts(tt.seen), texts(tt.lines)) {
			got += l.Message
		}
		if got != tt.want {
			t.Errorf("after %q, of %q: %q, want %q", tt.seen, tt.lines, got, tt.want)
		}
	}
}
