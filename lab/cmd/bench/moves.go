package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nigh/lab/node"
)

// measurement is what one tool took for one set of data.
type measurement struct {
	wall                   time.Duration
	senderCPU, receiverCPU time.Duration
	otherCPU               time.Duration // what the rest of the machine used meanwhile, with the kernel's own work
	senderRSS, receiverRSS int64         // bytes
	floorRSS               int64         // bytes, the least that can be measured
}

// mover brings source, a file or folder, to the other side, where it appears in the empty folder target under its own name.
type mover func(ctx context.Context, b *bed, source, target string) (measurement, error)

// tool is a way to bring a file or folder to the other side.
type tool struct {
	name string
	sets []string // names of the data it is run with
	move mover
}

// comparison is all that was measured with one set of data, by tool.
type comparison struct {
	set     set
	tools   []string
	results map[string][]measurement
}

// compare moves sets of data with every tool, in as many rounds.
func compare(b *bed, names []string) []comparison {
	var found []comparison
	for _, name := range names {
		progress("making the data: %s", name)
		s, err := makeSet(b.path("data"), name, b.size, b.files)
		b.must(err)
		found = append(found, comparison{set: s, results: map[string][]measurement{}})
	}
	tools := slices.DeleteFunc(append(references(b), tool{ours, []string{largeSet, smallSet, mixedSet}, startPair(b)}), func(t tool) bool {
		return len(b.tools) > 0 && !slices.Contains(b.tools, t.name)
	})
	for round := range b.rounds {
		for _, c := range found {
			for i := range tools {
				// Each round begins with another tool, so that none is always the one after the slow one.
				t := tools[(i+round)%len(tools)]
				if !slices.Contains(t.sets, c.set.name) {
					continue
				}
				m, err := moveOnce(b, t, c.set)
				if err != nil {
					b.must(fmt.Errorf("%s of %s: %w", t.name, c.set.name, err))
				}
				progress("round %d of %d, %s, %s: %.2f s", round+1, b.rounds, c.set.title, t.name, m.wall.Seconds())
				c.results[t.name] = append(c.results[t.name], m)
			}
		}
	}
	for i := range found {
		for _, t := range tools {
			if len(found[i].results[t.name]) > 0 {
				found[i].tools = append(found[i].tools, t.name)
			}
		}
		b.must(os.RemoveAll(filepath.Dir(found[i].set.path)))
	}
	return found
}

// moveOnce moves one set with one tool and compares.
func moveOnce(b *bed, t tool, s set) (m measurement, err error) {
	target := b.path("target")
	if err := os.Mkdir(target, 0o700); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	ctx, cancel := context.WithTimeoutCause(b.ctx, 10*time.Minute, errors.New("not done after 10 minutes"))
	defer cancel()
	if err := renew(s.path); err != nil {
		return m, err
	}
	floor, err := shrink()
	if err != nil {
		return m, err
	}
	before, err := busy()
	if err != nil {
		return m, err
	}
	if m, err = t.move(ctx, b, s.path, target); err != nil {
		return m, errors.Join(err, context.Cause(ctx))
	}
	after, err := busy()
	if err != nil {
		return m, err
	}
	m.floorRSS = floor
	m.otherCPU = max(0, after-before-m.senderCPU-m.receiverCPU)
	return m, equal(s.path, filepath.Join(target, filepath.Base(s.path)))
}

// renew makes files younger, so that each move is the first one: nothing counts that a program remembers of them.
func renew(path string) error {
	now := time.Now()
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chtimes(path, now, now)
	})
}

// using measures what two running processes, with their descendants, use while something moves. The peaks of their memory
// start anew.
func using(sender, receiver int, move func() error) (m measurement, err error) {
	pids := [2]int{sender, receiver}
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
	if err := move(); err != nil {
		return m, err
	}
	m.wall = time.Since(start)
	for i, pid := range pids {
		if after[i], peak[i], err = running(pid); err != nil {
			return m, err
		}
	}
	m.senderCPU, m.senderRSS = after[0]-before[0], peak[0]
	m.receiverCPU, m.receiverRSS = after[1]-before[1], peak[1]
	return m, nil
}

// ours is nigh among the tools.
const ours = "nigh"

// startPair starts two agents that trust each other. A move is one command; a side's processor time is its agent's and, on
// the sending side, the command's.
func startPair(b *bed) mover {
	sender, receiver := b.start(b.sender, "ada", "--accept", "all"), b.start(b.receiver, "bob", "--accept", "all")
	b.befriend(sender, receiver)
	return func(ctx context.Context, b *bed, source, target string) (m measurement, err error) {
		var command time.Duration
		m, err = using(sender.PID(), receiver.PID(), func() error {
			command, err = sendAndWait(ctx, sender, source, receiver.Name)
			return err
		})
		if err != nil {
			return m, err
		}
		m.senderCPU += command
		// It is a rename on one file system, outside of what is measured.
		name := filepath.Base(source)
		return m, os.Rename(filepath.Join(receiver.Inbox, name), filepath.Join(target, name))
	}
}

// sendAndWait runs nigh send to its end and returns the processor time of the command itself.
func sendAndWait(ctx context.Context, a *node.Agent, source, to string) (time.Duration, error) {
	cmd := a.Command(ctx, a.Binary, "send", source, "--to", to, "--wait")
	cmd.Env = append(cmd.Env, "NIGH_SOCKET="+a.Socket, "HOME="+a.Dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("nigh send: %w: %s", err, strings.TrimSpace(string(out)))
	}
	cpu, _ := ended(cmd.ProcessState)
	return cpu, nil
}
