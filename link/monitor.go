package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	debounce      = 30 * time.Millisecond // from the first event to the re-read; later events do not move it
	debounceMax   = time.Second           // that a change waits for others that come with it
	restFactor    = 10                    // pause between re-reads, as a multiple of what one takes: a storm of events costs a tenth of a core
	resyncEvery   = 60 * time.Second
	receiveBuffer = 1 << 20
	readRetry     = time.Second
	retryFirst    = 100 * time.Millisecond
	retryMax      = 10 * time.Second // between two attempts to listen to the kernel
	reasonsMax    = 4                // reasons named in one Change
)

// Config configures a [Monitor].
type Config struct {
	Logger *slog.Logger // nil discards
	Only   []string     // names of the only links to use, of any kind but loopback; empty leaves the choice to the monitor
}

// Change is the state of all links after something differed.
type Change struct {
	Reason string // what differed, such as "eth0 added; eth0 address 10.0.0.1/24 added"
	Links  []Link // all links, sorted by index; the receiver owns the slice
}

// Monitor watches the links of one network namespace. Create it with [NewMonitor], then call Run once.
type Monitor struct {
	logger  *slog.Logger
	only    []string
	changes chan Change
	poke    chan struct{} // capacity 1: a re-read is due
	open    func() (*nl.NetlinkSocket, error)
	resync  time.Duration

	pending []string // reasons of the change that may still wait in changes; used by Run only

	mu    sync.Mutex
	links []Link // guarded by mu
}

// NewMonitor returns a monitor that does nothing until Run.
func NewMonitor(c Config) *Monitor {
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Monitor{logger: logger, only: slices.Clone(c.Only), changes: make(chan Change, 1), poke: make(chan struct{}, 1), open: subscribe, resync: resyncEvery}
}

// Links returns all links as last read, sorted by index: nil before the first reading. Safe for concurrent use.
func (m *Monitor) Links() []Link {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clone(m.links)
}

// Changes returns the channel of changes. The first is the initial state. A change that was not taken yet is replaced by the
// next, with both reasons, so a slow reader sees the latest state and never holds up the monitor. The channel is closed
// when Run returns.
func (m *Monitor) Changes() <-chan Change { return m.changes }

// Run watches until ctx ends, and then returns nil. The network namespace is the one of the thread that calls it, and the
// goroutine should be locked to that thread when this is not the process's own. An error means that the first reading failed.
func (m *Monitor) Run(ctx context.Context) error {
	defer close(m.changes)
	sock, err := m.open()
	if err != nil {
		return fmt.Errorf("link: subscribe: %w", err)
	}
	if err := m.reread("initial"); err != nil {
		sock.Close()
		return fmt.Errorf("link: read: %w", err)
	}
	for _, name := range m.only {
		if !slices.ContainsFunc(m.Links(), func(l Link) bool { return l.Name == name }) {
			m.logger.Warn("Chosen interface does not exist yet", "ifname", name)
		}
	}
	for {
		err := m.follow(ctx, sock)
		if ctx.Err() != nil {
			return nil
		}
		m.logger.Warn("Link subscription lost", "err", err)
		if sock = m.resubscribe(ctx); sock == nil {
			return nil
		}
	}
}

// resubscribe tries until it works, and returns nil when ctx ended.
func (m *Monitor) resubscribe(ctx context.Context) *nl.NetlinkSocket {
	wait := retryFirst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		sock, err := m.open()
		if err == nil {
			m.wake()
			return sock
		}
		m.logger.Warn("Link subscription failed", "err", err)
		wait = min(2*wait, retryMax)
	}
}

func subscribe() (*nl.NetlinkSocket, error) {
	sock, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, err
	}
	// The forced size needs CAP_NET_ADMIN; without it the kernel's limit holds, and an overflow only costs a re-read.
	if sock.SetReceiveBufferSize(receiveBuffer, true) != nil {
		_ = sock.SetReceiveBufferSize(receiveBuffer, false)
	}
	return sock, nil
}

// follow re-reads after events until the socket breaks or ctx ends. It closes sock. All reading of the kernel's tables stays
// on the calling goroutine, whose thread decides the network namespace.
func (m *Monitor) follow(ctx context.Context, sock *nl.NetlinkSocket) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.receive(ctx, sock) })
	g.Go(func() error {
		<-ctx.Done()
		sock.Close()
		return nil
	})
	resync := time.NewTicker(m.resync)
	defer resync.Stop()
	var retry <-chan time.Time // after a reading that failed
	pause := debounce
	for ctx.Err() == nil {
		reason := ""
		select {
		case <-ctx.Done():
			continue
		case <-retry:
		case <-resync.C:
			reason = "resync"
		case <-m.poke:
			select {
			case <-ctx.Done():
				continue
			case <-time.After(pause):
			}
			// What came while waiting is covered by the reading that follows.
			select {
			case <-m.poke:
			default:
			}
		}
		began := time.Now()
		if err := m.reread(reason); err != nil {
			m.logger.Warn("Link reading failed", "err", err)
			retry = time.After(readRetry)
		}
		pause = min(max(debounce, restFactor*time.Since(began)), debounceMax)
	}
	return g.Wait()
}

