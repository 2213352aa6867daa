package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/identity"
)

// purpose says what a connection is dialled for.
type purpose struct {
	want    identity.DeviceID // zero: whoever answers
	reverse bool              // we will serve on it
	urgent  bool              // control traffic
}

// race dials the candidates in their order, the next one 250 ms after the last or
// when that failed, and returns the first connection to the wanted device. The
// others are closed. When more fires, candidates() is read again and all of it is
// dialled once more: a SYN that was lost before a link was ready is not repeated
// by the kernel for seconds. All of it is bounded by ctx.
func (s *Sessions) race(ctx context.Context, candidates func() []Candidate, more func() <-chan struct{}, what purpose) (*conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		from Candidate
		conn *conn
		err  error
	}
	var (
		results = make(chan result)
		wg      sync.WaitGroup
		queue   []Candidate
		running = make(map[netip.AddrPort]int) // dials under way
		errs    []error
	)
	defer func() {
		cancel()
		go func() { wg.Wait(); close(results) }()
		for r := range results { // ends when every dial has
			if r.conn != nil {
				_ = r.conn.Close()
			}
		}
	}()
	enqueue := func() {
		queue = queue[:0]
		seen := make(map[netip.AddrPort]bool)
		for _, c := range candidates() {
			if !seen[c.Addr] && running[c.Addr] < maxSameDials && len(running)+len(queue) < maxCandidates {
				seen[c.Addr] = true
				queue = append(queue, c)
			}
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	changed := more()
	enqueue()
	for len(queue)+len(running) > 0 {
		var next <-chan time.Time
		if len(queue) > 0 {
			next = timer.C
		}
		select {
		case <-next:
			c := queue[0]
			queue = queue[1:]
			running[c.Addr]++
			wg.Go(func() {
				conn, err := s.dial(ctx, c, what)
				results <- result{c, conn, err}
			})
			timer.Reset(dialStagger)
		case r := <-results:
			if running[r.from.Addr]--; running[r.from.Addr] == 0 {
				delete(running, r.from.Addr)
			}
			if r.err == nil {
				return r.conn, nil
			}
			if len(errs) < maxCandidates {
				errs = append(errs, fmt.Errorf("%s: %w", r.from.Addr, r.err))
			}
			timer.Reset(0)
		case <-changed:
			changed = more()
			enqueue()
			timer.Reset(0)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(append(errs, ctx.Err())...))
		}
	}
	if len(errs) == 0 {
		return nil, ErrNoAddress
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
}

// dial makes one connection and its handshake.
func (s *Sessions) dial(ctx context.Context, to Candidate, what purpose) (*conn, error) {
	return s.dialBy(ctx, to, what, func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
		return connect(ctx, addr, to.bound())
	})
}

// bound returns the interface by which alone a candidate is reached, "" when the
// routes tell: the IPv4 network of a group may be another link's too, and then the
// main routing table leads there.
func (c Candidate) bound() string {
	if c.Kind == "direct" && c.Addr.Addr().Is4() {
		return c.Ifname
	}
	return ""
}

// dialOnce is dial without a second attempt: what the first one meets is told.
func (s *Sessions) dialOnce(ctx context.Context, to Candidate, what purpose) (*conn, error) {
	return s.dialBy(ctx, to, what, func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
		c, err := dialNumeric(ctx, newDialer(to.bound()), addr)
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	})
}

// newDialer makes a dialer whose sockets send by the interface bound only, "" being
// any.
func newDialer(bound string) *net.Dialer {
	d := &net.Dialer{KeepAlive: -1, Control: func(network, address string, raw syscall.RawConn) error {
		if bound != "" {
			// Kernels before 5.7 want CAP_NET_RAW for it; without, the routes decide.
			if err := raw.Control(func(fd uintptr) { _ = unix.BindToDevice(int(fd), bound) }); err != nil {
				return err
			}
		}
		return prepare(network, address, raw)
	}}
	d.SetMultipathTCP(false)
	return d
}

func (s *Sessions) dialBy(ctx context.Context, to Candidate, what purpose, connect func(context.Context, netip.AddrPort) (*net.TCPConn, error)) (*conn, error) {
	began := time.Now()
	tcp, err := connect(ctx, to.Addr)
	if err != nil {
		return nil, err
	}
	open := time.Since(began)
	tune(tcp, what.reverse, what.urgent)
	r := &records{TCPConn: tcp}
	proto := protoDirect
	if what.reverse {
		proto = protoReverse
	}
	t := tls.Client(r, tlsConfig(s.cfg.Identity, []string{proto}, s.wanted(what.want), s.cfg.Key))
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(hctx); err != nil {
		_ = tcp.Close()
		return nil, handshakeError(err)
	}
	id, err := peerID(t.ConnectionState())
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	s.meet(to.Addr.Addr(), id)
	c := s.newConn(t, r, id)
	c.path = to
	if c.path.Ifname == "" {
		c.path.Ifname = ifnameOf(c.local.Addr())
	}
	c.dialled = true
	c.reverse = what.reverse
	c.serving = what.reverse
	if !s.enter(c) {
		_ = c.Close()
		if s.life.Err() == nil {
			return nil, ErrCrowded
		}
		return nil, ErrClosed
	}
	s.log.Debug("Connection made", "peer", id.Short(), "address", to.Addr, "reverse", what.reverse, "urgent", what.urgent,
		"tcp", open, "tls", time.Since(began)-open)
	return c, nil
}

