package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"nigh/agent/control"
	"nigh/cli"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nigh": nigh})
}

// nigh is the program of the scripts: the real command line with the edges that
// main.go would wire made visible.
func nigh() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	env := cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: "0.1.0-test",
		RunAgent: func(_ context.Context, o cli.AgentOptions) error {
			fmt.Printf("agent %+v\n", o)
			if o.Name == "locked" {
				return fmt.Errorf("agent: %w", &control.Error{Code: control.CodeBusy, Message: "another agent (pid 7) uses this state", Hint: "stop it first"})
			}
			return nil
		},
		RunTUI: func(_ context.Context, o cli.TUIOptions) error {
			fmt.Printf("tui %+v\n", o)
			return nil
		},
	}
	if text := os.Getenv("TEST_CHECKS"); text != "" {
		env.Diagnose = func(context.Context) []control.Check {
			var checks []control.Check
			if err := json.Unmarshal([]byte(text), &checks); err != nil {
				panic(err)
			}
			return checks
		}
	}
	env.Report = func(_ context.Context, f cli.Findings) string {
		raw, err := json.Marshal(f)
		if err != nil {
			panic(err)
		}
		return string(raw) + "\n"
	}
	if folder := os.Getenv("TEST_REMEDY"); folder != "" {
		env.Remedies = []cli.Remedy{remedy(filepath.Join(folder, "keep.conf"))}
	}
	if id := os.Getenv("TEST_IDENTITY"); id != "" {
		env.Identity = func(context.Context) (cli.Identity, error) {
			return cli.Identity{ID: id, Short: id[:9], Name: "from the state"}, nil
		}
	}
	env.ExportKey = func(_ context.Context, o cli.KeyOptions) (cli.KeyExport, error) {
		return cli.KeyExport{Text: fmt.Sprintf("%s by %s in %s: ENCRYPTED PRIVATE KEY\n", strings.TrimSpace(o.Book), o.Passphrase, o.State), Short: "AAAA-BBBB"}, nil
	}
	env.ImportKey = func(_ context.Context, o cli.KeyOptions) (cli.KeyImport, error) {
		if !o.Replace {
			return cli.KeyImport{}, &control.Error{Code: control.CodePermission, Message: "this machine is the device CCCC-DDDD already", Hint: "say --replace-key"}
		}
		return cli.KeyImport{Short: string(o.Passphrase), Was: "CCCC-DDDD", Kept: "/state/key-CCCC-DDDD.pem", Trust: control.TrustImport{Trusted: 1}}, nil
	}
	if os.Getenv("TEST_SETTINGS") != "" {
		env.Settings = func(context.Context) ([]control.Setting, error) {
			return []control.Setting{{Key: "accept", Value: "ask", Origin: "default"}}, nil
		}
	}
	env.Service = service()
	code := cli.Main(ctx, os.Args[1:], cli.Patient(env))
	stop()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 99
	}
	os.Exit(code)
}

// service is a service manager that says what it is told; TEST_SERVICE is the state of the service.
func service() cli.Service {
	denied := func() error {
		if os.Getenv("TEST_DENIED") == "" {
			return nil
		}
		return &control.Error{Code: control.CodePermission, Message: "only root may change the services of this machine", Hint: "run: sudo nigh service install"}
	}
	return cli.Service{
		Install: func(_ context.Context, user string) (string, error) {
			return "installed for " + user, denied()
		},
		Remove: func(context.Context) (string, error) { return "", denied() },
		Status: func(_ context.Context, user string) (cli.ServiceStatus, error) {
			s := cli.ServiceStatus{User: user, Unit: "nigh@" + user + ".service", Active: "inactive"}
			return s, json.Unmarshal([]byte(os.Getenv("TEST_SERVICE")), &s)
		},
	}
}

// remedy writes a file and takes it away, as those of package doctor do.
func remedy(path string) cli.Remedy {
	const text = "<policy user=\"root\">\n  <deny/>\n</policy>\n"
	return cli.Remedy{
		Name: "keeper", Does: "Keeps it off.", Lost: "Casting is lost.", Path: path, Text: text,
		Plan: func(_ context.Context, undo bool) ([]string, error) {
			if undo {
				return []string{"keeper forget"}, nil
			}
			return []string{"keeper reload"}, nil
		},
		InForce: func() (bool, error) {
			got, err := os.ReadFile(path)
			if err == nil && string(got) != text {
				return false, errors.New(path + ": the file is not nigh's")
			}
			return err == nil, nil
		},
		Allowed: func() error {
			if os.Getenv("TEST_DENIED") != "" {
				return errors.New("permission denied")
			}
			return nil
		},
		Apply: func(context.Context) error { return os.WriteFile(path, []byte(text), 0o600) },
		Undo:  func(context.Context) error { return os.Remove(path) },
	}
}

