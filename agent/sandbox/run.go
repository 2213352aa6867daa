package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxPrograms = 64               // programs that the broker may be told of
	maxRunTime  = 10 * time.Minute // of one program, whatever is asked for
	maxSaid     = 400              // bytes of what a program says of its failure: the last ones
	runAnswer   = 512              // bytes: outcome, and the words for it
)

// How a program did not end well; the text of an error that wraps one says more.
var (
	ErrNotStarted = errors.New("it does not start")
	ErrTooLong    = errors.New("it took too long")
	ErrUnwell     = errors.New("it failed")
)

// outcomes are those of a run as they cross the wire.
var outcomes = []error{nil, ErrNotStarted, ErrTooLong, ErrUnwell}

// Run runs a program with its arguments, an absolute path first, and with what stdin holds on its standard input; it blocks until it
// has ended, or ctx has. Not through a shell, in a group of processes that is ended with it, without capabilities; its output
// goes nowhere. Within a sandbox the broker runs it, outside of the rules, and none but those of [Rules.Programs]; those that
// still run when the process or the broker ends are killed. The error wraps [ErrNotStarted], [ErrTooLong], [ErrUnwell], whose text ends
// with what the program said last, or [ErrBroker].
func Run(ctx context.Context, program, environ []string, stdin []byte, limit time.Duration) error {
	in, err := memory(stdin)
	if err != nil {
		return errors.Join(ErrNotStarted, err)
	}
	defer func() { _ = in.Close() }()
	s := entered.Load()
	if s == nil {
		ctx, cancel := context.WithTimeout(ctx, min(limit, maxRunTime))
		defer cancel()
		return ended(execute(ctx, program, environ, in))
	}
	return s.run(ctx, program, in, limit)
}

// run has the broker run a program.
func (s *Sandbox) run(ctx context.Context, program []string, in *os.File, limit time.Duration) error {
	i := slices.IndexFunc(s.programs, func(p []string) bool { return slices.Equal(p, program) })
	if i < 0 {
		return ErrNotStarted
	}
	answer := make([]byte, runAnswer)
	r := request{verb: verbRun, flags: uint32(i), mode: uint32(limit / time.Second), dirs: []int{int(in.Fd())}}
	if _, err := s.exchangeUntil(ctx, r, answer); err != nil {
		return err
	}
	return ended(binary.BigEndian.Uint32(answer), string(bytes.TrimRight(answer[4:], "\x00")))
}

func ended(outcome uint32, said string) error {
	if outcome == 0 || outcome >= uint32(len(outcomes)) {
		return nil
	}
	return &runError{outcomes[outcome], said}
}

type runError struct {
	is   error
	said string
}

func (e *runError) Error() string { return e.is.Error() + ": " + e.said }
func (e *runError) Unwrap() error { return e.is }

// memory returns a file that has text and is in no folder.
func memory(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("nigh", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "nigh")
	if _, err = f.Write(text); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		_ = f.Close()
	}
	return f, err
}

// execute runs a program until it ends or ctx does, and what it started with it.
func execute(ctx context.Context, program, environ []string, in *os.File) (outcome uint32, said string) {
	type end struct {
		outcome uint32
		said    string
	}
	over := make(chan end)
	go func() {
		// This thread is not used again: it gives up the capabilities that a program it starts would inherit, and the program
		// dies with it, should this process be killed.
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // before Linux 4.3 there are none
		words := &tail{}
		cmd := exec.CommandContext(ctx, program[0], program[1:]...)
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stderr, cmd.WaitDelay = environ, "/", in, words, time.Second
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		kill := func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
		cmd.Cancel = kill
		if err := cmd.Start(); err != nil {
			over <- end{1, err.Error()}
			return
		}
		err := cmd.Wait()
		_ = kill() // what it left behind
		switch {
		case err == nil || errors.Is(err, exec.ErrWaitDelay):
			over <- end{}
		case ctx.Err() != nil:
			over <- end{2, "it was killed"}
		default:
			over <- end{3, strings.TrimSpace(err.Error() + " " + strings.TrimSpace(string(words.last)))}
		}
	}()
	e := <-over
	return e.outcome, e.said
}

// tail keeps the last bytes that were written.
type tail struct{ last []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p[max(0, len(p)-maxSaid):]...)
	t.last = append([]byte(nil), t.last[max(0, len(t.last)-maxSaid):]...)
	return len(p), nil
}

// program takes one that may be run: a is the program and its arguments, b its environment, with NUL between them. After seal there
// are no more.
func (b *broker) program(r *request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed || len(b.programs) == maxPrograms {
		return unix.EACCES
	}
	b.programs, b.environ = append(b.programs, strings.Split(r.a, "\x00")), strings.Split(r.b, "\x00")
	return nil
}

func (b *broker) seal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed = true
}

// run runs a program that was told of before, and returns the answer.
func (b *broker) run(r *request) []byte {
	answer := make([]byte, 4, runAnswer)
	b.mu.Lock()
	known := b.sealed && r.flags < uint32(len(b.programs)) && len(r.dirs) == 1 && b.life.Err() == nil
	if known {
		b.running.Add(1)
		defer b.running.Done()
	}
	b.mu.Unlock()
	outcome, said := uint32(1), unix.EACCES.Error()
	if known {
		fd, err := unix.FcntlInt(uintptr(r.dirs[0]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			said = err.Error()
		} else {
			in := os.NewFile(uintptr(fd), "nigh")
			ctx, cancel := context.WithTimeout(b.life, min(time.Duration(r.mode)*time.Second, maxRunTime))
			outcome, said = execute(ctx, b.programs[r.flags], b.environ, in)
			cancel()
			_ = in.Close()
		}
	}
	binary.BigEndian.PutUint32(answer, outcome)
	answer = append(answer, said[:min(len(said), runAnswer-4)]...)
	return answer[:runAnswer]
}
