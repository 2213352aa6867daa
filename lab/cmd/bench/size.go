package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// exposureLine is the last line of systemd-analyze security.
var exposureLine = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// size looks at what is installed: the program, and the unit's sandbox.
func size(s *stage) []row {
	const (
		most     = 15_000_000
		exposure = 2.2
	)
	file, err := os.Stat(s.program)
	s.must(err)
	rows := []row{judge("the program, stripped", "≤ 15 MB", fmt.Sprintf("%.2f MB", float64(file.Size())/1e6), file.Size() <= most)}
	what, goal := "exposure of the unit", fmt.Sprintf("≤ %.1f", exposure)
	if _, err := exec.LookPath("systemd-analyze"); errors.Is(err, exec.ErrNotFound) {
		return append(rows, row{what, goal, "systemd-analyze is missing", notMeasured})
	}
	// Nothing is installed on this machine: all lies below a folder of ours. Systemd-analyze looks at what ExecStart names, which
	// is a path without that folder.
	destination, prefix := s.TempDir(), filepath.Join(s.TempDir(), "usr")
	install := exec.Command("systemd/install", "install")
	install.Env = append(os.Environ(), "DESTDIR="+destination, "PREFIX="+prefix, "BINARY="+s.program)
	if out, err := install.CombinedOutput(); err != nil {
		s.Fatalf("systemd/install: %v: %s", err, out)
	}
	s.must(os.Symlink(filepath.Join(destination, prefix), prefix))
	unit := filepath.Join(prefix, "lib/systemd/system/nigh@.service")
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unit).CombinedOutput()
	found := exposureLine.FindSubmatch(out)
	if found == nil {
		s.Fatalf("systemd-analyze security: %v: %s", err, out)
	}
	score, err := strconv.ParseFloat(string(found[1]), 64)
	s.must(err)
	return append(rows, judge(what, goal, string(found[1]), score <= exposure))
}
