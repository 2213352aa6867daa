package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

const (
	firstRetransmit = 250 * time.Millisecond // doubled each time; the first frame on a new link is easily lost
	tries           = 8
	extendTries     = 3 // of one attempt to extend a lease
	leaseMin        = time.Minute
	leaseMax        = 24 * time.Hour // whatever a server says
	bitsMin         = 16             // a shorter prefix would draw networks to the group that are elsewhere
	bitsMax         = 30             // a longer prefix has no room for a router and us
)

var (
	// ErrNoAnswer says that no server answered.
	ErrNoAnswer = errors.New("no DHCP server answered")
	// ErrRefused says that a server refused the address, or offered one that cannot be used.
	ErrRefused = errors.New("no usable address from the DHCP server")
)

// Lease is an address that a DHCP server lends us. Routers and DNS servers that it names are left out: a group is not a way
// to the Internet.
type Lease struct {
	Prefix   netip.Prefix  // our address with the prefix length
	Server   netip.Addr    // who lends it
	Duration time.Duration // for how long, within a minute and a day
	Renew    time.Duration // T1: when to ask this server for more, after it was lent; less than Rebind
	Rebind   time.Duration // T2: when to ask any server; less than Duration
}

// ClientConfig configures a client.
type ClientConfig struct {
	Logger *slog.Logger // nil discards
	Ifname string
	// Owner is the hardware address of the only device that may answer, the group owner's; nil lets anybody.
	Owner net.HardwareAddr
	// Refuse says why an address cannot be used, beside what is never used; nil refuses none. It must not block.
	Refuse func(netip.Prefix) error
}

// Acquire asks for an address on a link and returns it; it configures nothing. It blocks until a server answered, ctx
// ended, or eight tries went unheard, which takes a minute: give ctx a deadline. It needs CAP_NET_RAW. A server that can
// give a lease in one exchange (RFC 4039) is taken at its word. The errors are ErrNoAnswer, ErrRefused and those of ctx.
func Acquire(ctx context.Context, c ClientConfig) (Lease, error) {
	l, err := client{c}.acquire(ctx)
	if err != nil {
		return Lease{}, fmt.Errorf("dhcp: address for %s: %w", c.Ifname, err)
	}
	return l, nil
}

// client speaks DHCP on one link, with a socket for each exchange.
type client struct{ ClientConfig }

// open makes a client of the library that sends from an unconfigured link, to everybody.
func (c client) open(attempts int) (*nclient4.Client, error) {
	ifi, err := net.InterfaceByName(c.Ifname)
	if err != nil {
		return nil, err
	}
	raw, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, nil)
	if err != nil {
		return nil, err
	}
	var conn net.PacketConn = raw
	if c.Owner != nil {
		conn = ownerConn{raw, c.Owner}
	}
	// The library closes the socket with the client.
	return nclient4.NewWithConn(nclient4.NewBroadcastUDPConn(conn, &net.UDPAddr{Port: dhcpv4.ClientPort}), ifi.HardwareAddr,
		nclient4.WithTimeout(firstRetransmit), nclient4.WithRetry(attempts))
}

// ownerConn hears one device only. A group owner passes on the frames of its members under their own addresses, so a
// member cannot pretend to be it.
type ownerConn struct {
	net.PacketConn
	owner net.HardwareAddr
}

// ReadFrom returns the next packet that the owner sent.
func (o ownerConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := o.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		if a, ok := from.(*packet.Addr); ok && bytes.Equal(a.HardwareAddr, o.owner) {
			return n, from, nil
		}
	}
}

func (c client) acquire(ctx context.Context) (Lease, error) {
	nc, err := c.open(tries)
	if err != nil {
		return Lease{}, err
	}
	defer func() { _ = nc.Close() }()
	discover, err := dhcpv4.NewDiscovery(nc.InterfaceAddr(), dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask))
	if err != nil {
		return Lease{}, err
	}
	// An offer that cannot be used does not keep a later one from being heard.
	var refused error
	answer, err := nc.SendAndRead(ctx, nclient4.DefaultServers, discover, func(m *dhcpv4.DHCPv4) bool {
		rapid := m.MessageType() == dhcpv4.MessageTypeAck && m.Options.Has(dhcpv4.OptionRapidCommit)
		if m.MessageType() != dhcpv4.MessageTypeOffer && !rapid {
			return false
		}
		_, err := c.check(m)
		if err != nil {
			refused = err
		}
		return err == nil
	})
	if err != nil {
		return Lease{}, answered(err, refused)
	}
	offered, err := c.check(answer)
	if err != nil || answer.MessageType() == dhcpv4.MessageTypeAck {
		return offered, err
	}
	lease, err := nc.RequestFromOffer(ctx, answer)
	if err != nil {
		return Lease{}, answered(err, nil)
	}
	return c.same(lease.ACK, offered)
}

