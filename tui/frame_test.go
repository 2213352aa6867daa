package tui

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// checkFrame fails unless every line of the frame is exactly as wide as the
// terminal, by both ways of counting, there are as many as it has, and no
// escape but text attributes is in them.
func checkFrame(tb testing.TB, a *app) {
	tb.Helper()
	if err := frameFault(a); err != nil {
		tb.Fatalf("%v\n%q", err, a.View())
	}
}

func frameFault(a *app) error {
	lines := strings.Split(a.View(), "\n")
	if len(lines) != a.h {
		return fmt.Errorf("frame of %dx%d has %d lines", a.w, a.h, len(lines))
	}
	for i, l := range lines {
		if w, wc := ansi.StringWidth(l), ansi.StringWidthWc(l); w != a.w || wc != a.w {
			return fmt.Errorf("line %d of the frame of %dx%d is %d (%d) columns wide: %q", i+1, a.w, a.h, w, wc, l)
		}
		for rest := l; rest != ""; {
			c := rest[0]
			rest = rest[1:]
			if c == 0x1b {
				end := strings.IndexByte(rest, 'm')
				if !strings.HasPrefix(rest, "[") || end < 0 || strings.Trim(rest[1:end], "0123456789;") != "" {
					return fmt.Errorf("line %d has an escape that is not an attribute: %q", i+1, l)
				}
				rest = rest[end+1:]
			} else if c < ' ' || c == 0x7f {
				return fmt.Errorf("line %d has the control character %q: %q", i+1, c, l)
			}
		}
		if strings.HasSuffix(ansi.Strip(l), " ") && strings.Count(l, "\x1b[")%2 != 0 {
			return fmt.Errorf("line %d leaves an attribute on: %q", i+1, l)
		}
	}
	return nil
}

// golden compares text with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is missing: go test ./tui -update writes it", path)
	}
	if got != string(want) {
		t.Errorf("%s is not as drawn now (go test ./tui -update, then look at the difference):\n%s", path, ansi.Strip(got))
	}
}
