package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab"
)

const (
	senderAddress   = "10.77.0.1"
	receiverAddress = "10.77.0.2"
	ifname          = "eth0"

	// poll is the pause between two looks at something that has no event. It is far below what is measured.
	poll = 2 * time.Millisecond
)

// mountTmpfs makes a folder in memory, and returns what takes it away.
func mountTmpfs() (folder string, unmount func() error, err error) {
	if folder, err = os.MkdirTemp("", "nigh-bench-"); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=0700,size=90%"); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount tmpfs: %w", err), os.Remove(folder))
	}
	return folder, func() error {
		return errors.Join(unix.Unmount(folder, unix.MNT_DETACH), os.Remove(folder))
	}, nil
}

// bed is two hosts joined by a cable, for tools that move something.
type bed struct {
	*stage
	sender, receiver *lab.Host
}

func newBed(s *stage) *bed {
	n := lab.NewNet(s)
	b := &bed{stage: s, sender: s.host(n, "sender"), receiver: s.host(n, "receiver")}
	n.Cable(b.sender, ifname, b.receiver, ifname)
	s.address(b.sender, senderAddress+"/24")
	s.address(b.receiver, receiverAddress+"/24")
	return b
}

func (b *bed) path(name ...string) string {
	return filepath.Join(append([]string{b.folder}, name...)...)
}

// host makes a host whose TCP controls congestion with reno, which is always allowed in a namespace; see [stage.address].
func (s *stage) host(n *lab.Net, name string) *lab.Host {
	h := n.Host(name)
	h.Sysctl("net.ipv4.tcp_congestion_control", "reno")
	return h
}

// address gives a link of a host an address. What the machine prefers to control congestion with may be slowed down by a veth
// pair, so the routes of the link say cubic, Debian's default, where the kernel has it.
func (s *stage) address(h *lab.Host, prefix string) {
	p := netip.MustParsePrefix(prefix)
	if out := h.IP("-oneline", "address", "show", "dev", ifname); !strings.Contains(out, " "+prefix+" ") {
		h.IP("address", "add", prefix, "dev", ifname)
	}
	if s.congestion != "cubic" {
		return
	}
	h.IP("route", "replace", p.Masked().String(), "dev", ifname, "src", p.Addr().String(), "congctl", s.congestion)
	h.IP("-6", "route", "replace", "fe80::/64", "dev", ifname, "proto", "kernel", "metric", "256", "congctl", s.congestion)
}

// segment makes a LAN with as many hosts, at 10.0.0.1 and upwards.
func (s *stage) segment(n *lab.Net, names ...string) (*lab.Bridge, []*lab.Host) {
	lan := n.Bridge("lan")
	hosts := make([]*lab.Host, len(names))
	for i, name := range names {
		hosts[i] = s.host(n, name)
		prefix := fmt.Sprintf("10.0.0.%d/24", i+1)
		lan.Join(hosts[i], ifname, prefix)
		s.address(hosts[i], prefix)
	}
	return lan, hosts
}

// congestionControl is that of TCP in the beds.
func congestionControl() (string, error) {
	there, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return "", err
	}
	if slices.Contains(strings.Fields(string(there)), "cubic") {
		return "cubic", nil
	}
	return "reno", nil
}

// command is a program on a host. What it says on standard error is kept.
func (b *bed) command(ctx context.Context, h *lab.Host, name string, args ...string) *exec.Cmd {
	cmd := h.Command(ctx, name, args...)
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

// listening waits until somebody in the namespace of a process listens on a TCP port.
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

// came is how many bytes the link of a host has taken in. It is read in the host's namespace by a program, for /sys shows
// the links of the namespace that it was mounted in.
func (s *stage) came(h *lab.Host) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Run("cat", "/sys/class/net/"+ifname+"/statistics/rx_bytes")), 10, 64)
	s.must(err)
	return n
}
