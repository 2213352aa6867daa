package lab

import (
	"net"
	"testing"
	"time"
)

func TestCountFrames(t *testing.T) {
	n := NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24", "fd00::2/64")
	lan.Join(n.Host("c"), "eth0", "fd00::3/64") // where all is flooded to, too
	a.IP("route", "add", "224.0.0.0/4", "dev", "eth0")
	count := lan.Count(t)
	send := func(network, to string, packets int) {
		t.Helper()
		err := a.Do(func() error {
			c, err := net.Dial(network, to)
			if err != nil {
				return err
			}
			defer c.Close()
			for range packets {
				if _, err := c.Write([]byte("x")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	await := func(enough func(Traffic) bool) Traffic {
		t.Helper()
		deadline := time.NewTimer(10 * time.Second)
		defer deadline.Stop()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			got := count.Total(t)
			if enough(got) {
				return got
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatalf("counted %+v", got)
			}
		}
	}
	const packets = 50
	send("udp4", "224.0.0.251:5353", packets)
	send("udp6", "[ff02::fb%eth0]:5353", packets)
	send("udp4", "10.0.0.255:9", packets)
	talk(t, a, b, "10.0.0.2:7421")
	got := await(func(got Traffic) bool { return got.MDNS >= 2*packets && got.Dial > 0 && got.TCP >= 6 })
	if got.MDNS != 2*packets || got.Dial != 1 || got.ARP == 0 || got.All < 3*packets+got.TCP+got.ARP || got.Lost != 0 {
		t.Errorf("counted %+v", got)
	}
	if d := got.Sub(got); d != (Traffic{}) {
		t.Errorf("the difference to itself is %+v", d)
	}
}
