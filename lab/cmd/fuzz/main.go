// Fuzz runs every fuzz target of the repository for a time, one after another, and prints a line for each. Make fuzz calls
// it.
//
//	fuzz [-time 10m] [-parallel N] [-run PATTERN] [PACKAGE...]
//
// What a target finds lies in the package's testdata/fuzz, from where its ordinary test run repeats it. Exit status 0 only
// when no target found anything.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is one fuzz target.
type target struct{ pkg, name string }

func main() {
	each := flag.Duration("time", 10*time.Minute, "how long each target runs")
	parallel := flag.Int("parallel", 2, "processes of a target at once")
	pattern := flag.String("run", "", "regular `expression` that the names of targets must match")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	wanted, err := regexp.Compile(*pattern)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(2)
	}
	targets, err := list(ctx, packages)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
	failed := 0
	for _, t := range targets {
		if !wanted.MatchString(t.name) {
			continue
		}
		runs, out, err := t.run(ctx, *each, *parallel)
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "fuzz: interrupted")
			os.Exit(1)
		}
		if err != nil {
			failed++
			fmt.Printf("FAIL %s %s\n%s", t.pkg, t.name, out)
			continue
		}
		fmt.Printf("ok   %s %s: %d runs\n", t.pkg, t.name, runs)
	}
	if failed > 0 {
		fmt.Printf("%d of the targets found something\n", failed)
		os.Exit(1)
	}
}

// list finds the fuzz targets of packages, in order.
func list(ctx context.Context, packages []string) ([]target, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-list", "^Fuzz"}, packages...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -list: %w: %s%s", err, out, stderr.Bytes())
	}
	return parseList(string(out)), nil
}

// parseList reads what go test -list prints: the names of a package's targets, and after them the package.
func parseList(text string) (targets []target) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && fields[0] == "ok":
			for _, name := range names {
				targets = append(targets, target{fields[1], name})
			}
			names = nil
		}
	}
	return targets
}

// runsSaid finds how often a target had run, in its lines of progress.
var runsSaid = regexp.MustCompile(`execs: (\d+)`)

// run fuzzes a target and returns how often it ran, and what it printed last.
func (t target) run(ctx context.Context, each time.Duration, parallel int) (runs int, out string, err error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+each.String(),
		"-parallel="+strconv.Itoa(parallel), t.pkg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 0, "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	var last []string
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if m := runsSaid.FindStringSubmatch(lines.Text()); m != nil {
			runs, _ = strconv.Atoi(m[1]) // digits
			continue
		}
		if last = append(last, lines.Text()+"\n"); len(last) > 100 {
			last = last[1:]
		}
	}
	out, err = strings.Join(last, ""), cmd.Wait()
	if err != nil && strings.Contains(out, "context deadline exceeded") && !strings.Contains(out, "Failing input written") && ctx.Err() == nil {
		// The go command may take the end of the time, when it comes while an input runs, for a failure.
		err = nil
	}
	return runs, out, err
}
