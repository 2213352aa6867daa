//go:build radio

package radio

import (
	"net/netip"
	"testing"
	"time"
)

// TestAccessPoint connects a P2P node and a plain client to an access point, which moves to another channel under them.
func TestAccessPoint(t *testing.T) {
	const ssid, passphrase = `Café "42"`, "correct horse"
	begin := time.Now()
	// With more channels the simulated radios cannot move an access point.
	nodes := NodesOf(t, Config{Nodes: 3, Plain: 2, Channels: 1})
	p2p, plain := nodes[0], nodes[1]
	ap, err := nodes[2].Serve(t.Context(), AccessPointConfig{SSID: ssid, Passphrase: passphrase, Address: netip.MustParsePrefix("10.9.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("access point up after %.1f s", time.Since(begin).Seconds())
	var pings []*Ping
	for i, n := range []*Node{p2p, plain} {
		begin := time.Now()
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(2 + i)}), 24)
		network := Network{SSID: ssid, Passphrase: passphrase, Address: address, Frequency: 2437 * i}
		if err := n.Join(t.Context(), network); err != nil {
			t.Fatal(err)
		}
		state, frequency, err := n.WiFi(t.Context())
		if err != nil || state != "completed" || frequency != 2437 {
			t.Fatalf("connection is %s on %d MHz: %v", state, frequency, err)
		}
		t.Logf("joined after %.1f s", time.Since(begin).Seconds())
		ping, err := n.Ping(netip.MustParseAddr("10.9.0.1"), 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		pings = append(pings, ping)
	}
	if err := ap.Move(t.Context(), 2462); err != nil {
		t.Fatal(err)
	}
	for i, p := range pings {
		if err := p.More(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		count, err := p.Stop()
		t.Logf("%s: %s, %v", nodes[i].Name, count, err)
		// A frame that is under way at the moment of the change may be lost.
		if err != nil || count.Lost > 1 {
			t.Errorf("pings were lost: %s, %v", count, err)
		}
	}
	if err := plain.Part(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, frequency, err := plain.WiFi(t.Context()); err != nil || state == "completed" || frequency != 0 {
		t.Errorf("connection is %s on %d MHz: %v", state, frequency, err)
	}

	// Out of range, nothing is answered.
	ping, err := p2p.Ping(netip.MustParseAddr("10.9.0.1"), 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[2].SetAudible(false); err != nil {
		t.Fatal(err)
	}
	if err := ping.More(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if count, err := ping.Stop(); count.Lost < 4 {
		t.Errorf("out of range: %s, %v", count, err)
	}
	if err := nodes[2].SetAudible(true); err != nil {
		t.Error(err)
	}
	if err := ap.Stop(); err != nil {
		t.Error(err)
	}
}
