package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// patience is how long a scenario waits for what must happen soon.
const patience = 60 * time.Second

// start runs an agent on a host, as the service does: without the files and settings of whoever runs this, and with the
// limit of memory that the unit gives. It ends with the scenario.
func (s *stage) start(h *lab.Host, name string, args ...string) *node.Agent {
	a, err := node.Start(context.WithoutCancel(s.ctx), node.Config{
		Binary: s.program, Dir: s.TempDir(), Name: name, Level: "info", Args: append([]string{"--no-direct"}, args...),
		Command: func(ctx context.Context, program string, arg ...string) *exec.Cmd {
			cmd := h.Command(ctx, program, arg...)
			cmd.Env = environment()
			return cmd
		},
	})
	s.must(err)
	s.Cleanup(func() { s.end(a) })
	return a
}

// environment is that of this process without what nigh is set by.
func environment() []string {
	env := []string{"GOMEMLIMIT=64MiB"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "XDG_") && !strings.HasPrefix(v, "NIGH_") && !strings.HasPrefix(v, "HOME=") && !strings.HasPrefix(v, "GOMEMLIMIT=") {
			env = append(env, v)
		}
	}
	return env
}

// end stops an agent as a service manager would, and is not content when it does not end well. One that was killed is left
// as it is.
func (s *stage) end(a *node.Agent) {
	killer := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(a.PID(), syscall.SIGKILL) })
	defer killer.Stop()
	err := a.Stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && killer.Stop() {
		return
	}
	if err != nil {
		s.Errorf("agent %s: %v\n%s", a.Name, err, a.Tail())
	}
}

// within ends with the scenario, or when what must happen soon does not.
func (s *stage) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(s.ctx, d, errors.New("it takes longer than "+d.String()))
	s.Cleanup(cancel)
	return ctx
}

// befriend makes agents trust each other, and waits until each sees each other one ready.
func (s *stage) befriend(agents ...*node.Agent) {
	for i, a := range agents {
		for _, b := range agents[i+1:] {
			s.must(node.Befriend(s.ctx, a, b))
		}
	}
	for _, a := range agents {
		for _, b := range agents {
			if a != b {
				s.must(a.Await(s.within(patience), func(st control.State) bool { return peerIs(st, b.Name, "ready") }))
			}
		}
	}
}

func peerIs(st control.State, name string, states ...string) bool {
	for _, p := range st.Peers {
		for _, state := range states {
			if p.Name == name && p.State == state {
				return true
			}
		}
	}
	return false
}

// seen is an event, and when it came.
type seen struct {
	at    time.Time
	event control.Event
}

// watch follows an agent's events until the scenario ends.
func (s *stage) watch(a *node.Agent) <-chan seen {
	ctx, cancel := context.WithCancel(s.ctx)
	events, err := a.Client().Watch(ctx)
	if err != nil {
		cancel()
		s.must(err)
	}
	out, ended := make(chan seen, 1024), make(chan struct{})
	go func() { // ends with the events
		defer close(ended)
		defer close(out)
		for e := range events {
			select {
			case out <- seen{time.Now(), e}:
			case <-ctx.Done():
			}
		}
	}()
	s.Cleanup(func() { cancel(); <-ended })
	return out
}

// transfer returns the next report on a transfer for which ok is true, and when it came. When id is empty it is any that has not
// ended: what is told of an earlier one is past.
func (s *stage) transfer(events <-chan seen, id string, ok func(control.Transfer) bool) (came time.Time, found control.Transfer) {
	s.transferAt(events, id, func(at time.Time, x control.Transfer) bool {
		came, found = at, x
		return ok(x)
	})
	return came, found
}

// transferAt follows a transfer, any that has not ended when id is empty, until ok is true.
func (s *stage) transferAt(events <-chan seen, id string, ok func(time.Time, control.Transfer) bool) {
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	last := control.Transfer{}
	for {
		select {
		case e, open := <-events:
			if !open {
				s.Fatal("the events of an agent ended")
			}
			if e.event.Transfer == nil || id != "" && e.event.Transfer.ID != id || id == "" && e.event.Transfer.Ended != "" {
				continue
			}
			last = *e.event.Transfer
			if ok(e.at, last) {
				return
			}
			if last.State == "failed" || last.State == "refused" {
				s.Fatalf("the transfer of %s failed: %s", last.Name, last.Error)
			}
		case <-deadline.C:
			s.Fatalf("the transfer does not go on: %+v", last)
		case <-s.ctx.Done():
			s.must(context.Cause(s.ctx))
		}
	}
}

// nigh runs a command against an agent that must succeed.
func (s *stage) nigh(a *node.Agent, args ...string) string {
	out, errs, code := a.Run(s.within(2*time.Minute), args...)
	if code != 0 {
		s.Fatalf("nigh %s: exit status %d: %s", strings.Join(args, " "), code, strings.TrimSpace(errs))
	}
	return out
}
