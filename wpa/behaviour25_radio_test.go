//go:build radio

package wpa

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"nigh/lab/radio"
)

// phyOfLink gives the radio that an interface of a node belongs to.
func phyOfLink(t *testing.T, node *radio.Node, ifname string) string {
	t.Helper()
	out, err := node.Command(t.Context(), "iw", "dev", ifname, "info").CombinedOutput()
	_, wiphy, ok := strings.Cut(string(out), "wiphy ")
	if err != nil || !ok {
		t.Fatalf("iw: %v: %s", err, out)
	}
	return "phy" + strings.Fields(wiphy)[0]
}

// addInterface gives an interface to the supplicant, as NetworkManager does with an adapter that is plugged in.
func (r raw) addInterface(t *testing.T, ifname string) {
	t.Helper()
	err := r.Object("fi.w1.wpa_supplicant1", "/fi/w1/wpa_supplicant1").Call("fi.w1.wpa_supplicant1.CreateInterface", 0,
		map[string]dbus.Variant{"Ifname": dbus.MakeVariant(ifname), "Driver": dbus.MakeVariant("nl80211")}).Err
	if err != nil {
		t.Fatal(err)
	}
}

// TestBehaviour25TwoRadios has a machine with two radios (wpa-p2p.md 1.2 and 6.4, behaviour 25): P2P belongs to one of them, the
// first that wpa_supplicant got, and ends when that one is taken away until another is added. The kernel tells which one it is
// by a P2P device, so the radios have one on every cell.
func TestBehaviour25TwoRadios(t *testing.T) {
	if config := os.Getenv(userEnv); config != "" {
		runAgent(t, config)
		return
	}
	t.Setenv(radio.CellEnv, "default")
	nodes := radio.NodesOf(t, radio.Config{Nodes: 2, Radios: 2})
	first, second := nodes[0].Radios[0], nodes[0].Radios[1]
	b := newStation(t, nodes[1], Config{})
	bus, err := dialRaw(nodes[0].Bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	a := newAgent(t, nodes[0], agentConfig{Name: "alice", Engine: EngineSystem}, true)

	// owns checks that the agent knows which radio has P2P: others see it with the address that it says, and its groups are there.
	owns := func(t *testing.T, s Status) {
		t.Helper()
		if s.Ifname != first.Ifname {
			t.Errorf("P2P is on %q, should be on %s", s.Ifname, first.Ifname)
		}
		mark := a.order("listen")
		a.await(mark, "listening", func(s said) bool { return s.What == "done" && s.Command == "listen" && s.Error == "" })
		if p := b.findName("alice"); !slices.Equal(p.Address, s.Address) {
			t.Errorf("others see %s, it says %s", p.Address, s.Address)
		}
		if err := b.StopFind(t.Context()); err != nil {
			t.Error(err)
		}
		mark = a.order("start")
		up := a.await(mark, "group", func(s said) bool { return s.What == "up" })
		if phy := phyOfLink(t, nodes[0], up.Group.Ifname); phy != first.Phy {
			t.Errorf("the group is on %s, should be on %s", phy, first.Phy)
		}
		mark = a.order("leave")
		a.await(mark, "leaving", func(s said) bool { return s.What == "done" && s.Command == "leave" && s.Error == "" })
	}

	t.Run("first has it", func(t *testing.T) { owns(t, a.ready()) })

	t.Run("the other one is asked for", func(t *testing.T) {
		c := newAgent(t, nodes[0], agentConfig{Name: "carol", Engine: EngineSystem, Ifname: second.Ifname}, true)
		s := c.await(0, "answer", func(s said) bool { return s.What == "status" && s.Status.State != Starting }).Status
		if s.State != NoP2P || s.Hint == "" {
			t.Errorf("status is %+v", s)
		}
	})

	mark := a.mark()
	bus.removeInterface(t, first.Ifname)
	lost := a.await(mark, "loss", func(s said) bool { return s.What == "status" && s.Status.State == NoP2P }).Status
	if lost.Hint != Hint(ErrP2PEnded) {
		t.Errorf("status is %+v", lost)
	}

	t.Run("added again", func(t *testing.T) {
		mark := a.mark()
		bus.addInterface(t, first.Ifname)
		owns(t, a.await(mark, "radio ready", func(s said) bool { return s.What == "status" && s.Status.State == Ready }).Status)
	})
}

// TestBehaviour25LongNames forms a group between interfaces with names of 15 characters, from which wpa_supplicant cannot make
// the names that it makes elsewhere.
func TestBehaviour25LongNames(t *testing.T) {
	nodes := radio.NodesOf(t, radio.Config{Nodes: 2, LongNames: true})
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{Pool: testPool})
	ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
	checkGroup(a, b, ga, gb, testPool)
	for i, g := range []Group{ga, gb} {
		t.Logf("%s has group interface %s", nodes[i].Ifname, g.Ifname)
		if len(nodes[i].Ifname) != 15 || len(g.Ifname) > 15 || strings.Contains(g.Ifname, nodes[i].Ifname) {
			t.Errorf("interfaces are %s and %s", nodes[i].Ifname, g.Ifname)
		}
	}
	ma, mb := a.mark(), b.mark()
	if err := a.Leave(t.Context(), ga.ID); err != nil {
		t.Fatal(err)
	}
	a.awaitGone(ma)
	b.awaitGone(mb)
	a.checkNoLink(ga)
	b.checkNoLink(gb)
}
