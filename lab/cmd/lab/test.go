package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"nigh/lab/radio"
	"nigh/lab/vm"
)

// testPackage is a package with its tests compiled for the guest.
type testPackage struct {
	path   string // import path
	folder string
	module string // folder of its module, which tests may look around in
	binary string
	tests  []radioTest // that are made for the guest; none = all of them may be
	trees  []string    // that they need in the guest
}

// radioTest is a test function.
type radioTest struct {
	name    string
	systemd bool // needs a guest with systemd as first process
}

// job is one run of a test binary in a guest.
type job struct {
	*testPackage
	test    string // "" = what match finds
	match   string // regular expression for the test binary
	systemd bool
	cell    radio.Cell
}

// name is that of the job's package, with the cell unless it is the default one.
func (j job) name() string {
	if j.cell == (radio.Cell{}) {
		return j.path
	}
	return j.path + "@" + j.cell.String()
}

func testVerb(ctx context.Context, args []string) error {
	o := newOptions("test", 60*time.Minute)
	match := o.set.String("run", "", "run only the tests that match this regular expression")
	short := o.set.Bool("short", false, "pass -test.short")
	count := o.set.Int("count", 1, "run each test this often")
	limit := o.set.Duration("test-timeout", 15*time.Minute, "limit for one test, after which it prints its goroutines")
	guests := o.set.Int("guests", 1, "share the tests among so many guests")
	events := o.set.Bool("json", false, "print events as go test -json does")
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
	jobs, err := o.jobs(packages, *match)
	if err != nil {
		return err
	}
	folders := []string{binaries}
	for _, p := range packages {
		folders = append(folders, p.module)
		o.trees = append(o.trees, p.trees...)
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("time limit of %v for the whole run", o.timeout))
		defer cancel()
		o.timeout = 0 // not for each guest anew
	}
	c := &crew{
		options: o, parts: parts, folders: folders, limit: *limit, report: newReport(os.Stdout, *events, *guests > 1),
		flags: []string{
			"-test.v=test2json", fmt.Sprintf("-test.short=%v", *short), fmt.Sprintf("-test.count=%d", *count),
			"-test.timeout=" + limit.String(), "-test.paniconexit0",
		},
	}
	err = c.run(ctx, jobs, *guests)
	if ok := c.report.end(jobs); err == nil && !ok {
		err = exitStatus(testsFailed)
	}
	return err
}

// jobs gives one job for each test on each cell. A test is matched by the part of the expression before the first slash.
func (o *options) jobs(packages []testPackage, match string) ([]job, error) {
	top, sub, hasSub := strings.Cut(match, "/")
	wanted, err := regexp.Compile(top)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	if hasSub {
		sub = "/" + sub
	}
	var jobs []job
	for _, cell := range o.cells {
		for i := range packages {
			p := &packages[i]
			found := false
			for _, t := range p.tests {
				if wanted.MatchString(t.name) {
					found = true
					jobs = append(jobs, job{p, t.name, "^" + t.name + "$" + sub, o.systemd || t.systemd, cell})
				}
			}
			if !found {
				jobs = append(jobs, job{p, "", match, o.systemd, cell})
			}
		}
	}
	return jobs, nil
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
		if p.tests, p.trees, err = radioTests(p.folder); err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		return nil, errors.New("no packages")
	}
	return packages, nil
}

var (
	// testName finds the declarations of tests.
	testName = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)
	// systemdMark, on a line of its own, says that a file's tests need a guest with systemd as its first process.
	systemdMark = regexp.MustCompile(`(?m)^//lab:systemd$`)
	// treeMark finds, in a line of its own, the name of a tree of vm.Trees that a file's tests need.
	treeMark = regexp.MustCompile(`(?m)^//lab:tree (\S+)$`)
)

// radioTests reads a folder's *_radio_test.go files for their tests, and for the trees that these need. The other tests have
// run on the host, with the race detector, and some hang here: those of wpa's machine run it in a testing/synctest bubble,
// whose clock stands still while a goroutine waits for something outside of it. On the host, which has no radio, the machine's
// questions to nl80211 fail at once; in the guest they are answered, and it waits for the kernel inside the bubble.
func radioTests(folder string) (tests []radioTest, trees []string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_radio_test.go"))
	if err != nil {
		return nil, nil, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		systemd := systemdMark.Match(text)
		for _, m := range testName.FindAllSubmatch(text, -1) {
			tests = append(tests, radioTest{string(m[1]), systemd})
		}
		for _, m := range treeMark.FindAllSubmatch(text, -1) {
			if _, ok := vm.Trees[string(m[1])]; !ok {
				return nil, nil, fmt.Errorf("%s: there is no tree %s", name, m[1])
			}
			trees = append(trees, string(m[1]))
		}
	}
	return tests, trees, nil
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
