// Testall runs every test of the repository and counts them: formatting and vet, the tests of all packages with the race
// detector, those in network namespaces that have bounds on time, alone and without it, and those that need simulated radios
// in the lab's virtual machine. Make test calls it.
//
//	testall [-steps check,unit,netns,radio] [-test PACKAGE] [-timeout 80m]
//
// Of the radio tests, those of the behaviours that Wi-Fi Direct must show each get a line. The step matrix, which is not
// among those that run when none is named, runs some of them on every kind of radio, interface name and wpa_supplicant.
//
// Tests with simulated radios and many processes have deadlines that a busy machine may miss. One that failed is run once
// more, alone, and counts as passed if it passes then; the summary names it. When more than a few failed, that is no accident
// of time, and none is run again.
//
// The last lines are the tests that were skipped, each with its reason, and "N passed, N failed, N skipped". Exit status 0
// only when nothing failed. It starts nothing outside of what the tests themselves start.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// step is a part of the whole that can be run alone.
type step struct {
	name string
	run  func(context.Context, *tally) error
}

// steps in the order in which they run.
var steps = []step{
	{"check", check},
	{"unit", unit},
	{"netns", netns},
	{"radio", radio},
	{"matrix", matrix},
}

func main() {
	only := flag.String("steps", "check,unit,netns,radio", "comma-separated `names` of the steps to run")
	test := flag.String("test", "", "run the radio tests of only this `package`, such as wpa")
	limit := flag.Duration("timeout", 80*time.Minute, "time limit for everything")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("time limit of %v for all tests", *limit))
	defer cancel()

	wanted := strings.Split(*only, ",")
	for _, name := range wanted {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.name == name }) {
			fmt.Fprintf(os.Stderr, "testall: no step %q\n", name)
			os.Exit(2)
		}
	}
	all := newTally(os.Stdout)
	all.only = *test
	all.withRadio = slices.Contains(wanted, "radio")
	for _, s := range steps {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		start := time.Now()
		fmt.Printf("== %s\n", s.name)
		err := s.run(ctx, all)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if err != nil {
			all.fault(s.name, err)
		}
		fmt.Printf("== %s took %.0f s\n", s.name, time.Since(start).Seconds())
		if ctx.Err() != nil {
			break
		}
	}
	all.summary()
	if all.failed > 0 {
		os.Exit(1)
	}
}

// check looks at what needs no test to run.
func check(ctx context.Context, all *tally) error {
	names, err := output(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.go")
	if err != nil {
		return err
	}
	files := slices.DeleteFunc(strings.Split(names, "\x00"), func(name string) bool {
		_, err := os.Stat(name)
		return name == "" || err != nil // a file that was deleted and not yet committed so
	})
	if len(files) == 0 {
		return errors.New("no Go files: not in the repository")
	}
	unformatted, err := output(ctx, "gofmt", append([]string{"-l"}, files...)...)
	if err != nil {
		return err
	}
	all.count("gofmt", strings.TrimSpace(unformatted))
	// The tags add the files of the steps radio and netns.
	vet := exec.CommandContext(ctx, "go", "vet", "-tags=radio,netns", "./...")
	said, err := vet.CombinedOutput()
	if err == nil {
		said = nil
	} else if len(said) == 0 {
		said = []byte(err.Error())
	}
	all.count("go vet", strings.TrimSpace(string(said)))
	// A build of its own: the program that is given out has no metrics.
	said, err = exec.CommandContext(ctx, "go", "test", "-tags=metrics", "-run=^TestMetrics", "./agent").CombinedOutput()
	if err == nil && !strings.Contains(string(said), "no tests to run") {
		said = nil
	} else if len(said) == 0 {
		said = []byte(err.Error())
	}
	all.count("metrics", strings.TrimSpace(string(said)))
	return size(ctx, all)
}

// unit runs the tests of all packages on this machine.
func unit(ctx context.Context, all *tally) error {
	if os.Geteuid() != 0 {
		fmt.Println("not root: the tests in network namespaces will be skipped")
	}
	listed, err := output(ctx, "go", "list", "./...")
	if err != nil {
		return err
	}
	packages := strings.Fields(listed)
	if all.withRadio {
		packages = slices.DeleteFunc(packages, func(p string) bool { return slices.Contains(vmPackages, p) })
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-race", "-json", "-timeout=20m"}, packages...)...)
	err = stream(ctx, cmd, all.event)
	return errors.Join(err, secondTry(ctx, all, func(pkg, run string) *exec.Cmd {
		return exec.CommandContext(ctx, "go", "test", "-race", "-json", "-timeout=20m", "-run", run, pkg)
	}))
}

// testsFailed is the status of go test, and of the lab, when they ran the tests and some failed.
const testsFailed = 1

// output runs a program and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// stream runs cmd, which [exec.CommandContext] made, in a process group of its own, which is killed when ctx ends, and hands each line of its standard output
// to line. A status that says no more than "tests failed" is not an error: the events have said it. Other output goes to
// ours as it comes.
func stream(ctx context.Context, cmd *exec.Cmd, line func([]byte)) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	r := bufio.NewReader(out)
	for {
		text, err := r.ReadBytes('\n')
		if len(text) > 0 {
			line(text)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				fmt.Println("testall:", err)
			}
			break
		}
	}
	err = cmd.Wait()
	if exit, is := errors.AsType[*exec.ExitError](err); is && exit.ExitCode() == testsFailed {
		return nil
	}
	return err
}
