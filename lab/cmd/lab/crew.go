package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/lab/radio"
	"nigh/lab/vm"
)

// crew shares jobs among guests.
type crew struct {
	*options
	parts   *vm.Parts
	folders []string // of the host that the guests must see
	flags   []string // of every test binary
	limit   time.Duration
	report  *report
}

// run does all jobs: those for guests with systemd after the others, since a guest is one or the other.
func (c *crew) run(ctx context.Context, jobs []job, guests int) error {
	for _, systemd := range []bool{false, true} {
		queue := make(chan job, len(jobs))
		for _, j := range jobs {
			if j.systemd == systemd {
				queue <- j
			}
		}
		close(queue)
		work, ctx := errgroup.WithContext(ctx)
		for range min(guests, len(queue)) {
			work.Go(func() error { return c.work(ctx, queue, systemd) })
		}
		if err := work.Wait(); err != nil {
			return err
		}
	}
	return nil
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
		Env: []string{radio.CellEnv + "=" + j.cell.String()}, Output: convert,
	})
	if cerr := convert.Close(); err == nil {
		err = cerr
	}
	c.report.took(r, time.Since(start), status, err)
	return err
}
