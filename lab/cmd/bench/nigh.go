package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// agents are two running agents that trust each other.
type agents struct {
	program          string
	sender, receiver *agent
}

// agent is one of them, and where its files are.
type agent struct {
	name, namespace, home string
	cmd                   *exec.Cmd
	id                    string
}

func (a *agent) inbox() string { return filepath.Join(a.home, "inbox") }

// startAgents starts both, makes them trust each other, and waits until the sender sees the receiver ready.
func startAgents(ctx context.Context, b *bed, program string) (_ *agents, err error) {
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("nigh is not built: run make build: %w", err)
	}
	pair := &agents{program: program}
	defer func() {
		if err != nil {
			err = errors.Join(err, pair.stop())
		}
	}()
	if pair.sender, err = pair.start(ctx, b, "bench-a", b.sender); err != nil {
		return nil, err
	}
	if pair.receiver, err = pair.start(ctx, b, "bench-b", b.receiver); err != nil {
		return nil, err
	}
	for _, side := range []struct{ own, peer *agent }{{pair.sender, pair.receiver}, {pair.receiver, pair.sender}} {
		if _, err := pair.ask(ctx, b, side.own, "trust", "add", side.peer.id, "--name", side.peer.name); err != nil {
			return nil, err
		}
	}
	err = until(ctx, "nigh: the agents do not see each other", func() bool {
		out, err := pair.ask(ctx, b, pair.sender, "peers", "--json")
		return err == nil && ready(out, pair.receiver.id)
	})
	return pair, err
}

// ready looks for a device in the JSON of nigh peers, one value or several.
func ready(out []byte, id string) bool {
	type peer struct{ ID, State string }
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return false
		}
		var list []peer
		if json.Unmarshal(value, &list) != nil {
			var one peer
			if json.Unmarshal(value, &one) != nil {
				continue
			}
			list = []peer{one}
		}
		for _, p := range list {
			if p.ID == id && p.State == "ready" {
				return true
			}
		}
	}
}

func (p *agents) start(ctx context.Context, b *bed, name, namespace string) (*agent, error) {
	a := &agent{name: name, namespace: namespace, home: b.path(name)}
	if err := os.MkdirAll(a.inbox(), 0o700); err != nil {
		return nil, err
	}
	a.cmd = b.command(context.WithoutCancel(ctx), namespace, p.program, "agent",
		"--state", filepath.Join(a.home, "state"), "--socket", a.socket(), "--name", name,
		"--no-direct", "--accept", "all", "--inbox", a.inbox())
	a.cmd.Env = a.environment()
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	var out []byte
	err := until(ctx, "nigh: the agent does not answer", func() (answered bool) {
		answer, err := p.ask(ctx, b, a, "status", "--json")
		out = answer
		return err == nil && len(out) > 0
	})
	if err != nil {
		return nil, errors.Join(said(a.cmd, err), a.stop())
	}
	var own struct{ ID string }
	if err := json.Unmarshal(out, &own); err != nil || own.ID == "" {
		return nil, errors.Join(fmt.Errorf("nigh status says %q", out), err, a.stop())
	}
	a.id = own.ID
	return a, nil
}

func (a *agent) socket() string { return filepath.Join(a.home, "agent.sock") }

// environment keeps the agent from the files of whoever runs this.
func (a *agent) environment() []string {
	env := []string{"HOME=" + a.home, "NIGH_SOCKET=" + a.socket()}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "XDG_") && !strings.HasPrefix(v, "NIGH_") && !strings.HasPrefix(v, "HOME=") {
			env = append(env, v)
		}
	}
	return env
}

// ask runs a nigh command against an agent and returns what it printed.
func (p *agents) ask(ctx context.Context, b *bed, a *agent, args ...string) ([]byte, error) {
	cmd := b.command(ctx, a.namespace, p.program, args...)
	cmd.Env = a.environment()
	out, err := cmd.Output()
	return out, said(cmd, err)
}

// move sends with one nigh command. A side's processor time is its agent's and, on the sending side, the command's.
func (p *agents) move(ctx context.Context, b *bed, source, target string) (m measurement, err error) {
	pids := [2]int{p.sender.cmd.Process.Pid, p.receiver.cmd.Process.Pid}
	var before, after [2]time.Duration
	var peak [2]int64
	for i, pid := range pids {
		if err := resetPeak(pid); err != nil {
			return m, err
		}
		if before[i], _, err = running(pid); err != nil {
			return m, err
		}
	}
	start := time.Now()
	send := b.command(ctx, p.sender.namespace, p.program, "send", source, "--to", p.receiver.name, "--wait")
	send.Env = p.sender.environment()
	if err := send.Run(); err != nil {
		return m, said(send, err)
	}
	m.wall = time.Since(start)
	for i, pid := range pids {
		if after[i], peak[i], err = running(pid); err != nil {
			return m, err
		}
	}
	cpu, rss := ended(send.ProcessState)
	m.senderCPU, m.senderRSS = after[0]-before[0]+cpu, max(peak[0], rss)
	m.receiverCPU, m.receiverRSS = after[1]-before[1], peak[1]

	// It is a rename on one file system, outside of what is measured.
	name := filepath.Base(source)
	return m, os.Rename(filepath.Join(p.receiver.inbox(), name), filepath.Join(target, name))
}

func (p *agents) stop() error {
	var errs []error
	for _, a := range []*agent{p.sender, p.receiver} {
		if a != nil {
			errs = append(errs, a.stop())
		}
	}
	return errors.Join(errs...)
}

// stop ends the agent as a service manager would, and is not content when it does not end well.
func (a *agent) stop() error {
	killer := time.AfterFunc(20*time.Second, func() { _ = a.cmd.Process.Kill() })
	defer killer.Stop()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return said(a.cmd, a.cmd.Wait())
}
