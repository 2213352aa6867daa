package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"
)

const (
	firstRetransmit = 250 * time.Millisecond // doubled each time; the first frame on a new link is easily lost
	tries           = 8
	leaseMin        = time.Minute
	leaseMax        = 24 * time.Hour
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
}

// Acquire asks for an address on a link and returns it; it configures nothing. It blocks until a server answered, ctx
// ended, or eight tries went unheard, which takes a minute: give ctx a deadline. It needs CAP_NET_RAW. A server that can
// give a lease in one exchange (RFC 4039) is taken at its word. The errors are ErrNoAnswer, ErrRefused and those of ctx.
func Acquire(ctx context.Context, ifname string) (Lease, error) {
	l, err := acquire(ctx, ifname)
	if err != nil {
		return Lease{}, fmt.Errorf("dhcp: address for %s: %w", ifname, err)
	}
	return l, nil
}

func acquire(ctx context.Context, ifname string) (Lease, error) {
	c, err := nclient4.New(ifname, nclient4.WithTimeout(firstRetransmit), nclient4.WithRetry(tries))
	if err != nil {
		return Lease{}, err
	}
	defer func() { _ = c.Close() }()
	discover, err := dhcpv4.NewDiscovery(c.InterfaceAddr(), dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask))
	if err != nil {
		return Lease{}, err
	}
	answer, err := c.SendAndRead(ctx, nclient4.DefaultServers, discover, func(m *dhcpv4.DHCPv4) bool {
		return m.MessageType() == dhcpv4.MessageTypeOffer || m.MessageType() == dhcpv4.MessageTypeAck && m.Options.Has(dhcpv4.OptionRapidCommit)
	})
	if err != nil {
		return Lease{}, answered(err)
	}
	if answer.MessageType() == dhcpv4.MessageTypeOffer {
		if _, err := leaseOf(answer); err != nil {
			return Lease{}, err
		}
		lease, err := c.RequestFromOffer(ctx, answer)
		if err != nil {
			return Lease{}, answered(err)
		}
		answer = lease.ACK
	}
	return leaseOf(answer)
}

func answered(err error) error {
	var nak *nclient4.ErrNak
	switch {
	case errors.Is(err, nclient4.ErrNoResponse):
		return ErrNoAnswer
	case errors.As(err, &nak):
		return ErrRefused
	}
	return err
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
	p := netip.PrefixFrom(a, bits)
	switch {
	case !ok || !named || size != 32 || bits < 8 || bits > 30:
		return Lease{}, fmt.Errorf("%w: %v/%v from %v", ErrRefused, m.YourIPAddr, mask, m.ServerIdentifier())
	case !a.IsPrivate() && !a.IsLinkLocalUnicast():
		// A public address on a link without a router would only take that address out of our reach.
		return Lease{}, fmt.Errorf("%w: %v is not private", ErrRefused, a)
	case a == server || a == p.Masked().Addr() || a == broadcast(p):
		return Lease{}, fmt.Errorf("%w: %v is not a device's", ErrRefused, p)
	}
	return Lease{Prefix: p, Server: server, Duration: min(max(m.IPAddressLeaseTime(leaseMin), leaseMin), leaseMax)}, nil
}

func broadcast(p netip.Prefix) netip.Addr {
	raw := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		raw[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(raw)
}

// listenAlone binds the server's port on a link without sharing it.
func listenAlone(ifname string) (net.PacketConn, error) {
	var failed error
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		err := c.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), ifname) })
		return errors.Join(err, failed)
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", dhcpv4.ServerPort))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w (%w)", ErrPortTaken, err)
	}
	return conn, err
}
