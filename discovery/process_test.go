package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/lab"
	"nigh/lab/links"
)

// A Discovery looks its addresses up from many goroutines, so one in a network namespace must be a process of its own: the
// test binary itself, started with this variable set to its Config.
const processVariable = "NIGH_DISCOVERY_CONFIG"

// userVariable makes the process give up all rights before it begins, by becoming this user.
const userVariable = "NIGH_DISCOVERY_USER"

// late is how long a test waits for what never comes if the code is wrong. The goals of mdns.md are checked apart from it.
const late = 15 * time.Second

// The zeroconf library's announcing goroutine outlives Shutdown by up to four seconds; doc.go says so.
var libraryLeak = goleak.IgnoreAnyFunction("github.com/grandcat/zeroconf.(*Server).probe")

// parallel, when positive, is how many tests may run at once, whatever the command line says.
var parallel int

func TestMain(m *testing.M) {
	if config := os.Getenv(processVariable); config != "" {
		if err := process(config, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if parallel > 0 {
		if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, libraryLeak)
}

// report is one line from the process.
type report struct {
	Event      *Event            `json:",omitempty"`
	Status     []InterfaceStatus `json:",omitempty"`
	At         time.Time         // when it was told
	Files      int               // open descriptors
	Goroutines int
	Resident   int           // bytes of memory
	CPU        time.Duration // of the processors, so far
	Done       string        // the command that was carried out
}

// process runs a Discovery on the links that the real monitor finds, by commands from in: "status", "txt" with strings in
// JSON, "stop".
func process(config string, in io.Reader, out io.Writer) error {
	var c Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	if user, err := strconv.Atoi(os.Getenv(userVariable)); err == nil {
		// With the user the capabilities go.
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(user), syscall.Setuid(user)); err != nil {
			return err
		}
	}
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	RedirectLog(c.Logger)
	d, err := New(c)
	if err != nil {
		return err
	}
	reports := make(chan report)
	printed := make(chan error, 1)
	go func() {
		enc := json.NewEncoder(out)
		var err error
		for r := range reports {
			if e := enc.Encode(r); err == nil {
				err = e
			}
		}
		printed <- err
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 2)
	ready := make(chan struct{})
	go func() { ended <- d.Run(ctx) }()
	go func() { ended <- follow(ctx, d, sync.OnceFunc(func() { close(ready) })) }()
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for e := range d.Events() {
			reports <- report{Event: &e, At: time.Now()}
		}
	}()
	reports <- report{Done: "begun", At: time.Now()}
	<-ready
	for scan := bufio.NewScanner(in); scan.Scan() && scan.Text() != "stop"; {
		if raw, ok := strings.CutPrefix(scan.Text(), "txt "); ok {
			var txt []string
			if err := errors.Join(json.Unmarshal([]byte(raw), &txt), d.SetTXT(txt)); err != nil {
				return err
			}
		}
		// Who gave up rights may not look.
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		r := report{Done: scan.Text(), Status: d.Status(), Files: len(files), Goroutines: runtime.NumGoroutine(), At: time.Now()}
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		r.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		statm, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(statm), new(int), &r.Resident); err != nil {
			return err
		}
		r.Resident *= os.Getpagesize()
		reports <- r
	}
	cancel()
	if err := errors.Join(<-ended, <-ended); err != nil {
		return err
	}
	<-forwarded
	reports <- report{Done: "stop"}
	close(reports)
	if err := <-printed; err != nil {
		return err
	}
	return goleak.Find(libraryLeak)
}

// follow gives d the links, as the agent does.
func follow(ctx context.Context, d *Discovery, done func()) error {
	return links.Follow(ctx, func(usable []links.Link) {
		var list []Interface
		for _, l := range usable {
			list = append(list, Interface(l))
		}
		d.SetInterfaces(list)
		done()
	})
}

// peer is a Discovery in a host's namespace.
type peer struct {
	t      *testing.T
	name   string // short ID
	label  string // label it is announced under
	stdin  io.WriteCloser
	cmd    *exec.Cmd
	begun  time.Time // when Run was called
	events chan report
	done   chan report
	exited chan error
	killed bool
	seen   []string // events taken, for messages
}

