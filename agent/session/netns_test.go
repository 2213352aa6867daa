package session

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"nigh/lab"
)

// pair makes two nodes on one segment.
func pair(t *testing.T) (a, b *node, segment *lab.Bridge) {
	t.Helper()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	segment = net.Bridge("se-lan")
	segment.Join(ha, "eth0", "10.0.0.1/24")
	segment.Join(hb, "eth0", "10.0.0.2/24")
	a, b = startNode(t, ha), startNode(t, hb)
	a.at(b, b.candidate("lan", "eth0", "10.0.0.2"))
	b.at(a, a.candidate("lan", "eth0", "10.0.0.1"))
	return a, b, segment
}

// A LAN has the network of the group, and a machine of it the address of the group's owner: the owner is reached all the
// same, because its path names the interface.
func TestGroupInTheNetworkOfALAN(t *testing.T) {
	t.Parallel()
	net := lab.NewNet(t)
	ha, hb, router := net.Host("se-a"), net.Host("se-b"), net.Host("se-router")
	net.Cable(ha, "eth0", router, "eth0")
	net.Cable(ha, "p2p-a-0", hb, "p2p-b-0")
	router.IP("address", "add", "192.168.49.1/24", "dev", "eth0")
	hb.IP("address", "add", "192.168.49.1/24", "dev", "p2p-b-0")
	ha.IP("address", "add", "192.168.49.5/24", "dev", "eth0")
	// As package link addresses a group: no route in the main table.
	ha.IP("address", "add", "192.168.49.20/24", "dev", "p2p-a-0", "noprefixroute")
	ha.IP("route", "add", "192.168.49.0/24", "dev", "p2p-a-0", "table", "4711")
	ha.IP("rule", "add", "oif", "p2p-a-0", "table", "4711")
	ha.IP("rule", "add", "from", "192.168.49.20", "table", "4711")
	a, b := startNode(t, ha), startNode(t, hb)
	a.at(b, b.candidate("direct", "p2p-a-0", "192.168.49.1"))
	a.tell(order{Op: "hold", ID: b.id})
	if s := a.connected("direct"); s.Path.Addr.Addr().String() != "192.168.49.1" {
		t.Errorf("path = %+v", s.Path)
	}
	if got := a.get(b, true); got.Body != "p2p-b-0" {
		t.Errorf("the request came in on %q", got.Body)
	}
}

func TestLinkLocalZones(t *testing.T) {
	t.Parallel()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	net.Cable(ha, "p2p-a-0", hb, "p2p-b-0")
	a, b := startNode(t, ha), startNode(t, hb)
	a.at(b, b.candidate("direct", "p2p-a-0", linkLocal(t, hb, "p2p-b-0", "p2p-a-0")))
	b.at(a, a.candidate("direct", "p2p-b-0", linkLocal(t, ha, "p2p-a-0", "p2p-b-0")))
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	if s := a.connected(""); s.Path.Addr.Addr().Zone() != "p2p-a-0" || s.Path.Ifname != "p2p-a-0" || s.Path.Kind != "direct" {
		t.Errorf("path = %+v", s.Path)
	}
	b.connected("")
	if got := a.get(b, true); got.Body != "p2p-b-0" {
		t.Errorf("the request came in on %q", got.Body)
	}

	// A group that ended and began again: the same names, other indices.
	began := time.Now()
	ha.IP("link", "del", "p2p-a-0")
	a.tell(order{Op: "kick", ID: b.id})
	a.lost(quick)
	net.Cable(ha, "p2p-a-0", hb, "p2p-b-0")
	a.at(b, b.candidate("direct", "p2p-a-0", linkLocal(t, hb, "p2p-b-0", "p2p-a-0")))
	ready := time.Now()
	a.tell(order{Op: "kick", ID: b.id})
	s := a.connected("direct")
	t.Logf("the link was away for %v, connected %v after it was back", ready.Sub(began), s.at.Sub(ready))
	if d := s.at.Sub(ready); d > quick {
		t.Errorf("connected %v after the link was back", d)
	}
}

