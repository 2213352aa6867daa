package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
)

var (
	// ErrNotFound says that the link does not exist (any more). It matches fs.ErrNotExist.
	ErrNotFound = fmt.Errorf("no such link: %w", fs.ErrNotExist)
	// ErrDenied says that the process lacks CAP_NET_ADMIN. It matches fs.ErrPermission.
	ErrDenied = fmt.Errorf("changing links is not permitted: %w", fs.ErrPermission)
	// ErrNoIPv6 says that a group link can have neither an IPv6 nor an IPv4 address: the kernel's IPv6 is off and no IPv4
	// prefix was given.
	ErrNoIPv6 = errors.New("IPv6 is off and there is no IPv4 address to use instead")
	// ErrTaken says that an IPv4 address for a group link is already this machine's own on another link.
	ErrTaken = errors.New("the address is this machine's own on another link")
	// ErrNoSubnet says that every subnet of the list overlaps an address or a route of this machine.
	ErrNoSubnet = errors.New("no free subnet")
)

// Kind is what a link is, as far as it matters for reaching other devices.
type Kind int

// The kinds of link. A veth that is neither a bridge port nor named like one of a container engine's counts as Ethernet:
// inside a container or a network namespace it is the machine's network card.
const (
	Other    Kind = iota // anything else: CAN, InfiniBand, raw IP modems
	Ethernet             // wired, or looks so: also VLAN, bond, team, macvlan
	WiFi                 // wireless, managed by somebody else: a client of an access point, an access point, a mesh
	Direct               // the interface of a Wi-Fi Direct group
	Bridge               // a bridge; usable only when it has a port that is a machine's own
	Virtual              // made by container engines and for tests: veth, dummy, ifb
	Tunnel               // VPN and the like: TUN/TAP, WireGuard, GRE, PPP
	Loopback
)

var kindNames = [...]string{"other", "ethernet", "wifi", "direct", "bridge", "virtual", "tunnel", "loopback"}

// String returns the kind in lower case, such as "wifi".
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind(%d)", int(k))
	}
	return kindNames[k]
}

// MarshalText returns what String returns.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Link is one network link, as it was at one moment.
type Link struct {
	Index        int // ifindex; never reused for another link while the machine is up
	Name         string
	Kind         Kind
	HardwareAddr net.HardwareAddr
	MTU          int
	Up           bool           // has a carrier: administratively up, and the other end is there
	Usable       bool           // other devices can be looked for on it
	Why          string         // why it is not usable; empty when it is
	Prefixes     []netip.Prefix // addresses that can be used now, sorted; tentative ones are left out
}

// Finding is the result of one check of [Diagnose].
type Finding struct {
	ID    string // stable word, such as "ipv6-off"
	State string // "ok", "warn" or "fail"
	Cause string // what is so, in one sentence
	Fix   string // the one thing to do; empty when there is nothing to do
}
