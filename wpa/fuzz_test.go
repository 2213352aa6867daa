package wpa

import (
	"context"
	"net"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// words are the signals that FuzzSignals puts into any order: those of both devices that the machine knows and of one that it
// does not, of the group that is, of one that is not and of the interface that owns P2P.
func words() []dbusapi.Signal {
	stranger := net.HardwareAddr{0x42, 0, 0, 0, 9, 0}
	known, unknown := peerPath(fakePeer), peerPath(stranger)
	other := dbusapi.Root + "/Interfaces/2"
	var list []dbusapi.Signal
	for _, p := range []dbusapi.Path{known, unknown, "/fi/odd"} {
		list = append(list,
			dbusapi.DeviceFound{Path: p, Peer: dbusapi.Peer{Name: "x\x00\xff\x1b[2J"}}, dbusapi.DeviceFound{Path: p, Peer: dbusapi.Peer{GroupCapab: dbusapi.GroupOwner}}, dbusapi.DeviceLost{Path: p},
			dbusapi.GONegotiationRequest{Peer: p, PasswordID: 4}, dbusapi.GONegotiationRequest{Peer: p, PasswordID: 9999},
			dbusapi.GONegotiationSuccess{Peer: p, Owner: true}, dbusapi.GONegotiationSuccess{Peer: p},
			dbusapi.Provision{Peer: p, Kind: "pbc"}, dbusapi.Provision{Peer: p, Kind: "display", PIN: "12345670"}, dbusapi.Provision{Peer: p, Kind: "keypad", Response: true}, dbusapi.Provision{Peer: p, Kind: "odd"},
			dbusapi.MemberJoined{Group: fakeGroup + "/Groups/xy", Peer: p}, dbusapi.MemberJoined{Group: fakeGroup + "/Groups/xy", Peer: p, Left: true})
		for _, status := range []int{-1, 1, 2, 7, 8, 9, 10, 11, dbusapi.StatusUnknown} {
			list = append(list, dbusapi.GONegotiationFailure{Peer: p, Status: status}, dbusapi.ProvisionFailure{Peer: p, Status: status})
		}
	}
	for _, p := range []dbusapi.Path{fakeGroup, other, fakeOwner, "/fi/odd"} {
		list = append(list,
			dbusapi.InterfaceAdded{Path: p, Ifname: "p2p-x"}, dbusapi.InterfaceRemoved{Path: p}, dbusapi.GroupStarted{Interface: p, Owner: true}, dbusapi.GroupStarted{Interface: p, Persistent: true},
			dbusapi.GroupFinished{Interface: p}, dbusapi.GroupFormationFailure{Path: p}, dbusapi.GroupFormationFailure{Path: p, Reason: "FREQ_CONFLICT"},
			dbusapi.WPSFailed{Path: p, ConfigError: wpsWrongPIN}, dbusapi.WPSFailed{Path: p, ConfigError: wpsOverlap}, dbusapi.PersistentRemoved{Path: p},
			dbusapi.InterfaceChanged{Path: p, DisconnectReason: -4}, dbusapi.InterfaceChanged{Path: p, DisconnectReason: 3}, dbusapi.InterfaceChanged{Path: p, State: "completed"},
			dbusapi.StationAuthorized{Path: p, Address: stranger}, dbusapi.StationAuthorized{Path: p, Address: stranger, Gone: true})
	}
	for _, status := range []int{-1, 0, 1, 8, 11, dbusapi.StatusUnknown} {
		list = append(list, dbusapi.InvitationResult{Status: status})
	}
	list = append(list, dbusapi.ServiceResponse{Peer: known, TLVs: []byte{3, 0, 1, 1, 2}}, dbusapi.ServiceResponse{Peer: unknown, TLVs: []byte{9, 9}})
	return append(list, dbusapi.FindStopped{}, dbusapi.Overflow{}, dbusapi.OwnerChanged{Owner: ":1.9"}, dbusapi.OwnerChanged{},
		dbusapi.InvitationReceived{Source: fakePeer, PersistentID: -1}, dbusapi.InvitationReceived{Source: stranger, OwnerAddress: fakePeer, BSSID: fakePeer})
}

// FuzzSignals says the signals of a supplicant in any order, doubled or left out, between commands: no panic, every command
// ends, every group that is up is gone once, and what is kept has bounds. Byte n below the number of signals is that signal;
// the others are commands and time.
func FuzzSignals(f *testing.F) {
	at := func(match func(dbusapi.Signal) bool) byte {
		for i, s := range words() {
			if match(s) {
				return byte(i)
			}
		}
		f.Fatal("no such signal")
		return 0
	}
	found := at(func(s dbusapi.Signal) bool {
		d, ok := s.(dbusapi.DeviceFound)
		return ok && d.Path == peerPath(fakePeer)
	})
	agreed := at(func(s dbusapi.Signal) bool { _, ok := s.(dbusapi.GONegotiationSuccess); return ok })
	started := at(func(s dbusapi.Signal) bool { g, ok := s.(dbusapi.GroupStarted); return ok && g.Interface == fakeGroup })
	joined := at(func(s dbusapi.Signal) bool { _, ok := s.(dbusapi.MemberJoined); return ok })
	finished := at(func(s dbusapi.Signal) bool { g, ok := s.(dbusapi.GroupFinished); return ok && g.Interface == fakeGroup })
	lost := at(func(s dbusapi.Signal) bool { _, ok := s.(dbusapi.Overflow); return ok })
	f.Add([]byte{found, 250, agreed, started, joined, finished})
	f.Add([]byte{found, found, 250, agreed, agreed, started, started, joined, joined, finished, finished})
	f.Add([]byte{found, 250, joined, started, agreed, lost, finished, 254, 250})
	f.Add([]byte{251, started, lost, joined, 252, 253, 255, 250})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 200 {
			return
		}
		inWorld(t, Config{GroupIdle: time.Minute}, func(f *fake) {
			for _, p := range []dbusapi.Path{fakeGroup, dbusapi.Root + "/Interfaces/2"} {
				f.ifaces[p] = dbusapi.Interface{Path: p, Ifname: "p2p-x", Role: "device"}
			}
		}, func(w *world) {
			all := words()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			begun, ended := 0, make(chan error, len(data))
			command := func(run func() error) {
				begun++
				go func() { ended <- run() }()
				w.wait()
			}
			for _, b := range data {
				switch {
				case int(b) < len(all):
					w.say(all[b])
				case b == 250:
					command(func() error { _, err := w.Connect(ctx, fakePeer, PBC(), ConnectOptions{Intent: 15}); return err })
				case b == 251:
					command(func() error { _, err := w.StartGroup(ctx, GroupOptions{}); return err })
				case b == 252:
					command(func() error { return w.Find(ctx, time.Minute) })
				case b == 253:
					command(func() error {
						for _, g := range w.Status().Groups {
							_ = w.Leave(ctx, g.ID) // which one is not there any more does not matter
						}
						return nil
					})
				case b == 254:
					w.pass(time.Second)
				case b == 255:
					w.pass(30 * time.Second)
				}
			}
			w.pass(10 * time.Minute)
			if len(ended) != begun {
				t.Errorf("%d of %d commands ended", len(ended), begun)
			}
			w.ask(func(m *machine) {
				if m.form != nil {
					t.Errorf("a formation goes on in %s", m.form.stage)
				}
				if len(m.peers) > maxPeers || len(m.requests) > maxRequests || len(m.admissions) > maxAdmissions {
					t.Errorf("%d peers, %d requests, %d admissions", len(m.peers), len(m.requests), len(m.admissions))
				}
			})
			up := map[GroupID]int{}
			for _, e := range w.events() {
				switch e := e.(type) {
				case GroupUp:
					up[e.Group.ID]++
				case GroupGone:
					up[e.Group.ID] += 10
				}
			}
			for id, n := range up {
				if n != 1 && n != 11 {
					t.Errorf("group %s was up %d times and gone %d times", id, n%10, n/10)
				}
			}
			for _, g := range w.Status().Groups {
				if up[g.ID] != 1 {
					t.Errorf("group %s is shown", g.ID)
				}
			}
		})
	})
}
