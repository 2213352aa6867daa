package wpa

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/wpa/dbusapi"
	"nigh/wpa/wpatest"
)

// errorNames are what a supplicant, or the bus, may answer with.
var errorNames = []string{
	"fi.w1.wpa_supplicant1.UnknownError", "fi.w1.wpa_supplicant1.InvalidArgs", "fi.w1.wpa_supplicant1.InterfaceUnknown",
	"org.freedesktop.DBus.Error.Failed", "org.freedesktop.DBus.Error.UnknownMethod", "org.freedesktop.DBus.Error.NoMemory",
	"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.AccessDenied", "com.example.Odd",
}

// TestErrorToEverything has a supplicant answer every call with an error, from the start and later: every command ends at once
// with an error that can be told apart, the status says what is wrong, and when the supplicant is well again all works.
func TestErrorToEverything(t *testing.T) {
	for _, name := range errorNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			air := wpatest.NewAir(t, 1)
			s := air.Nodes[0]
			s.Inject((wpatest.Fault{}).Fail(name, "no"))
			l := runLive(t, s.Bus.Address, "a")
			l.until("trouble", func() bool { st := l.Status(); return st.State != Ready && st.Err != nil })
			if st := l.Status(); !typed(st.Err) {
				t.Errorf("status is %+v", st)
			}
			allFail(t, l)
			if name == "org.freedesktop.DBus.Error.AccessDenied" {
				return // which is not tried again until the supplicant is another
			}
			s.Mend()
			l.ready()
			s.Inject((wpatest.Fault{}).Fail(name, "no"))
			allFail(t, l)
			s.Mend()
			if g, err := l.StartGroup(t.Context(), GroupOptions{}); err != nil {
				t.Errorf("start group: %v", err)
			} else if err := l.Leave(t.Context(), g.ID); err != nil {
				t.Errorf("leave: %v", err)
			}
		})
	}
}

