package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"nigh/lab/vm"
)

// testPackage is a package with its tests compiled for the guest.
type testPackage struct {
	path   string // import path
	folder string
	module string // folder of its module, which tests may look around in
	binary string
	match  string   // regular expression of the tests that are made for the guest
	trees  []string // that they need in the guest
}

func testVerb(ctx context.Context, args []string) error {
	o := newOptions("test", 45*time.Minute)
	match := o.set.String("run", "", "run only the tests that match this regular expression")
	short := o.set.Bool("short", false, "pass -test.short")
	count := o.set.Int("count", 1, "run each test this often")
	limit := o.set.Duration("package-timeout", 20*time.Minute, "limit for one package's tests, after which it prints its goroutines")
	o.set.Bool("v", true, "the output is always that of go test -v")
	if err := o.parse(args, 1, -1); err != nil {
		return err
	}
	parts, err := prepare(ctx)
	if err != nil {
		return err
	}
	binaries, err := os.MkdirTemp("", "nigh-lab-bin-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(binaries) }() // some binaries too many below /tmp at worst
	packages, err := compile(ctx, binaries, o.set.Args())
	if err != nil {
		return err
	}
	folders := []string{binaries}
	for _, p := range packages {
		folders = append(folders, p.module)
		o.trees = append(o.trees, p.trees...)
	}
	g, err := o.boot(ctx, parts, folders...)
	if err != nil {
		return err
	}
	if *match != "" {
		for i := range packages {
			packages[i].match = *match
		}
	}
	return g.tests(packages, []string{
		"-test.v=test2json", fmt.Sprintf("-test.short=%v", *short), fmt.Sprintf("-test.count=%d", *count),
		"-test.timeout=" + limit.String(), "-test.paniconexit0",
	})
}

// compile builds a static test binary with the tag radio for each package that the patterns name, in that order.
func compile(ctx context.Context, target string, patterns []string) ([]testPackage, error) {
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-tags=radio", "-f={{.ImportPath}}\t{{.Dir}}\t{{.Module.Dir}}"}, patterns...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []testPackage
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 {
			return nil, fmt.Errorf("go list: %q", line)
		}
		path := fields[0]
		p := testPackage{path: path, folder: fields[1], module: fields[2], binary: filepath.Join(target, strings.ReplaceAll(path, "/", "-")+".test")}
		if err := goBuild(ctx, p.folder, "test", "-c", "-tags=radio", "-o", p.binary, "."); err != nil {
			return nil, err
		}
		if _, err := os.Stat(p.binary); err != nil {
			return nil, fmt.Errorf("%s has no tests", path)
		}
		if p.match, p.trees, err = radioTests(p.folder); err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	return packages, nil
}

var (
	// testName finds the declarations of tests.
	testName = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)
	// treeMark finds, in a line of its own, the name of a tree of vm.Trees that a file's tests need.
	treeMark = regexp.MustCompile(`(?m)^//lab:tree (\S+)$`)
)

// radioTests reads a folder's *_radio_test.go files and returns the regular expression of their tests, or of all where there
// are none, and the trees that they need. The other tests have run on the host, with the race detector, and some hang here:
// those of wpa's machine run it in a testing/synctest bubble, whose clock stands still while a goroutine waits for something
// outside of it. On the host, which has no radio, the machine's questions to nl80211 fail at once; in the guest they are
// answered, and it goes on waiting for the kernel inside the bubble.
func radioTests(folder string) (match string, trees []string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_radio_test.go"))
	if err != nil {
		return "", nil, err
	}
	var names []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", nil, err
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
		for _, m := range treeMark.FindAllSubmatch(text, -1) {
			if _, ok := vm.Trees[string(m[1])]; !ok {
				return "", nil, fmt.Errorf("%s: there is no tree %s", name, m[1])
			}
			trees = append(trees, string(m[1]))
		}
	}
	if len(names) == 0 {
		return "", trees, nil
	}
	return "^(" + strings.Join(names, "|") + ")$", trees, nil
}

