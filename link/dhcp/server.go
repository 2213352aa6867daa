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
	"golang.org/x/time/rate"
)

const (
	packetsPerSecond = 20
	packetMaxBytes   = 1500
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
	// Store is called with all bindings after each change, never twice at a time; nil keeps them in memory only.
	Store func([]Binding)
	// Allowed says whether a device is a member of the group; nil allows all. It must not block.
	Allowed func(net.HardwareAddr) bool
}

// Server is a DHCP server for one link.
type Server struct {
	config Config
	logger *slog.Logger

	mu   sync.Mutex
	pool *pool // guarded by mu

	storing sync.Mutex // held while Store runs
}

// NewServer checks the configuration. The error wraps ErrConfig.
func NewServer(c Config) (*Server, error) {
	s := &Server{config: c, logger: c.Logger}
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
	limited := &limitedConn{PacketConn: conn, limit: rate.NewLimiter(packetsPerSecond, packetsPerSecond)}
	srv, err := server4.NewServer(s.config.Ifname, nil, func(conn net.PacketConn, to net.Addr, m *dhcpv4.DHCPv4) {
		limited.busy.Add(1)
		defer limited.busy.Done()
		s.handle(conn, to, m)
	}, server4.WithConn(limited))
	if err != nil {
		return errors.Join(fmt.Errorf("dhcp: serve on %s: %w", s.config.Ifname, err), conn.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err = srv.Serve()
	limited.busy.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dhcp: serve on %s: %w", s.config.Ifname, err)
}

// portFree finds other servers: the library shares the port (SO_REUSEPORT), so binding it would succeed.
func portFree(ifname string) error {
	conn, err := listenAlone(ifname)
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

// limitedConn keeps floods, and what is no DHCP request, from the library, which starts a goroutine for each packet.
type limitedConn struct {
	net.PacketConn
	limit *rate.Limiter
	busy  sync.WaitGroup
}

// ReadFrom returns the next packet that is worth looking at.
func (c *limitedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil || n <= packetMaxBytes && n > 0 && b[0] == byte(dhcpv4.OpcodeBootRequest) && c.limit.Allow() {
			return n, from, err
		}
	}
}

// handle answers one packet. A panic ends that packet only.
func (s *Server) handle(conn net.PacketConn, to net.Addr, m *dhcpv4.DHCPv4) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("DHCP request ended in a panic", "ifname", s.config.Ifname, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	s.mu.Lock()
	reply, changed := s.answer(time.Now(), m)
	s.mu.Unlock()
	if changed && s.config.Store != nil {
		s.storing.Lock()
		s.config.Store(s.Bindings())
		s.storing.Unlock()
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

// answer decides what to say to a request, nil for nothing, and whether bindings changed. The caller holds mu.
func (s *Server) answer(now time.Time, m *dhcpv4.DHCPv4) (reply *dhcpv4.DHCPv4, changed bool) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != 1 || len(m.ClientHWAddr) != 6 ||
		!m.GatewayIPAddr.Equal(net.IPv4zero) || s.config.Allowed != nil && !s.config.Allowed(slices.Clone(m.ClientHWAddr)) {
		return nil, false
	}
	client := mac(m.ClientHWAddr)
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
			s.pool.bind(now, client, a)
			return s.lease(m, dhcpv4.MessageTypeAck, a, dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil)), true
		}
		return s.lease(m, dhcpv4.MessageTypeOffer, a), false
	case dhcpv4.MessageTypeRequest:
		want := cmp.Or(asked, current)
		if !s.pool.mayHave(now, client, want) {
			return s.reply(m, dhcpv4.MessageTypeNak), false
		}
		s.pool.bind(now, client, want)
		return s.lease(m, dhcpv4.MessageTypeAck, want), true
	case dhcpv4.MessageTypeDecline:
		return nil, s.pool.decline(now, client, asked)
	case dhcpv4.MessageTypeRelease:
		s.pool.release(client, current)
	case dhcpv4.MessageTypeInform:
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
	for _, o := range options {
		r.UpdateOption(o)
	}
	return r
}

func (s *Server) lease(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, a netip.Addr, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	r := s.reply(m, kind, append(options,
		dhcpv4.OptSubnetMask(net.CIDRMask(s.config.Subnet.Bits(), 32)),
		dhcpv4.OptIPAddressLeaseTime(leaseTime),
		dhcpv4.OptRenewTimeValue(leaseTime/2),
		dhcpv4.OptRebindingTimeValue(leaseTime*7/8))...)
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
