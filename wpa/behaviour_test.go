package wpa

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

func (w *world) event(match func(Event) bool) bool {
	w.wait()
	return slices.ContainsFunc(w.events(), match)
}

func (w *world) request() Request {
	w.t.Helper()
	w.wait()
	for _, e := range slices.Backward(w.events()) {
		if r, ok := e.(RequestReceived); ok {
			return r.Request
		}
	}
	w.t.Fatal("no request")
	return Request{}
}

// started starts an autonomous group.
func (w *world) started(o GroupOptions) *outcome {
	out := w.forming(func(ctx context.Context) (Group, error) { return w.StartGroup(ctx, o) })
	w.groupUp(true, "")
	return out
}

func TestAutonomousGroup(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		out := w.started(GroupOptions{SSIDPostfix: "-x"})
		if !out.done || out.err != nil || out.group.Role != Owner {
			t.Fatalf("start gave %+v", out)
		}
		if got := w.fake.called("SetConfig {SsidPostfix"); len(got) != 2 || got[1] != "SetConfig {SsidPostfix }" {
			t.Errorf("calls are %q", got)
		}
		w.near(0)
		w.say(dbusapi.Provision{Peer: peerPath(fakePeer), Kind: "pbc"})
		req := w.request()
		if req.Kind != ProvisionPBC || req.Group != out.group.ID {
			t.Errorf("request is %+v", req)
		}
		let := w.forming(func(ctx context.Context) (Group, error) { return w.Accept(ctx, req, PBC(), ConnectOptions{}) })
		if got := w.fake.called("OpenWPS"); len(got) != 1 || got[0] != "OpenWPS "+string(fakeGroup) {
			t.Errorf("calls are %q", got)
		}
		w.joined(false)
		if !let.done || let.err != nil || len(let.group.Members) != 1 {
			t.Errorf("accept gave %+v", let)
		}
		w.joined(true)
		w.pass(time.Hour) // it lives without clients
		if w.where("group") != "Linked" {
			t.Error("the group is gone")
		}
		// One that never comes.
		let = w.forming(func(ctx context.Context) (Group, error) { return w.Accept(ctx, req, PBC(), ConnectOptions{}) })
		w.pass(admitLimit)
		if !let.done || !errors.Is(let.err, ErrTimeout) {
			t.Errorf("accept gave %+v", let)
		}
		// A device that has not heard of the group asks for a new one: it is invited.
		w.say(dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton})
		req = w.request()
		let = w.forming(func(ctx context.Context) (Group, error) { return w.Accept(ctx, req, PBC(), ConnectOptions{}) })
		w.say(dbusapi.InvitationResult{Status: 1}, dbusapi.Provision{Peer: peerPath(fakePeer), Kind: "pbc"})
		w.joined(false)
		if !let.done || let.err != nil {
			t.Errorf("accept gave %+v", let)
		}
		// A rejected invitation.
		other := net.HardwareAddr{0x42, 0, 0, 0, 2, 0}
		invited := w.forming(func(ctx context.Context) (Group, error) { return w.Connect(ctx, other, PBC(), ConnectOptions{}) })
		w.say(dbusapi.InvitationResult{Status: 11})
		if !invited.done || !errors.Is(invited.err, ErrRejected) {
			t.Errorf("connect gave %+v", invited)
		}
		// The caller gives up.
		invited = w.forming(func(ctx context.Context) (Group, error) { return w.Connect(ctx, other, PBC(), ConnectOptions{}) })
		w.stopForming()
		w.wait()
		if !invited.done || !errors.Is(invited.err, context.Canceled) {
			t.Errorf("connect gave %+v", invited)
		}
	})
	inWorld(t, Config{}, func(f *fake) { f.fail["GroupAdd"] = &dbusapi.CallError{Class: dbusapi.ErrInvalidArgs} }, func(w *world) {
		_, err := w.StartGroup(w.t.Context(), GroupOptions{Frequency: 5180})
		if !errors.Is(err, ErrChannel) {
			t.Errorf("error is %v", err)
		}
		_, err = w.StartGroup(w.t.Context(), GroupOptions{})
		if !errors.Is(err, ErrFormation) || errors.Is(err, ErrChannel) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestProfiles(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		made := func(ssid string, n dbusapi.Path) {
			w.fake.mu.Lock()
			w.fake.group.SSID = ssid
			w.fake.stored = map[dbusapi.Path]dbusapi.Persistent{
				fakeOwner + "/PersistentGroups/" + n:  {SSID: ssid, BSSID: fakePeer, PSK: "12345678"},
				fakeOwner + "/PersistentGroups/9" + n: {}, // one that is being filled in
			}
			w.fake.mu.Unlock()
			w.groupOf(false, "", true)
		}
		saved := func(ssid string) bool {
			return w.event(func(e Event) bool {
				p, ok := e.(PersistentSaved)
				return ok && p.Persistent.SSID == ssid && slices.Equal(p.Persistent.Peer, fakePeer)
			})
		}
		w.negotiated(false)
		made("DIRECT-aa", "1")
		if !saved("DIRECT-aa") {
			t.Error("profile was not saved")
		}
		w.finished(false)
		// A new one with the same peer takes the place of the old one.
		made("DIRECT-bb", "2")
		if got := w.fake.called("RemovePersistent"); len(got) != 1 || !saved("DIRECT-bb") {
			t.Errorf("calls are %q", got)
		}
		if !w.event(func(e Event) bool { p, ok := e.(PersistentRemoved); return ok && p.Persistent.SSID == "DIRECT-aa" }) {
			t.Error("the old profile was not removed")
		}
		// It is there again after a restart, and the peer may start the group.
		w.fake.mu.Lock()
		w.fake.stored = nil
		delete(w.fake.ifaces, fakeGroup)
		w.fake.mu.Unlock()
		w.restart()
		if got := w.fake.called("AddPersistent"); len(got) != 1 || got[0] != "AddPersistent DIRECT-bb" {
			t.Errorf("calls are %q", got)
		}
		w.groupUp(false, "192.168.49.3")
		if g := w.Status().Groups; len(g) != 1 || !slices.Equal(g[0].Peer, fakePeer) {
			t.Errorf("groups are %+v", g)
		}
	})
}

