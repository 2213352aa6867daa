package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// sample is one measured connection.
type sample struct {
	command time.Duration // from the command to GroupStarted on the later side
	byte    time.Duration // from there to the first payload byte at the receiver
	group   time.Duration // from there to the first 256 KiB that were verified and told to the faces
	steps   string        // all that was noted, a line each
}

// measure forms groups again and again and prints medians: how long nigh needs
// beside what the supplicant needs.
func measure(ctx context.Context, nigh string, bed *radio.Bed, dir string, rounds int, verbose bool) error {
	file := filepath.Join(dir, "small.bin")
	if err := node.Random(file, 1<<20); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEDIAN OF", rounds, "\tCOMMAND TO GROUPSTARTED\tTHEN TO FIRST BYTE\tTHEN TO FIRST 256 KIB SHOWN\tCOMMAND TO FIRST BYTE\t")
	for _, c := range []struct {
		name          string
		intent        int // of the sender
		fresh, rejoin bool
	}{
		{"new group, sender is GO", 15, true, false},
		{"new group, sender is client", 0, true, false},
		{"persistent group again", 7, false, true},
	} {
		var samples []sample
		var agents []*node.Agent
		for i := range rounds {
			if agents == nil || c.fresh {
				var err error
				if agents, err = fresh(ctx, nigh, bed, filepath.Join(dir, fmt.Sprintf("%d-%d", c.intent, i)), c.intent); err != nil {
					return err
				}
				if c.rejoin {
					// The first time makes the persistent group.
					if _, err := once(ctx, agents, file); err != nil {
						return err
					}
				}
			}
			before := []string{log(agents[0]), log(agents[1])}
			s, err := once(ctx, agents, file)
			if err != nil {
				return err
			}
			if verbose {
				for i, a := range agents {
					fmt.Printf("--- log of %s\n%s", a.Name, strings.TrimPrefix(log(a), before[i]))
				}
			}
			fmt.Printf("%s: group %.2f s, first byte %.2f s later\n%s", c.name, s.command.Seconds(), s.byte.Seconds(), s.steps)
			samples = append(samples, s)
			if c.fresh || i == rounds-1 {
				for _, a := range agents {
					if err := a.Stop(); err != nil {
						return err
					}
				}
				agents = nil
			}
		}
		fmt.Fprintf(w, "%s\t%.2f s\t%.2f s\t%.2f s\t%.2f s\t\n", c.name,
			median(samples, func(s sample) time.Duration { return s.command }),
			median(samples, func(s sample) time.Duration { return s.byte }),
			median(samples, func(s sample) time.Duration { return s.group }),
			median(samples, func(s sample) time.Duration { return s.command + s.byte }))
	}
	fmt.Println()
	return w.Flush()
}

// log is all that an agent has logged.
func log(a *node.Agent) string {
	raw, err := os.ReadFile(a.Log)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func median(samples []sample, of func(sample) time.Duration) float64 {
	values := make([]time.Duration, 0, len(samples))
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2].Seconds()
}

// fresh starts two agents that know nothing but each other's ID.
func fresh(ctx context.Context, nigh string, bed *radio.Bed, dir string, intent int) ([]*node.Agent, error) {
	for _, n := range bed.Nodes {
		// A supplicant remembers devices for a minute, and these are new ones.
		if err := n.KillSupplicant(); err != nil {
			return nil, err
		}
		if err := n.StartSupplicant(); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(dir, "config.toml")
	agents := make([]*node.Agent, 2)
	for i, name := range []string{"ada", "bob"} {
		own := filepath.Join(dir, name)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return nil, err
		}
		args := []string{"--accept", "trusted"}
		if i == 0 {
			if err := os.WriteFile(config, fmt.Appendf(nil, "intent = %d\n", intent), 0o600); err != nil {
				return nil, err
			}
			args = append(args, "--config", config)
		}
		var err error
		agents[i], err = node.Start(ctx, node.Config{Binary: nigh, Dir: own, Name: name, Command: bed.Nodes[i].Command, Args: args})
		if err != nil {
			return nil, err
		}
	}
	return agents, introduce(ctx, agents[0], agents[1])
}

// once sends a file over a group that does not exist yet, and ends the group.
func once(ctx context.Context, agents []*node.Agent, file string) (sample, error) {
	watch, unwatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	clock := &recorder{}
	for _, a := range agents {
		events, err := a.Client().Watch(watch)
		if err != nil {
			unwatch()
			return sample{}, err
		}
		watching.Go(func() { clock.follow(a.Name, events) })
	}
	before := []string{log(agents[0]), log(agents[1])}
	clock.restart()
	began := time.Now()
	_, errs, code := agents[0].Run(ctx, "send", file, "--to", "bob", "--wait")
	unwatch()
	watching.Wait()
	if code != 0 {
		return sample{}, fmt.Errorf("send: exit %d: %s\n%s\n%s", code, errs, agents[0].Tail(), agents[1].Tail())
	}
	// The owner ends the group for both; the client's group may be gone by then, or keep an owner's waiting for it.
	const gone = 4 // exit code
	for _, a := range agents {
		if _, errs, code := a.Run(ctx, "group", "leave"); code != 0 && code != gone {
			return sample{}, fmt.Errorf("group leave: exit %d: %s", code, errs)
		}
	}
	for _, a := range agents {
		if err := a.Await(ctx, func(s control.State) bool { return len(s.Status.Groups) == 0 }); err != nil {
			return sample{}, err
		}
	}
	var s sample
	var shown time.Duration
	for _, m := range clock.marks {
		if m.what != "" {
			s.steps += fmt.Sprintf("    %6.2f s  %s  %s\n", m.at.Seconds(), m.node, m.what)
		}
		if m.node == "bob" && strings.HasPrefix(m.what, "first bytes") && shown == 0 {
			shown = m.at
		}
	}
	// What the faces are told comes later than it happens: the logs have the moments themselves.
	var later, first time.Time
	for i, a := range agents {
		news := strings.TrimPrefix(log(a), before[i])
		at, ok := logged(news, "signal=dbusapi.GroupStarted")
		if !ok {
			return sample{}, fmt.Errorf("the log of %s does not tell of the group", a.Name)
		}
		if at.After(later) {
			later = at
		}
		if at, ok := logged(news, `msg="First byte arrived"`); ok {
			first = at
		}
	}
	if first.IsZero() {
		return sample{}, errors.New("the receiver's log does not tell of the first byte")
	}
	s.command, s.byte, s.group = later.Sub(began), first.Sub(later), shown-later.Sub(began)
	return s, nil
}

// logged is the time of the first line of a log that holds text.
func logged(log, text string) (time.Time, bool) {
	for line := range strings.Lines(log) {
		if !strings.Contains(line, text) {
			continue
		}
		stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		return at, err == nil
	}
	return time.Time{}, false
}
