package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is a line of `go test -json`; cmd/test2json describes it.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// tally counts tests. A test with subtests is not counted beside them, unless it failed and none of them did.
type tally struct {
	passed, failed, skipped int
	withRadio               bool   // the step radio follows
	measured                bool   // what tests measured is printed
	only                    string // package below nigh whose radio tests are wanted; "" = all

	out        io.Writer
	behaviours *behaviours // while tests of behaviours run
	packages   map[string]*packageTally
	skips      []string // "package test: reason"
	failures   []string
	settled    int      // failures that have had their second try
	second     []string // "package test" that failed and then passed alone
	slow       []string // tests that took at least slowTest, since they were printed last
}

// slowTest is how long a test takes that others wait for.
const slowTest = 30 * time.Second

type packageTally struct {
	passed, failed, skipped int

	output map[string][]string // by test, "" for the package's own
	parent map[string]bool     // tests that have subtests
	broken map[string]bool     // tests with a failed subtest
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, packages: map[string]*packageTally{}}
}

// event takes one line of `go test -json`. Lines that are none, such as those of a failed build, are passed on.
func (t *tally) event(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		fmt.Fprintf(t.out, "%s", line)
		return
	}
	t.add(e)
}

func (t *tally) add(e event) {
	if e.Action == "build-output" {
		fmt.Fprint(t.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := t.packages[e.Package]
	if p == nil {
		p = &packageTally{output: map[string][]string{}, parent: map[string]bool{}, broken: map[string]bool{}}
		t.packages[e.Package] = p
	}
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			p.parent[e.Test[:i]] = true
		}
	case "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e, p)
		} else {
			t.endTest(e, p)
		}
	}
}

func (t *tally) endTest(e event, p *packageTally) {
	output := p.output[e.Test]
	delete(p.output, e.Test)
	if e.Action == "fail" {
		for name := e.Test; strings.Contains(name, "/"); {
			name = name[:strings.LastIndexByte(name, '/')]
			p.broken[name] = true
		}
		fmt.Fprint(t.out, strings.Join(output, ""))
	}
	t.behaviours.end(e)
	if e.Elapsed >= slowTest.Seconds() && !strings.Contains(e.Test, "/") {
		t.slow = append(t.slow, fmt.Sprintf("%4.0f s %s %s", e.Elapsed, e.Package, e.Test))
	}
	if t.measured && e.Action == "pass" {
		for _, line := range measurements(output) {
			fmt.Fprintf(t.out, "     %s %s", e.Test, line)
		}
	}
	if p.parent[e.Test] && (e.Action != "fail" || p.broken[e.Test]) {
		return
	}
	name := e.Package + " " + e.Test
	switch e.Action {
	case "pass":
		t.passed++
		p.passed++
	case "fail":
		t.failed++
		p.failed++
		t.failures = append(t.failures, name)
	case "skip":
		t.skipped++
		p.skipped++
		t.skips = append(t.skips, name+": "+reason(output))
	}
}

func (t *tally) endPackage(e event, p *packageTally) {
	if e.Action == "fail" && p.failed == 0 {
		// It did not build, its TestMain failed, it panicked or ran out of time.
		for name, output := range p.output {
			if name != "" {
				fmt.Fprint(t.out, strings.Join(output, ""))
			}
		}
		fmt.Fprint(t.out, strings.Join(p.output[""], ""))
		t.failed++
		p.failed++
		t.failures = append(t.failures, e.Package)
	}
	delete(t.packages, e.Package) // another step may run it again
	if p.passed+p.failed+p.skipped == 0 {
		return // no test files
	}
	word := "ok  "
	if p.failed > 0 {
		word = "FAIL"
	}
	fmt.Fprintf(t.out, "%s %s %.1f s: %d passed, %d failed, %d skipped\n", word, e.Package, e.Elapsed, p.passed, p.failed, p.skipped)
}

// position is how the testing package begins what Skip and Error say.
var position = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason picks what t.Skip said out of a test's output.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		if at := position.FindString(line); at != "" {
			said = append(said, strings.TrimSpace(line[len(at):]))
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, "; ")
}

// count counts a check that is not a test; complaint is empty when it passed.
func (t *tally) count(name, complaint string) {
	if complaint == "" {
		t.passed++
		fmt.Fprintf(t.out, "ok   %s\n", name)
		return
	}
	fmt.Fprintf(t.out, "FAIL %s\n%s\n", name, complaint)
	t.failed++
	t.failures = append(t.failures, name)
}

// fault counts a step that could not be run to its end.
func (t *tally) fault(step string, err error) {
	t.count("step "+step, err.Error())
}

// slowest prints the tests that took long, the slowest first.
func (t *tally) slowest() {
	slices.Sort(t.slow)
	for _, line := range slices.Backward(t.slow) {
		fmt.Fprintf(t.out, "     %s\n", line)
	}
	t.slow = nil
}

func (t *tally) summary() {
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(t.out, "%s:\n", title)
		for _, line := range lines {
			fmt.Fprintf(t.out, "  %s\n", line)
		}
	}
	list("Passed at the second try, alone", t.second)
	list("Failed", t.failures)
	list("Skipped", t.skips)
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}
