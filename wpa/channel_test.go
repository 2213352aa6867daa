package wpa

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// channelFailure is the supplicant's error of a Connect on a frequency that it cannot have.
var channelFailure = &dbusapi.CallError{Class: dbusapi.ErrChannelUnavailable}

func TestFrequencyWish(t *testing.T) {
	// The supplicant refuses at once.
	inWorld(t, Config{}, func(f *fake) { f.fail["Connect"] = channelFailure }, func(w *world) {
		w.near(0)
		w.connect(PBC(), ConnectOptions{Prefer: 5180})
		w.wait()
		if got := w.fake.called("Connect"); len(got) != 2 {
			t.Errorf("calls are %q", got)
		}
		c, ok := errors.AsType[*ChannelError](w.last.err)
		if !w.last.done || !errors.Is(w.last.err, ErrChannel) || !ok || c.Station != 2462 || !strings.Contains(c.Error(), "2462 MHz") {
			t.Errorf("connect gave %+v", w.last)
		}
	})
	// The other side has no such channel.
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(0)
		w.connect(PBC(), ConnectOptions{Prefer: 5180})
		w.fails(7)
		if got := w.fake.called("Connect"); len(got) != 2 || w.where("formation") != "Waiting" {
			t.Errorf("calls are %q", got)
		}
		w.fails(7)
		if !w.last.done || !errors.Is(w.last.err, ErrChannel) {
			t.Errorf("connect gave %+v", w.last)
		}
	})
	// A frequency that must be is never given up.
	inWorld(t, Config{}, func(f *fake) { f.fail["Connect"] = channelFailure }, func(w *world) {
		w.near(0)
		w.connect(PBC(), ConnectOptions{Frequency: 5180, Prefer: 2412})
		w.wait()
		if got := w.fake.called("Connect"); len(got) != 1 || !errors.Is(w.last.err, ErrChannel) {
			t.Errorf("calls are %q, %+v", got, w.last)
		}
	})
	// An autonomous group.
	inWorld(t, Config{}, func(f *fake) { f.fail["GroupAdd"] = &dbusapi.CallError{Class: dbusapi.ErrInvalidArgs} }, func(w *world) {
		_, err := w.StartGroup(w.t.Context(), GroupOptions{Prefer: 5180})
		if got := w.fake.called("GroupAdd"); len(got) != 2 || got[0] != "GroupAdd 5180 false" || got[1] != "GroupAdd 0 false" || !errors.Is(err, ErrFormation) {
			t.Errorf("calls are %q, %v", got, err)
		}
	})
	if e := (&ChannelError{Err: ErrChannel}); e.Error() != ErrChannel.Error() || Hint(e) == "" {
		t.Errorf("error is %v", e)
	}
}

