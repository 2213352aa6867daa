package lab

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Traffic is how many frames went over a segment, by what they carried.
type Traffic struct {
	All  int // every frame, once
	MDNS int // to or from UDP port 5353
	TCP  int // segments, acknowledgements and keep-alives of sessions too
	Dial int // of them, those that ask for a connection
	ARP  int // address resolution: ARP and IPv6 neighbour discovery
	Lost int // frames that the counter itself missed; they are in All
}

// Sub is the traffic since an earlier reading.
func (t Traffic) Sub(earlier Traffic) Traffic {
	return Traffic{t.All - earlier.All, t.MDNS - earlier.MDNS, t.TCP - earlier.TCP, t.Dial - earlier.Dial, t.ARP - earlier.ARP, t.Lost - earlier.Lost}
}

// Counter counts the frames on a segment from when it was made until its test ends. A frame that the bridge floods to many
// ports counts once, as on the air.
type Counter struct {
	fd int

	mu    sync.Mutex
	total Traffic // guarded by mu
}

// Apart keeps the links that are on the segment now from hearing one another, as client isolation of an access point does,
// or lets them again. A link that joins later hears all and is heard by all.
func (b *Bridge) Apart(on bool) {
	b.host.net.tb.Helper()
	state := "off"
	if on {
		state = "on"
	}
	for _, port := range b.ports {
		b.host.IP("link", "set", port, "type", "bridge_slave", "isolated", state)
	}
}

// headBytes of each frame are looked at: Ethernet, IPv6 and the flags of TCP.
const headBytes = 14 + 40 + 14

// Count begins to count. Its goroutine ends with the test.
func (b *Bridge) Count(tb testing.TB) *Counter {
	tb.Helper()
	c := &Counter{}
	c.fd = b.hear(tb, headBytes, func(frame []byte) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.total.add(frame)
	})
	return c
}

// hear is listen for the frames that the bridge forwards; it returns the socket for its statistics.
func (b *Bridge) hear(tb testing.TB, most int, take func(frame []byte)) (fd int) {
	tb.Helper()
	err := b.host.Do(func() (err error) {
		fd, err = packetSocket("br0")
		return err
	})
	if err != nil {
		tb.Fatalf("lab: listen on %s: %v", b.Name, err)
	}
	listen(tb, fd, most, take)
	return fd
}

// listen calls take, from one goroutine, with the first most bytes of each frame that a packet socket hears, which are valid
// until it returns. Goroutine and socket end with the test.
func listen(tb testing.TB, fd, most int, take func(frame []byte)) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		read(fd, make([]byte, most), stop, take)
	}()
	tb.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
}

// dropped is how many frames a packet socket missed since that was asked last.
func dropped(tb testing.TB, fd int) int {
	tb.Helper()
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		tb.Fatalf("lab: packet statistics: %v", err)
	}
	return int(stats.Drops)
}

// packetSocket hears every frame of an interface of the present namespace. All that a bridge forwards needs the bridge's own
// interface to be promiscuous.
func packetSocket(ifname string) (fd int, err error) {
	all := binary.BigEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // network byte order
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		all = unix.ETH_P_ALL << 8
	}
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	ifreq, err := unix.NewIfreq(ifname)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifreq); err != nil {
		return -1, fmt.Errorf("index of %s: %w", ifname, err)
	}
	index := int(ifreq.Uint32())
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return -1, err
	}
	mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
		return -1, err
	}
	// The stop channel is looked at between reads.
	wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
}

func read(fd int, buf []byte, stop <-chan struct{}, take func(frame []byte)) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // the time is over, or a signal came
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue // the bridge's own
		}
		take(buf[:n])
	}
}

// add counts one frame.
func (t *Traffic) add(frame []byte) {
	t.All++
	if len(frame) < 14 {
		return
	}
	var protocol byte
	var payload []byte
	switch body := frame[14:]; binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		t.ARP++
	case unix.ETH_P_IP:
		if len(body) >= 20 && len(body) >= int(body[0]&15)*4 {
			protocol, payload = body[9], body[int(body[0]&15)*4:]
		}
	case unix.ETH_P_IPV6:
		if len(body) >= 40 {
			protocol, payload = body[6], body[40:]
		}
	}
	const firstND, lastND = 133, 137 // ICMPv6 types of neighbour discovery, RFC 4861
	switch {
	case protocol == unix.IPPROTO_TCP:
		t.TCP++
		const flags, syn, ack = 13, 2, 16
		if len(payload) > flags && payload[flags]&(syn|ack) == syn {
			t.Dial++
		}
	case protocol == unix.IPPROTO_ICMPV6 && len(payload) > 0 && payload[0] >= firstND && payload[0] <= lastND:
		t.ARP++
	case protocol == unix.IPPROTO_UDP && len(payload) >= 4:
		if binary.BigEndian.Uint16(payload) == 5353 || binary.BigEndian.Uint16(payload[2:]) == 5353 {
			t.MDNS++
		}
	}
}

// Total returns what was counted so far.
func (c *Counter) Total(tb testing.TB) Traffic {
	tb.Helper()
	drops := dropped(tb, c.fd)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total.Lost += drops
	c.total.All += drops
	return c.total
}