// allFail checks that every command ends, with an error that can be told apart.
func allFail(t *testing.T, l *live) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), busLimit)
	defer cancel()
	for what, err := range map[string]error{
		"find": l.Find(ctx, time.Second), "listen": l.Listen(ctx, time.Second), "start group": second(l.StartGroup(ctx, GroupOptions{})),
		"connect": second(l.Connect(ctx, fakePeer, PBC(), ConnectOptions{})), "leave": l.Leave(ctx, "1"), "invite": l.Invite(ctx, "1", fakePeer),
		"reject": l.Reject(ctx, Request{Peer: Peer{Address: fakePeer}}),
	} {
		if err == nil || !typed(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if ctx.Err() != nil {
		t.Error("a command did not end by itself")
	}
}

func second(_ Group, err error) error { return err }

// TestNoAnswer has a supplicant that takes calls and never answers: every call ends after ten seconds, and so do commands.
func TestNoAnswer(t *testing.T) {
	for _, method := range []string{"", "Properties.", "Root.", "P2PDevice.P2PDeviceConfig"} {
		t.Run("from the start "+method, func(t *testing.T) {
			t.Parallel()
			air := wpatest.NewAir(t, 1)
			s := air.Nodes[0]
			if method == "P2PDevice.P2PDeviceConfig" {
				s.Inject((wpatest.Fault{Method: "Properties.Set"}).Ignore())
			} else {
				s.Inject((wpatest.Fault{Method: method}).Ignore())
			}
			l := runLive(t, s.Bus.Address, "a")
			if method != "" { // which shows that it is ten seconds
				l.impatient(t)
			}
			if method != "Root." { // which is needed only where an interface is looked for by its name
				l.until("trouble", func() bool { st := l.Status(); return st.State == Absent && errors.Is(st.Err, ErrSupplicantGone) })
				allFail(t, l)
				s.Mend()
			}
			l.ready()
		})
	}
	for _, method := range []string{"P2PDevice.Find", "P2PDevice.Connect", "P2PDevice.GroupAdd", "P2PDevice.StopFind", "Properties.GetAll"} {
		for _, lost := range []bool{false, true} {
			t.Run(method, func(t *testing.T) {
				t.Parallel()
				p := newPair(t)
				p.a.impatient(t)
				f := wpatest.Fault{Method: method}
				fault := f.Ignore()
				if lost { // it is carried out, and the answer is lost
					fault = f.Lose()
				}
				p.sa.Inject(fault)
				begin := time.Now()
				_ = p.a.Find(t.Context(), time.Second) // its own error is looked at elsewhere
				g, err := p.a.StartGroup(t.Context(), GroupOptions{})
				if err != nil && !typed(err) || err == nil && g.SSID == "" {
					t.Errorf("start group: %s, %v", g, err)
				}
				for _, g := range p.a.Status().Groups {
					_ = p.a.Leave(t.Context(), g.ID) // gone is as good
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if _, err := p.a.Connect(ctx, p.sb.Address, PBC(), ConnectOptions{}); err == nil || !typed(err) {
					t.Errorf("connect: %v", err)
				}
				if took := time.Since(begin); took > 20*time.Second {
					t.Errorf("took %v", took)
				}
				p.sa.Mend()
				p.leave(t)
				p.works(t)
			})
		}
	}
}

// TestVanishingObjects takes objects away between the signal that tells of them and the reading of them.
func TestVanishingObjects(t *testing.T) {
	p := newPair(t)
	t.Run("group", func(t *testing.T) {
		p.sa.Inject((wpatest.Fault{Method: "Properties.GetAll", Property: "fi.w1.wpa_supplicant1.Group", Times: 1}).Before(func(s *wpatest.Supplicant) {
			for i := range 100 {
				s.ForgetNow(dbus.ObjectPath("/fi/w1/wpa_supplicant1/Interfaces/" + string(rune('1'+i%9))))
			}
		}))
		ctx, cancel := context.WithTimeout(t.Context(), busLimit)
		defer cancel()
		if g, err := p.a.StartGroup(ctx, GroupOptions{}); err == nil || !typed(err) || ctx.Err() != nil {
			t.Errorf("start group: %s, %v", g, err)
		}
		if n := len(p.a.Status().Groups); n != 0 {
			t.Errorf("%d groups are shown", n)
		}
		p.sa.Mend()
		if err := p.sa.Kill(); err != nil {
			t.Fatal(err)
		}
		p.a.until("loss", func() bool { return p.a.Status().State == Absent })
		if err := p.sa.Start(); err != nil {
			t.Fatal(err)
		}
		p.works(t)
	})
	t.Run("peer", func(t *testing.T) {
		p.sa.Inject((wpatest.Fault{Method: "P2PDevice.Connect", Times: 1}).Before(func(s *wpatest.Supplicant) { s.ForgetNow(s.PeerPath(p.sb)) }))
		p.works(t) // it is looked for again
	})
	t.Run("peer, again and again", func(t *testing.T) {
		p.sa.Inject((wpatest.Fault{Method: "P2PDevice.Connect"}).Before(func(s *wpatest.Supplicant) { s.ForgetNow(s.PeerPath(p.sb)) }))
		ctx, cancel := context.WithTimeout(t.Context(), busLimit)
		defer cancel()
		if _, err := p.a.Connect(ctx, p.sb.Address, PBC(), ConnectOptions{}); err == nil || !typed(err) || ctx.Err() != nil {
			t.Errorf("connect: %v", err)
		}
		p.sa.Mend()
		p.works(t)
	})
}

// TestOwnerChanges has the owner of the supplicant's name change in the middle of each call that is made.
func TestOwnerChanges(t *testing.T) {
	for _, method := range []string{"Properties.Get", "Properties.Set", "Properties.GetAll", "P2PDevice.Find", "P2PDevice.Connect", "P2PDevice.GroupAdd", "P2PDevice.Disconnect"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.sa.Inject((wpatest.Fault{Method: method, Times: 1}).Before((*wpatest.Supplicant).ReleaseNow))
			ctx, cancel := context.WithTimeout(t.Context(), busLimit)
			defer cancel()
			if err := p.a.Find(ctx, 10*time.Second); err != nil && !typed(err) {
				t.Errorf("find: %v", err)
			}
			p.a.ready()
			if g, err := p.a.StartGroup(ctx, GroupOptions{}); err != nil && !typed(err) {
				t.Errorf("start group: %v", err)
			} else if err == nil {
				if err := p.a.Leave(ctx, g.ID); err != nil && !typed(err) {
					t.Errorf("leave: %v", err)
				}
			}
			p.a.ready()
			if e := p.form(t, 5*time.Second); e.errA != nil && !typed(e.errA) || e.errB != nil && !typed(e.errB) {
				t.Errorf("formation gave %v and %v", e.errA, e.errB)
			}
			p.a.ready()
			p.leave(t)
			p.sa.Mend()
			p.works(t)
		})
	}
}

