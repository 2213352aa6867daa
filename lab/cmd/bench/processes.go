package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of /proc/PID/stat and /proc/stat, USER_HZ, which is 100 on all Linux machines.
const clockTick = 10 * time.Millisecond

// family returns a process and all that descend from it.
func family(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range stats {
		f, err := statFields(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		parent, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, err
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		children[parent] = append(children[parent], child)
	}
	found := []int{pid}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found, nil
}

// statFields returns the fields of /proc/PID/stat after the program's name, which may have blanks in it.
func statFields(name string) ([]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 15 {
		return nil, fmt.Errorf("%s: too short", name)
	}
	return f, nil
}

// ended returns what a process that was waited for has used, with all that it has itself waited for.
func ended(state *os.ProcessState) (cpu time.Duration, rss int64) {
	usage := state.SysUsage().(*syscall.Rusage)
	return state.UserTime() + state.SystemTime(), usage.Maxrss << 10
}

// running returns what a process and its descendants have used so far: processor time of all, and the peak of the memory
// that they have together. What they share of it, the file of one program, counts once.
func running(pid int) (cpu time.Duration, rss int64, err error) {
	pids, err := family(pid)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range pids {
		f, err := statFields(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			if p == pid || !errors.Is(err, os.ErrNotExist) {
				return 0, 0, err
			}
			continue
		}
		for _, field := range f[11:15] { // utime, stime, and those of children that were waited for
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			cpu += time.Duration(ticks) * clockTick
		}
		peak, err := status(p, "VmHWM:")
		if p != pid && err == nil {
			peak, err = private(p)
		}
		switch {
		case err == nil:
			rss += peak
		case p == pid || !errors.Is(err, os.ErrNotExist):
			return 0, 0, err
		}
	}
	return cpu, rss, nil
}

// status reads a line of /proc/PID/status that is in kB, in bytes.
func status(pid int, key string) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", pid), key)
}

// private is the memory that a process shares with no other, in bytes.
func private(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	clean, err := kilobytes(name, "Private_Clean:")
	if err != nil {
		return 0, err
	}
	dirty, err := kilobytes(name, "Private_Dirty:")
	return clean + dirty, err
}

func kilobytes(name, key string) (int64, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", strings.TrimSuffix(key, ":"), name)
}

// shrink makes this process small. The kernel counts the peak of the process that starts a program as the program's own
// (getrusage(2)), so what is left here is the least that can be measured of another one: the result, in bytes.
func shrink() (floor int64, err error) {
	debug.FreeOSMemory()
	if err := resetPeak(os.Getpid()); err != nil {
		return 0, err
	}
	return status(os.Getpid(), "VmHWM:")
}

// resetPeak makes the peak of a process's memory start anew: proc_pid_clear_refs(5).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// busy returns the processor time that the whole machine has used.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var ticks int64
	for i, field := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i > 7 { // idle, iowait; guest time is in user time
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
