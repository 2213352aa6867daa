//go:build netns

package discovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab"
)

// Tests that mostly wait for records to expire run beside the others: but for them, one runs at a time.
func init() { parallel = 64 }

var (
	turn      sync.Mutex     // held by the test that measures
	beginning sync.WaitGroup // long tests that do not wait yet
)

// alone has the test measure while no other does.
func alone(t *testing.T) {
	t.Parallel()
	beginning.Wait()
	turn.Lock()
	t.Cleanup(turn.Unlock)
}

// long is alone for a test that waits for a minute or more. It has its turn before those that are short, and gives it back
// with the function returned.
func long(t *testing.T) (wait func()) {
	beginning.Add(1)
	t.Parallel()
	turn.Lock()
	wait = sync.OnceFunc(func() {
		turn.Unlock()
		beginning.Done()
	})
	t.Cleanup(wait)
	return wait
}

// within logs what a number of tries took, and fails the test when the slowest took longer than limit.
func within(t *testing.T, what string, limit time.Duration, took []time.Duration) {
	t.Helper()
	median, largest := summary(took)
	t.Logf("%s: median %v, largest %v of %d, bound %v", what, median.Round(time.Millisecond), largest.Round(time.Millisecond), len(took), limit)
	if largest > lab.Bound(t, limit) {
		t.Errorf("%s took %v, bound %v", what, largest, limit)
	}
}

// share logs how many of the tries took no longer than limit, and fails the test when these are fewer than least.
func share(t *testing.T, what string, limit time.Duration, took []time.Duration, least int) {
	t.Helper()
	median, largest := summary(took)
	good := func(l time.Duration) (n int) {
		for _, d := range took {
			if d <= l {
				n++
			}
		}
		return n
	}
	t.Logf("%s: median %v, largest %v; %d of %d within %v, wanted %d", what, median.Round(time.Millisecond), largest.Round(time.Millisecond), good(limit), len(took), limit, least)
	if n := good(limit); n < least && good(lab.Bound(t, limit)) < least {
		t.Errorf("%s: %d of %d within %v, want %d", what, n, len(took), limit, least)
	}
}

// segment is a bridge with a number of hosts, the first of which has 10.0.0.1/24.
func segment(t *testing.T, hosts int) (*lab.Net, *lab.Bridge, []*lab.Host) {
	t.Helper()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	var out []*lab.Host
	for i := range hosts {
		h := n.Host(fmt.Sprintf("h%d", i+1))
		lan.Join(h, "eth0", fmt.Sprintf("10.0.%d.%d/16", (i+1)/256, (i+1)%256))
		out = append(out, h)
	}
	return n, lan, out
}

// id makes short IDs.
func id(number int) string { return fmt.Sprintf("T%03d-%04d", number/1000, number) }

// lose drops a share of the packets that come to a host's port 5353.
func lose(h *lab.Host, percent int) {
	h.Run("nft", "add", "table", "inet", "loss")
	h.Run("nft", "add", "chain", "inet", "loss", "input", "{ type filter hook input priority 0; }")
	h.Run("nft", "add", "rule", "inet", "loss", "input", "iifname", "!=", "lo", "udp", "dport", "5353", "numgen", "random", "mod", "100", "<", fmt.Sprint(percent), "drop")
}

// all awaits an event of each of several peers, and returns when each came.
func (p *peer) all(what string, op Op, of []*peer) map[string]time.Time {
	p.t.Helper()
	at := map[string]time.Time{}
	for len(at) < len(of) {
		e, when := p.await(what, func(e Event) bool { return e.Op == op })
		if i := slices.IndexFunc(of, func(o *peer) bool { return o.label == e.Instance }); i >= 0 && at[e.Instance].IsZero() {
			at[e.Instance] = when
		}
	}
	return at
}

// counter counts the mDNS packets that a host hears or sends on a link.
type counter struct {
	fd int
	n  atomic.Int64
}

// count begins to count.
func count(t *testing.T, h *lab.Host, ifname string) *counter {
	t.Helper()
	c := &counter{}
	if err := h.Do(func() (err error) { c.fd, err = openTap(ifname); return err }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 128); ; {
			n, err := unix.Read(c.fd, buf)
			switch {
			case err == nil && isMDNS(buf[:n]):
				c.n.Add(1)
			case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
				return
			}
			if c.n.Load() < 0 {
				return
			}
		}
	}()
	t.Cleanup(func() {
		c.n.Store(math.MinInt64)
		<-ended
		_ = unix.Close(c.fd)
	})
	return c
}

func (c *counter) total() int { return int(c.n.Load()) }

// openTap opens a socket that gets whole Ethernet frames. A read gives up after a moment, so that its reader can end.
func openTap(ifname string) (int, error) {
	dev, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0, err
	}
	all := htons(unix.ETH_P_ALL)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return 0, err
	}
	return fd, errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// isMDNS says whether an Ethernet frame is UDP to port 5353.
func isMDNS(f []byte) bool {
	port := func(at int) bool { return len(f) >= at+4 && binary.BigEndian.Uint16(f[at+2:]) == mdnsPort }
	switch {
	case len(f) < 34:
		return false
	case f[12] == 0x08 && f[13] == 0x00:
		return f[23] == unix.IPPROTO_UDP && port(14+int(f[14]&15)*4)
	case f[12] == 0x86 && f[13] == 0xdd:
		return f[20] == unix.IPPROTO_UDP && port(54)
	}
	return false
}
