package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"nigh/agent/control"
)

// Config says how to run one agent.
type Config struct {
	Binary string   // the nigh program
	Dir    string   // holds state, inbox, socket and log; must exist
	Name   string   // the device's name
	Args   []string // further flags of `nigh agent`
	Level  string   // of its log; "" is debug
	// Command makes the process, for example inside a namespace; nil means
	// exec.CommandContext.
	Command func(ctx context.Context, name string, arg ...string) *exec.Cmd
}

// Agent is one agent process.
type Agent struct {
	Config
	Socket, Inbox, State, Log string

	mu   sync.Mutex
	cmd  *exec.Cmd     // guarded by mu
	done chan struct{} // closed when the process has been waited for; guarded by mu
	err  error         // of Wait; read after done
}

// Start runs the agent and returns when it answers on its socket. The process
// lives until ctx ends, [Agent.Stop] or [Agent.Kill].
func Start(ctx context.Context, cfg Config) (*Agent, error) {
	if cfg.Command == nil {
		cfg.Command = exec.CommandContext
	}
	a := &Agent{
		Config: cfg,
		Socket: filepath.Join(cfg.Dir, "run", "agent.sock"), Inbox: filepath.Join(cfg.Dir, "inbox"),
		State: filepath.Join(cfg.Dir, "state"), Log: filepath.Join(cfg.Dir, "log"),
	}
	return a, a.Start(ctx)
}

// Start runs the agent again after a stop or a kill, with the same state.
func (a *Agent) Start(ctx context.Context) error {
	log, err := os.OpenFile(a.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer log.Close()
	args := append([]string{"agent", "--state", a.State, "--socket", a.Socket, "--name", a.Name, "--inbox", a.Inbox}, a.Args...)
	cmd := a.Command(ctx, a.Binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "NIGH_LOG="+cmp.Or(a.Level, "debug"), "HOME="+a.Dir)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	done := make(chan struct{})
	a.mu.Lock()
	a.cmd, a.done = cmd, done
	a.mu.Unlock()
	go func() { // ends with the process; Stop and Kill wait for it
		a.err = cmd.Wait()
		close(done)
	}()
	return a.ready(ctx, done)
}

// ready waits until the agent answers. The socket appears within a few hundred
// milliseconds on a real machine and within seconds in an emulated one.
func (a *Agent) ready(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := a.Client().Status(ctx); err == nil && s.Agent.PID == a.PID() {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("node: agent %s ended at once: %w\n%s", a.Name, a.err, a.Tail())
		case <-ctx.Done():
			return fmt.Errorf("node: agent %s does not answer: %w\n%s", a.Name, ctx.Err(), a.Tail())
		case <-tick.C:
		}
	}
}

// PID returns the process ID of the agent itself.
func (a *Agent) PID() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cmd.Process.Pid
}

// Client returns a client of the agent's local API.
func (a *Agent) Client() *control.Client { return &control.Client{Socket: a.Socket} }

// Stop ends the agent as systemd would and returns when it is gone.
func (a *Agent) Stop() error { return a.end(syscall.SIGTERM) }

// Wait returns how the agent ended by itself, or when ctx ends.
func (a *Agent) Wait(ctx context.Context) error {
	a.mu.Lock()
	done := a.done
	a.mu.Unlock()
	select {
	case <-done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the agent with signal 9 and returns when it is gone.
func (a *Agent) Kill() error {
	err := a.end(syscall.SIGKILL)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == -1 {
		return nil
	}
	return err
}

func (a *Agent) end(sig syscall.Signal) error {
	a.mu.Lock()
	cmd, done := a.cmd, a.done
	a.mu.Unlock()
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("node: %w", err)
	}
	<-done
	return a.err
}

// Run runs the nigh command line against this agent and returns what it wrote
// and its exit code.
func (a *Agent) Run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	cmd := a.Command(ctx, a.Binary, args...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "NIGH_SOCKET="+a.Socket, "HOME="+a.Dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return "", err.Error(), -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// JSON runs the command line with --json and decodes what it printed into v.
func (a *Agent) JSON(ctx context.Context, v any, args ...string) error {
	out, errs, code := a.Run(ctx, append(args, "--json")...)
	if code != 0 {
		return fmt.Errorf("node: nigh %v: exit %d: %s%s", args, code, out, errs)
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("node: nigh %v printed no JSON: %w: %s", args, err, out)
	}
	return nil
}

// Tail returns the end of the agent's log.
func (a *Agent) Tail() string {
	raw, err := os.ReadFile(a.Log)
	if err != nil {
		return err.Error()
	}
	if len(raw) > 4000 {
		raw = raw[len(raw)-4000:]
	}
	return string(raw)
}

// Await follows the agent's events until ok returns true for the state kept up
// to date from them, or ctx ends.
func (a *Agent) Await(ctx context.Context, ok func(control.State) bool) error {
	events, err := a.Client().Watch(ctx)
	if err != nil {
		return err
	}
	var state control.State
	for e := range events {
		Apply(&state, e)
		if ok(state) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("node: agent %s: what was waited for did not happen: %w\n%s", a.Name, ctx.Err(), a.Tail())
	}
	return fmt.Errorf("node: agent %s: the event stream ended\n%s", a.Name, a.Tail())
}

// Apply brings a state up to date with one event of the stream.
func Apply(s *control.State, e control.Event) {
	switch e.Type {
	case "state":
		*s = *e.State
	case "status":
		s.Status = *e.Status
	case "peer":
		s.Peers = put(s.Peers, *e.Peer, control.Peer.Key)
	case "peer_gone":
		s.Peers = remove(s.Peers, e.Key, control.Peer.Key)
	case "transfer":
		s.Transfers = put(s.Transfers, *e.Transfer, transferID)
	case "transfer_gone":
		s.Transfers = remove(s.Transfers, e.Key, transferID)
	case "inbox":
		s.Inbox = put(s.Inbox, *e.Inbox, inboxID)
	case "inbox_gone":
		s.Inbox = remove(s.Inbox, e.Key, inboxID)
	case "message":
		s.Messages = put(s.Messages, *e.Message, messageID)
	case "message_gone":
		s.Messages = remove(s.Messages, e.Key, messageID)
	case "unread":
		s.Unread = *e.Unread
	}
}

func messageID(m control.Message) string   { return m.ID }
func transferID(t control.Transfer) string { return t.ID }
func inboxID(i control.InboxItem) string   { return i.ID }

func put[T any](list []T, v T, key func(T) string) []T {
	return append(remove(list, key(v), key), v)
}

func remove[T any](list []T, k string, key func(T) string) []T {
	kept := make([]T, 0, len(list)+1)
	for _, v := range list {
		if key(v) != k {
			kept = append(kept, v)
		}
	}
	return kept
}
