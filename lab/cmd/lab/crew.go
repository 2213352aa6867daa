package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/lab/radio"
	"nigh/lab/vm"
)

// longVariable, when it is set, has tests take the time that a behaviour names where less shows nearly as much.
const longVariable = "NIGH_LONG"

// crew shares jobs among guests.
type crew struct {
	*options
	parts   *vm.Parts
	folders []string // of the host that the guests must see
	flags   []string // of every test binary
	limit   time.Duration
	report  *report
}

// run does all jobs.
func (c *crew) run(ctx context.Context, jobs []job, guests int) error {
	plain, systemd := make(chan job, len(jobs)), make(chan job, len(jobs))
	// The tests of a package with few tests take longest: with the many short ones last, all guests end at about the same time.
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b job) int { return len(a.tests) - len(b.tests) })
	for _, j := range jobs {
		if j.systemd {
			systemd <- j
		} else {
			plain <- j
		}
	}
	close(plain)
	close(systemd)
	work, ctx := errgroup.WithContext(ctx)
	for i := range min(guests, len(jobs)) {
		work.Go(func() error {
			// A guest has systemd or not. Who finds nothing left of the one kind boots another guest for the other.
			if i%2 == 1 {
				if err := c.work(ctx, systemd, true); err != nil {
					return err
				}
				return c.work(ctx, plain, false)
			}
			if err := c.work(ctx, plain, false); err != nil {
				return err
			}
			return c.work(ctx, systemd, true)
		})
	}
	return work.Wait()
}

// work does jobs in one guest after another: a test that takes its guest with it fails alone.
func (c *crew) work(ctx context.Context, queue <-chan job, systemd bool) (err error) {
	var g *guest
	end := func() {
		if g != nil {
			g.close(&err)
			g = nil
		}
	}
	defer end()
	for j := range queue {
		if g == nil {
			o := *c.options
			o.systemd = systemd
			if g, err = o.boot(ctx, c.parts, c.folders...); err != nil {
				g = nil
				return err
			}
		}
		err := c.do(ctx, g, j)
		if cause := context.Cause(ctx); cause != nil {
			return errors.Join(err, cause)
		}
		if errors.Is(err, vm.ErrGuest) {
			end()
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// do runs a test binary and reports what it did. An error of the guest is reported as the test's.
func (c *crew) do(ctx context.Context, g *guest, j job) error {
	if !c.report.events {
		fmt.Fprintf(os.Stderr, "lab: testing %s %s\n", j.name(), j.test)
	}
	// The test ends itself at its limit, unless the guest hangs.
	limit := c.limit + time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("test did not end within %v", limit))
	defer cancel()
	start := time.Now()
	r := c.report.begin(j)
	convert, err := r.convert(ctx)
	if err != nil {
		return err
	}
	status, err := g.Run(ctx, vm.Command{
		Args: append([]string{j.binary, "-test.run=" + j.match}, c.flags...), Dir: j.folder,
		Env: []string{radio.CellEnv + "=" + j.cell.String(), longVariable + "=" + os.Getenv(longVariable)}, Output: convert,
	})
	if cerr := convert.Close(); err == nil {
		err = cerr
	}
	c.report.took(r, time.Since(start), status, err)
	return err
}