// extend asks for more time: the server that lent the address, or any.
func (c client) extend(ctx context.Context, l Lease, anybody bool) (Lease, error) {
	var nc *nclient4.Client
	var err error
	to := nclient4.DefaultServers
	if anybody {
		nc, err = c.open(extendTries)
	} else {
		nc, err = c.openUnicast(ctx, l)
		to = &net.UDPAddr{IP: l.Server.AsSlice(), Port: dhcpv4.ServerPort}
	}
	if err != nil {
		return Lease{}, err
	}
	defer func() { _ = nc.Close() }()
	ask, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(nc.InterfaceAddr()),
		dhcpv4.WithClientIP(l.Prefix.Addr().AsSlice()), dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask))
	if err != nil {
		return Lease{}, err
	}
	answer, err := nc.SendAndRead(ctx, to, ask, func(m *dhcpv4.DHCPv4) bool {
		server, ok := ip4(m.ServerIdentifier())
		return ok && (anybody || server == l.Server) && (m.MessageType() == dhcpv4.MessageTypeAck || m.MessageType() == dhcpv4.MessageTypeNak)
	})
	switch {
	case err != nil:
		return Lease{}, answered(err, nil)
	case answer.MessageType() == dhcpv4.MessageTypeNak:
		return Lease{}, ErrRefused
	}
	return c.same(answer, l)
}

// openUnicast makes a client that sends from the address that was lent, on its link.
func (c client) openUnicast(ctx context.Context, l Lease) (*nclient4.Client, error) {
	ifi, err := net.InterfaceByName(c.Ifname)
	if err != nil {
		return nil, err
	}
	conn, err := listenOn(ctx, c.Ifname, netip.AddrPortFrom(l.Prefix.Addr(), dhcpv4.ClientPort))
	if err != nil {
		return nil, err
	}
	return nclient4.NewWithConn(conn, ifi.HardwareAddr, nclient4.WithTimeout(firstRetransmit), nclient4.WithRetry(extendTries))
}

// answered translates the library's errors; refused is why offers were not taken.
func answered(err, refused error) error {
	var nak *nclient4.ErrNak
	switch {
	case errors.As(err, &nak):
		return ErrRefused
	case refused != nil:
		return refused
	case errors.Is(err, nclient4.ErrNoResponse):
		return ErrNoAnswer
	}
	return err
}

// check returns what a server gives us, if it can be used here.
func (c client) check(m *dhcpv4.DHCPv4) (Lease, error) {
	l, err := leaseOf(m)
	if err != nil || c.Refuse == nil {
		return l, err
	}
	if err := c.Refuse(l.Prefix); err != nil {
		return Lease{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return l, nil
}

// same checks that a server confirms what was agreed.
func (c client) same(m *dhcpv4.DHCPv4, agreed Lease) (Lease, error) {
	l, err := c.check(m)
	if err == nil && l.Prefix != agreed.Prefix {
		return Lease{}, fmt.Errorf("%w: %v instead of %v", ErrRefused, l.Prefix, agreed.Prefix)
	}
	return l, err
}

// leaseOf checks what a server, which may be anybody, gives us.
func leaseOf(m *dhcpv4.DHCPv4) (Lease, error) {
	a, ok := ip4(m.YourIPAddr)
	server, named := ip4(m.ServerIdentifier())
	mask := m.SubnetMask()
	bits, size := mask.Size()
	if mask == nil {
		bits, size = 24, 32
	}
	if !ok || !named || size != 32 {
		return Lease{}, fmt.Errorf("%w: %v/%v from %v", ErrRefused, m.YourIPAddr, mask, m.ServerIdentifier())
	}
	p := netip.PrefixFrom(a, bits)
	if err := CheckAddress(p); err != nil {
		return Lease{}, err
	}
	if a == server {
		return Lease{}, fmt.Errorf("%w: %v is the server's own", ErrRefused, a)
	}
	l := Lease{Prefix: p, Server: server, Duration: min(max(m.IPAddressLeaseTime(leaseMin), leaseMin), leaseMax)}
	l.Renew, l.Rebind = m.IPAddressRenewalTime(0), m.IPAddressRebindingTime(0)
	if l.Rebind <= 0 || l.Rebind >= l.Duration {
		l.Rebind = l.Duration * 7 / 8
	}
	if l.Renew <= 0 || l.Renew >= l.Rebind {
		l.Renew = min(l.Duration/2, l.Rebind/2)
	}
	return l, nil
}

// CheckAddress says whether an IPv4 address that somebody in a group gives us, with its prefix length, can be ours: private,
// of a network that is neither huge nor tiny, and neither the network itself nor its broadcast address. The error wraps
// ErrRefused.
func CheckAddress(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case !a.Is4() || p.Bits() < bitsMin || p.Bits() > bitsMax:
		return fmt.Errorf("%w: %v", ErrRefused, p)
	case !a.IsPrivate() && !a.IsLinkLocalUnicast():
		// A public address on a link without a router would only take that address out of our reach.
		return fmt.Errorf("%w: %v is not private", ErrRefused, a)
	case a == p.Masked().Addr() || a == broadcast(p):
		return fmt.Errorf("%w: %v is not a device's", ErrRefused, p)
	}
	return nil
}

func broadcast(p netip.Prefix) netip.Addr {
	raw := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		raw[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(raw)
}

// listenOn binds a UDP address on a link, without sharing it.
func listenOn(ctx context.Context, ifname string, at netip.AddrPort) (net.PacketConn, error) {
	var failed error
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		err := c.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), ifname) })
		return errors.Join(err, failed)
	}}
	return lc.ListenPacket(ctx, "udp4", at.String())
}