func (m *Monitor) receive(ctx context.Context, sock *nl.NetlinkSocket) error {
	for {
		msgs, from, err := sock.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			// Messages were lost; the socket goes on.
			m.logger.Debug("Link events overflowed")
			m.wake()
			continue
		case err != nil:
			return err
		case from.Pid != nl.PidKernel:
			continue
		}
		for _, msg := range msgs {
			if matters(msg.Header.Type, msg.Data) {
				m.wake()
				break
			}
		}
	}
}

func (m *Monitor) wake() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// matters says whether an event can change what we know. Messages of family AF_BRIDGE tell about ports, and "delete" one
// that only left its bridge; the same fact comes as AF_UNSPEC too. Messages with IFLA_WIRELESS are wireless scan results:
// they carry a name and nothing else, once per scan.
func matters(kind uint16, data []byte) bool {
	switch kind {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
	default:
		return false
	}
	if len(data) < unix.SizeofIfInfomsg || data[0] != unix.AF_UNSPEC {
		return false
	}
	for kind := range attributes(data[unix.SizeofIfInfomsg:]) {
		if kind == unix.IFLA_WIRELESS {
			return false
		}
	}
	return true
}

// reread takes the state anew and publishes it when it differs, or when it is the first.
func (m *Monitor) reread(reason string) error {
	links, err := read(m.only)
	if err != nil {
		return err
	}
	m.mu.Lock()
	old := m.links
	m.links = links
	m.mu.Unlock()
	diff := differences(old, links)
	switch {
	case old == nil:
		diff = []string{reason}
	case len(diff) == 0:
		return nil
	case reason != "":
		// A resync that finds something: events were lost.
		diff[0] = reason + ": " + diff[0]
	}
	m.logger.Debug("Links changed", "reason", join(diff))
	m.publish(diff, Change{Links: clone(links)})
	return nil
}

// publish replaces a change that was not taken. Only the goroutine of Run sends.
func (m *Monitor) publish(reasons []string, c Change) {
	select {
	case <-m.changes:
		m.pending = append(m.pending, reasons...)
	default:
		m.pending = reasons
	}
	c.Reason = join(m.pending)
	m.pending = m.pending[:min(len(m.pending), reasonsMax+1)]
	m.changes <- c
}

func join(reasons []string) string {
	if more := len(reasons) - reasonsMax; more > 0 {
		return strings.Join(reasons[:reasonsMax], "; ") + "; and more"
	}
	return strings.Join(reasons, "; ")
}

func clone(links []Link) []Link {
	out := slices.Clone(links)
	for i := range out {
		out[i].HardwareAddr = slices.Clone(out[i].HardwareAddr)
		out[i].Prefixes = slices.Clone(out[i].Prefixes)
	}
	return out
}

// differences names what differs, links that came and went first.
func differences(old, now []Link) []string {
	var out []string
	before := map[int]Link{}
	for _, l := range old {
		before[l.Index] = l
	}
	for _, l := range now {
		o, ok := before[l.Index]
		if !ok {
			out = append(out, l.Name+" added")
		}
		delete(before, l.Index)
		if ok && o.Name != l.Name {
			out = append(out, fmt.Sprintf("%s renamed to %s", o.Name, l.Name))
		}
		out = append(out, changed(o, l, ok)...)
	}
	gone := make([]string, 0, len(before))
	for _, o := range old {
		if _, ok := before[o.Index]; ok {
			gone = append(gone, o.Name+" removed")
		}
	}
	return append(gone, out...)
}

func changed(o, l Link, known bool) []string {
	var out []string
	if known && o.Up != l.Up {
		out = append(out, l.Name+map[bool]string{true: " up", false: " down"}[l.Up])
	}
	for _, p := range l.Prefixes {
		if !slices.Contains(o.Prefixes, p) {
			out = append(out, addressReason(l, p, "added"))
		}
	}
	for _, p := range o.Prefixes {
		if !slices.Contains(l.Prefixes, p) {
			out = append(out, addressReason(l, p, "removed"))
		}
	}
	if known && o.Usable != l.Usable {
		out = append(out, l.Name+map[bool]string{true: " usable", false: " not usable: " + l.Why}[l.Usable])
	}
	if known && len(out) == 0 && (o.Kind != l.Kind || o.MTU != l.MTU || o.Why != l.Why || !slices.Equal(o.HardwareAddr, l.HardwareAddr)) {
		out = append(out, l.Name+" changed")
	}
	return out
}

func addressReason(l Link, p netip.Prefix, what string) string {
	return fmt.Sprintf("%s address %s %s", l.Name, p, what)
}