// start runs a Discovery in h.
func start(t *testing.T, h *lab.Host, c Config, env ...string) *peer {
	t.Helper()
	if c.Instance == "" {
		c.Instance = h.Name
	}
	if c.Port == 0 {
		c.Port = 7421
	}
	if c.TXT == nil {
		c.TXT = []string{"v=1", "id=" + c.ShortID}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, self)
	cmd.Env = append(os.Environ(), append(env, processVariable+"="+string(raw))...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, name: c.ShortID, label: instanceLabel(c.Instance, c.ShortID), cmd: cmd,
		events: make(chan report, 1<<16), done: make(chan report, 16), exited: make(chan error, 1)}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		scan := bufio.NewScanner(stdout)
		for scan.Scan() {
			var r report
			if json.Unmarshal(scan.Bytes(), &r) != nil {
				continue
			}
			if r.Event != nil {
				p.events <- r
			} else {
				p.done <- r
			}
		}
		close(p.events)
		p.exited <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.stdin.Close()
		select {
		case err := <-p.exited:
			if err != nil && !p.killed {
				t.Errorf("%s: %v", p.name, err)
			}
		case <-time.After(late):
			t.Errorf("%s does not end", p.name)
		}
		cancel()
		if t.Failed() {
			t.Logf("%s took %q\n%s", p.name, p.seen[max(0, len(p.seen)-100):], tail(stderr.String()))
		}
	})
	select {
	case r := <-p.done:
		p.begun = r.At
	case <-time.After(late):
		t.Fatalf("%s does not begin", p.name)
	}
	return p
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// do sends a command and returns the answer.
func (p *peer) do(command string) report {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, command+"\n"); err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, command, err)
	}
	select {
	case r := <-p.done:
		if r.Done != command {
			p.t.Fatalf("%s: %s: answer to %q", p.name, command, r.Done)
		}
		return r
	case <-time.After(late):
		p.t.Fatalf("%s: no answer to %s", p.name, command)
	}
	return report{}
}

// await returns the first event that ok accepts, and when it was told.
func (p *peer) await(what string, ok func(Event) bool) (Event, time.Time) {
	p.t.Helper()
	return p.awaitFor(late, what, ok)
}

func (p *peer) awaitFor(limit time.Duration, what string, ok func(Event) bool) (Event, time.Time) {
	p.t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case r, open := <-p.events:
			if !open {
				p.t.Fatalf("%s ended while waiting for: %s", p.name, what)
			}
			p.note(*r.Event)
			if ok(*r.Event) {
				return *r.Event, r.At
			}
		case <-deadline:
			p.t.Fatalf("%s: not in %v: %s", p.name, limit, what)
		}
	}
}

func (p *peer) note(e Event) {
	p.seen = append(p.seen, fmt.Sprintf("%v %s %s %v", e.Op, e.Ifname, e.Instance, e.Addrs))
	if e.Instance == p.label && e.Op != Clone && e.Op != CloneGone {
		p.t.Errorf("%s: its own announcement came as an event: %+v", p.name, e)
	}
}

// pending returns the events that are there.
func (p *peer) pending() (out []Event) {
	for {
		select {
		case r, open := <-p.events:
			if !open {
				return out
			}
			p.note(*r.Event)
			out = append(out, *r.Event)
		default:
			return out
		}
	}
}

func of(op Op, o *peer) func(Event) bool {
	return func(e Event) bool { return e.Op == op && e.Instance == o.label }
}

// stop ends the process with goodbyes, without waiting, and returns when.
func (p *peer) stop() time.Time {
	p.t.Helper()
	now := time.Now()
	if _, err := io.WriteString(p.stdin, "stop\n"); err != nil {
		p.t.Fatal(err)
	}
	return now
}

// kill ends the process as a crash does, and returns when.
func (p *peer) kill() time.Time {
	p.t.Helper()
	p.killed = true
	now := time.Now()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	return now
}

// setTXT changes what the process announces.
func (p *peer) setTXT(txt ...string) {
	p.t.Helper()
	raw, err := json.Marshal(txt)
	if err != nil {
		p.t.Fatal(err)
	}
	p.do("txt " + string(raw))
}

// summary gives the middle and the largest of some times.
func summary(d []time.Duration) (median, largest time.Duration) {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2], d[len(d)-1]
}

// awaitPublishing returns when the service is announced on at least one link.
func (p *peer) awaitPublishing() {
	p.t.Helper()
	for deadline := time.Now().Add(late); ; {
		if slices.ContainsFunc(p.do("status").Status, func(s InterfaceStatus) bool { return s.Publishing }) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not publish", p.name)
		}
	}
}
