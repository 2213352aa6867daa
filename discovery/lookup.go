package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// ErrUnknownHost says that nobody on the links has the name.
var ErrUnknownHost = errors.New("no such host on these links")

// lookupAgain is when a question is asked again: a packet may be lost.
var lookupAgain = []time.Duration{0, 250 * time.Millisecond, time.Second}

// lookupMax bounds the addresses that one answer gives.
const lookupMax = 16

// Lookup asks on all links in use for the addresses of a host such as "kitchen.local", and returns those of the first answer;
// a link-local IPv6 address has the link's name as zone. It blocks until then or until ctx ends. The error wraps ErrUnknownHost.
// Whoever is on the link may answer: an address is a hint, as everything here.
func (d *Discovery) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	name := dns.CanonicalName(host)
	if _, ok := dns.IsDomainName(name); !ok || !strings.HasSuffix(name, ".local.") {
		return nil, fmt.Errorf("discovery: %w: %.80q", ErrUnknownHost, host)
	}
	question := new(dns.Msg)
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		question.Question = append(question.Question, dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET})
	}
	data, err := question.Pack()
	if err != nil {
		return nil, fmt.Errorf("discovery: %w: %w", ErrUnknownHost, err)
	}
	d.mu.Lock()
	links := slices.Clone(d.wanted)
	d.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	found := make(chan []netip.Addr, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for _, ifi := range links {
		for _, v6 := range []bool{false, true} {
			if !ifi.has(v6) {
				continue
			}
			s, err := openSocket(ifi, v6)
			if err != nil {
				d.logger.Debug("Looking a host up on a link failed", "ifname", ifi.Name, "err", err)
				continue
			}
			asking.Go(func() { <-ctx.Done(); _ = s.conn.Close() })
			asking.Go(func() { ask(ctx, s, data) })
			asking.Go(func() {
				if addrs := heard(ctx, s, ifi, name); len(addrs) > 0 {
					select {
					case found <- addrs:
					default:
					}
				}
			})
		}
	}
	select {
	case addrs := <-found:
		return addrs, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("discovery: %w: %w", ErrUnknownHost, ctx.Err())
	}
}

// ask sends a question some times.
func ask(ctx context.Context, s *socket, data []byte) {
	for _, wait := range lookupAgain {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		_ = s.send(data) // the next one, or another link, may do better
	}
}

// heard returns the addresses of the first answer about a host that comes from the link.
func heard(ctx context.Context, s *socket, ifi Interface, name string) (addrs []netip.Addr) {
	buf := make([]byte, packetMaxBytes+1)
	var limit flood
	for ctx.Err() == nil {
		p, err := s.read(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(readPause):
			}
			continue
		}
		// RFC 6762 11.
		if len(p.data) > packetMaxBytes || p.src.Port() != mdnsPort || p.hops != mdnsHops || !ifi.onLink(p.src.Addr()) || !limit.allow(time.Now(), p.src.Addr()) {
			continue
		}
		msg := new(dns.Msg)
		if msg.Unpack(p.data) != nil || !msg.Response {
			continue
		}
		if addrs := hostAddresses(msg, ifi, name); len(addrs) > 0 {
			return addrs
		}
	}
	return nil
}

// hostAddresses are those that a response gives for a host.
func hostAddresses(msg *dns.Msg, ifi Interface, name string) (addrs []netip.Addr) {
	for _, rr := range slices.Concat(msg.Answer, msg.Extra) {
		if len(addrs) == lookupMax {
			break
		}
		if !strings.EqualFold(rr.Header().Name, name) || rr.Header().Ttl == 0 {
			continue
		}
		addr, ok := netip.AddrFromSlice(rawAddress(rr))
		if addr = addr.Unmap(); !ok || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLoopback() {
			continue
		}
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(ifi.Name)
		}
		addrs = append(addrs, addr)
	}
	return addrs
}
