package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestResults reads what a real test binary prints, through the real test2json.
func TestResults(t *testing.T) {
	const marked = "\x16=== RUN   TestA\n" +
		"    a_test.go:3: --- PASS: not a result\n" +
		"noise without an end of line\x16--- PASS: TestA (0.01s)\n" +
		"\x16=== RUN   TestB\n    b_test.go:9: needs a: second radio\n\x16--- SKIP: TestB (0.00s)\n" +
		"\x16=== RUN   TestC\n\x16=== RUN   TestC/one\n    c_test.go:1: broken\n" +
		"\x16--- FAIL: TestC (0.00s)\n    \x16--- FAIL: TestC/one (0.00s)\n" +
		"\x16FAIL\n"
	var screen bytes.Buffer
	r := newResults(&screen, "nigh/x")
	in, err := r.convert(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The guest's output comes in pieces of any size.
	for _, b := range []byte(marked) {
		if _, err := in.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if r.passed != 1 || r.failed != 2 || r.skipped != 1 {
		t.Errorf("counts %+v", r.tally)
	}
	var summary bytes.Buffer
	r.print(&summary)
	for _, want := range []string{"failed: nigh/x TestC/one\n", "skipped: nigh/x TestB: needs a: second radio\n", "lab: 1 passed, 2 failed, 1 skipped\n"} {
		if !strings.Contains(summary.String(), want) {
			t.Errorf("no %q in\n%s", want, summary.String())
		}
	}
	if s := screen.String(); strings.Contains(s, "\x16") || !strings.Contains(s, "--- PASS: TestA (0.01s)\n") {
		t.Errorf("screen %q", s)
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
	cmd := exec.CommandContext(t.Context(), lab, "run", "-t", "--", "bash", "-c", script)
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
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 5 {
		t.Fatalf("%v: %q", err, seen.String())
	}
}
