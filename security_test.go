package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources calls fn with every Go file of the repository.
func sources(t *testing.T, fn func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		fn(path, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSecurityTable checks that every row of SECURITY.md names tests that exist, and nothing but tests.
func TestSecurityTable(t *testing.T) {
	declared := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	sources(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(text, -1) {
				declared[m[1]] = true
			}
		}
	})
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	threats := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| threat |") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 2 {
			t.Errorf("a row of %d cells: %s", len(cells), line)
			continue
		}
		threat := strings.TrimSpace(cells[0])
		if threat == "" || threats[threat] {
			t.Errorf("%q has no or two rows", threat)
		}
		threats[threat] = true
		for name := range strings.SplitSeq(cells[1], ",") {
			if name = strings.TrimSpace(name); !declared[name] {
				t.Errorf("%s: there is no test %q", threat, name)
			}
		}
	}
	// As many as the record has; one that is taken out is missed.
	const lines = 45
	if len(threats) < lines {
		t.Errorf("%d rows, want at least %d", len(threats), lines)
	}
}

// TestNoWebPages checks that nothing of ours writes web pages: a name in one would have to be escaped in another way than on a terminal.
func TestNoWebPages(t *testing.T) {
	page := regexp.MustCompile(`text/html|"html"|"html/template"|<(?i:html|script|body)\b`)
	if !page.MatchString(`w.Header().Set("Content-Type", "text/html")`) {
		t.Fatal("the measure does not know a web page")
	}
	sources(t, func(path, text string) {
		if found := page.FindString(text); found != "" && !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, "lab/") {
			t.Errorf("%s has %q", path, found)
		}
	})
}
