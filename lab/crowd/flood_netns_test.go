//go:build netns

package crowd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// forged is the announcement of a device that does not exist, at an address and port of the forger's choice.
func forged(t *testing.T, n int, short string, at netip.AddrPort) []byte {
	t.Helper()
	instance := fmt.Sprintf("forged-%05d\\ [%s]._nigh._tcp.local.", n, short)
	host := fmt.Sprintf("nigh-f%05d.local.", n)
	m := &dns.Msg{Compress: true}
	m.Response, m.Authoritative = true, true
	for _, text := range []string{
		fmt.Sprintf("_nigh._tcp.local. 120 IN PTR %s", instance),
		fmt.Sprintf("%s 120 IN SRV 0 0 %d %s", instance, at.Port(), host),
		fmt.Sprintf("%s 120 IN TXT \"v=1\" \"n=forged\" \"id=%s\"", instance, short),
		fmt.Sprintf("%s 120 IN A %s", host, at.Addr()),
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// multicast opens a socket as every mDNS responder on a host has one.
func multicast(t *testing.T, h *lab.Host) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 5353})
		if err != nil {
			return err
		}
		p := ipv4.NewPacketConn(conn)
		if err := p.SetMulticastInterface(ifi); err != nil {
			return err
		}
		return p.SetMulticastTTL(255)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tarpit takes every connection on a port of a host, which it returns, and never says a word.
func tarpit(t *testing.T, h *lab.Host) uint16 {
	t.Helper()
	var listener net.Listener
	if err := h.Do(func() (err error) { listener, err = net.Listen("tcp4", ":7777"); return err }); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var held []net.Conn
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			held = append(held, c)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
		for _, c := range held {
			_ = c.Close()
		}
	})
	return 7777
}

// TestFloodOfForgedAnnouncements has a stranger announce 10 000 devices that do not exist, while devices come: a third say
// to be a trusted one, a third lead to where nobody is, a third to a port that answers nothing. The trusted device is met,
// another stranger is listed, nothing forged ever is, and memory and processor time stay bounded.
func TestFloodOfForgedAnnouncements(t *testing.T) {
	const ada, bob, carol, mallory, packets = 0, 1, 2, 3, 10_000
	c := New(t, 4)
	if err := c.Start(t.Context(), ada, bob+1); err != nil {
		t.Fatal(err)
	}
	if err := node.Befriend(t.Context(), c.Agents[ada], c.Agents[bob]); err != nil {
		t.Fatal(err)
	}
	status, err := c.Agents[bob].Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(bob, bob+1); err != nil {
		t.Fatal(err)
	}
	before := usage(t, c, ada)
	pit := netip.AddrPortFrom(netip.MustParseAddr(Address(mallory)), tarpit(t, c.Hosts[mallory]))
	conn := multicast(t, c.Hosts[mallory])
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	began := time.Now()
	send := func(from, below int) {
		for n := from; n < below; n++ {
			short := fmt.Sprintf("%04d-%04d", n/10_000, n%10_000)
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 200, byte(rand.N(250) + 1)}), 7421)
			switch n % 3 {
			case 0:
				short = status.Short
			case 1:
				at = pit
			}
			if _, err := conn.WriteTo(forged(t, n, short, at), group); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0, packets/2)
	come := time.Now()
	if err := c.Start(t.Context(), bob, carol+1); err != nil {
		t.Fatal(err)
	}
	send(packets/2, packets)
	flooded := time.Since(began)
	peer := func(name, state string) func(control.State) bool {
		return func(s control.State) bool {
			for _, p := range s.Peers {
				if strings.Contains(p.Name, "forged") {
					t.Errorf("listed: %+v", p)
				}
				if p.Name == name && p.State == state {
					return true
				}
			}
			return false
		}
	}
	wait := func(name, state string, within time.Duration) time.Duration {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		if err := c.Agents[ada].Await(ctx, peer(name, state)); err != nil {
			t.Fatal(err)
		}
		d := time.Since(come)
		if d > lab.Bound(t, within) {
			t.Errorf("%s is %s after %v, want %v", name, state, d, within)
		}
		return d
	}
	trusted := wait(Name(bob), "ready", 10*time.Second)
	stranger := wait(Name(carol), "visible", 30*time.Second)
	pause(t, 5*time.Second)
	spent := usage(t, c, ada).Sub(before)
	t.Logf("measured: %d forged announcements in %.1f s: the trusted device is met %.2f s after its start, a stranger %.2f s; %.1f MiB RSS, %.2f s of processor",
		packets, flooded.Seconds(), trusted.Seconds(), stranger.Seconds(), mib(spent.Peak), spent.CPU.Seconds())
	if spent.Peak > crowdRSS {
		t.Errorf("%.1f MiB RSS, want at most %.1f", mib(spent.Peak), mib(crowdRSS))
	}
	if most := lab.Bound(t, 5*time.Second); spent.CPU > most {
		t.Errorf("%v of processor time, want at most %v", spent.CPU, most)
	}
	var view []control.Peer
	if err := c.Agents[ada].JSON(t.Context(), &view, "peers"); err != nil || len(view) != 2 {
		t.Errorf("nigh peers shows %d devices, want 2: %v", len(view), err)
	}
	before = usage(t, c, ada)
	const measured = 10 * time.Second
	pause(t, measured)
	spent = usage(t, c, ada).Sub(before)
	t.Logf("measured: with 512 forged sightings that do not answer, %.2f %% of a processor", 100*spent.CPU.Seconds()/measured.Seconds())
	if most := lab.Bound(t, measured/20); spent.CPU > most {
		t.Errorf("%v of processor time in %v, want at most %v", spent.CPU, measured, most)
	}
}