// TestBusGoesAway ends the bus in the middle of a call.
func TestBusGoesAway(t *testing.T) {
	p := newPair(t)
	p.sa.Inject((wpatest.Fault{Method: "P2PDevice.Connect"}).Before(func(s *wpatest.Supplicant) { s.Bus.Kill() }))
	ctx, cancel := context.WithTimeout(t.Context(), busLimit)
	defer cancel()
	if err := p.b.Listen(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := p.a.Connect(ctx, p.sb.Address, PBC(), ConnectOptions{}); err == nil || !typed(err) || ctx.Err() != nil {
		t.Errorf("connect: %v", err)
	}
	select {
	case err := <-p.a.ran:
		if !errors.Is(err, ErrNoBus) {
			t.Errorf("Run: %v", err)
		}
		p.a.ran <- nil
	case <-ctx.Done():
		t.Error("Run does not notice that the bus is gone")
	}
	if s := p.a.Status(); s.State == Ready || !errors.Is(s.Err, ErrNoBus) {
		t.Errorf("status is %+v", s)
	}
}

// TestStorm sends tens of thousands of signals: what is kept is bounded, and what is shown afterwards is so.
func TestStorm(t *testing.T) {
	const many = 10000
	p := newPair(t)
	if e := p.form(t, busLimit); e.errA != nil || e.errB != nil {
		t.Fatalf("formation gave %v and %v", e.errA, e.errB)
	}
	owner := p.sa.OwnerPath()
	address := func(i int) net.HardwareAddr { return net.HardwareAddr{6, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)} }
	peer := func(i int) dbus.ObjectPath { return dbusapi.PeerPath(owner, address(i)) }
	storms := map[string]func(i int){
		"peers": func(i int) {
			p.sa.Say(owner, "P2PDevice.DeviceFoundProperties", peer(i), map[string]dbus.Variant{
				"DeviceName": dbus.MakeVariant("storm"), "VendorExtension": dbus.MakeVariant([][]byte{make([]byte, 100), make([]byte, 1025)}),
			})
		},
		"requests of many": func(i int) { p.sa.Say(owner, "P2PDevice.GONegotiationRequest", peer(i), uint16(4), byte(7)) },
		"requests of one":  func(i int) { p.sa.Say(owner, "P2PDevice.GONegotiationRequest", peer(0), uint16(4), byte(7)) },
		"provision":        func(i int) { p.sa.Say(owner, "P2PDevice.ProvisionDiscoveryPBCRequest", peer(i)) },
		"groups": func(i int) {
			p.sa.Say(owner, "P2PDevice.GroupStarted", map[string]dbus.Variant{"interface_object": dbus.MakeVariant(owner + "/x"), "role": dbus.MakeVariant("GO")})
		},
		"interfaces": func(i int) {
			p.sa.Say("/fi/w1/wpa_supplicant1", "Root.InterfaceAdded", peer(i), map[string]dbus.Variant{"Ifname": dbus.MakeVariant("x")})
		},
		"interfaces gone":   func(i int) { p.sa.Say("/fi/w1/wpa_supplicant1", "Root.InterfaceRemoved", peer(i)) },
		"ends of searching": func(i int) { p.sa.Say(owner, "P2PDevice.FindStopped") },
		"stations":          func(i int) { p.sa.Say(p.sa.GroupPath(), "Interface.StaAuthorized", address(i).String()) },
		"comings and goings": func(i int) {
			p.sa.Say(owner, []string{"P2PDevice.DeviceFound", "P2PDevice.DeviceLost"}[i%2], peer(0))
		},
		"members": func(i int) { p.sa.Say(p.sa.GroupPath()+"/Groups/aa", "Group.PeerJoined", peer(i)) },
	}
	for name, say := range storms {
		t.Run(name, func(t *testing.T) {
			mark := p.a.mark()
			before, began := heap(), time.Now()
			times := many
			if name != "peers" && name != "requests of many" && name != "comings and goings" {
				times = many / 5
			}
			for i := range times {
				say(i)
			}
			// The last of it is told once a device is seen that comes after it.
			last := net.HardwareAddr{6, 1, 1, 1, 1, 1}
			p.sa.Say(owner, "P2PDevice.DeviceLost", dbusapi.PeerPath(owner, last))
			p.sa.Say(owner, "P2PDevice.DeviceLost", peer(0))
			p.sa.Say(owner, "P2PDevice.DeviceFoundProperties", peer(0), map[string]dbus.Variant{"DeviceName": dbus.MakeVariant("last of " + name)})
			p.a.until("the end of the storm", func() bool {
				return slices.ContainsFunc(p.a.Peers(), func(x Peer) bool { return x.Name == "last of "+name }) || len(p.a.Peers()) == 1
			})
			questions := 0
			for _, e := range p.a.events(mark) {
				if _, ok := e.(RequestReceived); ok {
					questions++
				}
			}
			// Whenever signals were dropped, the peers that are not there are forgotten, and their requests with them. And a
			// full table lets one more in from time to time, or a flood would keep others from asking.
			if questions > maxRequests*(1+many/4096)+1+int(time.Since(began)/requestPause) {
				t.Errorf("%d questions", questions)
			}
			p.a.mu.Lock()
			clear(p.a.told)
			p.a.told = p.a.told[:0:0]
			p.a.mu.Unlock()
			if grew := int64(heap()) - int64(before); grew > 8<<20 {
				t.Errorf("memory grew by %d KiB", grew>>10)
			}
			st := p.a.Status()
			if st.State != Ready || len(st.Groups) != 1 || len(p.a.Peers()) > maxPeers {
				t.Fatalf("status is %+v, with %d peers", st, len(p.a.Peers()))
			}
			if g := st.Groups[0]; len(g.Members) > maxStations || len(g.Stations) > maxStations {
				t.Errorf("%d members, %d stations", len(g.Members), len(g.Stations))
			}
		})
	}
	p.leave(t)
	// A group that was told of and never was is given up after some seconds.
	p.a.ready()
	deadline := time.Now().Add(busLimit)
	for {
		g, err := p.a.StartGroup(t.Context(), GroupOptions{})
		if err == nil {
			if err := p.a.Leave(t.Context(), g.ID); err != nil {
				t.Errorf("leave: %v", err)
			}
			break
		}
		if !errors.Is(err, ErrBusy) || time.Now().After(deadline) {
			t.Fatalf("start group: %v", err)
		}
		p.a.pause(t, time.Second)
	}
	p.works(t)
}

