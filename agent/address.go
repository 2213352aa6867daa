package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
)

// Bounds of an address that a person types.
const (
	maxHost      = 253 // bytes of a host name (RFC 1035 2.3.4)
	maxHostLabel = 63
	maxResolved  = 8 // addresses of one host name
	resolveLimit = 3 * time.Second
	maxZone      = 15 // bytes of a link's name
	zoneBytes    = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+:"
	defaultTyped = rendezvousPort
	addressUsage = "write 10.0.0.2, 10.0.0.2:7421, fe80::1%eth0, [fe80::1%eth0]:7421 or a host name such as nas.lan"
)

// place is HOST[:PORT] as a person types it: an address, or the name of a host.
type place struct {
	addr netip.Addr // zero for a name
	host string     // the name, in lower case
	port uint16
}

// String returns the place as it is remembered and shown; equal places have equal
// texts.
func (p place) String() string {
	host := p.host
	if p.addr.IsValid() {
		host = p.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(p.port)))
}

// parsePlace reads HOST[:PORT]. It returns false for what is a word for a device
// instead: a host name has a dot or comes with a port. The error, a
// [*control.Error], is for what is meant to be an address and is none.
func parsePlace(word string) (place, bool, error) {
	word = strings.TrimSpace(word)
	if _, err := net.ParseMAC(word); err == nil || word == "" {
		return place{}, false, nil
	}
	if addr, err := netip.ParseAddr(word); err == nil {
		return checkedPlace(place{addr: addr, port: defaultTyped})
	}
	if host, rest, ok := bracketed(word); ok {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return badPlace(host + " is no IPv6 address")
		}
		if rest == "" {
			return checkedPlace(place{addr: addr, port: defaultTyped})
		}
		port, err := parsePort(strings.TrimPrefix(rest, ":"))
		if err != nil || rest[0] != ':' {
			return badPlace(word + " has no port from 1 to 65535 behind the bracket")
		}
		return checkedPlace(place{addr: addr, port: port})
	}
	if strings.HasPrefix(word, "[") {
		return badPlace(word + " lacks its closing bracket")
	}
	host, port, withPort := strings.Cut(word, ":")
	if strings.Contains(port, ":") {
		if strings.Trim(strings.ToLower(before(word, "%")), "0123456789abcdef:.") == "" {
			return badPlace(word + " is no IPv6 address")
		}
		return place{}, false, nil
	}
	p := place{port: defaultTyped}
	if looksLikeIPv4(host) {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return badPlace(host + " is no IPv4 address")
		}
		p.addr = addr
	} else if p.host = strings.ToLower(host); !isHost(p.host) || !withPort && !strings.Contains(host, ".") {
		return place{}, false, nil
	}
	if withPort {
		n, err := parsePort(port)
		if err != nil && p.host != "" && (port == "" || strings.Trim(port, "0123456789") != "") {
			return place{}, false, nil // DEVICE:SHARE
		}
		if err != nil {
			return badPlace(word + " has no port from 1 to 65535")
		}
		p.port = n
	}
	return checkedPlace(p)
}

func bracketed(word string) (host, rest string, ok bool) {
	inner, found := strings.CutPrefix(word, "[")
	if !found {
		return "", "", false
	}
	return strings.Cut(inner, "]")
}

func before(s, sep string) string {
	b, _, _ := strings.Cut(s, sep)
	return b
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("agent: no port")
	}
	return uint16(n), nil
}

// looksLikeIPv4 reports whether a word of digits and dots means an address.
func looksLikeIPv4(s string) bool {
	return strings.Contains(s, ".") && strings.Trim(s, ".") != "" && strings.Trim(s, "0123456789.") == ""
}

// isHost reports whether s can be a host name: letters, digits, hyphens and, as
// some networks have them, underscores.
func isHost(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxHostLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// checkedPlace refuses addresses that are not those of one device.
func checkedPlace(p place) (place, bool, error) {
	zone := p.addr.Zone()
	if p.addr = p.addr.Unmap(); !p.addr.IsLinkLocalUnicast() {
		p.addr = p.addr.WithZone("") // it means nothing
	}
	switch a := p.addr; {
	case !a.IsValid():
	case len(zone) > maxZone || strings.Trim(zone, zoneBytes) != "":
		return badPlace("there is no link called " + zone)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return badPlace(a.String() + " is not the address of one device")
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return badPlace(a.String() + " needs the link that it is on")
	}
	return p, true, nil
}

func badPlace(message string) (place, bool, error) {
	return place{}, true, &control.Error{Code: control.CodeUsage, Message: clean.Name(message, 200), Hint: addressUsage}
}

// resolve returns the addresses of p: itself, or what the system's resolver says,
// for .local mDNS. It waits at most 3 s.
func (a *Agent) resolvePlace(ctx context.Context, p place) ([]netip.AddrPort, error) {
	if p.addr.IsValid() {
		if zone := p.addr.Zone(); zone != "" {
			if _, err := net.InterfaceByName(zone); err != nil {
				if _, numeric := strconv.Atoi(zone); numeric != nil {
					return nil, &control.Error{Code: control.CodeUsage, Message: "there is no link called " + clean.Name(zone, 40), Hint: "nigh status lists the links"}
				}
			}
		}
		return []netip.AddrPort{netip.AddrPortFrom(p.addr, p.port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	found, err := a.lookup(ctx, p.host)
	if err != nil || len(found) == 0 {
		return nil, &control.Error{Code: control.CodeNotFound, Message: "no address is known for the host " + clean.Name(p.host, 80), Hint: "check the name, or type the address"}
	}
	var all []netip.AddrPort
	for _, addr := range found[:min(len(found), maxResolved)] {
		all = append(all, netip.AddrPortFrom(addr.Unmap(), p.port))
	}
	return all, nil
}

// lookup asks the system's resolver, and for a name of mDNS the links at the same
// time: few systems have a resolver that does that.
func (a *Agent) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	ask := []func() ([]netip.Addr, error){func() ([]netip.Addr, error) { return net.DefaultResolver.LookupNetIP(ctx, "ip", host) }}
	if name := strings.TrimSuffix(host, "."); strings.HasSuffix(name, ".local") {
		ask = append(ask, func() ([]netip.Addr, error) { return a.finder.Lookup(ctx, name) })
	}
	answers := make(chan answer, len(ask))
	for _, fn := range ask {
		go func() { // ends with ctx; its answer has room
			addrs, err := fn()
			answers <- answer{addrs, err}
		}()
	}
	var err error
	for range ask {
		r := <-answers
		if r.err == nil && len(r.addrs) > 0 {
			return r.addrs, nil
		}
		err = errors.Join(err, r.err)
	}
	return nil, err
}
