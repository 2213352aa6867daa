package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// lastBehaviour is the number of behaviours that Wi-Fi Direct must show on a real wpa_supplicant.
const lastBehaviour = 25

// behaviourTest finds the number and the name of a behaviour in a test's name. There may be several tests for one.
var behaviourTest = regexp.MustCompile(`^TestBehaviour(\d\d)(\w+)$`)

// outcome is what became of a behaviour's tests; the worst counts.
type outcome int

const (
	notRun outcome = iota
	passed
	skipped
	failed
)

func (o outcome) String() string {
	return []string{"-", "passed", "skipped", "FAILED"}[o]
}

// behaviours prints a line for each behaviour's test as it ends, and keeps what became of all.
type behaviours struct {
	out   io.Writer
	cells map[string]map[string]outcome // by cell and test; a second try replaces the first
}

// of is the worst of the outcomes of a behaviour's tests on a cell.
func (b *behaviours) of(cell string, number int) outcome {
	worst := notRun
	for test, o := range b.cells[cell] {
		if m := behaviourTest.FindStringSubmatch(test); m != nil && m[1] == fmt.Sprintf("%02d", number) {
			worst = max(worst, o)
		}
	}
	return worst
}

// end takes the end of a test. A nil b ignores it.
func (b *behaviours) end(e event) {
	m := behaviourTest.FindStringSubmatch(e.Test)
	if b == nil || m == nil {
		return
	}
	number, _ := strconv.Atoi(m[1]) // two digits
	o := map[string]outcome{"pass": passed, "fail": failed, "skip": skipped}[e.Action]
	_, cell, ok := strings.Cut(e.Package, "@")
	if !ok {
		cell = "default"
	}
	if b.cells[cell] == nil {
		b.cells[cell] = map[string]outcome{}
	}
	b.cells[cell][e.Test] = o
	where := ""
	if cell != "default" {
		where = "  " + cell
	}
	fmt.Fprintf(b.out, "%2d  %-40s %-7s %6.1f s%s\n", number, m[2], o, e.Elapsed, where)
}

// summary says what became of every behaviour on the default cell. One that did not run is a failure.
func (b *behaviours) summary(all *tally) {
	var ran, good int
	var missing []string
	for n := 1; n <= lastBehaviour; n++ {
		switch b.of("default", n) {
		case notRun:
			missing = append(missing, strconv.Itoa(n))
		case passed:
			ran++
			good++
		default:
			ran++
		}
	}
	fmt.Fprintf(b.out, "%d of %d behaviours ran, %d passed", ran, lastBehaviour, good)
	if len(missing) > 0 {
		fmt.Fprintf(b.out, "; %s did not run", strings.Join(missing, ", "))
	}
	fmt.Fprintln(b.out)
	for _, n := range missing {
		all.count("behaviour "+n, "it did not run")
	}
}

// matrixBehaviours are those that are run on every cell.
var matrixBehaviours = []int{3, 4, 7, 10, 17}

// matrixCells are all combinations of the four settings that cells differ in, without the default cell, which runs all
// behaviours.
func matrixCells() []string {
	var cells []string
	settings := []string{"p2pdevice=off", "channels=2", "names=long", "supplicant=2.11"}
	for set := 1; set < 1<<len(settings); set++ {
		var on []string
		for i, s := range settings {
			if set&(1<<i) != 0 {
				on = append(on, s)
			}
		}
		cells = append(cells, strings.Join(on, ","))
	}
	slices.SortStableFunc(cells, func(a, b string) int { return strings.Count(a, ",") - strings.Count(b, ",") })
	return cells
}

// matrix runs the matrix's behaviours on every cell but the default one, and prints what became of them as a table.
func matrix(ctx context.Context, all *tally) error {
	lab, err := buildLab(ctx)
	if err != nil {
		return err
	}
	var numbers []string
	for _, n := range matrixBehaviours {
		numbers = append(numbers, fmt.Sprintf("%02d", n))
	}
	args := []string{"-run", "^TestBehaviour(" + strings.Join(numbers, "|") + ")"}
	for _, cell := range matrixCells() {
		args = append(args, "-cell", cell)
	}
	all.behaviours = &behaviours{out: all.out, cells: map[string]map[string]outcome{}}
	err = labTests(ctx, all, lab, append(args, behaviourPackage)...)
	err = errors.Join(err, secondTry(ctx, all, func(pkg, run string) *exec.Cmd {
		name, cell, _ := strings.Cut(pkg, "@")
		return exec.CommandContext(ctx, lab, "test", "-json", "-timeout", "0", "-run", run, "-cell", cell, name)
	}))
	all.behaviours.table(all)
	all.behaviours = nil
	return err
}

// table prints cells by behaviours. A behaviour that did not run on a cell is a failure.
func (b *behaviours) table(all *tally) {
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "cell")
	for _, n := range matrixBehaviours {
		fmt.Fprintf(w, "\t%d", n)
	}
	fmt.Fprintln(w)
	for _, cell := range matrixCells() {
		fmt.Fprint(w, cell)
		for _, n := range matrixBehaviours {
			o := b.of(cell, n)
			fmt.Fprintf(w, "\t%s", o)
			if o == notRun {
				all.count(fmt.Sprintf("behaviour %d on %s", n, cell), "it did not run")
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // as little can be done as for any line printed
}