// TestResync checks that what was missed while signals were dropped is told.
func TestResync(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.client()
		other := net.HardwareAddr{0x42, 0, 0, 0, 2, 0}
		w.fake.mu.Lock()
		delete(w.fake.ifaces, fakeGroup)
		clear(w.fake.peers)
		w.fake.peers[peerPath(other)] = dbusapi.Peer{Name: "third"}
		w.fake.mu.Unlock()
		w.say(dbusapi.Overflow{})
		if !w.event(func(e Event) bool { g, ok := e.(GroupGone); return ok && g.Reason == ReasonEnded }) {
			t.Error("the group is not gone")
		}
		if p := w.Peers(); len(p) != 1 || p[0].Name != "third" {
			t.Errorf("peers are %+v", p)
		}
	})
}

// TestAfterCrash checks that a group of a run that did not end well is taken over, and ended in the end.
func TestAfterCrash(t *testing.T) {
	var f *fake
	crash := func(g *fake) {
		f = g
		g.config.DeviceName, g.methods = "ours", configMethods
		g.ifaces[fakeGroup] = dbusapi.Interface{Path: fakeGroup, Ifname: "p2p-wlan9-0", Role: "GO", P2P: true}
		g.group.Members = []dbusapi.Path{peerPath(fakePeer)}
	}
	inWorld(t, Config{DeviceName: "ours"}, crash, func(w *world) {
		if g := w.Status().Groups; len(g) != 1 || g[0].Role != Owner || len(g[0].Members) != 1 {
			t.Errorf("groups are %+v", g)
		}
	})
	if got := f.called("Disconnect"); len(got) != 1 {
		t.Errorf("calls are %q", got)
	}
	if got := f.called("SetConfig {DeviceName"); got[len(got)-1] != "SetConfig {DeviceName }" {
		t.Errorf("calls are %q", got)
	}
	// Another program's group stays.
	inWorld(t, Config{DeviceName: "other"}, crash, func(w *world) {
		if g := w.Status().Groups; len(g) != 1 {
			t.Errorf("groups are %+v", g)
		}
	})
	if got := f.called("Disconnect"); len(got) != 0 {
		t.Errorf("calls are %q", got)
	}
}

// TestRefusedConnect checks the retry of a Connect that fails because the peer called at the same moment.
func TestRefusedConnect(t *testing.T) {
	inWorld(t, Config{}, func(f *fake) { f.fail["Connect"] = &dbusapi.CallError{Class: dbusapi.ErrFailed} }, func(w *world) {
		w.waiting()
		w.fake.mu.Lock()
		delete(w.fake.fail, "Connect")
		w.fake.mu.Unlock()
		w.pass(refusedPause)
		if got := w.fake.called("Connect"); len(got) != 2 || w.where("formation") != "Waiting" {
			t.Errorf("calls are %q", got)
		}
	})
	inWorld(t, Config{}, func(f *fake) { f.fail["Connect"] = &dbusapi.CallError{Class: dbusapi.ErrFailed} }, func(w *world) {
		w.waiting()
		w.pass(time.Minute)
		if got := w.fake.called("Connect"); len(got) != maxRefused+1 || !w.last.done || w.last.err == nil {
			t.Errorf("calls are %q, %+v", got, w.last)
		}
	})
}

