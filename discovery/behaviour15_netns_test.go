//go:build netns

package discovery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"nigh/lab"
	"nigh/lab/avahi"
)

// residentMax is what a device may need at most, whatever comes.
const residentMax = 32 << 20

// newcomers starts nighs, one on each host, and returns how long p took to show each; ttlMax stands for one that it did not
// show in time. Nobody is waited for before the next starts.
func newcomers(t *testing.T, p *peer, hosts []*lab.Host, first int) []time.Duration {
	t.Helper()
	begun := map[string]time.Time{}
	for i, h := range hosts {
		o := start(t, h, Config{ShortID: id(first + i)})
		begun[o.label] = o.begun
		defer o.kill()
	}
	var took []time.Duration
	limit := time.After(late)
	for len(begun) > 0 {
		select {
		case r := <-p.events:
			p.note(*r.Event)
			if began, ok := begun[r.Event.Instance]; ok && r.Event.Op == Found {
				took = append(took, r.At.Sub(began))
				delete(begun, r.Event.Instance)
			}
			continue
		case <-limit:
		}
		break
	}
	for name := range begun {
		t.Logf("not seen in %v: %s", late, name)
		took = append(took, ttlMax)
	}
	return took
}

// Row 15: a neighbour sends mutated packets, and every third packet is lost, while twenty nighs and an Avahi come.
func TestBehaviour15HostileLink(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 23)
	client := avahi.Start(t, h[0]).Client()
	p := start(t, h[1], Config{ShortID: id(1)})
	p.awaitPublishing()
	lose(h[1], 30)
	mutated := make(chan error, 1)
	enemy(h[2])
	go func() { mutated <- hostile(h[2], 20_000, 5*time.Second) }()
	client.Publish(7600, nil, "thing")
	took := newcomers(t, p, h[3:], 100)
	if err := <-mutated; err != nil {
		t.Error(err)
	}
	share(t, "start to Found on a hostile link", 3*time.Second, took, 19)
	sound(t, p)
	client.Publish(7600, nil, "after all")
	p.await("what comes after the flood", func(e Event) bool { return e.Op == Found && e.Instance == "after all" })
}

// Row 15: 300 000 mutated packets and a thousand questions a second. They are sent to one nigh, because each of them reaches
// everybody on a link.
func TestBehaviour15Flood(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 3)
	p := start(t, h[0], Config{ShortID: id(1)})
	p.awaitPublishing()
	packets := count(t, h[1], "eth0")
	if err := h[1].Do(func() error { return ask1000(4 * time.Second) }); err != nil {
		t.Fatal(err)
	}
	// Its own observer listens, and counts each question once; the answers are the library's, which has no limit.
	t.Logf("4000 questions: %d packets on the link, %v of a processor", packets.total(), p.do("status").CPU.Round(time.Millisecond))
	if err := hostile(enemy(h[1]), 300_000, 0); err != nil {
		t.Fatal(err)
	}
	took := newcomers(t, p, h[2:], 100)
	within(t, "start to Found after a flood", 3*time.Second, took)
	sound(t, p)
}