func TestLinkThatIsNotReady(t *testing.T) {
	t.Parallel()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	segment := net.Bridge("se-lan")
	segment.Join(hb, "eth0", "10.0.0.2/24", "fd00::2/64")
	a, b := startNode(t, ha), startNode(t, hb)
	// No interface, no address, no route: one dial goes through all of it.
	a.at(b, b.candidate("lan", "eth0", linkLocal(t, hb, "eth0", "eth0")), b.candidate("lan", "eth0", "10.0.0.2"))
	token := a.begin(b, false, "/v1/any")
	segment.Join(ha, "eth0", "10.0.0.1/24")
	up := time.Now()
	v := a.result(token, wait)
	if v.Err != "" {
		t.Fatal(v.Err)
	}
	t.Logf("answered %v after the link was usable", v.at.Sub(up))
	if d := v.at.Sub(up); d > quick {
		t.Errorf("answered %v after the link was usable", d)
	}
}

func TestSilentPeerIsLostWithinTenSeconds(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	a.connected("")
	b.connected("")
	hanging := a.begin(b, true, "/v1/hang")
	a.get(b, true) // so that the other has begun, on the same or the other connection
	cut := time.Now()
	b.host.IP("link", "set", "eth0", "down") // the other end of the cable has no carrier, a sees nothing
	s := a.lost(2 * wait)
	d := s.at.Sub(cut)
	t.Logf("lost %v after the cut: %s", d, s.Err)
	if d > 10500*time.Millisecond {
		t.Errorf("a silent peer was found after %v", d)
	}
	v := a.result(hanging, wait)
	if v.Err == "" {
		t.Error("a body without end ended well")
	}
	if d := v.at.Sub(cut); d > 10500*time.Millisecond {
		t.Errorf("the request that waited for data ended after %v", d)
	}
	b.host.IP("link", "set", "eth0", "up")
	back := time.Now()
	a.tell(order{Op: "kick", ID: b.id})
	s = a.connected("")
	t.Logf("connected %v after the link was back", s.at.Sub(back))
}

func TestKilledPeerIsLostAtOnce(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	a.tell(order{Op: "hold", ID: b.id})
	a.connected("")
	killed := time.Now()
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if d := a.lost(wait).at.Sub(killed); d > quick {
		t.Errorf("a killed peer was found after %v", d)
	}
}

