package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	senderAddress   = "10.77.0.1"
	receiverAddress = "10.77.0.2"
	ifname          = "eth0"

	// clockTick is the unit of /proc/PID/stat and /proc/stat, USER_HZ, which is 100 on all Linux machines.
	clockTick = 10 * time.Millisecond
	// poll is the pause between two looks at something that has no event. It is far below what is measured.
	poll = 2 * time.Millisecond
)

// bed is two namespaces joined by a veth pair, and a tmpfs.
type bed struct {
	sender, receiver string // names for ip-netns(8)
	folder           string
	congestion       string // TCP's congestion control
	mounted          bool
	namespaces       []string
}

func newBed() (_ *bed, err error) {
	b := &bed{sender: fmt.Sprintf("bench-%d-a", os.Getpid()), receiver: fmt.Sprintf("bench-%d-b", os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.folder, err = os.MkdirTemp("", "nigh-bench-"); err != nil {
		return nil, err
	}
	if err = unix.Mount("tmpfs", b.folder, "tmpfs", 0, "mode=0700,size=90%"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	b.mounted = true
	for _, ns := range []string{b.sender, b.receiver} {
		if err = ip("netns", "add", ns); err != nil {
			return nil, err
		}
		b.namespaces = append(b.namespaces, ns)
	}
	if err = ip("link", "add", ifname, "netns", b.sender, "type", "veth", "peer", "name", ifname, "netns", b.receiver); err != nil {
		return nil, err
	}
	for _, end := range []struct{ ns, address string }{{b.sender, senderAddress}, {b.receiver, receiverAddress}} {
		for _, args := range [][]string{
			{"link", "set", "lo", "up"},
			{"address", "add", end.address + "/24", "dev", ifname},
			{"link", "set", ifname, "up"},
		} {
			if err = ip(append([]string{"-n", end.ns}, args...)...); err != nil {
				return nil, err
			}
		}
		if b.congestion, err = setCongestion(end.ns); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// setCongestion chooses TCP's congestion control in a namespace. Cubic is Debian's default; the machine may not allow it in
// a namespace, and may have one as its own that a veth pair slows down. Reno is always allowed, and as fast here.
func setCongestion(ns string) (string, error) {
	var errs []error
	for _, name := range []string{"cubic", "reno"} {
		out, err := exec.Command("ip", "netns", "exec", ns, "sh", "-c", "echo "+name+" >/proc/sys/net/ipv4/tcp_congestion_control").CombinedOutput()
		if err == nil {
			return name, nil
		}
		errs = append(errs, fmt.Errorf("set congestion control %s: %w: %s", name, err, bytes.TrimSpace(out)))
	}
	return "", errors.Join(errs...)
}

func (b *bed) close() error {
	var errs []error
	for _, ns := range b.namespaces {
		errs = append(errs, ip("netns", "del", ns))
	}
	if b.mounted {
		errs = append(errs, unix.Unmount(b.folder, unix.MNT_DETACH))
	}
	if b.folder != "" {
		errs = append(errs, os.Remove(b.folder))
	}
	return errors.Join(errs...)
}

func (b *bed) path(name ...string) string {
	return filepath.Join(append([]string{b.folder}, name...)...)
}

// command is a program inside a namespace. Its process is the program itself: ip-netns(8) replaces itself.
func (b *bed) command(ctx context.Context, ns, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns, name}, args...)...)
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// said adds what a program printed to its error.
func said(cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	text := ""
	if b, ok := cmd.Stderr.(*bytes.Buffer); ok {
		text = ": " + strings.TrimSpace(b.String())
	}
	return fmt.Errorf("%s: %w%s", cmd.Args[min(4, len(cmd.Args)-1)], err, text)
}

// listening waits until somebody in the namespace listens on a TCP port.
func (b *bed) listening(ctx context.Context, pid, port int) error {
	suffix := fmt.Sprintf(":%04X", port)
	return until(ctx, fmt.Sprintf("nobody listens on port %d", port), func() bool {
		for _, name := range []string{"tcp", "tcp6"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				// sl local_address rem_address st; state 0A is LISTEN.
				if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], suffix) && f[3] == "0A" {
					return true
				}
			}
		}
		return false
	})
}

func until(ctx context.Context, otherwise string, done func() bool) error {
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", otherwise, context.Cause(ctx))
		case <-deadline.C:
			return errors.New(otherwise)
		case <-tick.C:
		}
	}
	return nil
}

// children counts the processes that pid is the parent of.
func children(pid int) (n int, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, name := range stats {
		if f, err := statFields(name); err == nil && f[1] == strconv.Itoa(pid) {
			n++
		}
	}
	return n, nil
}

// statFields returns the fields of /proc/PID/stat after the program's name, which may have blanks in it.
func statFields(name string) ([]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return nil, fmt.Errorf("%s: too short", name)
	}
	return f, nil
}

// ended returns what a process that was waited for has used, with all that it has itself waited for.
func ended(state *os.ProcessState) (cpu time.Duration, rss int64) {
	usage := state.SysUsage().(*syscall.Rusage)
	return state.UserTime() + state.SystemTime(), usage.Maxrss << 10
}

// running returns what a process has used so far.
func running(pid int) (cpu time.Duration, rss int64, err error) {
	f, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, field := range f[11:13] { // utime, stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return cpu, kb << 10, err
		}
	}
	return 0, 0, fmt.Errorf("no VmHWM of process %d", pid)
}

// shrink makes this process small. The kernel counts the peak of the process that starts a program as the program's own
// (getrusage(2)), so what is left here is the least that can be measured of another one: the result, in bytes.
func shrink() (floor int64, err error) {
	debug.FreeOSMemory()
	if err := resetPeak(os.Getpid()); err != nil {
		return 0, err
	}
	_, floor, err = running(os.Getpid())
	return floor, err
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

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
