package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Where -write puts what was found, below the top folder of the source.
const (
	tableFile = "lab/cmd/bench/table.md"
	chartFile = "lab/cmd/bench/chart.svg"
	readme    = "README.md"

	// Between these marks the README has the chart and the goals of the last run that was written.
	beginMark = "<!-- bench -->"
	endMark   = "<!-- /bench -->"
)

// write puts the tables, the chart and the README's part into the source at top.
func (r report) write(top string) error {
	var tables, goals bytes.Buffer
	fmt.Fprint(&tables, "# What `make bench` has measured\n\n")
	r.print(&tables)
	fmt.Fprintf(&goals, "![How fast each tool moves one large file, many small ones, and a mixed folder](%s)\n\n%s\n\n", chartFile, r.machine())
	r.goalTable(&goals)
	picture, err := chart(r.comparisons)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(top, readme))
	if err != nil {
		return err
	}
	text, err = between(text, goals.String())
	if err != nil {
		return fmt.Errorf("%s: %w", readme, err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(top, tableFile), tables.Bytes(), 0o644),
		os.WriteFile(filepath.Join(top, chartFile), picture, 0o644),
		os.WriteFile(filepath.Join(top, readme), text, 0o644),
	)
}

// between replaces what a text has between the two marks.
func between(text []byte, part string) ([]byte, error) {
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return nil, fmt.Errorf("it lacks the marks %s and %s", beginMark, endMark)
	}
	return []byte(before + beginMark + "\n" + part + endMark + after), nil
}
