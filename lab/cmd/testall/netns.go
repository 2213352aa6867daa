package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// netnsFiles have the tag netns: tests with bounds on time, which run one after another and without the race detector.
const netnsFiles = "*_netns_test.go"

// testDeclaration finds the declarations of tests.
var testDeclaration = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)

// declaredTests reads a folder's files that match a pattern for the tests that they declare.
func declaredTests(folder, pattern string) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, m := range testDeclaration.FindAllSubmatch(text, -1) {
			// The package's own set-up is not a test.
			if test := string(m[1]); test != "TestMain" {
				names = append(names, test)
			}
		}
	}
	return names, nil
}

// netns runs the tests in network namespaces that have bounds on time, each package alone.
func netns(ctx context.Context, all *tally) error {
	if os.Geteuid() != 0 {
		fmt.Println("not root: the tests in network namespaces will be skipped")
	}
	packages, err := taggedPackages(ctx, "netns", netnsFiles, "")
	if err != nil {
		return err
	}
	all.measured = true
	defer func() { all.measured = false }()
	var failed []error
	for _, p := range packages {
		tests, err := declaredTests(p.Dir, netnsFiles)
		if err != nil || len(tests) == 0 {
			failed = append(failed, err)
			continue
		}
		failed = append(failed, stream(ctx, netnsTest(ctx, p.ImportPath, "^("+strings.Join(tests, "|")+")$"), all.event))
	}
	failed = append(failed, secondTry(ctx, all, func(pkg, run string) *exec.Cmd { return netnsTest(ctx, pkg, run) }))
	return errors.Join(failed...)
}

func netnsTest(ctx context.Context, pkg, run string) *exec.Cmd {
	return exec.CommandContext(ctx, "go", "test", "-tags=netns", "-json", "-count=1", "-parallel=1", "-timeout=15m", "-run", run, pkg)
}

// measurement finds what a test logs of what it measured: a line of moderate length with a number and its unit.
var measurement = regexp.MustCompile(`^\s*\S+\.go:\d+: (.{0,240}\d ?(?:s|ms|µs|MiB|MB|packets)\b.{0,240}\n)$`)

// maxMeasurements are printed of one test.
const maxMeasurements = 12

// measurements picks them out of a test's output.
func measurements(output []string) []string {
	var found []string
	for _, line := range output {
		if m := measurement.FindStringSubmatch(line); m != nil && !slices.Contains(found, m[1]) && len(found) < maxMeasurements {
			found = append(found, m[1])
		}
	}
	return found
}