// Row 15, without a link between: each of 300 000 mutated packets is looked at. What they leave is bounded and well formed.
func TestBehaviour15EveryMutationIsLookedAt(t *testing.T) {
	alone(t)
	l := offline(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	seeds := [][]byte{
		response(t, service(t, "pi", "10.0.0.2")), response(t, service(t, `a\195\188`, "fe80::2")),
		response(t, records(t, testService+" 0 IN PTR pi."+testService, "flush pi."+testService+" 0 IN SRV 0 0 7421 pi.local.")),
		packed(t, &dns.Msg{Question: []dns.Question{{Name: testService, Qtype: dns.TypePTR, Qclass: 1}}, Answer: service(t, "pi", "10.0.0.2")[:1]}),
		packed(t, &dns.Msg{Question: []dns.Question{{Name: "nigh-me.local.", Qtype: dns.TypeANY, Qclass: 1}}}),
	}
	began := time.Now()
	for i := range 300_000 {
		data := bytes.Clone(seeds[i%len(seeds)])
		for range 1 + rnd.IntN(8) {
			data[rnd.IntN(len(data))] = byte(rnd.Uint32())
		}
		src := netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i%250)})
		now := epoch.Add(time.Duration(i) * time.Millisecond)
		l.take(now, packet{data: data[:len(data)-rnd.IntN(len(data))*rnd.IntN(2)], src: netip.AddrPortFrom(src, mdnsPort), hops: 255})
		if i%100 == 0 {
			l.step(t.Context(), now)
			told(l)
		}
	}
	t.Logf("%v each; %d instances, %d hosts, status %+v", (time.Since(began) / 300_000).Round(100*time.Nanosecond), len(l.cache.instances), len(l.cache.hosts), l.status)
	if len(l.cache.instances) > instancesMax || len(l.cache.hosts) > instancesMax*targetsMax {
		t.Errorf("%d instances, %d hosts", len(l.cache.instances), len(l.cache.hosts))
	}
	for _, e := range l.cache.view(eth0, nil) {
		if e.Instance == "" || len(e.Instance) > labelMaxBytes || len(e.Addrs) == 0 || len(e.Addrs) > addressesMax || !utf8.ValidString(e.Instance) || e.Instance == l.d.Name() {
			t.Errorf("shown: %+v", e)
		}
	}
}

// sound checks that a nigh has not suffered.
func sound(t *testing.T, p *peer) {
	t.Helper()
	st := p.do("status")
	t.Logf("memory %d MB, %d goroutines, %v of a processor, status %+v", st.Resident>>20, st.Goroutines, st.CPU.Round(time.Millisecond), st.Status)
	if st.Resident > residentMax {
		t.Errorf("%d MB of memory, bound %d", st.Resident>>20, residentMax>>20)
	}
	if len(st.Status) != 1 || st.Status[0].Instances > instancesMax || !st.Status[0].Publishing || st.Status[0].Error != "" {
		t.Errorf("status %+v", st.Status)
	}
}

// enemy gives a host 64 addresses.
func enemy(h *lab.Host) *lab.Host {
	for i := range 64 {
		h.IP("address", "add", fmt.Sprintf("10.0.66.%d/16", i+1), "dev", "eth0")
	}
	return h
}

// hostile sends mutated packets from 64 addresses of an enemy.
func hostile(h *lab.Host, n int, within time.Duration) error {
	return h.Do(func() error { return mutate(n, 64, within) })
}

// mutate sends an announcement n times within a time, with some bytes changed, from several addresses in turn.
func mutate(n, sources int, within time.Duration) error {
	m := dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Compress: true}
	for _, line := range []string{
		testService + " 120 IN PTR mutated." + testService, "mutated." + testService + " 120 IN SRV 0 0 7421 mutated.local.",
		"mutated." + testService + ` 120 IN TXT "v=1" "n=x"`, "mutated.local. 120 IN A 10.0.66.1", "mutated.local. 120 IN AAAA fe80::9",
	} {
		rr, err := dns.NewRR(line)
		if err != nil {
			return err
		}
		m.Answer = append(m.Answer, rr)
	}
	seed, err := m.Pack()
	if err != nil {
		return err
	}
	var socks []int
	defer func() {
		for _, fd := range socks {
			_ = unix.Close(fd)
		}
	}()
	for i := range sources {
		fd, err := sender([4]byte{10, 0, 66, byte(i + 1)}, mdnsPort)
		if err != nil {
			return err
		}
		socks = append(socks, fd)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, len(seed))
	began := time.Now()
	for i := range n {
		copy(data, seed)
		for range 1 + rnd.IntN(8) {
			data[rnd.IntN(len(data))] = byte(rnd.Uint32())
		}
		if err := transmit(socks[i%sources], data[:len(data)-rnd.IntN(len(data))*rnd.IntN(2)]); err != nil {
			return err
		}
		if i%1000 == 0 {
			<-time.After(time.Until(began.Add(within * time.Duration(i) / time.Duration(n))))
		}
	}
	return nil
}