func TestScripts(t *testing.T) {
	common, err := filepath.Abs("testdata/backend.json")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("/tmp", "nigh") // short: a socket's path is limited
			if err != nil {
				return err
			}
			s := &stage{socket: filepath.Join(dir, "agent.sock"), common: common}
			env.Values[stageKey{}] = s
			env.Defer(func() {
				s.stop()
				os.RemoveAll(dir)
			})
			env.Setenv("NIGH_SOCKET", s.socket)
			env.Setenv("TERM", "xterm")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a -race run ends a second late
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"backend": cmdBackend,
			"asked":   cmdAsked,
			"run":     cmdRun,
		},
	})
}

type stageKey struct{}

// stage is the agent of one script.
type stage struct {
	socket, common string
	file           string // script of the agent that last started

	mu      sync.Mutex
	backend *backend
	halt    func()
}

func (s *stage) start(file string) error {
	s.stop()
	b, err := newBackend(s.common, file)
	if err != nil {
		return err
	}
	ln, err := control.Listen(s.socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.NewServer(control.Config{Backend: served{b}}).Serve(ctx, ln) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.backend = file, b
	s.halt = func() {
		cancel()
		<-done
	}
	return nil
}

func (s *stage) stop() {
	s.mu.Lock()
	halt := s.halt
	s.halt = nil
	s.mu.Unlock()
	if halt != nil {
		halt()
	}
}

func (s *stage) now() *backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backend
}

// cmdBackend starts an agent: backend [FILE]. "backend -stop" stops it.
func cmdBackend(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(stageKey{}).(*stage)
	file := ""
	switch {
	case neg || len(args) > 1:
		ts.Fatalf("usage: backend [FILE|-stop]")
	case len(args) == 1 && args[0] == "-stop":
		s.stop()
		return
	case len(args) == 1:
		file = ts.MkAbs(args[0])
	}
	ts.Check(s.start(file))
}

// cmdAsked checks what reached the agent: [!] asked REGEXP.
func cmdAsked(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] asked REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	calls := ts.Value(stageKey{}).(*stage).now().calls()
	if re.MatchString(calls) == neg {
		ts.Fatalf("the agent was asked:\n%s", calls)
	}
}

// output collects what a program writes; wait waits for a text in it.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced at every write
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// look returns what is there and a channel that closes when there is more.
func (o *output) look() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String(), o.changed
}

