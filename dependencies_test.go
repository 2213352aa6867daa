package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// moduleRow is a row of DEPENDENCIES.md.
type moduleRow struct{ version, in, why, advisories string }

// moduleRows reads the table: every line that begins with "| " and is neither its head nor the rule under it.
func moduleRows(t *testing.T, text string) map[string]moduleRow {
	t.Helper()
	rows := map[string]moduleRow{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| module |") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 {
			t.Errorf("a row has %d columns: %s", len(cells), line)
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if _, twice := rows[cells[0]]; twice {
			t.Errorf("%s is listed twice", cells[0])
		}
		rows[cells[0]] = moduleRow{cells[1], cells[2], cells[3], cells[4]}
	}
	return rows
}

// modulesOf returns the modules that packages stand on.
func modulesOf(t *testing.T, args ...string) map[string]bool {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	found := map[string]bool{}
	for module := range strings.FieldsSeq(string(out)) {
		found[module] = true
	}
	return found
}

// DEPENDENCIES.md lists what go.mod demands, with its version, where it is, why, and what is known against it.
func TestDependenciesAreListed(t *testing.T) {
	raw, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(raw, &mod); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("DEPENDENCIES.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := moduleRows(t, string(text))
	program, metrics := modulesOf(t, "."), modulesOf(t, "-tags=metrics", ".")
	tests := modulesOf(t, "-test", "-tags=radio,netns,probe,metrics", "./...")
	for _, m := range mod.Require {
		row, ok := rows[m.Path]
		if !ok {
			t.Errorf("%s %s is not listed", m.Path, m.Version)
			continue
		}
		delete(rows, m.Path)
		in := "not built"
		switch {
		case program[m.Path]:
			in = "program"
		case metrics[m.Path]:
			in = "metrics"
		case tests[m.Path]:
			in = "tests"
		}
		if row.version != m.Version || row.in != in {
			t.Errorf("%s is %s in %s, listed as %s in %s", m.Path, m.Version, in, row.version, row.in)
		}
		if row.why == "" || row.advisories == "" {
			t.Errorf("%s is listed without a reason, or without what is known against it", m.Path)
		}
	}
	for path := range rows {
		t.Errorf("%s is listed and not in go.mod", path)
	}
	for path := range tests {
		if path != "nigh" && !strings.Contains(string(raw), `"`+path+`"`) {
			t.Errorf("%s is built and not in go.mod", path)
		}
	}
	architecture, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil || !strings.Contains(string(architecture), "DEPENDENCIES.md") {
		t.Errorf("ARCHITECTURE.md does not lead to the list: %v", err)
	}
}