// ask1000 asks for all instances a thousand times a second.
func ask1000(during time.Duration) error {
	q := dns.Msg{Question: []dns.Question{{Name: testService, Qtype: dns.TypePTR, Qclass: dns.ClassINET}}}
	raw, err := q.Pack()
	if err != nil {
		return err
	}
	fd, err := sender([4]byte{10, 0, 0, 2}, 40000)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(during); time.Now().Before(end); <-tick.C {
		for range 10 {
			if err := transmit(fd, raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// sender opens a socket that sends to the mDNS group from an address, on eth0.
func sender(from [4]byte, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, set := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, mdnsHops) },
		func() error { return unix.BindToDevice(fd, "eth0") },
		func() error { return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: from}) },
	} {
		if err := set(); err != nil {
			_ = unix.Close(fd)
			return 0, err
		}
	}
	return fd, nil
}

// transmit waits while the link is full.
func transmit(fd int, data []byte) error {
	for {
		err := unix.Sendto(fd, data, 0, &unix.SockaddrInet4{Port: mdnsPort, Addr: group4.As4()})
		if err != unix.ENOBUFS && err != unix.EAGAIN {
			return err
		}
	}
}

// Ten thousand forged announcements, from one neighbour and from ten thousand that do not exist, while twenty nighs come and
// every third packet is lost. What is not here is bounded, and what is here is shown.
func TestForgedAnnouncements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what    string
		sources int
	}{{"one source", 1}, {"ten thousand sources", 10_000}} {
		t.Run(c.what, func(t *testing.T) {
			alone(t)
			_, _, h := segment(t, 23)
			p := start(t, h[0], Config{ShortID: id(1)})
			known := start(t, h[1], Config{ShortID: id(2)})
			p.await("one that is here for long", of(Found, known))
			lose(h[0], 30)
			var forged [][]byte
			for i := range 10_000 {
				from := netip.AddrFrom4([4]byte{10, 0, byte(100 + i%c.sources/250), byte(1 + i%c.sources%250)})
				forged = append(forged, datagram(from, response(t, service(t, fmt.Sprintf("forged%d", i), from.String()))))
			}
			sent := make(chan error, 1)
			go func() {
				sent <- h[2].Do(func() error { return spray(forged, 2*time.Second) })
			}()
			took := newcomers(t, p, h[3:], 100)
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			share(t, "start to Found during a flood from "+c.what, 3*time.Second, took, 19)
			st := p.do("status")
			t.Logf("memory %d MB, status %+v", st.Resident>>20, st.Status)
			if st.Resident > residentMax || len(st.Status) != 1 || st.Status[0].Instances > instancesMax || st.Status[0].Error != "" {
				t.Errorf("memory %d MB, status %+v", st.Resident>>20, st.Status)
			}
			for _, s := range p.seen {
				if s == fmt.Sprintf("gone eth0 %s", known.label) {
					t.Error("the flood drove out one that was here")
				}
			}
		})
	}
}

// datagram is an IPv4 packet to the mDNS group.
func datagram(from netip.Addr, data []byte) []byte {
	p := make([]byte, 28, 28+len(data))
	p[0], p[8], p[9] = 0x45, mdnsHops, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(data)))
	copy(p[12:], from.AsSlice())
	copy(p[16:], group4.AsSlice())
	binary.BigEndian.PutUint16(p[20:], mdnsPort)
	binary.BigEndian.PutUint16(p[22:], mdnsPort)
	// Without a checksum, which UDP allows.
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(data)))
	return append(p, data...)
}

// spray sends IPv4 packets as they are, evenly within a time.
func spray(packets [][]byte, within time.Duration) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, "eth0"); err != nil {
		return err
	}
	began := time.Now()
	for i, p := range packets {
		if err := transmit(fd, p); err != nil {
			return err
		}
		if i%100 == 0 {
			<-time.After(time.Until(began.Add(within * time.Duration(i) / time.Duration(len(packets)))))
		}
	}
	return nil
}
