// Bench measures nigh: everything that its design sets a goal for, and beside the tools people use today, all in one run. Make
// bench calls it.
//
//	bench [-n ROUNDS] [-only SCENARIO,...] [-tools TOOL,...] [-radio] [-write] [-nigh PROGRAM] [-size BYTES] [-files N]
//
// It prints a table of the goals, with the figure of each and whether it is met, and one table for each set of data that nigh
// and the other tools move. With -write both go to table.md in the benchmark's folder, the bars to chart.svg beside it, and the
// goals into the README between its two marks.
//
// Everything is on this machine, in network namespaces, and shares its processors; files lie in memory. Nigh runs as built, as
// agents of their own that are asked by the command line and the local API. In each round every tool moves the same data once,
// in turn, so that what else the machine does hits all alike; the tables have the medians. What a tool has moved is compared with
// what was sent, byte by byte, each time. Wall time runs from the start of the sending program until both ends are done. Processor
// time is that of each side's processes. Memory is, of tools that run for one move only, that of the largest process of a side,
// and else that of all, with what they share counted once. Needs root.
//
// Exit status 0 when everything could be measured and was equal, whatever the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// run is what the flags say.
type run struct {
	rounds     int
	program    string // the built nigh
	size       int64  // of the large file
	files      int    // number of small ones
	tools      []string
	congestion string // TCP's congestion control
}

// scenarios measure the goals that are no comparison of tools, each on a stage of its own.
var scenarios = map[string]func(*stage) []row{
	"listed":   listed,
	"holders":  holders,
	"resume":   resume,
	"messages": messages,
	"rates":    rates,
	"memory":   memory,
	"idle":     idle,
	"size":     size,
}

// sets are the scenarios in which tools are compared.
var sets = []string{largeSet, smallSet, mixedSet}

func main() {
	var r run
	flag.IntVar(&r.rounds, "n", 5, "`rounds`; the tables have the medians")
	only := flag.String("only", "", "measure these `scenarios` only: "+strings.Join(append(slices.Clone(sets), slices.Sorted(maps.Keys(scenarios))...), ", "))
	tools := flag.String("tools", "", "compare these `tools` only, with semicolons between them")
	radio := flag.Bool("radio", false, "measure Wi-Fi Direct too, in the lab's virtual machine")
	write := flag.Bool("write", false, "write the tables, the chart, and the README's part")
	flag.StringVar(&r.program, "nigh", "bin/nigh", "the built `program`")
	flag.Int64Var(&r.size, "size", 1<<30, "`bytes` of the large file")
	flag.IntVar(&r.files, "files", 10000, "`number` of small files, 4 KiB each")
	flag.Parse()
	chosen, err := choose(*only)
	if err == nil && *write && (*only != "" || *tools != "") {
		err = errors.New("-write takes a whole run, without -only and -tools")
	}
	if err != nil || r.rounds < 1 || r.size < 1 || r.files < treeFolders || flag.NArg() > 0 {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: error:", err)
		}
		flag.Usage()
		os.Exit(2)
	}
	if *tools != "" {
		r.tools = strings.Split(*tools, ";")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	err = bench(ctx, r, chosen, *radio, *write)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// choose returns the scenarios that are to be played: all when none is named.
func choose(only string) (map[string]bool, error) {
	chosen := map[string]bool{}
	for _, name := range append(slices.Collect(maps.Keys(scenarios)), sets...) {
		chosen[name] = only == ""
	}
	if only == "" {
		return chosen, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		if _, ok := chosen[name]; !ok {
			return nil, fmt.Errorf("no scenario is named %q", name)
		}
		chosen[name] = true
	}
	return chosen, nil
}

func bench(ctx context.Context, r run, chosen map[string]bool, radio, write bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: network namespaces and tmpfs")
	}
	if r.program, err = filepath.Abs(r.program); err != nil {
		return err
	}
	if _, err := os.Stat(r.program); err != nil {
		return fmt.Errorf("nigh is not built: run make build: %w", err)
	}
	if r.congestion, err = congestionControl(); err != nil {
		return err
	}
	folder, unmount, err := mountTmpfs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount()) }()

	result := report{run: r, rows: map[string][]row{}}
	compared := slices.DeleteFunc(slices.Clone(sets), func(name string) bool { return !chosen[name] })
	if len(compared) > 0 {
		err := perform(ctx, r, "moves", folder, func(s *stage) { result.comparisons = compare(newBed(s), compared) })
		if err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(scenarios)) {
		if !chosen[name] {
			continue
		}
		progress("scenario %s", name)
		err := perform(ctx, r, name, folder, func(s *stage) { result.rows[name] = scenarios[name](s) })
		if err != nil {
			return err
		}
		for _, line := range result.rows[name] {
			progress("%s: %s (goal %s): %s", line.what, line.figure, line.goal, line.verdict)
		}
	}
	if radio {
		if result.rows["radio"], err = measureRadio(ctx, r.rounds); err != nil {
			return err
		}
	}
	result.print(os.Stdout)
	if !write {
		return nil
	}
	return result.write(".")
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
