package link

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nigh/lab"
)

const eventWait = 10 * time.Second

// watch runs a monitor in h's namespace for the life of the test.
func watch(t *testing.T, h *lab.Host, only ...string) *Monitor {
	t.Helper()
	m := NewMonitor(Config{Only: only})
	run(t, h, m)
	return m
}

func run(t *testing.T, h *lab.Host, m *Monitor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Do(func() error { return m.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, open := <-m.Changes(); open {
			// One change may have been waiting; then the channel must be closed.
			if _, open := <-m.Changes(); open {
				t.Error("the channel of changes is open after Run")
			}
		}
	})
	first := await(t, m, func(Change) bool { return true })
	if !strings.HasPrefix(first.Reason, "initial") {
		t.Errorf("first change: %q", first.Reason)
	}
}

// await returns the first change that ok accepts.
func await(t *testing.T, m *Monitor, ok func(Change) bool) Change {
	t.Helper()
	deadline := time.After(eventWait)
	var seen []string
	for {
		select {
		case c, open := <-m.Changes():
			if !open {
				t.Fatal("the monitor stopped")
			}
			if ok(c) {
				return c
			}
			seen = append(seen, c.Reason)
		case <-deadline:
			t.Fatalf("no such change in %v; seen %q", eventWait, seen)
		}
	}
}

func named(links []Link, name string) (Link, bool) {
	i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return links[i], true
}

func has(c Change, name string, ok func(Link) bool) bool {
	l, found := named(c.Links, name)
	return found && ok(l)
}

func TestMonitorFollowsALink(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	m := watch(t, a)

	n.Cable(a, "eth0", b, "eth0")
	c := await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })
	l, _ := named(c.Links, "eth0")
	if l.Kind != Ethernet || !l.Up || l.MTU != 1500 || len(l.HardwareAddr) != 6 || len(l.Prefixes) != 1 || !l.Prefixes[0].Addr().IsLinkLocalUnicast() {
		t.Errorf("link %+v", l)
	}

	a.IP("address", "add", "10.1.0.1/24", "dev", "eth0")
	c = await(t, m, func(c Change) bool { return strings.Contains(c.Reason, "address 10.1.0.1/24 added") })
	if !has(c, "eth0", func(l Link) bool { return slices.Contains(l.Prefixes, netip.MustParsePrefix("10.1.0.1/24")) }) {
		t.Errorf("the address is missing in %+v", c.Links)
	}
	a.IP("address", "del", "10.1.0.1/24", "dev", "eth0")
	await(t, m, func(c Change) bool { return strings.Contains(c.Reason, "address 10.1.0.1/24 removed") })

	b.IP("link", "set", "eth0", "down")
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool { return !l.Up && !l.Usable && l.Why == "no carrier" })
	})
	b.IP("link", "set", "eth0", "up")
	await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })

	a.IP("link", "set", "eth0", "down")
	a.IP("link", "set", "eth0", "name", "lan0")
	a.IP("link", "set", "lan0", "up")
	c = await(t, m, func(c Change) bool { return has(c, "lan0", func(l Link) bool { return l.Usable }) })
	if r, _ := named(c.Links, "lan0"); r.Index != l.Index {
		t.Errorf("the index changed with the name: %d, %d", l.Index, r.Index)
	}

	a.IP("link", "del", "lan0")
	c = await(t, m, func(c Change) bool { _, ok := named(c.Links, "lan0"); return !ok })
	if !strings.Contains(c.Reason, "lan0 removed") {
		t.Errorf("reason %q", c.Reason)
	}
	if got := m.Links(); len(got) != 1 || got[0].Kind != Loopback {
		t.Errorf("links at the end: %+v", got)
	}
}

// A link that leaves a bridge is reported as deleted in family AF_BRIDGE, and yet it is there.
func TestMonitorSurvivesBridgePorts(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "eth0", b, "eth0")
	m := watch(t, a)
	a.IP("link", "add", "br0", "type", "bridge", "forward_delay", "0")
	a.IP("link", "set", "br0", "up")
	a.IP("link", "set", "eth0", "master", "br0")
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool { return l.Why == "part of br0" }) && has(c, "br0", func(l Link) bool { return l.Usable })
	})
	a.IP("link", "set", "eth0", "nomaster")
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool { return l.Usable }) && has(c, "br0", func(l Link) bool { return !l.Usable })
	})
}

func TestMonitorObeysTheChoice(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "eth0", b, "eth0")
	n.Cable(a, "vethx", b, "eth1")
	m := watch(t, a, "vethx")
	links := m.Links()
	if l, _ := named(links, "vethx"); !l.Usable || l.Kind != Virtual {
		t.Errorf("chosen link: %+v", l)
	}
	if l, _ := named(links, "eth0"); l.Usable || l.Why == "" {
		t.Errorf("link that was not chosen: %+v", l)
	}
}

// Duplicate address detection holds an address back for a second or more: until then the link must not count as usable.
func TestMonitorWaitsForTentativeAddresses(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	a.Sysctl("net.ipv6.conf.default.accept_dad", "1")
	m := watch(t, a)
	// Cable returns when the address is no longer tentative.
	n.Cable(a, "eth0", b, "eth0")
	early := false
	await(t, m, func(c Change) bool {
		return has(c, "eth0", func(l Link) bool {
			early = early || l.Usable && len(l.Prefixes) == 0
			return l.Usable
		})
	})
	if early {
		t.Error("usable without an address")
	}
}

