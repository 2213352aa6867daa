package wpa

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCoverage checks that COVERAGE.md classifies every test of hostap in it, and that the tests of ours that it names exist.
func TestCoverage(t *testing.T) {
	declared := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			declared[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("COVERAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z0-9]\w+`)
	for _, name := range ours.FindAllString(string(text), -1) {
		if !declared[name] {
			t.Errorf("there is no test %s", name)
		}
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| hostap") {
			continue
		}
		if len(cells) != 3 {
			t.Errorf("row with %d cells: %s", len(cells), line)
			continue
		}
		name, class, why := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		if rows[name] {
			t.Errorf("%s has two rows", name)
		}
		rows[name] = true
		switch {
		case class == "tested by us" && ours.MatchString(why):
		case class == "handled by the supplicant" && why != "":
		case class == "not applicable" && why != "":
		default:
			t.Errorf("%s is not classified: %q, %q", name, class, why)
		}
	}
	if len(rows) < 270 {
		t.Errorf("%d rows", len(rows))
	}
}