// TestCancelledJoin checks that a group that comes of a cancelled join is ended, and is nobody's.
func TestCancelledJoin(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.joining()
		w.stopForming()
		w.wait()
		if got := w.where("formation"); got != "Cancelling" {
			t.Fatalf("formation is %s", got)
		}
		for _, call := range []string{"Cancel", "StopFind"} {
			if len(w.fake.called(call)) == 0 {
				t.Errorf("no %s", call)
			}
		}
		w.groupUp(false, "")
		if got := w.fake.called("Disconnect"); len(got) == 0 || got[0] != "Disconnect "+string(fakeGroup) {
			t.Errorf("calls are %q", got)
		}
		w.removed()
		if !w.last.done || !errors.Is(w.last.err, context.Canceled) || w.where("formation") != "Idle" {
			t.Errorf("connect gave %+v", w.last)
		}
		if w.event(func(e Event) bool { _, ok := e.(GroupUp); return ok }) {
			t.Error("a cancelled group was told")
		}
	})
}

// TestNeverDisconnectsWiFi runs every scenario and checks that Disconnect is called on nothing but groups: on the parent
// it would drop the user's Wi-Fi.
func TestNeverDisconnectsWiFi(t *testing.T) {
	for name, s := range scenarios {
		var f *fake
		inWorld(t, s.cfg, func(g *fake) {
			f = g
			if s.fake != nil {
				s.fake(g)
			}
		}, func(w *world) {
			if s.before != nil {
				s.before(w)
			}
			s.event(w)
		})
		for _, c := range f.called("Disconnect") {
			if c != "Disconnect "+string(fakeGroup) {
				t.Errorf("%s: %s", name, c)
			}
		}
	}
}

// TestLostSearch checks that a search that another program stopped goes on.
func TestLostSearch(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.finding(time.Minute)
		w.say(dbusapi.FindStopped{})
		w.pass(findPause)
		if got := w.fake.called("Find social"); len(got) != 2 {
			t.Errorf("calls are %q", got)
		}
		// No search is without end.
		w.finding(24 * time.Hour)
		w.pass(maxFind)
		if w.Status().Finding {
			t.Error("still finding")
		}
	})
}

// TestInvitation checks both kinds of invitations from a peer.
func TestInvitation(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(dbusapi.GroupOwner)
		w.say(dbusapi.InvitationReceived{Source: fakePeer, OwnerAddress: fakePeer, BSSID: fakePeer})
		req := w.request()
		if req.Kind != Invitation {
			t.Fatalf("request is %+v", req)
		}
		joined := w.forming(func(ctx context.Context) (Group, error) { return w.Accept(ctx, req, PBC(), ConnectOptions{}) })
		if got := w.fake.called("Connect"); len(got) != 1 || got[0] != "Connect pbc join true intent 0" {
			t.Errorf("calls are %q", got)
		}
		w.groupUp(false, "")
		if !joined.done || joined.err != nil {
			t.Errorf("accept gave %+v", joined)
		}
	})
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(0)
		w.say(dbusapi.InvitationReceived{Source: fakePeer})
		if err := w.Reject(w.t.Context(), w.request()); err != nil || len(w.fake.called("RejectPeer")) != 0 {
			t.Errorf("reject: %v", err)
		}
		w.say(dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: 4})
		if err := w.Reject(w.t.Context(), w.request()); err != nil || len(w.fake.called("RejectPeer")) != 1 {
			t.Errorf("reject: %v", err)
		}
		if err := w.Invite(w.t.Context(), "9", fakePeer); !errors.Is(err, ErrNoGroup) {
			t.Errorf("invite: %v", err)
		}
	})
}

