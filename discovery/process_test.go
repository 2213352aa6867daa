package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/lab"
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

func TestMain(m *testing.M) {
	if config := os.Getenv(processVariable); config != "" {
		if err := process(config, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, libraryLeak)
}

// report is one line from the process.
type report struct {
	Event      *Event            `json:",omitempty"`
	Status     []InterfaceStatus `json:",omitempty"`
	Files      int               // open descriptors
	Goroutines int
	Done       string // the command that was carried out
}

// process runs a Discovery by commands from in: "refresh" reads the links anew, "status", "stop".
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
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for e := range d.Events() {
			reports <- report{Event: &e}
		}
	}()
	if err := refresh(d); err != nil {
		return err
	}
	for scan := bufio.NewScanner(in); scan.Scan() && scan.Text() != "stop"; {
		if scan.Text() == "refresh" {
			if err := refresh(d); err != nil {
				return err
			}
		}
		// Who gave up rights may not look.
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		reports <- report{Done: scan.Text(), Status: d.Status(), Files: len(files), Goroutines: runtime.NumGoroutine()}
	}
	cancel()
	if err := <-ended; err != nil {
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

// refresh is what the agent does by link.Monitor.
func refresh(d *Discovery) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	var list []Interface
	for _, ifi := range all {
		const usable = net.FlagUp | net.FlagRunning | net.FlagMulticast
		if ifi.Flags&usable != usable || ifi.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			return err
		}
		i := Interface{Index: ifi.Index, Name: ifi.Name}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				return err
			}
			i.Prefixes = append(i.Prefixes, p)
		}
		if len(i.Prefixes) > 0 {
			list = append(list, i)
		}
	}
	d.SetInterfaces(list)
	return nil
}

// peer is a Discovery in a host's namespace.
type peer struct {
	t      *testing.T
	name   string // short ID
	label  string // label it is announced under
	stdin  io.WriteCloser
	events chan Event
	done   chan report
	kill   context.CancelFunc
	exited chan error
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
	p := &peer{t: t, name: c.ShortID, label: instanceLabel(c.Instance, c.ShortID), kill: cancel,
		events: make(chan Event, 4096), done: make(chan report, 16), exited: make(chan error, 1)}
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
				p.events <- *r.Event
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
			if err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", p.name, err)
			}
		case <-time.After(late):
			t.Errorf("%s does not end", p.name)
		}
		cancel()
		if t.Failed() {
			t.Logf("%s took %q\n%s", p.name, p.seen, tail(stderr.String()))
		}
	})
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

// await returns the first event that ok accepts, and how long it took.
func (p *peer) await(what string, ok func(Event) bool) (Event, time.Duration) {
	p.t.Helper()
	began := time.Now()
	deadline := time.After(late)
	for {
		select {
		case e, open := <-p.events:
			if !open {
				p.t.Fatalf("%s ended while waiting for: %s", p.name, what)
			}
			p.note(e)
			if ok(e) {
				return e, time.Since(began)
			}
		case <-deadline:
			p.t.Fatalf("%s: not in %v: %s", p.name, late, what)
		}
	}
}

func (p *peer) note(e Event) {
	p.seen = append(p.seen, fmt.Sprintf("%v %s %s %v", e.Op, e.Ifname, e.Instance, e.Addrs))
	if e.Instance == p.label {
		p.t.Errorf("%s: its own announcement came as an event: %+v", p.name, e)
	}
}

// pending returns the events that are there.
func (p *peer) pending() (out []Event) {
	for {
		select {
		case e, open := <-p.events:
			if !open {
				return out
			}
			p.note(e)
			out = append(out, e)
		default:
			return out
		}
	}
}

func of(op Op, o *peer) func(Event) bool {
	return func(e Event) bool { return e.Op == op && e.Instance == o.label }
}

// stop ends the process with goodbyes, without waiting.
func (p *peer) stop() {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, "stop\n"); err != nil {
		p.t.Fatal(err)
	}
}

// summary gives the middle and the largest of some times.
func summary(d []time.Duration) (median, largest time.Duration) {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2], d[len(d)-1]
}
