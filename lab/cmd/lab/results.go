package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// tally counts what tests did.
type tally struct {
	passed, failed, skipped int
	failures, skips         []string // names; a skip with its reason
}

// report is what becomes of all jobs.
type report struct {
	screen io.Writer
	events bool // print events instead of text
	gather bool // print a job's text when it ends, not as it comes

	mu       sync.Mutex
	packages map[string]*packageReport // by name
}

// packageReport sums up a package on one cell.
type packageReport struct {
	tally
	took time.Duration
}

func newReport(screen io.Writer, events, gather bool) *report {
	return &report{screen: screen, events: events, gather: gather, packages: map[string]*packageReport{}}
}

// event is one line of test2json: see go doc test2json.
type event struct {
	Time    time.Time `json:",omitzero"`
	Action  string
	Package string  `json:",omitempty"`
	Test    string  `json:",omitempty"`
	Elapsed float64 `json:",omitempty"` // seconds
	Output  string  `json:",omitempty"`
}

// results reads the events that go tool test2json makes out of a test binary's output.
type results struct {
	tally
	job    job
	report *report
	text   bytes.Buffer        // not yet on the screen
	said   map[string][]string // of tests that have not ended, the last lines that may be the reason of a skip
	loose  []string            // what the binary said outside of tests
	last   event               // the end of the job's own test, held back until the binary has ended
}

// saidLines bounds what is kept of a test's words for the reason of a skip, and looseLines those outside of tests.
const saidLines, looseLines = 4, 400

func (r *report) begin(j job) *results {
	return &results{job: j, report: r, said: map[string][]string{}}
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
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", r.job.name())
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
	ended := e.Action == "pass" || e.Action == "fail" || e.Action == "skip"
	switch {
	case e.Test == "" && e.Action == "output":
		r.loose = append(r.loose, e.Output)
		if n := len(r.loose); n > looseLines {
			r.loose = slices.Delete(r.loose, 0, n-looseLines)
		}
		if r.report.events && r.job.test != "" {
			return // shown if it turns out to matter
		}
	case e.Test == "":
		return // how the binary ended is said by its exit status
	case e.Action == "output":
		r.said[e.Test] = append(r.said[e.Test], e.Output)
		if n := len(r.said[e.Test]); n > saidLines {
			r.said[e.Test] = slices.Delete(r.said[e.Test], 0, n-saidLines)
		}
	case ended && e.Test == r.job.test:
		if r.last.Action != "" {
			r.count(r.last) // it runs several times
			r.show(r.last)
		}
		r.last = e
		return
	case ended:
		r.count(e)
	}
	r.show(e)
}

// count takes the end of a test.
func (r *results) count(e event) {
	name := r.job.name() + " " + e.Test
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		r.failures = append(r.failures, name)
	case "skip":
		r.skipped++
		r.skips = append(r.skips, name+": "+reason(r.said[e.Test]))
	}
	delete(r.said, e.Test)
}

// show prints an event or its text.
func (r *results) show(e event) {
	if r.report.events {
		line, err := json.Marshal(e)
		if err != nil {
			return // strings, a number and a time always can
		}
		r.report.mu.Lock()
		defer r.report.mu.Unlock()
		fmt.Fprintf(r.report.screen, "%s\n", line)
		return
	}
	if r.report.gather {
		r.text.WriteString(e.Output)
		return
	}
	fmt.Fprint(r.report.screen, e.Output)
}

// took ends the results of a job: how long it took, the binary's exit status, and an error when the guest has ended.
func (r *report) took(res *results, took time.Duration, status int, err error) {
	res.end(took, status, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if res.text.Len() > 0 {
		_, _ = res.text.WriteTo(r.screen) // as little can be done as for any line printed
	}
	p := r.packages[res.job.name()]
	if p == nil {
		p = &packageReport{}
		r.packages[res.job.name()] = p
	}
	p.add(res.tally)
	p.took += took
}

// end decides what became of the job's own test: it has passed only when the binary says so in both ways.
func (r *results) end(took time.Duration, status int, err error) {
	e := r.last
	why := ""
	switch {
	case err != nil:
		why = err.Error()
	case e.Action == "pass" && status != 0, e.Action == "" && r.failed == 0 && (status != 0 || r.passed == 0):
		why = fmt.Sprintf("exit status %d", status)
		if status == 0 {
			why = "no test ran"
		}
	}
	if why == "" && e.Action == "" {
		return // it was all of a package's tests, and each has said what became of it
	}
	if why != "" {
		e = event{Action: "fail", Package: r.job.name(), Test: r.job.test, Elapsed: took.Seconds()}
		if r.report.events {
			for _, line := range r.loose {
				r.show(event{Action: "output", Package: e.Package, Test: e.Test, Output: line})
			}
		}
		r.show(event{Action: "output", Package: e.Package, Test: e.Test, Output: "lab: " + why + "\n"})
	}
	r.count(e)
	r.show(e)
}

// end says what became of each package and of all, and whether all is well.
func (r *report) end(jobs []job) bool {
	var all tally
	ok := true
	var names []string
	for _, j := range jobs {
		if !slices.Contains(names, j.name()) {
			names = append(names, j.name())
		}
	}
	for _, name := range names {
		p := r.packages[name]
		if p == nil {
			ok = false // the lab failed before
			continue
		}
		all.add(p.tally)
		good := p.failed == 0 && p.passed > 0
		ok = ok && good
		if r.events {
			e := event{Action: map[bool]string{true: "pass", false: "fail"}[good], Package: name, Elapsed: p.took.Seconds()}
			if line, err := json.Marshal(e); err == nil {
				fmt.Fprintf(r.screen, "%s\n", line)
			}
			continue
		}
		verdict := "ok"
		switch {
		case p.failed > 0:
			verdict = "FAIL"
		case p.passed == 0:
			verdict = "FAIL, no test ran"
		}
		fmt.Fprintf(r.screen, "lab: %s: %s, %.1f s\n", name, verdict, p.took.Seconds())
	}
	if !r.events {
		all.print(r.screen)
	}
	return ok
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
