package dhcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"golang.org/x/sys/unix"
)

const (
	packetsPerSecond = 20  // answered or looked at, of all clients
	clientPerSecond  = 5   // of one client, so that one cannot silence the others
	clientBurst      = 10  // at once
	strangersPerSec  = 5   // of devices that are not members, which may become members any moment
	clientsMax       = 512 // counted one by one
	packetMaxBytes   = 1500

	memberWait = 500 * time.Millisecond // for a device that asks before we are told that it is a member
	memberPoll = 20 * time.Millisecond
	storePause = time.Second // between two calls of Store
)

var (
	// ErrConfig says that a [Config] makes no server.
	ErrConfig = errors.New("impossible DHCP configuration")
	// ErrPortTaken says that another program serves DHCP on this machine. Two servers would split the requests silently.
	ErrPortTaken = errors.New("another DHCP server runs here")
)

// Config configures a [Server].
type Config struct {
	Logger      *slog.Logger // nil discards
	Ifname      string
	Index       int          // ifindex, for messages
	Subnet      netip.Prefix // our own address on the link with the prefix length, such as 192.168.49.1/24
	First, Last netip.Addr   // the pool, both included; at most 1024 addresses within the subnet
	Bindings    []Binding    // what earlier runs gave to whom; may be nil
	// Store is called with all bindings after something changed in them, at most once a second, never twice at a time, and a last
	// time at the end of Run; nil keeps them in memory only.
	Store func([]Binding)
	// Allowed says whether a device is a member of the group; nil allows all. It must not block, and may be called from
	// several goroutines. A device that asks before it is one gets half a second to become one.
	Allowed func(net.HardwareAddr) bool
}

// Server is a DHCP server for one link.
type Server struct {
	config Config
	logger *slog.Logger

	renew, rebind time.Duration // T1 and T2

	mu   sync.Mutex
	pool *pool // guarded by mu

	changed chan struct{} // capacity 1: bindings are to be stored
}

// NewServer checks the configuration. The error wraps ErrConfig.
func NewServer(c Config) (*Server, error) {
	s := &Server{config: c, logger: c.Logger, renew: leaseTime / 2, rebind: leaseTime * 7 / 8, changed: make(chan struct{}, 1)}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	subnet := c.Subnet.Masked()
	switch {
	case !c.Subnet.IsValid() || !c.Subnet.Addr().Is4() || c.Subnet.Bits() > 30:
		return nil, fmt.Errorf("dhcp: subnet %v: %w", c.Subnet, ErrConfig)
	case c.Ifname == "":
		return nil, fmt.Errorf("dhcp: no interface: %w", ErrConfig)
	case !subnet.Contains(c.First) || !subnet.Contains(c.Last) || c.Last.Less(c.First):
		return nil, fmt.Errorf("dhcp: pool %v to %v in %v: %w", c.First, c.Last, subnet, ErrConfig)
	}
	var err error
	if s.pool, err = newPool(c.Subnet, c.First, c.Last, c.Bindings); err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	return s, nil
}

// Bindings returns who has which address.
func (s *Server) Bindings() []Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.list()
}

// Run serves until ctx ends, and then returns nil. It needs CAP_NET_BIND_SERVICE. The socket is made by the calling
// goroutine, in the network namespace of its thread. The error wraps ErrPortTaken when somebody else has port 67.
func (s *Server) Run(ctx context.Context) error {
	if err := portFree(s.config.Ifname); err != nil {
		return fmt.Errorf("dhcp: serve on %s: %w", s.config.Ifname, err)
	}
	conn, err := s.listen(ctx)
	if ctx.Err() != nil && conn == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("dhcp: serve on %s: %w", s.config.Ifname, err)
	}
	limited := newLimitedConn(conn, s.config.Allowed)
	work, stopWork := context.WithCancel(ctx)
	srv, err := server4.NewServer(s.config.Ifname, nil, func(conn net.PacketConn, to net.Addr, m *dhcpv4.DHCPv4) {
		limited.busy.Add(1)
		defer limited.busy.Done()
		s.handle(work, conn, to, m)
	}, server4.WithConn(limited))
	if err != nil {
		stopWork()
		return errors.Join(fmt.Errorf("dhcp: serve on %s: %w", s.config.Ifname, err), conn.Close())
	}
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		s.store(work)
	}()
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err = srv.Serve()
	stopWork()
	limited.busy.Wait()
	<-stored
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dhcp: serve on %s: %w", s.config.Ifname, err)
}

// store hands out the bindings after they changed, until ctx ends, and then once more if they changed again.
func (s *Server) store(ctx context.Context) {
	if s.config.Store == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
		case <-s.changed:
			s.config.Store(s.Bindings())
			if pause(ctx, storePause) {
				continue
			}
		}
		select {
		case <-s.changed:
			s.config.Store(s.Bindings())
		default:
		}
		return
	}
}

// portFree finds other servers: the library shares the port (SO_REUSEPORT), so binding it would succeed.
func portFree(ifname string) error {
	conn, err := listenOn(context.Background(), ifname, netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ServerPort))
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w (%w)", ErrPortTaken, err)
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// bindTries is how often a bind is tried, bindPause apart.
const (
	bindTries = 20
	bindPause = 20 * time.Millisecond
)

