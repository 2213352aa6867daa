package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has taken of its machine.
type Usage struct {
	RSS     int64         // resident bytes, with what the program's file shares with others
	Anon    int64         // of them, those that no file holds: heaps and stacks
	Peak    int64         // the most that RSS was
	CPU     time.Duration // processor time of the threads that live
	Wakeups int           // how often one of them went to sleep by itself, which is how often it was woken
}

// Sub is the usage since an earlier reading, but for RSS, Anon and Peak, which are those of u.
func (u Usage) Sub(earlier Usage) Usage {
	u.CPU -= earlier.CPU
	u.Wakeups -= earlier.Wakeups
	return u
}

// Usage reads what the agent has taken since it was started.
func (a *Agent) Usage() (Usage, error) { return UsageOf(a.PID()) }

// UsageOf reads what a process has taken since it was started.
func UsageOf(pid int) (Usage, error) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	var u Usage
	status, err := fields(filepath.Join(folder, "status"))
	if err != nil {
		return u, fmt.Errorf("node: %w", err)
	}
	u.RSS, u.Anon, u.Peak = status["VmRSS"]<<10, status["RssAnon"]<<10, status["VmHWM"]<<10
	threads, err := filepath.Glob(filepath.Join(folder, "task", "*"))
	if err != nil || len(threads) == 0 {
		return u, fmt.Errorf("node: no threads of process %d: %w", pid, os.ErrProcessDone)
	}
	for _, t := range threads {
		// A thread may end meanwhile.
		if s, err := fields(filepath.Join(t, "status")); err == nil {
			u.Wakeups += int(s["voluntary_ctxt_switches"])
		}
		if raw, err := os.ReadFile(filepath.Join(t, "schedstat")); err == nil {
			first, _, _ := bytes.Cut(raw, []byte(" "))
			if ns, err := strconv.ParseInt(string(first), 10, 64); err == nil {
				u.CPU += time.Duration(ns)
			}
		}
	}
	return u, nil
}

// fields reads the numbers of a file of lines such as "VmRSS:   1234 kB".
func fields(path string) (map[string]int64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found := map[string]int64{}
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(line, ":")
		if words := strings.Fields(value); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				found[key] = n
			}
		}
	}
	return found, nil
}
