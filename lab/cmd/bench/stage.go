package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// stage is what a scenario runs on: the beds of package lab want a test, and it stands for one. A fault ends the scenario
// with an error, and what was to be cleaned up is.
type stage struct {
	testing.TB // nil: nothing of it is used but what is here
	run
	ctx    context.Context
	name   string
	folder string // on a tmpfs

	mu       sync.Mutex
	errs     []error
	cleanups []func()
	folders  int
}

// perform plays a scenario to its end and cleans up.
func perform(ctx context.Context, r run, name, folder string, play func(*stage)) error {
	s := &stage{run: r, ctx: ctx, name: name, folder: folder}
	// Fatal ends the goroutine that calls it.
	own := func(f func()) {
		ended := make(chan struct{})
		go func() { defer close(ended); f() }()
		<-ended
	}
	own(func() { play(s) })
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		own(last)
	}
	if err := errors.Join(s.errs...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *stage) Helper()                  {}
func (s *stage) Name() string             { return s.name }
func (s *stage) Context() context.Context { return s.ctx }
func (s *stage) Log(args ...any)          { progress("%s: %s", s.name, fmt.Sprint(args...)) }

func (s *stage) Logf(format string, args ...any) { s.Log(fmt.Sprintf(format, args...)) }

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *stage) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

func (s *stage) FailNow()                          { runtime.Goexit() }
func (s *stage) Error(args ...any)                 { s.fault(errors.New(fmt.Sprint(args...))) }
func (s *stage) Errorf(format string, args ...any) { s.fault(fmt.Errorf(format, args...)) }
func (s *stage) Fatal(args ...any)                 { s.Error(args...); s.FailNow() }
func (s *stage) Fatalf(format string, args ...any) { s.Errorf(format, args...); s.FailNow() }
func (s *stage) Skip(args ...any)                  { s.Fatal(args...) }
func (s *stage) Skipf(format string, args ...any)  { s.Fatalf(format, args...) }

// must ends the scenario when there is an error.
func (s *stage) must(err error) {
	if err == nil {
		return
	}
	if cause := context.Cause(s.ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	s.fault(err)
	s.FailNow()
}

// TempDir makes a folder that is empty, and removed at the end.
func (s *stage) TempDir() string {
	s.folders++
	dir := filepath.Join(s.folder, s.name+"-"+strconv.Itoa(s.folders))
	s.must(os.MkdirAll(dir, 0o700))
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.Error(err)
		}
	})
	return dir
}

// middle returns the middle value; of an even number of values the mean of the two in the middle.
func middle[T ~int64 | ~float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