// goBuild runs the go command so that what it builds needs nothing of the system it runs on.
func goBuild(ctx context.Context, folder string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// tally counts what tests of one package did.
type tally struct {
	passed, failed, skipped int
	failures, skips         []string // names; a skip with its reason
}

// tests runs the packages one after another and sums up.
func (g *guest) tests(packages []testPackage, flags []string) (err error) {
	defer g.close(&err)
	var all tally
	ok := true
	for _, p := range packages {
		start := time.Now()
		fmt.Fprintf(os.Stderr, "lab: testing %s\n", p.path)
		results := newResults(os.Stdout, p.path)
		convert, err := results.convert(g.ctx)
		if err != nil {
			return err
		}
		status, err := g.Run(g.ctx, vm.Command{Args: append([]string{p.binary, "-test.run=" + p.match}, flags...), Env: g.env, Dir: p.folder, Output: convert})
		if cerr := convert.Close(); err == nil {
			err = cerr
		}
		all.add(results.tally)
		if err != nil {
			all.print(os.Stdout)
			return fmt.Errorf("%s: %w", p.path, err)
		}
		verdict := "ok"
		switch {
		case status != 0 || results.failed > 0:
			verdict, ok = fmt.Sprintf("FAIL, exit status %d", status), false
		case results.passed == 0:
			verdict, ok = "FAIL, no test ran", false
		}
		fmt.Printf("lab: %s: %s, %.1f s\n", p.path, verdict, time.Since(start).Seconds())
	}
	all.print(os.Stdout)
	if !ok {
		return exitStatus(testsFailed)
	}
	return nil
}

func (t *tally) add(other tally) {
	t.passed += other.passed
	t.failed += other.failed
	t.skipped += other.skipped
	t.failures = append(t.failures, other.failures...)
	t.skips = append(t.skips, other.skips...)
}

func (t *tally) print(w io.Writer) {
	for _, name := range t.failures {
		fmt.Fprintf(w, "lab: failed: %s\n", name)
	}
	for _, skip := range t.skips {
		fmt.Fprintf(w, "lab: skipped: %s\n", skip)
	}
	fmt.Fprintf(w, "lab: %d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}

// results reads the events that go tool test2json makes out of a test binary's output.
type results struct {
	tally
	path   string
	screen io.Writer
	said   map[string][]string // of tests that have not ended, the last lines that may be the reason of a skip
}

func newResults(screen io.Writer, path string) *results {
	return &results{path: path, screen: screen, said: map[string][]string{}}
}

// event is one line of test2json: see go doc test2json.
type event struct {
	Action string
	Test   string
	Output string
}

// converter is the input of a running test2json.
type converter struct {
	io.WriteCloser
	wait func() error
}

// Close ends the input and waits until every event was read.
func (c *converter) Close() error {
	return errors.Join(c.WriteCloser.Close(), c.wait())
}

// convert starts test2json and a goroutine that reads its events; both end with Close.
func (r *results) convert(ctx context.Context) (*converter, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-p", r.path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	read := make(chan error, 1)
	go func() { read <- r.read(out) }()
	return &converter{in, func() error {
		err := <-read
		return errors.Join(err, cmd.Wait())
	}}, nil
}

func (r *results) read(from io.Reader) error {
	for events := json.NewDecoder(from); ; {
		var e event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("test2json: %w", err)
		}
		r.event(e)
	}
}

func (r *results) event(e event) {
	switch {
	case e.Action == "output":
		fmt.Fprint(r.screen, e.Output)
		r.said[e.Test] = append(r.said[e.Test], e.Output)
		if n := len(r.said[e.Test]); n > 4 {
			r.said[e.Test] = slices.Delete(r.said[e.Test], 0, n-4)
		}
	case e.Test == "":
		// The package's own end: its exit status says it.
	case e.Action == "pass":
		r.passed++
	case e.Action == "fail":
		r.failed++
		r.failures = append(r.failures, r.path+" "+e.Test)
	case e.Action == "skip":
		r.skipped++
		r.skips = append(r.skips, r.path+" "+e.Test+": "+reason(r.said[e.Test]))
	}
	if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
		delete(r.said, e.Test)
	}
}

// reason is the last line a skipped test printed that is not the framework's own, without the place in the source.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") || line == "" {
			continue
		}
		if place, text, ok := strings.Cut(line, ": "); ok && strings.Contains(place, ".go:") {
			line = text
		}
		return line
	}
	return "no reason given"
}