// firewall drops (or rejects) what comes in to n's port.
func firewall(t *testing.T, n *node, verdict string) {
	t.Helper()
	cmd := n.host.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table inet f {
		chain in {
			type filter hook input priority 0; policy accept;
			ct state established,related accept
			tcp flags syn %s
		}
	}`, verdict))
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs nft: package nftables")
	}
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

func TestOneSideFirewalled(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]string{
		"drop":   "drop",
		"reject": "reject with icmpx type admin-prohibited",
		"reset":  "meta l4proto tcp reject with tcp reset",
	} {
		t.Run(name, func(t *testing.T) {
			a, b, _ := pair(t)
			firewall(t, b, verdict)
			began := time.Now()
			a.tell(order{Op: "hold", ID: b.id})
			b.tell(order{Op: "hold", ID: a.id})
			b.connected("lan")
			s := a.connected("lan")
			t.Logf("both directions after %v, path %+v", s.at.Sub(began), s.Path)
			if d := s.at.Sub(began); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			for _, bulk := range []bool{false, true} {
				began := time.Now()
				b.get(a, bulk)
				got := a.get(b, bulk)
				if d := got.at.Sub(began); d > quick {
					t.Errorf("bulk %v took %v", bulk, d)
				}
			}
			// And again after everything was lost.
			a.tell(order{Op: "close", ID: b.id})
			a.lost(wait)
			a.connected("lan")
			a.get(b, true)
			a.get(b, false)
		})
	}
}

func TestFirewalledStrangerCanBeAsked(t *testing.T) {
	t.Parallel()
	// b offers something to a, whom nobody told where b is: b holds a, a only asks.
	a, b, _ := pair(t)
	firewall(t, b, "drop")
	a.at(b)
	b.tell(order{Op: "hold", ID: a.id})
	b.connected("lan")
	a.get(b, false)
	a.get(b, true)
}

func TestPathChangesWhenAnAddressGoes(t *testing.T) {
	t.Parallel()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	lan, direct := net.Bridge("se-lan"), net.Bridge("se-dir")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	direct.Join(ha, "p2p0", "10.0.1.1/24")
	direct.Join(hb, "p2p0", "10.0.1.2/24")
	a, b := startNode(t, ha), startNode(t, hb)
	both := []Candidate{b.candidate("direct", "p2p0", "10.0.1.2"), b.candidate("lan", "eth0", "10.0.0.2")}
	a.at(b, both...)
	a.tell(order{Op: "hold", ID: b.id})
	a.connected("direct")
	hanging := a.begin(b, true, "/v1/hang")
	if got := a.get(b, true); got.Body != "p2p0" {
		t.Errorf("bulk came in on %q", got.Body)
	}

	ha.IP("addr", "flush", "dev", "p2p0")
	a.at(b, both[1])
	began := time.Now()
	a.tell(order{Op: "kick", ID: b.id})
	s := a.connected("lan")
	t.Logf("on the other path after %v", s.at.Sub(began))
	if d := s.at.Sub(began); d > quick {
		t.Errorf("the change of path took %v", d)
	}
	if v := a.result(hanging, quick); v.Err == "" {
		t.Error("a request on the lost path ended well")
	}
	if got := a.get(b, true); got.Body != "eth0" {
		t.Errorf("bulk came in on %q", got.Body)
	}

	// The better path comes back: it is taken without a gap.
	ha.IP("addr", "add", "10.0.1.1/24", "dev", "p2p0")
	a.at(b, both...)
	a.tell(order{Op: "kick", ID: b.id})
	back := a.until("moved back", wait, func(v news) bool { return v.Op == "state" })
	if !back.Connected || back.Path.Kind != "direct" {
		t.Errorf("state = %+v", back)
	}
	if got := a.get(b, true); got.Body != "p2p0" {
		t.Errorf("bulk came in on %q", got.Body)
	}
}

// twoLANs makes two nodes on two segments, the first one better.
func twoLANs(t *testing.T) (a, b *node, first, second *lab.Bridge) {
	t.Helper()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	first, second = net.Bridge("se-one"), net.Bridge("se-two")
	first.Join(ha, "eth0", "10.0.0.1/24")
	first.Join(hb, "eth0", "10.0.0.2/24")
	second.Join(ha, "eth1", "10.0.1.1/24")
	second.Join(hb, "eth1", "10.0.1.2/24")
	a, b = startNode(t, ha), startNode(t, hb)
	both := func(n *node, last string) []Candidate {
		one, two := n.candidate("lan", "eth0", "10.0.0."+last), n.candidate("lan", "eth1", "10.0.1."+last)
		two.Cost++
		return []Candidate{one, two}
	}
	a.at(b, both(b, "2")...)
	b.at(a, both(a, "1")...)
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	for _, n := range []*node{a, b} {
		if s := n.connected("lan"); s.Path.Ifname != "eth0" {
			t.Fatalf("%s connected over %+v", n.host.Name, s.Path)
		}
	}
	return a, b, first, second
}

func TestSilentPathIsLeftWhileDataIsAwaited(t *testing.T) {
	t.Parallel()
	a, b, first, _ := twoLANs(t)
	hanging := a.begin(b, true, "/v1/hang")
	a.get(b, true) // so that the other has begun
	first.Cut(b.host, "eth0")
	cut := time.Now()
	v := a.result(hanging, wait)
	t.Logf("the request was given up after %v", v.at.Sub(cut))
	if v.Err == "" || v.at.Sub(cut) > quick {
		t.Errorf("after %v: %q", v.at.Sub(cut), v.Err)
	}
	if got := a.get(b, true); got.Body != "eth1" {
		t.Errorf("bulk came in on %q", got.Body)
	}
	// b is told by a's connection that comes over the other link; it may find its own lost before it has another.
	moved := b.until("moved", wait, func(v news) bool { return v.Op == "state" && v.Connected })
	t.Logf("the other side moved after %v", moved.at.Sub(cut))
	if moved.Path.Ifname != "eth1" || moved.at.Sub(cut) > 2*quick {
		t.Errorf("b: %+v", moved)
	}
}

// The control connection moves because its address is not the peer's any more; the data that was under way is on a link
// that carries nothing, and does not wait for the kernel to say so.
func TestSilentDataIsLeftByWhoHasMoved(t *testing.T) {
	t.Parallel()
	a, b, first, _ := twoLANs(t)
	hanging := a.begin(b, true, "/v1/hang")
	a.get(b, true) // so that the other has begun
	first.Cut(b.host, "eth0")
	cut := time.Now()
	a.at(b, b.candidate("lan", "eth1", "10.0.1.2"))
	a.tell(order{Op: "kick", ID: b.id})
	v := a.result(hanging, wait)
	t.Logf("the request was given up after %v", v.at.Sub(cut))
	if v.Err == "" || v.at.Sub(cut) > quick {
		t.Errorf("after %v: %q", v.at.Sub(cut), v.Err)
	}
	if got := a.get(b, true); got.Body != "eth1" {
		t.Errorf("bulk came in on %q", got.Body)
	}
}

func TestOnlyPathIsNotLeftForSilence(t *testing.T) {
	t.Parallel()
	a, b, segment := pair(t)
	a.tell(order{Op: "hold", ID: b.id})
	a.connected("lan")
	hanging := a.begin(b, true, "/v1/hang")
	a.get(b, true)
	segment.Cut(b.host, "eth0")
	select {
	case v := <-a.out:
		t.Errorf("while the link was silent: %+v", v)
	case <-time.After(3 * time.Second):
	}
	segment.Mend(b.host, "eth0")
	if got := a.get(b, true); got.Status != 200 {
		t.Errorf("after it came back: %+v", got)
	}
	for _, v := range a.later {
		if v.Token == hanging {
			t.Errorf("the request that waits was given up: %s", v.Err)
		}
	}
}

func TestLinkWithoutCarrierIsLeftAtOnce(t *testing.T) {
	t.Parallel()
	a, b, first, _ := twoLANs(t)
	first.Unplug(a.host, "eth0")
	cut := time.Now()
	a.tell(order{Op: "check"})
	s := a.until("moved", wait, func(v news) bool { return v.Op == "state" && v.Connected })
	t.Logf("moved after %v", s.at.Sub(cut))
	if s.Path.Ifname != "eth1" || s.at.Sub(cut) > quick {
		t.Errorf("after %v: %+v", s.at.Sub(cut), s.Path)
	}
	if got := b.get(a, true); got.Body != "eth1" {
		t.Errorf("bulk came in on %q", got.Body)
	}
}

func TestInboundIsChecked(t *testing.T) {
	t.Parallel()
	for outcome, verdict := range map[Inbound]string{
		InboundOpen:     "",
		InboundSilent:   "drop",
		InboundRejected: "reject with icmpx type admin-prohibited",
		InboundRefused:  "meta l4proto tcp reject with tcp reset",
	} {
		t.Run(string(outcome), func(t *testing.T) {
			a, b, _ := pair(t)
			if verdict != "" {
				firewall(t, a, verdict)
			}
			a.tell(order{Op: "hold", ID: b.id})
			a.connected("lan")
			a.token++
			a.tell(order{Op: "inbound", ID: b.id, Token: a.token})
			if v := a.result(a.token, wait); v.Err != "" || v.Body != string(outcome)+" eth0" {
				t.Errorf("a was told %q, %s", v.Body, v.Err)
			}
		})
	}
}

func TestDefaultPortAndTheNext(t *testing.T) {
	net := lab.NewNet(t)
	var ports []uint16
	err := net.Host("se-p").Do(func() error {
		for range 2 {
			s, err := New(Config{Identity: newIdentity(t)})
			if err != nil {
				return err
			}
			ports = append(ports, s.Port())
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			defer func() { cancel(); <-ended }()
		}
		return nil
	})
	if err != nil || len(ports) != 2 || ports[0] != defaultPort || ports[1] != defaultPort+1 {
		t.Errorf("ports %v, %v", ports, err)
	}
}

func TestFirewalledPeerMovesToABetterPath(t *testing.T) {
	t.Parallel()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	lan, direct := net.Bridge("se-lan"), net.Bridge("se-dir")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	direct.Join(ha, "p2p0", "10.0.1.1/24")
	direct.Join(hb, "p2p0", "10.0.1.2/24")
	a, b := startNode(t, ha), startNode(t, hb)
	firewall(t, b, "drop")
	a.at(b, b.candidate("lan", "eth0", "10.0.0.2"))
	b.at(a, a.candidate("lan", "eth0", "10.0.0.1"))
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	a.connected("lan")
	b.connected("lan")

	a.at(b, b.candidate("direct", "p2p0", "10.0.1.2"), b.candidate("lan", "eth0", "10.0.0.2"))
	b.at(a, a.candidate("direct", "p2p0", "10.0.1.1"), a.candidate("lan", "eth0", "10.0.0.1"))
	began := time.Now()
	b.tell(order{Op: "kick", ID: a.id})
	b.connected("direct")
	s := a.until("moved", wait, func(v news) bool { return v.Op == "state" && (!v.Connected || v.Path.Kind == "direct") })
	if !s.Connected {
		t.Errorf("lost on the way: %s", s.Err)
	}
	t.Logf("both on the better path after %v", s.at.Sub(began))
	if got := a.get(b, true); got.Body != "p2p0" {
		t.Errorf("bulk came in on %q", got.Body)
	}
}