// cmdRun runs a program and checks its exit code:
//
//	run [-exit N] [-in FILE] [-tty | -ttyerr] [-cols N] [-when REGEXP ACTION]... PROGRAM ARG...
//
// Its streams go to the files out and err; with -tty all three are one terminal,
// of which the file tty keeps what was written, with -ttyerr only standard error
// is. Each ACTION is done in turn when its REGEXP appears in what was written:
// interrupt, hangup, release (the slow calls and late events of the agent), stop and start
// (the agent), close (the reading end of standard output), "type TEXT" (a line, at the terminal).
func cmdRun(ts *testscript.TestScript, neg bool, args []string) {
	var want, cols int
	var input string
	var tty, ttyerr bool
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.IntVar(&want, "exit", 0, "")
	fs.IntVar(&cols, "cols", 80, "")
	fs.StringVar(&input, "in", "", "")
	fs.BoolVar(&tty, "tty", false, "")
	fs.BoolVar(&ttyerr, "ttyerr", false, "")
	type step struct {
		pattern *regexp.Regexp
		action  string
	}
	var steps []step
	// flag takes one value: pull the pairs out first.
	var rest []string
	for i := 0; i < len(args); i++ {
		if args[i] == "nigh" {
			rest = append(rest, args[i:]...)
			break
		}
		if args[i] == "-when" && i+2 < len(args) {
			re, err := regexp.Compile(args[i+1])
			ts.Check(err)
			steps = append(steps, step{re, args[i+2]})
			i += 2
			continue
		}
		rest = append(rest, args[i])
	}
	ts.Check(fs.Parse(rest))
	if neg || fs.NArg() == 0 {
		ts.Fatalf("usage: run [flags] PROGRAM ARG...")
	}
	stage := ts.Value(stageKey{}).(*stage)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, fs.Arg(0), fs.Args()[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, key := range []string{"PATH", "HOME", "NIGH_SOCKET", "XDG_RUNTIME_DIR", "TERM", "TZ", "GORACE", "NO_COLOR", "CLICOLOR_FORCE", "TEST_CHECKS", "TEST_IDENTITY", "TEST_REMEDY", "TEST_DENIED", "TEST_SERVICE", "NIGH_CODE"} {
		if v := ts.Getenv(key); v != "" {
			cmd.Env = append(cmd.Env, key+"="+v)
		}
	}

	out := &output{changed: make(chan struct{})}
	errs := &output{changed: make(chan struct{})}
	var readers sync.WaitGroup
	var closeOut func()
	var keyboard io.Writer // nil without -tty
	var ends []io.Closer   // our copies of the child's ends
	if tty || ttyerr {
		master, slave, err := pty.Open()
		ts.Check(err)
		defer master.Close()
		ts.Check(pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: uint16(cols)}))
		ends = append(ends, slave)
		cmd.Stderr = slave
		to := errs
		if tty {
			cmd.Stdin, cmd.Stdout, to = slave, slave, out
			keyboard = master
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		}
		readers.Go(func() { _, _ = io.Copy(to, master) }) // ends with EIO when the child's end is closed
	}
	if !tty {
		r, w, err := os.Pipe()
		ts.Check(err)
		ends = append(ends, w)
		cmd.Stdout = w
		closeOut = func() { r.Close() }
		defer r.Close()
		readers.Go(func() { _, _ = io.Copy(out, r) })
		if !ttyerr {
			cmd.Stderr = errs
		}
		if input != "" {
			cmd.Stdin = strings.NewReader(ts.ReadFile(input))
		}
	}
	ts.Check(cmd.Start())
	for _, end := range ends {
		end.Close()
	}

	// The actions, each when its text is there.
	acted := make(chan error, 1)
	acting, done := context.WithCancel(ctx)
	go func() {
		acted <- func() error {
			for _, s := range steps {
				for {
					o, moreOut := out.look()
					e, moreErr := errs.look()
					if s.pattern.MatchString(o) || s.pattern.MatchString(e) {
						break
					}
					select {
					case <-moreOut:
					case <-moreErr:
					case <-acting.Done():
						return fmt.Errorf("%q did not appear before the end", s.pattern)
					}
				}
				switch s.action {
				case "interrupt":
					if err := cmd.Process.Signal(os.Interrupt); err != nil {
						return err
					}
				case "hangup":
					if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
						return err
					}
				case "release":
					stage.now().release()
				case "stop":
					stage.stop()
				case "start":
					if err := stage.start(stage.file); err != nil {
						return err
					}
				case "close":
					closeOut()
				default:
					text, ok := strings.CutPrefix(s.action, "type ")
					if !ok || keyboard == nil {
						return errors.New("unknown action " + s.action)
					}
					if _, err := io.WriteString(keyboard, text+"\n"); err != nil {
						return err
					}
				}
			}
			return nil
		}()
	}()
	err := cmd.Wait()
	done()
	actErr := <-acted
	readers.Wait()
	o, _ := out.look()
	e, _ := errs.look()
	files := map[string]string{"out": o, "err": e}
	if tty {
		files = map[string]string{"tty": strings.ReplaceAll(o, "\r\n", "\n")}
	}
	for name, text := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			got = 128 + int(status.Signal())
		}
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %s, want %d\nout: %s\nerr: %s", strconv.Itoa(got), want, o, e)
	}
	ts.Check(actErr)
}

// A socket that takes the request and never answers: the command ends in time.
// It is no script because the wait is the command's own.
func TestSilentAgent(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "nigh")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	code := cli.Main(ctx, []string{"status", "--socket", ln.Addr().String(), "--json"}, cli.Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr})
	if code != 5 || !strings.Contains(stderr.String(), "did not answer in time") || !strings.Contains(stdout.String(), `"code":"timeout"`) {
		t.Errorf("exit %d\nout: %s\nerr: %s", code, &stdout, &stderr)
	}
	// Completion gives up after its own limit, without a word.
	started := time.Now()
	stdout.Reset()
	stderr.Reset()
	code = cli.Main(t.Context(), []string{"__complete", "--socket", ln.Addr().String(), "send", "x", "--to", ""}, cli.Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr})
	if took := time.Since(started); code != 0 || took > 3*time.Second || !strings.HasPrefix(stdout.String(), ":4") {
		t.Errorf("completion: exit %d after %s\nout: %s\nerr: %s", code, took, &stdout, &stderr)
	}
}