// TestAdmission checks who is let into a running group by the PIN of an invitation.
func TestAdmission(t *testing.T) {
	const pin = "12345670"
	type step struct {
		kind  string // of provision discovery
		after time.Duration
	}
	for name, tt := range map[string]struct {
		steps []step
		opens int
		err   error // of the invitation; nil = it goes on
	}{
		"as invited":         {[]step{{"display", 0}}, 1, nil},
		"a repeated frame":   {[]step{{"display", 0}, {"display", time.Second}}, 1, nil},
		"with another PIN":   {[]step{{"display", 0}, {"display", secondThoughts + time.Second}}, 1, ErrWrongPIN},
		"with its own PIN":   {[]step{{"keypad", 0}}, 0, ErrMethod},
		"by button":          {[]step{{"pbc", 0}}, 0, ErrMethod},
		"first PIN, then no": {[]step{{"display", 0}, {"pbc", time.Second}}, 1, ErrMethod},
	} {
		inWorld(t, Config{}, nil, func(w *world) {
			w.started(GroupOptions{})
			w.near(0)
			invited := w.connect(ShowPIN(pin, nil), ConnectOptions{})
			for _, s := range tt.steps {
				w.pass(s.after)
				w.say(dbusapi.Provision{Peer: peerPath(fakePeer), Kind: s.kind})
			}
			if got := w.fake.called("OpenWPS"); len(got) != tt.opens {
				w.t.Errorf("%s: calls are %q", name, got)
			}
			asked := w.event(func(e Event) bool { _, ok := e.(RequestReceived); return ok })
			if asked != (tt.err != nil) || invited.done != asked || !errors.Is(invited.err, tt.err) {
				w.t.Errorf("%s: asked is %t, connect gave %+v", name, asked, invited)
			}
		})
	}
}

// TestOwnerFound checks that a client which has found its owner is left alone, however long WPS takes.
func TestOwnerFound(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.building(false)
		w.say(dbusapi.InterfaceChanged{Path: fakeGroup, State: "scanning"}, dbusapi.InterfaceChanged{Path: fakeGroup, State: "associating"})
		w.pass(2 * ownerLimit)
		w.say(dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer)}) // a late one: that owner agreed
		if n := len(w.fake.called("Cancel")); n != 0 || w.where("formation") != "Building" {
			t.Errorf("%d times cancelled, formation is %s", n, w.where("formation"))
		}
		w.groupUp(false, "")
		if !w.last.done || w.last.err != nil {
			t.Errorf("connect gave %+v", w.last)
		}
	})
}

// TestFlushedPeers checks that peers which a join had the supplicant forget are lost when they are not seen again, and not
// before.
func TestFlushedPeers(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		third := net.HardwareAddr{0x42, 0, 0, 0, 2, 0}
		w.say(dbusapi.DeviceFound{Path: peerPath(third), Peer: dbusapi.Peer{Name: "third"}})
		w.say(dbusapi.Provision{Peer: peerPath(fakePeer), Kind: "pbc"})
		w.joining()
		w.say(dbusapi.DeviceLost{Path: peerPath(fakePeer)}, dbusapi.DeviceLost{Path: peerPath(third)})
		w.near(dbusapi.GroupOwner)
		if got := w.fake.called("Connect"); len(got) != 1 || got[0] != "Connect pbc join true intent 0" {
			t.Errorf("calls are %q", got)
		}
		if n := len(w.Peers()); n != 2 {
			t.Errorf("%d peers", n)
		}
		w.groupUp(false, "")
		w.pass(peerLife)
		if p := w.Peers(); len(p) != 1 || p[0].Name != "other" {
			t.Errorf("peers are %+v", p)
		}
	})
	inWorld(t, Config{}, nil, func(w *world) { // many strangers
		for i := range 3 * maxPeers {
			addr := slices.Clone(fakePeer)
			addr[3], addr[4] = byte(i>>8), byte(i)
			w.say(dbusapi.Provision{Peer: peerPath(addr), Kind: "pbc"})
		}
		w.ask(func(m *machine) {
			if n := len(m.provisioned); n > maxPeers {
				t.Errorf("%d are remembered", n)
			}
		})
	})
}

// TestGroupAfterCancelledJoin checks that a persistent group which a peer starts soon after a join was given up is kept.
func TestGroupAfterCancelledJoin(t *testing.T) {
	for _, persistent := range []bool{true, false} {
		other := Persistent{SSID: "DIRECT-xy", BSSID: net.HardwareAddr{0x42, 0, 0, 0, 2, 0}, PSK: "12345678", Peer: net.HardwareAddr{0x42, 0, 0, 0, 2, 0}}
		inWorld(t, Config{Groups: []Persistent{other}}, nil, func(w *world) {
			w.joining()
			w.stopForming()
			w.pass(lifeSigns + time.Second)
			w.groupOf(false, "", persistent)
			if n := len(w.Status().Groups); (n == 1) != persistent {
				t.Errorf("persistent %t: %d groups", persistent, n)
			}
		})
	}
}