// A subscription that breaks, and cannot be had again at first, costs a re-read and nothing else.
func TestMonitorSubscribesAgain(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	m := NewMonitor(Config{})
	var socks []*nl.NetlinkSocket
	tries := 0
	again := make(chan struct{})
	m.open = func() (*nl.NetlinkSocket, error) {
		if tries++; tries == 2 {
			return nil, unix.ENOBUFS
		}
		sock, err := subscribe()
		socks = append(socks, sock)
		if tries == 3 {
			close(again)
		}
		return sock, err
	}
	run(t, a, m)
	socks[0].Close()
	// What happens now happens while nobody listens, or is heard by the new subscription: seen it must be.
	n.Cable(a, "eth0", b, "eth0")
	await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })
	select {
	case <-again:
	case <-time.After(eventWait):
		t.Fatal("no new subscription")
	}
	a.IP("link", "del", "eth0")
	await(t, m, func(c Change) bool { _, ok := named(c.Links, "eth0"); return !ok })
}

// overflows counts the log records about lost events.
type overflows struct {
	slog.Handler
	n *atomic.Int64
}

func (o overflows) Enabled(context.Context, slog.Level) bool { return true }

func (o overflows) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "Link events overflowed" {
		o.n.Add(1)
	}
	return nil
}

// With the smallest receive buffer the kernel drops events (ENOBUFS), and the state is still right in the end.
func TestMonitorOverflow(t *testing.T) {
	n := lab.NewNet(t)
	a := n.Host("a")
	var lost atomic.Int64
	m := NewMonitor(Config{Logger: slog.New(overflows{slog.DiscardHandler, &lost})})
	m.open = func() (*nl.NetlinkSocket, error) {
		sock, err := subscribe()
		if err != nil {
			return nil, err
		}
		return sock, sock.SetReceiveBufferSize(1, false)
	}
	run(t, a, m)
	storm(t, a, 30)
	await(t, m, func(c Change) bool {
		return len(c.Links) == 3 && has(c, "s7", func(l Link) bool { return l.Usable }) && has(c, "p7", func(l Link) bool { return l.Usable })
	})
	if lost.Load() == 0 {
		t.Error("the test lost no events, and proves nothing")
	}
}

// When no event arrives at all, the regular reading finds what happened, and says that it was one.
func TestMonitorResyncs(t *testing.T) {
	n := lab.NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	m := NewMonitor(Config{})
	m.resync = 20 * time.Millisecond
	m.open = func() (*nl.NetlinkSocket, error) { return nl.Subscribe(unix.NETLINK_ROUTE) }
	run(t, a, m)
	n.Cable(a, "eth0", b, "eth0")
	c := await(t, m, func(c Change) bool { return has(c, "eth0", func(l Link) bool { return l.Usable }) })
	if !strings.HasPrefix(c.Reason, "resync: ") {
		t.Errorf("reason %q", c.Reason)
	}
}

// Five hundred links of several kinds come, and go, and come again: the monitor tells of it in few changes, ends with the
// truth, and is as small afterwards as it was before, also when nobody takes its changes meanwhile.
func TestMonitorStorm(t *testing.T) {
	n := lab.NewNet(t)
	a := n.Host("a")
	m := watch(t, a)
	var comes, goes strings.Builder
	for i := range 200 {
		fmt.Fprintf(&comes, "link add s%d type veth peer name p%d\nlink set s%d up\nlink set p%d up\n", i, i, i, i)
		fmt.Fprintf(&goes, "link del s%d\n", i)
	}
	for i := range 50 {
		fmt.Fprintf(&comes, "link add br%d type bridge forward_delay 0\nlink set br%d up\nlink set p%d master br%d\n", i, i, i, i)
		fmt.Fprintf(&comes, "link add link s%d name mac%d type macvlan\nlink set mac%d up\naddress add 10.99.%d.1/24 dev mac%d\n", i, i, i, i, i)
		fmt.Fprintf(&goes, "link del br%d\n", i)
	}
	links := func(count int) func(Change) bool { return func(c Change) bool { return len(c.Links) == count } }
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	began := time.Now()
	batch(t, a, comes.String())
	await(t, m, links(501))
	seen, most := 0, 0
	stop := make(chan struct{})
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for {
			select {
			case <-m.Changes():
				seen++
				most = max(most, runtime.NumGoroutine())
			case <-stop:
				return
			}
		}
	}()
	batch(t, a, goes.String())
	batch(t, a, comes.String())
	close(stop)
	<-counted
	batch(t, a, goes.String())
	took := time.Since(began)
	await(t, m, links(1))
	if got := m.Links(); len(got) != 1 || got[0].Kind != Loopback {
		t.Errorf("%d links at the end", len(got))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d changes told in a storm of %v; at most %d goroutines, before %d; heap %+d bytes", seen, took, most, goroutines, grown)
	// No more than one change for each pause, and two goroutines for the time of a wait.
	if limit := int(took/debounce) + 2; seen > limit || most > goroutines+4 || grown > 2<<20 {
		t.Errorf("not bounded: %d changes (%d allowed), %d goroutines (%d before), heap %+d", seen, limit, most, goroutines, grown)
	}
}

// storm makes pairs of links and deletes them again, but the pair of s7.
func storm(t *testing.T, h *lab.Host, pairs int) {
	t.Helper()
	var lines strings.Builder
	for i := range pairs {
		fmt.Fprintf(&lines, "link add s%d type veth peer name p%d\nlink set s%d up\nlink set p%d up\n", i, i, i, i)
	}
	for i := range pairs {
		if i != 7 {
			fmt.Fprintf(&lines, "link del s%d\n", i)
		}
	}
	batch(t, h, lines.String())
}

// batch has one ip(8) carry out many lines.
func batch(t *testing.T, h *lab.Host, lines string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	h.IP("-batch", file)
}
