package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script writes a program and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	good := script(t, `{ cat; echo "$#" "$1" "$HOME" "$SECRET"; pwd; } > `+out)
	t.Setenv("SECRET", "x")
	if err := Run(t.Context(), []string{good, "$(id)"}, []string{"HOME=/home/ana"}, []byte("{\"a\": 1}\n"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "{\"a\": 1}\n1 $(id) /home/ana \n/\n" {
		t.Errorf("the program found %q, %v", text, err)
	}
	for _, tt := range []struct {
		program []string
		limit   time.Duration
		is      error
		says    string
	}{
		{[]string{"/does/not/exist"}, time.Minute, ErrNotStarted, "no such file"},
		{[]string{out}, time.Minute, ErrNotStarted, "permission denied"},
		{[]string{script(t, "head -c 5000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 3")}, time.Minute, ErrUnwell, "exit status 3"},
		{[]string{script(t, "while :; do sleep 1; done")}, 50 * time.Millisecond, ErrTooLong, "killed"},
	} {
		err := Run(t.Context(), tt.program, nil, nil, tt.limit)
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || len(err.Error()) > maxSaid+100 {
			t.Errorf("%s: %v", tt.program, err)
		}
		if errors.Is(tt.is, ErrUnwell) && !strings.HasSuffix(err.Error(), "the end") {
			t.Errorf("it does not end with what the program said last: %v", err)
		}
	}
}

// gone waits until the process whose number is in the file has ended.
func gone(t *testing.T, file string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); ; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("a process that a program left behind does not end")
		}
		text, _ := os.ReadFile(file)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			continue // it is not written yet
		}
		if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
}

// What a program starts and leaves behind ends with it; and with whoever runs it.
func TestRunLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	left := script(t, "sleep 1000 >/dev/null 2>&1 & echo $! > "+file+".new; mv "+file+".new "+file)
	if err := Run(t.Context(), []string{left}, []string{"PATH=" + os.Getenv("PATH")}, nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	gone(t, file)
	waits := script(t, "sleep 1000 & echo $! > "+file+".new; mv "+file+".new "+file+"; wait")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() {
		over <- Run(ctx, []string{waits}, []string{"PATH=" + os.Getenv("PATH")}, nil, time.Minute)
	}()
	await(t, file)
	cancel()
	if err := <-over; !errors.Is(err, ErrTooLong) {
		t.Errorf("a run that is given up: %v", err)
	}
	gone(t, file)
}

// await waits for a file.
func await(t *testing.T, file string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for {
		if _, err := os.Stat(file); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(file + " does not appear")
		}
	}
}

// Through the broker: only what was told before, and nothing goes on when it ends.
func TestBrokerRunsWhatItWasTold(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, b := newSandbox(pair[0]), newBroker()
	served := make(chan struct{})
	go func() {
		b.serve(pair[1])
		b.stop()
		close(served)
	}()
	out := filepath.Join(t.TempDir(), "out")
	good := []string{script(t, "cat > "+out+".new; mv "+out+".new "+out), "a b", ""}
	bad := []string{script(t, "echo why >&2; exit 1")}
	slow := []string{script(t, "echo $$ > "+out+".new; mv "+out+".new "+out+"; sleep 1000")}
	run := func(program []string) error {
		in, err := memory([]byte("hello\n"))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		return s.run(t.Context(), program, in, time.Minute)
	}
	if err := run(good); !errors.Is(err, ErrNotStarted) {
		t.Errorf("before it was told: %v", err)
	}
	if err := s.tell(Rules{Programs: [][]string{good, bad, slow}, Environ: []string{"PATH=" + os.Getenv("PATH"), "X=1"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.tell(Rules{Programs: [][]string{{"/bin/sh"}}}); !errors.Is(err, unix.EACCES) {
		t.Errorf("told afterwards: %v", err)
	}
	if err := run(good); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "hello\n" {
		t.Errorf("the program found %q, %v", text, err)
	}
	if err := run(bad); !errors.Is(err, ErrUnwell) || !strings.HasSuffix(err.Error(), "exit status 1 why") {
		t.Errorf("one that fails: %v", err)
	}
	for _, r := range []request{{verb: verbRun, flags: 99, mode: 60, dirs: []int{0}}, {verb: verbRun, mode: 60}} {
		answer := make([]byte, runAnswer)
		if _, err := s.exchange(r, answer); err != nil || answer[3] != 1 {
			t.Errorf("%+v: %v, outcome %d", r, err, answer[3])
		}
	}
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	over := make(chan error)
	go func() { over <- run(slow) }()
	await(t, out)
	s.shut() // as when the agent is gone
	<-served
	gone(t, out)
	<-over
}
