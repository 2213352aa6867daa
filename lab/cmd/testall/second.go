package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// maxSecond is how many tests may have a second try. When more failed, something is broken.
const maxSecond = 8

// secondTry runs the tests that failed since the last call again, each alone, by the command that again makes of the package
// and of a pattern for -run. What passes then is counted so. Checks and whole packages that failed have no second try.
func secondTry(ctx context.Context, all *tally, again func(pkg, run string) *exec.Cmd) error {
	var tests []string // "package test", without subtests
	for _, f := range all.failures[all.settled:] {
		if pkg, test, ok := strings.Cut(f, " "); ok && strings.HasPrefix(test, "Test") {
			top, _, _ := strings.Cut(test, "/")
			if name := pkg + " " + top; !slices.Contains(tests, name) {
				tests = append(tests, name)
			}
		}
	}
	defer func() { all.settled = len(all.failures) }()
	if len(tests) > maxSecond {
		fmt.Fprintf(all.out, "%d tests failed: too many for a second try\n", len(tests))
		return nil
	}
	var errs []error
	for _, name := range tests {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(all.out, "== second try: %s\n", name)
		pkg, test, _ := strings.Cut(name, " ")
		one := newTally(all.out)
		one.behaviours = all.behaviours
		errs = append(errs, stream(ctx, again(pkg, "^"+regexp.QuoteMeta(test)+"$"), one.event))
		if one.failed == 0 && one.passed > 0 {
			all.forgive(name)
		}
	}
	return errors.Join(errs...)
}

// forgive counts a test and its subtests, which failed, as passed.
func (t *tally) forgive(name string) {
	t.failures = slices.DeleteFunc(t.failures, func(f string) bool {
		if f != name && !strings.HasPrefix(f, name+"/") {
			return false
		}
		t.failed--
		t.passed++
		return true
	})
	t.second = append(t.second, name)
}
