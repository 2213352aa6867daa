// Bench moves one large file and many small ones with nigh and with the tools people use today, all in one run, and prints
// what each took and how nigh compares. Make bench calls it.
//
//	bench [-n ROUNDS] [-only refs|nigh] [-nigh PROGRAM] [-size BYTES] [-files N]
//
// Both ends are on this machine, in two network namespaces joined by a veth pair, and share its processors; files go from
// tmpfs to tmpfs. In each round every tool moves the same data once, in turn, so that what else the machine does hits all
// alike; the table has the medians. What arrived is compared with what was sent, byte by byte, each time. Wall time runs
// from the start of the sending program until both ends are done. Processor time is that of each side's processes; memory
// is that of the largest process of a side. Needs root.
//
// Exit status 0 when all moved and was equal, whatever the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// measurement is what one tool took for one set of data.
type measurement struct {
	wall                   time.Duration
	senderCPU, receiverCPU time.Duration
	otherCPU               time.Duration // what the rest of the machine used meanwhile, with the kernel's own work
	senderRSS, receiverRSS int64         // bytes, largest process
	floorRSS               int64         // bytes, the least that can be measured
}

// tool is a way to bring a file or folder to the other side.
type tool struct {
	name string
	sets []string // names of the data it is run with
	// move brings source, a file or folder, to the other side, where it appears in the empty folder target under its own name.
	move func(ctx context.Context, b *bed, source, target string) (measurement, error)
}

func main() {
	rounds := flag.Int("n", 3, "`rounds`; the table has the medians")
	only := flag.String("only", "", "`refs` or nigh: leave the others out")
	program := flag.String("nigh", "bin/nigh", "the built `program`")
	size := flag.Int64("size", 1<<30, "`bytes` of the large file")
	files := flag.Int("files", 10000, "`number` of small files, 4 KiB each")
	flag.Parse()
	if *rounds < 1 || *size < 1 || *files < 1 || (*only != "" && *only != "refs" && *only != "nigh") || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, *rounds, *only, *program, *size, *files)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, rounds int, only, program string, size int64, files int) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: network namespaces and tmpfs")
	}
	b, err := newBed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	progress("making the data")
	sets, err := makeSets(b.path("data"), size, files)
	if err != nil {
		return err
	}
	var tools []tool
	if only != "nigh" {
		references, err := newReferences(b)
		if err != nil {
			return err
		}
		tools = append(tools, references...)
	}
	if only != "refs" {
		program, err := filepath.Abs(program)
		if err != nil {
			return err
		}
		pair, err := startAgents(ctx, b, program)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pair.stop()) }()
		tools = append(tools, tool{"nigh", []string{fileSet, treeSet}, pair.move})
	}

	results := map[string]map[string][]measurement{}
	for _, s := range sets {
		results[s.name] = map[string][]measurement{}
	}
	for round := range rounds {
		for _, s := range sets {
			for i := range tools {
				// Each round begins with another tool, so that none is always the one after the slow one.
				t := tools[(i+round)%len(tools)]
				m, ran, err := run(ctx, b, t, s)
				if err != nil {
					return fmt.Errorf("%s of %s: %w", t.name, s.name, err)
				}
				if ran {
					progress("round %d of %d, %s, %s: %.2f s", round+1, rounds, s.title, t.name, m.wall.Seconds())
					results[s.name][t.name] = append(results[s.name][t.name], m)
				}
			}
		}
	}
	fmt.Printf("Medians of %d rounds, %d processors, TCP %s.\n", rounds, runtime.NumCPU(), b.congestion)
	for _, s := range sets {
		report(os.Stdout, s, tools, results[s.name])
	}
	return nil
}

// run moves one set with one tool and compares.
func run(ctx context.Context, b *bed, t tool, s set) (m measurement, ran bool, err error) {
	for _, name := range t.sets {
		ran = ran || name == s.name
	}
	if !ran {
		return m, false, nil
	}
	target := b.path("target")
	if err := os.Mkdir(target, 0o700); err != nil {
		return m, false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("not done after 10 minutes"))
	defer cancel()
	floor, err := shrink()
	if err != nil {
		return m, false, err
	}
	before, err := busy()
	if err != nil {
		return m, false, err
	}
	if m, err = t.move(ctx, b, s.path, target); err != nil {
		return m, false, errors.Join(err, context.Cause(ctx))
	}
	after, err := busy()
	if err != nil {
		return m, false, err
	}
	m.floorRSS = floor
	m.otherCPU = max(0, after-before-m.senderCPU-m.receiverCPU)
	return m, true, equal(s.path, filepath.Join(target, filepath.Base(s.path)))
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
