package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	mdnsPort       = 5353
	mdnsHops       = 255
	packetMaxBytes = 9000 // RFC 6762 17
	sendWait       = time.Second
	receiveBuffer  = 1 << 20                // bytes, of the kernel's memory while packets wait
	readPause      = 100 * time.Millisecond // after an error of a socket, which may be lasting
)

var (
	group4 = netip.AddrFrom4([4]byte{224, 0, 0, 251})
	group6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0xfb})
)

// packet is one datagram that came to the mDNS group on the socket's link.
type packet struct {
	data []byte
	src  netip.AddrPort // without zone
	hops int            // TTL or hop limit; -1 when the kernel did not tell
	lost bool           // it is none, but says that some were not looked at because there were too many
}

// socket is the mDNS group of one address family on one link.
type socket struct {
	v6   bool
	conn net.PacketConn
	p4   *ipv4.PacketConn
	p6   *ipv6.PacketConn
}

// openSocket joins the mDNS group on a link. The socket is bound to the link first (which needs no privilege while it is
// unbound, since Linux 5.7) and then to the group's own address and not to the wildcard: so it never receives the unicast
// packets of an avahi-daemon beside it, and nothing of another link.
func openSocket(ifi Interface, v6 bool) (*socket, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "mdns")
	// FilePacketConn duplicates the descriptor.
	defer f.Close()
	if err := prepare(fd, ifi, v6); err != nil {
		return nil, err
	}
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	s := &socket{v6: v6, conn: conn}
	if err := s.join(ifi); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func prepare(fd int, ifi Interface, v6 bool) error {
	// Both, because a socket shares the port only with those that set the same one.
	for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return os.NewSyscallError("setsockopt reuse", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifi.Index); err != nil {
		// Linux before 5.0 knows only the name.
		if err := unix.BindToDevice(fd, ifi.Name); err != nil {
			return os.NewSyscallError("bind to "+ifi.Name, err)
		}
	}
	// Hundreds may answer one question at once. Beyond the usual limit it takes CAP_NET_ADMIN; with less it works too.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: mdnsPort, Addr: group4.As4()}
	if v6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt v6only", err)
		}
		sa = &unix.SockaddrInet6{Port: mdnsPort, Addr: group6.As16(), ZoneId: uint32(ifi.Index)}
	}
	return os.NewSyscallError("bind port 5353", unix.Bind(fd, sa))
}

// join takes the link by index only: names are reused.
func (s *socket) join(ifi Interface) error {
	dev := &net.Interface{Index: ifi.Index, Name: ifi.Name}
	if s.v6 {
		s.p6 = ipv6.NewPacketConn(s.conn)
		return errors.Join(
			s.p6.JoinGroup(dev, &net.UDPAddr{IP: group6.AsSlice()}), s.p6.SetMulticastInterface(dev),
			s.p6.SetMulticastHopLimit(mdnsHops), s.p6.SetMulticastLoopback(true),
			s.p6.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface|ipv6.FlagDst, true))
	}
	s.p4 = ipv4.NewPacketConn(s.conn)
	return errors.Join(
		s.p4.JoinGroup(dev, &net.UDPAddr{IP: group4.AsSlice()}), s.p4.SetMulticastInterface(dev),
		s.p4.SetMulticastTTL(mdnsHops), s.p4.SetMulticastLoopback(true),
		s.p4.SetControlMessage(ipv4.FlagTTL|ipv4.FlagInterface|ipv4.FlagDst, true))
}

// send sends to the group. A link that cannot take the packet within a second does not get it.
func (s *socket) send(data []byte) error {
	// No zone: the socket's link decides, and a name could be another link's by now.
	to := &net.UDPAddr{IP: group4.AsSlice(), Port: mdnsPort}
	if s.v6 {
		to.IP = group6.AsSlice()
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendWait)); err != nil {
		return err
	}
	_, err := s.conn.WriteTo(data, to)
	return err
}

