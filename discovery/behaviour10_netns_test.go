//go:build netns

package discovery

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/avahi"
)

// Row 10: two links; a nigh and an Avahi only behind the second, where there are link-local addresses alone. The zone says which
// way to dial, and each link is told its own addresses.
func TestBehaviour10LinksAreKeptApart(t *testing.T) {
	alone(t)
	n := lab.NewNet(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	a, b, c, x := n.Host("a"), n.Host("b"), n.Host("c"), n.Host("x")
	one.Join(a, "eth0", "10.1.0.1/24")
	one.Join(c, "eth0", "10.1.0.3/24")
	two.Join(a, "eth1", "10.2.0.1/24")
	two.Join(b, "eth0")
	two.Join(x, "eth0")
	daemon := avahi.Start(t, x)
	daemon.Client().Publish(7600, nil, "thing").Await(avahi.Established)
	browser := daemon.Browse()
	pb, pc := start(t, b, Config{ShortID: id(2), Port: 7500}), start(t, c, Config{ShortID: id(3)})
	// A second process in a's namespace, which joins the groups on both links like the first.
	other := start(t, a, Config{ShortID: id(4), Port: 7422})
	pa := start(t, a, Config{ShortID: id(1)})

	want := map[string]string{pb.label: "eth1", "thing": "eth1", pc.label: "eth0", other.label: "eth0 eth1"}
	got := map[string]Event{}
	var took []time.Duration
	for len(got) < 5 {
		e, at := pa.await("all", func(e Event) bool { return e.Op == Found })
		if _, twice := got[e.Instance+e.Ifname]; twice || !strings.Contains(want[e.Instance], e.Ifname) {
			t.Fatalf("event %+v", e)
		}
		got[e.Instance+e.Ifname] = e
		took = append(took, at.Sub(pa.begun))
	}
	within(t, "all on both links", 2*time.Second, took)
	for _, name := range []string{pb.label, "thing"} {
		e := got[name+"eth1"]
		if len(e.Addrs) != 1 || !e.Addrs[0].Addr().IsLinkLocalUnicast() || e.Addrs[0].Addr().Zone() != "eth1" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	e := got[pb.label+"eth1"]
	var ln net.Listener
	if err := b.Do(func() (err error) { ln, err = net.Listen("tcp6", "[::]:7500"); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err := a.Do(func() error {
		// By index: this process caches the names of the namespace it was started in.
		to := netip.AddrPortFrom(e.Addrs[0].Addr().WithZone(strconv.Itoa(e.Index)), 7500)
		conn, err := net.DialTimeout("tcp6", to.String(), late)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Errorf("dial %v: %v", e.Addrs[0], err)
	}
	// What is said of a on each link is of that link.
	e, _ = pb.await("a", of(Found, pa))
	for _, p := range e.Addrs {
		if p.Addr().Is4() || p.Addr().Zone() != "eth0" {
			t.Errorf("b is told %v of a, which it cannot reach", p)
		}
	}
	e, _ = pc.await("a", of(Found, pa))
	if len(e.Addrs) == 0 || e.Addrs[0].String() != "10.1.0.1:7421" {
		t.Errorf("c is told %v of a", e.Addrs)
	}
	browser.Await("a", func(s string) bool {
		f := avahi.Parse(s)
		return f.Op == "=" && f.Name == pa.label && f.Address == "10.2.0.1"
	})
	for _, s := range browser.Seen {
		if f := avahi.Parse(s); f.Address == "10.1.0.1" || f.Name == pc.label {
			t.Errorf("Avahi on the second link is told of the first: %s", s)
		}
	}
	for _, p := range []*peer{pb, pc} {
		for _, e := range p.pending() {
			if e.Instance != pa.label && e.Instance != other.label && e.Instance != "thing" {
				t.Errorf("%s is told of another link: %+v", p.name, e)
			}
		}
	}
}