// handshakeError says of a failed handshake whether something else than nigh
// answered.
func handshakeError(err error) error {
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		alert = true
	}
	if record || alert {
		return fmt.Errorf("%w: %w", ErrNotNigh, err)
	}
	return err
}

// connect opens a TCP connection. To a link-local address, which may be that of a
// link that just came up, it makes several attempts that overlap, and takes the
// first that succeeds: what is sent before the other side is ready is lost, and
// the kernel repeats a SYN only after 1, 3 and 7 s.
func connect(ctx context.Context, to netip.AddrPort, bound string) (*net.TCPConn, error) {
	if !to.Addr().IsLinkLocalUnicast() {
		return connectOnce(ctx, to, bound)
	}
	type attempt struct {
		conn *net.TCPConn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan attempt, maxOverlap) // never blocks an attempt
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if a := <-results; a.conn != nil {
				_ = a.conn.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var last error
	for started := 0; ; {
		select {
		case <-next.C:
			if started == maxOverlap {
				continue
			}
			started++
			running++
			go func() { // ends with ctx at the latest; waited for above
				c, err := connectOnce(ctx, to, bound)
				results <- attempt{c, err}
			}()
			next.Reset(overlapAfter)
		case a := <-results:
			running--
			if a.err == nil {
				return a.conn, nil
			}
			last = a.err
			if running == 0 {
				return nil, last
			}
		}
	}
}

// connectOnce makes one attempt. On a link that just came up the kernel says for
// a while that there is no address or route yet; it asks again until ctx ends.
func connectOnce(ctx context.Context, to netip.AddrPort, bound string) (*net.TCPConn, error) {
	d := newDialer(bound)
	for {
		c, err := dialNumeric(ctx, d, to)
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.ENODEV) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(dialRetry):
		}
	}
}

// dialNumeric dials with the zone as an interface index: package net remembers
// the index of a name for a minute, and a P2P group interface that was made again
// under its name has another.
func dialNumeric(ctx context.Context, d *net.Dialer, to netip.AddrPort) (net.Conn, error) {
	if zone := to.Addr().Zone(); zone != "" {
		ifi, err := net.InterfaceByName(zone)
		if err != nil {
			if _, numeric := strconv.Atoi(zone); numeric != nil {
				return nil, fmt.Errorf("%s: %w", zone, syscall.ENODEV)
			}
		} else {
			zone = strconv.Itoa(ifi.Index)
		}
		to = netip.AddrPortFrom(to.Addr().WithZone(zone), to.Port())
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// names tells which interface has an address, and which have no carrier.
type names struct {
	by   map[netip.Addr]string
	dead map[string]bool
}

// interfaceNames reads the addresses of the interfaces that are up.
func interfaceNames() (names, error) {
	list, err := net.Interfaces()
	if err != nil {
		return names{}, err
	}
	n := names{make(map[netip.Addr]string), make(map[string]bool)}
	for _, ifi := range list {
		if ifi.Flags&net.FlagUp == 0 {
			continue
		}
		if ifi.Flags&net.FlagRunning == 0 {
			n.dead[ifi.Name] = true
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away
		}
		for _, a := range addrs {
			ipnet, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			addr, ok := netip.AddrFromSlice(ipnet.IP)
			if !ok {
				continue
			}
			addr = addr.Unmap()
			if addr.IsLinkLocalUnicast() && addr.Is6() {
				n.by[addr.WithZone(ifi.Name)] = ifi.Name
				n.by[addr.WithZone(strconv.Itoa(ifi.Index))] = ifi.Name
				continue
			}
			n.by[addr] = ifi.Name
		}
	}
	return n, nil
}

// of returns the interface that has addr, "" when none has.
func (n names) of(addr netip.Addr) string {
	if name, ok := n.by[addr]; ok || !addr.IsLoopback() {
		return name
	}
	for other, name := range n.by { // all of 127/8 is on lo
		if other.IsLoopback() {
			return name
		}
	}
	return ""
}

func ifnameOf(addr netip.Addr) string {
	n, err := interfaceNames()
	if err != nil {
		return ""
	}
	return n.of(addr)
}

// inboundPath describes where an accepted connection came from: as the candidate
// with that address, else by the interface.
func (s *Sessions) inboundPath(c *conn) Candidate {
	remote := addrPort(c.RemoteAddr())
	path := Candidate{Addr: remote, Kind: "lan", Ifname: ifnameOf(c.local.Addr()), Cost: unknownCost}
	for _, known := range s.addresses(c.id) {
		if known.Addr.Addr().WithZone("") == remote.Addr().WithZone("") ||
			(known.Ifname != "" && known.Ifname == path.Ifname) {
			path.Kind, path.Cost = known.Kind, known.Cost
			break
		}
	}
	return path
}

func (s *Sessions) addresses(id identity.DeviceID) []Candidate {
	if s.cfg.Addresses == nil {
		return nil
	}
	list := s.cfg.Addresses(id)
	return list[:min(len(list), maxCandidates)]
}