// pause waits, for what no event tells of.
func (l *live) pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestDisorder has signals come twice, in another order, late or not at all: a formation ends with a group or an error that can be
// told apart, and what is left does not hinder the next one.
func TestDisorder(t *testing.T) {
	var held []wpatest.Line
	n := 0
	for name, change := range map[string]func(wpatest.Line) []wpatest.Line{
		"twice": func(l wpatest.Line) []wpatest.Line { return []wpatest.Line{l, l} },
		"swapped": func(l wpatest.Line) []wpatest.Line {
			if held = append(held, l); len(held) < 2 {
				return nil
			}
			out := []wpatest.Line{held[1], held[0]}
			held = nil
			return out
		},
		"backwards in fours": func(l wpatest.Line) []wpatest.Line {
			if held = append(held, l); len(held) < 4 {
				return nil
			}
			out := slices.Clone(held)
			slices.Reverse(out)
			held = nil
			return out
		},
		"every third lost": func(l wpatest.Line) []wpatest.Line {
			if n++; n%3 == 0 {
				return nil
			}
			return []wpatest.Line{l}
		},
		"none": func(wpatest.Line) []wpatest.Line { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			held, n = nil, 0
			p.sa.Signals(change) // it is called with the air's lock held, and by nobody else's supplicant
			if e := p.form(t, 5*time.Second); e.errA != nil && !typed(e.errA) || e.errB != nil && !typed(e.errB) {
				t.Errorf("formation gave %v and %v", e.errA, e.errB)
			}
			p.sa.Mend()
			// What was lost of this supplicant's signals is made up for when it starts anew.
			if err := p.sa.Kill(); err != nil {
				t.Fatal(err)
			}
			p.a.until("loss", func() bool { return p.a.Status().State == Absent })
			if err := p.sa.Start(); err != nil {
				t.Fatal(err)
			}
			p.a.ready()
			p.leave(t)
			p.works(t)
		})
	}
}