// read reads one packet, whose data is in buf.
func (s *socket) read(buf []byte) (packet, error) {
	p := packet{hops: -1}
	var n int
	var from net.Addr
	var err error
	var dst net.IP
	if s.v6 {
		var cm *ipv6.ControlMessage
		if n, cm, from, err = s.p6.ReadFrom(buf); cm != nil {
			p.hops, dst = cm.HopLimit, cm.Dst
		}
	} else {
		var cm *ipv4.ControlMessage
		if n, cm, from, err = s.p4.ReadFrom(buf); cm != nil {
			p.hops, dst = cm.TTL, cm.Dst
		}
	}
	if err != nil {
		return packet{}, err
	}
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return packet{}, fmt.Errorf("address %v", from)
	}
	ap := udp.AddrPort()
	p.src = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	if to, ok := netip.AddrFromSlice(dst); ok && to.Unmap() != group4 && to != group6 {
		p.hops = -1
	}
	p.data = buf[:n]
	return p, nil
}

// receive hands packets to out until the socket is closed or ctx ends.
func (s *socket) receive(ctx context.Context, out chan<- packet) {
	buf := make([]byte, packetMaxBytes+1)
	var limit flood
	for ctx.Err() == nil {
		p, err := s.read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			select {
			case <-ctx.Done():
			case <-time.After(readPause):
			}
			continue
		case len(p.data) > packetMaxBytes:
			continue
		case !limit.allow(time.Now(), p.src.Addr()):
			if limit.tell() {
				p = packet{lost: true}
				break
			}
			continue
		}
		p.data = bytes.Clone(p.data)
		select {
		case <-ctx.Done():
		case out <- p:
		}
	}
}

// sockets are those of one link, by family.
type sockets struct {
	v4, v6 *socket
	wg     sync.WaitGroup
}

func (s *sockets) each(fn func(*socket)) {
	for _, sock := range []*socket{s.v4, s.v6} {
		if sock != nil {
			fn(sock)
		}
	}
}

// send sends on all families and returns an error when none took it.
func (s *sockets) send(data []byte) error {
	var errs []error
	sent := false
	s.each(func(sock *socket) {
		if err := sock.send(data); err != nil {
			errs = append(errs, err)
			return
		}
		sent = true
	})
	if sent {
		return nil
	}
	return errors.Join(errs...)
}

// close closes the sockets and waits for their readers, whose context must have ended.
func (s *sockets) close() {
	s.each(func(sock *socket) { _ = sock.conn.Close() })
	s.wg.Wait()
	s.v4, s.v6 = nil, nil
}

const (
	floodPerSource = 200  // packets a second
	floodTotal     = 2000 // packets a second of all sources, but for floodAlways
	floodAlways    = 4    // of each source, even beyond the total: many forged sources must not silence the others
	floodSources   = 1024 // that are counted one by one
)

// flood limits how many packets a second are looked at, of each source and of all.
type flood struct {
	since time.Time
	total int
	count map[netip.Addr]int
	lost  bool // packets of sources that did not send too many were not looked at in this second
	told  bool
}

func (f *flood) allow(now time.Time, src netip.Addr) bool {
	if f.count == nil || now.Sub(f.since) >= time.Second {
		f.since, f.total, f.lost, f.told = now, 0, false, false
		f.count = map[netip.Addr]int{}
	}
	// What one source sends beyond its share must not use up that of the others.
	n := f.count[src]
	if n == floodPerSource {
		return false
	}
	if f.total >= floodTotal && n >= floodAlways || n == 0 && len(f.count) == floodSources {
		f.lost = true
		return false
	}
	f.total++
	f.count[src] = n + 1
	return true
}

// tell says, once in a second, that packets were lost to others' flooding.
func (f *flood) tell() bool {
	now := f.lost && !f.told
	f.told = f.told || now
	return now
}
