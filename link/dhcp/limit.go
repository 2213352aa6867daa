package dhcp

import (
	"net"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/time/rate"
)

// Where a DHCP packet has what decides on it (RFC 2131 figure 1).
const (
	hardwareTypeAt   = 1
	hardwareLengthAt = 2
	relayAt          = 24
	hardwareAt       = 28
	fixedBytes       = 240 // with the magic cookie
)

// limitedConn keeps floods, and what is no DHCP request, from the library, which starts a goroutine for each packet. Members
// have a limit each and one together; all others have a small one of their own.
type limitedConn struct {
	net.PacketConn
	allowed   func(net.HardwareAddr) bool // nil allows all
	all       *rate.Limiter
	strangers *rate.Limiter
	clients   map[macAddr]*rate.Limiter // of members only, so it is as small as the group
	busy      sync.WaitGroup
}

func newLimitedConn(conn net.PacketConn, allowed func(net.HardwareAddr) bool) *limitedConn {
	return &limitedConn{PacketConn: conn, allowed: allowed, clients: map[macAddr]*rate.Limiter{},
		all: rate.NewLimiter(packetsPerSecond, packetsPerSecond), strangers: rate.NewLimiter(strangersPerSec, strangersPerSec)}
}

// ReadFrom returns the next packet that is worth looking at.
func (c *limitedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil || c.pass(b[:n]) {
			return n, from, err
		}
	}
}

// pass says whether a packet is a request of an Ethernet device on this link, and within the limits.
func (c *limitedConn) pass(b []byte) bool {
	if len(b) < fixedBytes || len(b) > packetMaxBytes || b[0] != byte(dhcpv4.OpcodeBootRequest) || b[hardwareTypeAt] != 1 || b[hardwareLengthAt] != 6 ||
		[4]byte(b[relayAt:]) != [4]byte{} {
		return false
	}
	if c.allowed == nil {
		return c.all.Allow()
	}
	client := macAddr(b[hardwareAt:])
	if !c.allowed(net.HardwareAddr(client[:])) {
		return c.strangers.Allow()
	}
	own := c.clients[client]
	if own == nil {
		if len(c.clients) >= clientsMax {
			clear(c.clients) // members come and go; what is forgotten is a burst
		}
		own = rate.NewLimiter(clientPerSecond, clientBurst)
		c.clients[client] = own
	}
	return own.Allow() && c.all.Allow()
}
