package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"nigh/lab/radio"
)

// write gives a test binary's output to the real test2json in pieces of any size, as it comes from the guest.
func write(t *testing.T, r *results, text string) {
	t.Helper()
	in, err := r.convert(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []byte(text) {
		if _, err := in.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestResults reads what a real test binary prints.
func TestResults(t *testing.T) {
	const marked = "\x16=== RUN   TestA\n" +
		"    a_test.go:3: --- PASS: not a result\n" +
		"noise without an end of line\x16--- PASS: TestA (0.01s)\n" +
		"\x16=== RUN   TestB\n    b_test.go:9: needs a: second radio\n\x16--- SKIP: TestB (0.00s)\n" +
		"\x16=== RUN   TestC\n\x16=== RUN   TestC/one\n    c_test.go:1: broken\n" +
		"\x16--- FAIL: TestC (0.00s)\n    \x16--- FAIL: TestC/one (0.00s)\n" +
		"\x16FAIL\n"
	var screen bytes.Buffer
	all := newReport(&screen, false, false)
	j := job{testPackage: &testPackage{path: "nigh/x"}}
	r := all.begin(j)
	write(t, r, marked)
	all.took(r, time.Second, 1, nil)
	if all.end([]job{j, j}) {
		t.Error("a failed test is taken for a passed one")
	}
	for _, want := range []string{
		"failed: nigh/x TestC/one\n", "skipped: nigh/x TestB: needs a: second radio\n", "lab: 1 passed, 2 failed, 1 skipped\n",
		"--- PASS: TestA (0.01s)\n", "lab: nigh/x: FAIL, 1.0 s\n",
	} {
		if s := screen.String(); strings.Contains(s, "\x16") || strings.Count(s, want) != 1 {
			t.Errorf("not once %q in\n%s", want, s)
		}
	}
}

// TestEndOfJob has a test's own word and its binary's exit status agree and not, and guests that end under it.
func TestEndOfJob(t *testing.T) {
	const passed = "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.01s)\n\x16PASS\n"
	dead := errors.New("guest failed: kernel panic")
	for name, tt := range map[string]struct {
		output string
		status int
		err    error
		ok     bool
		says   string
	}{
		"passed":                 {passed, 0, nil, true, ""},
		"passed twice":           {passed + passed, 0, nil, true, ""},
		"failed, then passed":    {strings.Replace(passed, "PASS", "FAIL", 1) + passed, 1, nil, false, ""},
		"left a goroutine":       {passed + "goleak: found unexpected goroutines\n", 1, nil, false, "goleak: found unexpected goroutines"},
		"main refuses":           {"main refuses\n", 3, nil, false, "exit status 3"},
		"panic":                  {"\x16=== RUN   TestA\npanic: boom\n", 2, nil, false, "panic: boom"},
		"did not run":            {"PASS\n", 0, nil, false, "no test ran"},
		"took its guest with it": {"\x16=== RUN   TestA\nlast words\n", 0, dead, false, "kernel panic"},
		"skipped":                {strings.Replace(passed, "--- PASS", "--- SKIP", 1), 0, nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var screen bytes.Buffer
			all := newReport(&screen, true, true)
			j := job{testPackage: &testPackage{path: "nigh/x"}, test: "TestA", cell: radio.Cell{Channels: 2}}
			r := all.begin(j)
			write(t, r, tt.output)
			all.took(r, time.Second, tt.status, tt.err)
			if all.end([]job{j}) != tt.ok {
				t.Errorf("should be %v:\n%s", tt.ok, screen.String())
			}
			if !strings.Contains(screen.String(), tt.says) {
				t.Errorf("does not say %q:\n%s", tt.says, screen.String())
			}
			// Who reads the events must come to the same end.
			ends := map[string]string{}
			for line := range strings.Lines(screen.String()) {
				var e event
				if err := json.Unmarshal([]byte(line), &e); err != nil || e.Package != "nigh/x@channels=2" {
					t.Fatalf("%v: %s", err, line)
				}
				if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
					ends[e.Test] = e.Action
				}
			}
			want := map[bool]string{true: "pass", false: "fail"}[tt.ok]
			if ends[""] != want || name != "skipped" && ends["TestA"] == "pass" != tt.ok && name != "failed, then passed" {
				t.Errorf("events end with %v", ends)
			}
		})
	}
}

// TestJobs shares out a package's tests by what they need.
func TestJobs(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"a_radio_test.go": "//go:build radio\n\npackage a\n\nfunc TestA(t *testing.T) {}\n\nfunc TestB(t *testing.T) {}\n",
		"b_radio_test.go": "//go:build radio\n\n//lab:systemd\n//lab:tree wpasupplicant-2.11\n\npackage a\n\nfunc TestC(t *testing.T) {}\n",
		"c_test.go":       "package a\n\nfunc TestHost(t *testing.T) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests, trees, err := radioTests(folder)
	if err != nil || !slices.Equal(trees, []string{"wpasupplicant-2.11"}) {
		t.Fatal(trees, err)
	}
	packages := []testPackage{{path: "nigh/a", tests: tests}}
	for match, want := range map[string]string{
		"":          "nigh/a TestA ^TestA$ false, nigh/a TestB ^TestB$ false, nigh/a TestC ^TestC$ true",
		"A|C":       "nigh/a TestA ^TestA$ false, nigh/a TestC ^TestC$ true",
		"^TestB/x$": "nigh/a TestB ^TestB$/x$ false",
		"TestHost":  "nigh/a  TestHost false",
	} {
		o := &options{cells: []radio.Cell{{}}}
		jobs, err := o.jobs(packages, match)
		var got []string
		for _, j := range jobs {
			got = append(got, fmt.Sprintln(j.name(), j.test, j.match, j.systemd))
		}
		if s := strings.ReplaceAll(strings.TrimSpace(strings.Join(got, ", ")), "\n", ""); err != nil || s != want {
			t.Errorf("%q: %q, %v", match, s, err)
		}
	}
	o := &options{cells: []radio.Cell{{}, {LongNames: true}}}
	jobs, err := o.jobs(packages, "TestA")
	if err != nil || len(jobs) != 2 || jobs[1].name() != "nigh/a@names=long" {
		t.Errorf("%v, %v", jobs, err)
	}
	if _, err := o.jobs(packages, "("); err == nil {
		t.Error("an expression that is none was taken")
	}
	if err := os.WriteFile(filepath.Join(folder, "d_radio_test.go"), []byte("//lab:tree none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := radioTests(folder); err == nil {
		t.Error("a tree that does not exist was taken")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"nothing"}, {"run"}, {"test"}, {"test", "-nothing", "x"}, {"prepare", "x"}, {"shell", "x"}} {
		if err := dispatch(t.Context(), args); !errors.Is(err, exitStatus(wrongUsage)) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := dispatch(t.Context(), []string{"shell"}); err == nil || onTerminal() {
		t.Errorf("shell without a terminal: %v", err)
	}
}

// TestTerminal has a person at a terminal: size, keys, a new size, raw mode, and the exit status.
func TestTerminal(t *testing.T) {
	if os.Getenv("NIGH_LAB_VM") != "1" {
		t.Skip("boots virtual machines: set NIGH_LAB_VM=1")
	}
	lab := t.TempDir() + "/lab"
	if err := goBuild(t.Context(), "", "build", "-o", lab, "."); err != nil {
		t.Fatal(err)
	}
	script := `trap 'echo interrupted' INT; trap 'changed=1' WINCH; stty size; echo ready; until [ "$changed" ]; do sleep 0.2; done; stty size; read line; echo "got $line"; read line; echo "got $line"; tty; sleep 100; seq 2000; exit 5`
	// A shell is the session's first process, as at any terminal: the end of that one hangs the terminal up, which drops output
	// that nobody has read yet (pty_flush_buffer in Linux).
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `"$@"; status=$?; echo over; read -r line; exit $status`, "sh", lab, "run", "-t", "--", "bash", "-c", script)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	deadline := time.AfterFunc(5*time.Minute, func() { terminal.Close() })
	defer deadline.Stop()
	var seen bytes.Buffer
	await := func(text string) {
		t.Helper()
		piece := make([]byte, 1024)
		for !strings.Contains(seen.String(), text) {
			n, err := terminal.Read(piece)
			seen.Write(piece[:n])
			if err != nil {
				t.Fatalf("no %q before %v in %q", text, err, seen.String())
			}
		}
	}
	await("40 120\r\n")
	await("ready\r\n")
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 50, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	await("50 100\r\n")
	if _, err := terminal.WriteString("first\n"); err != nil {
		t.Fatal(err)
	}
	await("got first\r\n")
	if _, err := terminal.WriteString("second\n"); err != nil {
		t.Fatal(err)
	}
	await("got second\r\n")
	await("/dev/hvc0\r\n")
	// Ctrl-C ends the sleep and nothing else; what is printed last is not lost.
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	await("\r\n2000\r\n")
	await("over\r\n")
	if _, err := terminal.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 5 {
		t.Fatalf("%v: %q", err, seen.String())
	}
}
