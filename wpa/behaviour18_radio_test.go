//go:build radio

package wpa

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

const wifiChannel = 2437 // MHz, of the access point in these tests

// wifi has the first node connected to an access point on the last one, and counts what that connection loses.
type wifi struct {
	t    *testing.T
	node *radio.Node
	ap   *radio.AccessPoint
	ping *radio.Ping
}

func newWiFi(t *testing.T, nodes []*radio.Node) *wifi {
	t.Helper()
	const ssid, passphrase = "home", "correct horse"
	w := &wifi{t: t, node: nodes[0]}
	var err error
	w.ap, err = nodes[len(nodes)-1].Serve(t.Context(), radio.AccessPointConfig{SSID: ssid, Passphrase: passphrase, Frequency: wifiChannel, Address: routerAddress})
	if err != nil {
		t.Fatal(err)
	}
	network := radio.Network{SSID: ssid, Passphrase: passphrase, Frequency: wifiChannel, Elsewhere: []int{movedTo}, Address: netip.MustParsePrefix("10.9.0.2/24")}
	if err := w.node.Join(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	w.startPing()
	return w
}

// routerAddress is the access point's.
var routerAddress = netip.MustParsePrefix("10.9.0.1/24")

func (w *wifi) startPing() {
	w.t.Helper()
	var err error
	if w.ping, err = w.node.Ping(routerAddress.Addr(), 100*time.Millisecond); err != nil {
		w.t.Fatal(err)
	}
}

// up checks that the connection is.
func (w *wifi) up(when string) {
	w.t.Helper()
	if state, _, err := w.node.WiFi(w.t.Context()); err != nil || state != "completed" {
		w.t.Errorf("%s: the Wi-Fi connection is %s: %v", when, state, err)
	}
}

// end ends the counting and checks that at most so many pings were lost.
func (w *wifi) end(lost int) {
	w.t.Helper()
	count, err := w.ping.Stop()
	w.t.Logf("over the Wi-Fi connection: %s, %v", count, err)
	if err != nil || count.Lost > lost {
		w.t.Errorf("over the Wi-Fi connection: %s, %v", count, err)
	}
}

// mustChannel checks that an error is of the channel, and says where the Wi-Fi connection is.
func mustChannel(t *testing.T, what string, err error, station int) {
	t.Helper()
	mustFail(t, what, err, ErrChannel)
	if c, ok := errors.AsType[*ChannelError](err); !ok || c.Station != station {
		t.Errorf("%s: the Wi-Fi connection is on %d MHz, but the error is %v", what, station, err)
	}
	if Hint(err) == "" {
		t.Errorf("%s: no hint", what)
	}
}

// TestBehaviour18Channels: on a radio that can be on one channel only, groups follow the Wi-Fi connection, which never stops, and
// what cannot be had is an error that says why.
func TestBehaviour18Channels(t *testing.T) {
	if bus := os.Getenv(insideEnv); bus != "" {
		underMove(t, insideStation(t, bus, Config{}))
		return
	}
	nodes := radio.NodesOf(t, radio.Config{Nodes: 3, Plain: 1, Channels: 1})
	a := newStation(t, nodes[0], Config{Pool: testPool})
	b := newStation(t, nodes[1], Config{})

	t.Run("regulations", func(t *testing.T) { regulations(t, a) })

	w := newWiFi(t, nodes)
	t.Run("no frequency", func(t *testing.T) {
		ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0})
		if ga.Frequency != wifiChannel || gb.Frequency != wifiChannel {
			t.Errorf("frequencies are %d and %d", ga.Frequency, gb.Frequency)
		}
		leaveBoth(a, b)
	})
	t.Run("as client", func(t *testing.T) {
		ga, gb := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 0}, ConnectOptions{Intent: 15})
		if ga.Frequency != wifiChannel || gb.Frequency != wifiChannel {
			t.Errorf("frequencies are %d and %d", ga.Frequency, gb.Frequency)
		}
		leaveBoth(a, b)
	})
	t.Run("another frequency", func(t *testing.T) {
		peer := meet(a, b)
		for _, frequency := range []int{5180, 2412} {
			begin := time.Now()
			_, err := a.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1, Frequency: frequency})
			mustChannel(t, "connect", err, wifiChannel)
			within(t, err.Error(), begin, 5*time.Second)
			_, err = a.StartGroup(t.Context(), GroupOptions{Frequency: frequency})
			mustChannel(t, "start group", err, wifiChannel)
		}
	})
	t.Run("a wish", func(t *testing.T) {
		ga, _ := form(a, b, PBC(), PBC(), ConnectOptions{Intent: 15, Prefer: 2412}, ConnectOptions{Intent: 0})
		if ga.Frequency != wifiChannel {
			t.Errorf("frequency is %d", ga.Frequency)
		}
		leaveBoth(a, b)
		g, err := a.StartGroup(t.Context(), GroupOptions{Prefer: 2412})
		if err != nil || g.Frequency != wifiChannel {
			t.Errorf("group is %s: %v", g, err)
		}
		leaveAll(a)
	})
	t.Run("group elsewhere", func(t *testing.T) {
		if _, err := b.StartGroup(t.Context(), GroupOptions{Frequency: 2412}); err != nil {
			t.Fatal(err)
		}
		if err := a.Find(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		mark := a.mark()
		var peer Peer
		a.await(mark, "group owner", func(Event) bool {
			for _, p := range a.Peers() {
				peer = p
				if p.Name == b.name && p.IsGO {
					return true
				}
			}
			return false
		})
		begin := time.Now()
		_, err := a.Connect(t.Context(), peer.Address, PBC(), ConnectOptions{Intent: -1})
		t.Logf("after %.1f s: %v", time.Since(begin).Seconds(), err)
		mustChannel(t, "join", err, wifiChannel)
		leaveAll(b)
	})
	w.up("at the end")
	w.end(0)
	t.Run("access point moves", func(t *testing.T) {
		a.end()
		inside := goInside(t, nodes[0], "TestBehaviour18Channels")
		inside.await(groupIsUp)
		if err := w.ap.Move(t.Context(), movedTo); err != nil {
			t.Error(err)
		}
		inside.end()
		if err := w.node.AwaitWiFi(t.Context(), "completed"); err != nil {
			t.Fatal(err)
		}
		w.startPing()
		if err := w.ping.More(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		w.end(0)
	})
}

const (
	groupIsUp = "The group is up"
	movedTo   = 2462 // MHz, where the access point goes
)

// underMove has a group while the access point that the radio is connected to goes to another channel: the group makes way, or the
// radio would stay with it.
func underMove(t *testing.T, s *station) {
	g, err := s.StartGroup(t.Context(), GroupOptions{})
	if err != nil || g.Frequency != wifiChannel {
		t.Fatalf("group is %s: %v", g, err)
	}
	mark := s.mark()
	fmt.Println(groupIsUp)
	if gone := s.awaitGone(mark); gone.Reason != ReasonChannel {
		t.Errorf("group is gone for %q", gone.Reason)
	}
	s.checkNoLink(g)
	if seat := seatOf(s.Status().Ifname); seat.channels != 1 || seat.index == 0 {
		t.Errorf("the radio is %+v", seat)
	}
}

// regulations has radios obey the country that they are in. There is no Wi-Fi connection.
func regulations(t *testing.T, a *station) {
	_, err := a.StartGroup(t.Context(), GroupOptions{Frequency: 5175}) // no channel at all
	mustChannel(t, "no channel", err, 0)
	_, err = a.StartGroup(t.Context(), GroupOptions{Frequency: 5180}) // in the world's regulations for listening only
	mustChannel(t, "forbidden", err, 0)
	g, err := a.StartGroup(t.Context(), GroupOptions{Prefer: 5180})
	if err != nil || g.Frequency < 2412 || g.Frequency > 2472 {
		t.Fatalf("group is %s: %v", g, err)
	}
	leaveAll(a)

	country := func(code string) {
		t.Helper()
		if err := radio.SetCountry(t.Context(), code); err != nil {
			t.Fatal(err)
		}
	}
	country("US")
	g, err = a.StartGroup(t.Context(), GroupOptions{Prefer: 5180})
	if err != nil || g.Frequency != 5180 {
		t.Errorf("where it is allowed: group is %s: %v", g, err)
	}
	leaveAll(a)
	country("00")
}

// TestBehaviour19WiFiStays: however a group or a formation ends, the Wi-Fi connection beside it stays.
func TestBehaviour19WiFiStays(t *testing.T) {
	nodes := radio.NodesOf(t, radio.Config{Nodes: 3, Plain: 1, Channels: 1})
	w := newWiFi(t, nodes)
	a := newStation(t, nodes[0], Config{})
	b := newStation(t, nodes[1], Config{})
	owner, client := ConnectOptions{Intent: 15}, ConnectOptions{Intent: 0}

	t.Run("as owner", func(t *testing.T) {
		form(a, b, PBC(), PBC(), owner, client)
		leaveAll(a)
		w.up("group owner left")
	})
	t.Run("as client", func(t *testing.T) {
		mark := b.mark()
		form(a, b, PBC(), PBC(), client, owner)
		leaveAll(a)
		w.up("client left")
		leaveAll(b)
		b.awaitGone(mark)
	})
	t.Run("by the other side", func(t *testing.T) {
		mark := a.mark()
		form(a, b, PBC(), PBC(), client, owner)
		leaveAll(b)
		a.awaitGone(mark)
		w.up("other side left")
	})
	var req Request
	t.Run("by cancelling", func(t *testing.T) {
		peer := meet(a, b)
		mark := b.mark()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := later(func() (Group, error) { return a.Connect(ctx, peer, PBC(), ConnectOptions{Intent: -1}) })
		req = b.awaitRequest(mark)
		cancel()
		mustFail(t, "cancelled", a.wait(asked).err, context.Canceled)
		w.up("formation cancelled")
	})
	t.Run("never a path without a group", func(t *testing.T) {
		refused := make(chan error, 2)
		a.in.command(func(m *machine) {
			for _, path := range []dbusapi.Path{m.owner, m.owner + "9"} {
				refused <- m.disconnect(path)(context.Background())
			}
		})
		for range 2 {
			if err := <-refused; !errors.Is(err, ErrNoGroup) {
				t.Errorf("error is %v", err)
			}
		}
		w.up("disconnecting the parent was refused")
	})
	t.Run("by the end of the program", func(t *testing.T) {
		peer := meet(a, b)
		mark := a.mark()
		asked := later(func() (Group, error) { return a.Connect(t.Context(), peer, PBC(), owner) })
		// The other side's user answers at last what was cancelled once.
		accepted := later(func() (Group, error) { return b.Accept(t.Context(), req, PBC(), client) })
		if ra, rb := a.wait(asked), b.wait(accepted); ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
		}
		a.end()
		a.awaitGone(mark)
		w.up("program ended")
	})
	w.end(0)
}