func TestMoved(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.started(GroupOptions{})
		w.ask(func(m *machine) {
			for _, g := range m.groups {
				g.Index = 5
			}
			m.moved(4, 2412)
			m.moved(5, 2412)
		})
		if g := w.Status().Groups; len(g) != 1 || g[0].Frequency != 2412 {
			t.Errorf("groups are %+v", g)
		}
		n := 0
		for _, e := range w.events() {
			if c, ok := e.(GroupChanged); ok && c.Group.Frequency == 2412 {
				n++
			}
		}
		if n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestSetPersistent(t *testing.T) {
	old := fakeProfile.Groups[0]
	inWorld(t, fakeProfile, nil, func(w *world) {
		ctx := w.t.Context()
		added := func() int { return len(w.fake.called("AddPersistent")) }
		removed := func() int { return len(w.fake.called("RemovePersistent")) }
		if added() != 1 {
			t.Fatalf("%d profiles were added", added())
		}
		must(w, w.SetPersistent(ctx, []Persistent{old})) // nothing new
		if added() != 1 || removed() != 0 {
			t.Errorf("%d profiles were added, %d removed", added(), removed())
		}
		// The peer has another address now.
		other := old
		other.Peer = net.HardwareAddr{0x42, 0, 0, 0, 7, 0}
		must(w, w.SetPersistent(ctx, []Persistent{other}))
		if added() != 2 || removed() != 1 {
			t.Errorf("%d profiles were added, %d removed", added(), removed())
		}
		w.ask(func(m *machine) {
			if _, ok := m.profileWith(other.Peer); !ok {
				t.Error("the profile is not that of the new address")
			}
			if _, ok := m.profileWith(old.Peer); ok {
				t.Error("the profile is that of the old address")
			}
		})
		bad := old
		bad.PSK = "short"
		if err := w.SetPersistent(ctx, []Persistent{bad}); !errors.Is(err, ErrConfig) || added() != 2 {
			t.Errorf("error is %v", err)
		}
		must(w, w.SetPersistent(ctx, nil))
		if added() != 2 || removed() != 2 {
			t.Errorf("%d profiles were added, %d removed", added(), removed())
		}
		if w.event(func(e Event) bool { _, ok := e.(PersistentRemoved); return ok }) {
			t.Error("the caller was told what it did")
		}
		// What is set while there is no supplicant is given to the next one.
		w.say(dbusapi.OwnerChanged{})
		must(w, w.SetPersistent(ctx, []Persistent{old}))
		w.say(dbusapi.OwnerChanged{Owner: ":1.7"})
		w.pass(time.Second)
		if added() != 3 {
			t.Errorf("%d profiles were added", added())
		}
	})
}

// TestOwnAddress checks that a group of ours is known to the supplicant by the address that this device has now.
func TestOwnAddress(t *testing.T) {
	now := net.HardwareAddr{0x42, 0, 0, 0, 8, 0}
	p := Persistent{SSID: "DIRECT-aa", BSSID: fakePeer, PSK: "12345678", Owner: true}
	if got := bssid(p, now); !slices.Equal(got, now) {
		t.Errorf("address is %s", got)
	}
	if got := bssid(p, nil); !slices.Equal(got, fakePeer) {
		t.Errorf("address is %s", got)
	}
	p.Owner = false
	if got := bssid(p, now); !slices.Equal(got, fakePeer) {
		t.Errorf("address is %s", got)
	}
}

// TestStations checks that the stations of a group are read again after signals were missed.
func TestStations(t *testing.T) {
	phone := net.HardwareAddr{2, 0, 0, 0, 5, 0}
	inWorld(t, Config{}, nil, func(w *world) {
		w.owner(true)
		w.joined(true)
		w.say(dbusapi.StationAuthorized{Path: fakeGroup, Address: phone})
		w.pass(2 * defaultGroupIdle)
		if g := w.Status().Groups; len(g) != 1 || len(g[0].Stations) != 1 {
			t.Fatalf("groups are %+v", g)
		}
		w.ask((*machine).woke) // the fake has none
		w.wait()
		if g := w.Status().Groups; len(g) != 1 || len(g[0].Stations) != 0 {
			t.Errorf("groups are %+v", g)
		}
		w.pass(defaultGroupIdle)
		w.finished(true)
		if w.where("group") != "Gone" {
			t.Error("an empty group lives on")
		}
	})
}

// TestDisconnectGuard checks that nothing but a group is ever disconnected, also when a signal says otherwise.
func TestDisconnectGuard(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.joining()
		// An adapter that is plugged in meanwhile is not the group.
		w.say(dbusapi.InterfaceAdded{Path: dbusapi.Root + "/Interfaces/5", Ifname: "wlan1"})
		w.stopForming()
		w.wait()
		w.say(dbusapi.GroupStarted{Interface: fakeOwner}, dbusapi.GroupStarted{Interface: dbusapi.Root + "/Interfaces/5"})
		w.pass(cancelLimit)
		if got := w.fake.called("Disconnect"); len(got) != 0 {
			t.Errorf("calls are %q", got)
		}
		w.ask(func(m *machine) {
			if err := m.disconnect(m.owner)(context.Background()); !errors.Is(err, ErrNoGroup) {
				t.Errorf("error is %v", err)
			}
		})
	})
}

// TestStaleOwner checks that a device whose group has just ended is not taken for a group owner.
func TestStaleOwner(t *testing.T) {
	end := func(w *world) {
		w.client()
		w.finished(false)
		w.near(dbusapi.GroupOwner) // an older scan result
		w.connect(PBC(), ConnectOptions{})
		w.wait()
	}
	inWorld(t, Config{}, nil, func(w *world) {
		end(w)
		if w.where("formation") != "Waiting" {
			t.Errorf("formation is %s", w.where("formation"))
		}
		// But it is one again.
		w.fails(1)
		if w.where("formation") != "Joining" {
			t.Errorf("formation is %s", w.where("formation"))
		}
		// And is not.
		w.say(dbusapi.ProvisionFailure{Peer: peerPath(fakePeer), Status: 2})
		if w.where("formation") != "Waiting" {
			t.Errorf("formation is %s", w.where("formation"))
		}
		w.fails(11)
	})
	inWorld(t, Config{}, nil, func(w *world) {
		w.client()
		w.finished(false)
		w.pass(staleOwner)
		w.near(dbusapi.GroupOwner)
		w.connect(PBC(), ConnectOptions{})
		w.wait()
		if w.where("formation") != "Joining" {
			t.Errorf("formation is %s", w.where("formation"))
		}
		w.fails(11)
		w.stopForming()
		w.wait()
	})
}

// TestGoesOnListening checks that a device that agreed to an invitation by itself, in vain, is found again.
func TestGoesOnListening(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		must(w, w.Listen(w.t.Context(), time.Minute))
		w.say(dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-0"}, dbusapi.GroupFormationFailure{Path: fakeGroup}, dbusapi.InterfaceRemoved{Path: fakeGroup})
		w.pass(findPause)
		if got := w.fake.called("Listen"); len(got) != 2 || w.where("discovery") != "Listening" {
			t.Errorf("calls are %q, discovery is %s", got, w.where("discovery"))
		}
	})
}