// listen makes the server's socket. That of portFree can live on for a moment after its Close: a program that is being
// started beside us has a copy of it until it is executed.
func (s *Server) listen(ctx context.Context) (conn net.PacketConn, err error) {
	for range bindTries {
		conn, err = server4.NewIPv4UDPConn(s.config.Ifname, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort})
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(bindPause):
		}
	}
	return nil, err
}

// handle answers one packet. A panic ends that packet only.
func (s *Server) handle(ctx context.Context, conn net.PacketConn, to net.Addr, m *dhcpv4.DHCPv4) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("DHCP request ended in a panic", "ifname", s.config.Ifname, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if !s.member(ctx, m.ClientHWAddr) {
		return
	}
	var from netip.Addr
	if u, ok := to.(*net.UDPAddr); ok {
		from, _ = ip4(u.IP)
	}
	s.mu.Lock()
	reply, changed := s.answer(time.Now(), from, m)
	s.mu.Unlock()
	if changed {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	if reply == nil {
		return
	}
	s.logger.Debug("DHCP answered", "ifname", s.config.Ifname, "mac", m.ClientHWAddr.String(), "request", m.MessageType().String(),
		"reply", reply.MessageType().String(), "address", reply.YourIPAddr.String())
	if reply.MessageType() == dhcpv4.MessageTypeNak {
		// RFC 2131 4.3.2: a client with a wrong address may not hear what is sent to it.
		to = &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	}
	if _, err := conn.WriteTo(reply.ToBytes(), to); err != nil {
		s.logger.Debug("DHCP reply not sent", "ifname", s.config.Ifname, "err", err)
	}
}

// member says whether a device is one of the group's. The first request of a new member can be faster than the word of
// the supplicant that it is one, and a phone asks again only after a second or more.
func (s *Server) member(ctx context.Context, client net.HardwareAddr) bool {
	if s.config.Allowed == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, memberWait)
	defer cancel()
	for !s.config.Allowed(slices.Clone(client)) {
		if !pause(ctx, memberPoll) {
			return false
		}
	}
	return true
}

// answer decides what to say to a member's request, nil for nothing, and whether bindings changed. from is the sender's
// IPv4 address; of a client without one it is the broadcast address. The caller holds mu.
func (s *Server) answer(now time.Time, from netip.Addr, m *dhcpv4.DHCPv4) (reply *dhcpv4.DHCPv4, changed bool) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != 1 || len(m.ClientHWAddr) != 6 || !m.GatewayIPAddr.Equal(net.IPv4zero) {
		return nil, false
	}
	client := mac(m.ClientHWAddr)
	if client == (macAddr{}) || client[0]&1 != 0 {
		return nil, false // no device's
	}
	self := s.config.Subnet.Addr()
	server, named := ip4(m.ServerIdentifier())
	if named && server != self {
		// Its offer was taken, not ours.
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			s.pool.withdraw(client)
		}
		return nil, false
	}
	asked, _ := ip4(m.RequestedIPAddress())
	current, _ := ip4(m.ClientIPAddr)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		a, ok := s.pool.offer(now, client, asked)
		switch {
		case !ok:
			s.logger.Warn("DHCP pool exhausted", "ifname", s.config.Ifname)
			return nil, false
		case m.Options.Has(dhcpv4.OptionRapidCommit):
			changed = s.pool.bind(now, client, a)
			return s.lease(m, dhcpv4.MessageTypeAck, a, dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil)), changed
		}
		return s.lease(m, dhcpv4.MessageTypeOffer, a), false
	case dhcpv4.MessageTypeRequest:
		want := cmp.Or(asked, current)
		if !s.pool.mayHave(now, client, want) {
			return s.reply(m, dhcpv4.MessageTypeNak), false
		}
		changed = s.pool.bind(now, client, want)
		return s.lease(m, dhcpv4.MessageTypeAck, want), changed
	case dhcpv4.MessageTypeDecline:
		return nil, s.pool.decline(now, client, asked)
	case dhcpv4.MessageTypeRelease:
		// It is sent from the address that is given back. Somebody else's word for it does not count.
		if from == current {
			s.pool.release(client, current)
		}
	case dhcpv4.MessageTypeInform:
		if from != current || !s.config.Subnet.Contains(current) {
			return nil, false
		}
		return s.reply(m, dhcpv4.MessageTypeAck, dhcpv4.OptSubnetMask(net.CIDRMask(s.config.Subnet.Bits(), 32))), false
	}
	return nil, false
}

func (s *Server) reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.config.Subnet.Addr().AsSlice())))
	if err != nil {
		return nil
	}
	// The library copies it; here is no relay.
	r.Options.Del(dhcpv4.OptionRelayAgentInformation)
	for _, o := range options {
		r.UpdateOption(o)
	}
	return r
}

func (s *Server) lease(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, a netip.Addr, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	r := s.reply(m, kind, append(options,
		dhcpv4.OptSubnetMask(net.CIDRMask(s.config.Subnet.Bits(), 32)),
		dhcpv4.OptIPAddressLeaseTime(leaseTime),
		dhcpv4.OptRenewTimeValue(s.renew),
		dhcpv4.OptRebindingTimeValue(s.rebind))...)
	if r != nil {
		r.YourIPAddr = a.AsSlice()
	}
	return r
}

func ip4(raw net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(raw)
	a = a.Unmap()
	if !ok || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}, false
	}
	return a, true
}
