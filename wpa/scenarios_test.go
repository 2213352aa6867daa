package wpa

import (
	"context"
	"errors"
	"strings"
	"time"

	"nigh/wpa/dbusapi"
)

// scenario brings a Radio into a row's state and then has the row's event happen.
type scenario struct {
	cfg    Config
	fake   func(*fake)
	before func(*world)
	event  func(*world)
}

// outcome is what a formation in the background returned.
type outcome struct {
	done  bool
	group Group
	err   error
}

// connect calls Connect in the background.
func (w *world) connect(m Method, o ConnectOptions) *outcome {
	return w.forming(func(ctx context.Context) (Group, error) { return w.Connect(ctx, fakePeer, m, o) })
}

func (w *world) forming(f func(context.Context) (Group, error)) *outcome {
	out := &outcome{}
	ctx, cancel := context.WithCancel(context.Background())
	w.stopForming = cancel
	w.last = out
	go func() {
		out.group, out.err = f(ctx)
		out.done = true
	}()
	w.wait()
	return out
}

func (w *world) waiting() {
	w.near(0)
	w.connect(PBC(), ConnectOptions{Intent: -1})
}

func (w *world) negotiated(owner bool) {
	w.waiting()
	w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer), Owner: owner})
}

func (w *world) building(owner bool) {
	w.negotiated(owner)
	w.say(dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-0"})
}

func (w *world) client() {
	w.negotiated(false)
	w.groupUp(false, "")
}

func (w *world) owner(populated bool) {
	w.negotiated(true)
	w.groupUp(true, "")
	if populated {
		w.joined(false)
	}
}

func (w *world) joining() {
	w.near(dbusapi.GroupOwner)
	w.connect(PBC(), ConnectOptions{Intent: -1})
}

func (w *world) finding(d time.Duration) {
	if err := w.Find(w.t.Context(), d); err != nil {
		w.t.Error(err)
	}
}

func (w *world) fails(status int) {
	w.say(dbusapi.GONegotiationFailure{Peer: peerPath(fakePeer), Status: status})
}

func (w *world) wps(code int) {
	w.say(dbusapi.WPSFailed{Path: fakeGroup, ConfigError: code}, dbusapi.GroupFormationFailure{Path: fakeGroup})
}

func (w *world) removed() { w.say(dbusapi.InterfaceRemoved{Path: fakeGroup}) }

func (w *world) finished(owner bool) {
	w.say(dbusapi.GroupFinished{Interface: fakeGroup, Owner: owner}, dbusapi.InterfaceRemoved{Path: fakeGroup})
}

func (w *world) disconnect(reason int) {
	w.say(dbusapi.InterfaceChanged{Path: fakeGroup, State: "disconnected", DisconnectReason: reason})
}

func (w *world) restart() {
	w.say(dbusapi.OwnerChanged{})
	w.say(dbusapi.OwnerChanged{Owner: ":1.99"})
}

var fakeProfile = Config{Groups: []Persistent{{SSID: "DIRECT-xy", BSSID: fakePeer, PSK: "12345678", Peer: fakePeer}}}

func absent(f *fake) { f.present = false }

func must(w *world, err error) {
	if err != nil {
		w.t.Error(err)
	}
}

// scenarios has one for every row, by machine, state and event.
var scenarios = map[string]scenario{
	"supplicant Absent: owner of the name appears": {fake: absent, event: func(w *world) { w.hold() }},
	"supplicant Starting: prepared":                {before: func(w *world) { w.hold() }, event: func(w *world) { w.release() }},
	"supplicant Starting: built without P2P": {before: func(w *world) { w.hold() }, event: func(w *world) {
		w.fake.mu.Lock()
		w.fake.caps = nil
		w.fake.mu.Unlock()
		w.release()
	}},
	"supplicant Starting: no interface": {before: func(w *world) { w.hold() }, event: func(w *world) {
		w.fake.mu.Lock()
		clear(w.fake.ifaces)
		w.fake.owners[nameNM] = true
		w.fake.mu.Unlock()
		w.release()
	}},
	"supplicant Starting: access denied": {before: func(w *world) { w.hold() }, event: func(w *world) {
		w.fake.mu.Lock()
		w.fake.fail["Capabilities"] = &dbusapi.CallError{Class: dbusapi.ErrDenied}
		w.fake.mu.Unlock()
		w.release()
		if s := w.Status(); !errors.Is(s.Err, ErrDenied) || s.Hint == "" {
			w.t.Errorf("status is %+v", s)
		}
	}},
	"supplicant Ready: owner of the name is gone": {event: func(w *world) { w.say(dbusapi.OwnerChanged{}) }},
	"supplicant Ready: interface of the owner removed": {event: func(w *world) {
		w.fake.mu.Lock()
		clear(w.fake.ifaces)
		w.fake.owners[nameNM] = true
		w.fake.mu.Unlock()
		w.say(dbusapi.InterfaceRemoved{Path: fakeOwner})
	}},

	"discovery Idle: Find":                {event: func(w *world) { w.finding(time.Minute) }},
	"discovery Social: 12 s":              {before: func(w *world) { w.finding(time.Minute) }, event: func(w *world) { w.pass(socialTime) }},
	"discovery Progressive: time is over": {before: func(w *world) { w.finding(time.Minute); w.pass(socialTime) }, event: func(w *world) { w.pass(time.Minute) }},
	"discovery Social: Connect":           {before: func(w *world) { w.near(0); w.finding(time.Minute) }, event: func(w *world) { w.waiting() }},
	"discovery Paused: formation failed":  {before: func(w *world) { w.finding(time.Minute); w.waiting() }, event: func(w *world) { w.fails(11) }},
	"discovery Social: StopFind":          {before: func(w *world) { w.finding(time.Minute) }, event: func(w *world) { must(w, w.StopFind(w.t.Context())) }},
	"discovery Idle: Listen":              {event: func(w *world) { must(w, w.Listen(w.t.Context(), time.Minute)) }},
	"discovery Social: supplicant restarts": {before: func(w *world) { w.finding(time.Minute) }, event: func(w *world) {
		w.restart()
		if n := len(w.fake.called("Find social")); n != 2 {
			w.t.Errorf("%d searches", n)
		}
	}},

	"formation Idle: Connect, peer unknown":        {event: func(w *world) { w.connect(PBC(), ConnectOptions{}) }},
	"formation Seeking: DeviceFound of the peer":   {before: func(w *world) { w.connect(PBC(), ConnectOptions{}) }, event: func(w *world) { w.near(0) }},
	"formation Seeking: 20 s":                      {before: func(w *world) { w.connect(PBC(), ConnectOptions{}) }, event: func(w *world) { w.pass(seekLimit) }},
	"formation Idle: Connect, push button":         {event: func(w *world) { w.waiting() }},
	"formation Idle: Connect, no PIN yet":          {before: func(w *world) { w.near(0) }, event: func(w *world) { w.connect(ShowPIN("", nil), ConnectOptions{}) }},
	"formation Idle: Connect, peer is group owner": {event: func(w *world) { w.joining() }},
	"formation Provision: PIN from provision discovery": {before: func(w *world) { w.near(0); w.connect(ShowPIN("", nil), ConnectOptions{}) }, event: func(w *world) {
		w.say(dbusapi.Provision{Peer: peerPath(fakePeer), Kind: "display", PIN: "00345670", Response: true})
		w.ask(func(m *machine) {
			if m.form.method.PIN != "00345670" {
				w.t.Errorf("PIN is %q", m.form.method.PIN)
			}
		})
	}},
	"formation Provision: 10 s":                       {before: func(w *world) { w.near(0); w.connect(ShowPIN("", nil), ConnectOptions{}) }, event: func(w *world) { w.pass(provisionLimit) }},
	"formation Idle: Connect, persistent group known": {cfg: fakeProfile, event: func(w *world) { w.waiting() }},
	"formation Idle: Connect, owner of that group heard": {cfg: fakeProfile, before: func(w *world) {
		w.near(dbusapi.GroupOwner)
		w.fake.mu.Lock()
		w.fake.peers[peerPath(fakePeer)] = dbusapi.Peer{Name: "other"}
		w.fake.mu.Unlock()
	}, event: func(w *world) {
		w.connect(PBC(), ConnectOptions{})
		if got := w.fake.called("Invite"); len(got) != 0 {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Seeking: owner found outside of the group": {cfg: fakeProfile, before: func(w *world) {
		w.near(dbusapi.GroupOwner)
		w.connect(PBC(), ConnectOptions{})
	}, event: func(w *world) { w.near(0) }},
	"formation Idle: Connect while forming": {before: func(w *world) { w.near(0) }, event: func(w *world) {
		w.connect(PBC(), ConnectOptions{})
		w.connect(PBC(), ConnectOptions{})
		second := w.last
		w.fails(11)
		w.last = second
	}},
	"formation Waiting: GONegotiationRequest of the peer": {before: (*world).waiting, event: func(w *world) {
		w.say(dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton})
		for _, e := range w.events() {
			if _, ok := e.(RequestReceived); ok {
				w.t.Error("crossing requests made a question")
			}
		}
	}},
	"formation Waiting: GONegotiationSuccess": {before: (*world).waiting, event: func(w *world) {
		w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer)})
	}},
	"formation Waiting: GONegotiationFailure 9, intent 15": {before: func(w *world) { w.near(0); w.connect(PBC(), ConnectOptions{Intent: 15}) }, event: func(w *world) {
		w.fails(9)
		if got := w.fake.called("Connect"); len(got) != 2 || !strings.HasSuffix(got[1], "intent 14") {
			w.t.Errorf("calls are %q", got)
		}
		w.fails(9)
		if !w.last.done || !errors.Is(w.last.err, ErrFormation) {
			w.t.Errorf("a second refusal gave %+v", w.last)
		}
		w.connect(PBC(), ConnectOptions{})
	}},
	"formation Waiting: GONegotiationFailure 11": {before: (*world).waiting, event: func(w *world) { w.fails(11) }},
	"formation Waiting: GONegotiationFailure 10": {before: (*world).waiting, event: func(w *world) { w.fails(10) }},
	"formation Waiting: GONegotiationFailure 7, only a wish": {before: func(w *world) { w.near(0); w.connect(PBC(), ConnectOptions{Prefer: 5180}) }, event: func(w *world) {
		w.fails(7)
	}},
	"formation Waiting: GONegotiationFailure 7": {before: (*world).waiting, event: func(w *world) { w.fails(7) }},
	"formation Waiting: GONegotiationFailure 1, peer is GO": {before: (*world).waiting, event: func(w *world) {
		w.fake.mu.Lock()
		w.fake.peers[peerPath(fakePeer)] = dbusapi.Peer{Name: "other", GroupCapab: dbusapi.GroupOwner}
		w.fake.mu.Unlock()
		w.fails(1)
	}},
	"formation Waiting: GONegotiationFailure -1": {before: (*world).waiting, event: func(w *world) {
		w.fails(-1)
		w.pass(lostNudge.most)
		w.near(0)
		w.pass(settle)
		if got := w.fake.called("Connect"); len(got) != 2 || got[0] != got[1] {
			w.t.Errorf("calls are %q", got)
		}
		w.fails(-1) // and this time the peer asks
		w.say(dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton})
		w.pass(settle)
		if got := w.fake.called("Connect"); len(got) != 3 {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Waiting: GONegotiationFailure -1, four times": {before: (*world).waiting, event: func(w *world) {
		for range maxLost + 1 {
			w.fails(-1)
			w.pass(lostNudge.most + lookLimit)
		}
	}},
	"formation Waiting: nothing heard for seconds": {before: (*world).waiting, event: func(w *world) {
		w.pass(firstNudge.most)
		w.near(0) // seen again
		w.pass(settle)
		if got := w.fake.called("Connect"); len(got) != 2 || got[0] != got[1] {
			w.t.Errorf("calls are %q", got)
		}
		w.pass(nextNudge.most + lookLimit + settle) // not seen
		if got := w.fake.called("Connect"); len(got) != 3 || len(w.fake.called("Find")) != 2 {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Waiting: invitation to the peer's group": {before: (*world).waiting, event: func(w *world) {
		w.say(dbusapi.InvitationReceived{Source: fakePeer, OwnerAddress: fakePeer, BSSID: fakePeer, Frequency: 2422})
		if got := w.fake.called("Connect"); len(got) != 2 || got[1] != "Connect pbc join true intent 0" {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Waiting: seen again as group owner": {before: (*world).waiting, event: func(w *world) {
		w.pass(firstNudge.most)
		w.near(dbusapi.GroupOwner)
	}},
	"formation Waiting: 124 s":             {before: (*world).waiting, event: func(w *world) { w.pass(waitLimit) }},
	"formation Waiting: ctx ends":          {before: (*world).waiting, event: func(w *world) { w.stopForming(); w.pass(cancelLimit) }},
	"formation Waiting: supplicant gone":   {before: (*world).waiting, event: func(w *world) { w.say(dbusapi.OwnerChanged{}) }},
	"formation Negotiated: InterfaceAdded": {before: func(w *world) { w.negotiated(true) }, event: func(w *world) { w.say(dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-0"}) }},
	"formation Negotiated: 25 s":           {before: func(w *world) { w.negotiated(true) }, event: func(w *world) { w.pass(buildLimit) }},
	"formation Building: GroupStarted as client": {before: func(w *world) { w.building(false) }, event: func(w *world) {
		w.groupUp(false, "192.168.49.2")
		if w.last.group.Local.String() != "192.168.49.2" || w.last.group.Ifname != "p2p-wlan9-0" {
			w.t.Errorf("group is %+v", w.last.group)
		}
	}},
	"formation Building: GroupStarted as owner": {before: func(w *world) { w.building(true) }, event: func(w *world) { w.groupUp(true, "") }},
	"formation Building: owner, PeerJoined":     {before: func(w *world) { w.owner(false) }, event: func(w *world) { w.joined(false) }},
	"formation Building: owner, no client for 20 s": {before: func(w *world) { w.owner(false) }, event: func(w *world) {
		w.pass(clientLimit)
		if len(w.fake.called("Disconnect "+string(fakeGroup))) != 1 {
			w.t.Error("the group was not ended")
		}
		w.finished(true)
	}},
	"formation Building: WpsFailed 18, GroupFormationFailure": {before: func(w *world) { w.building(true) }, event: func(w *world) { w.wps(18) }},
	"formation Building: WpsFailed 12, GroupFormationFailure": {before: func(w *world) { w.building(true) }, event: func(w *world) { w.wps(12) }},
	"formation Building: killed by NetworkManager":            {fake: func(f *fake) { f.owners[nameNM] = true }, before: func(w *world) { w.owner(false) }, event: (*world).removed},
	"formation Building: GroupFormationFailure": {before: func(w *world) { w.building(true) }, event: func(w *world) {
		w.wps(0)
		w.removed()
	}},
	"formation Building: GroupFormationFailure three times": {before: func(w *world) { w.building(true) }, event: func(w *world) {
		w.wps(0)
		w.removed()
		for range maxRebuilt {
			w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer)}, dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-1"})
			w.wps(0)
		}
	}},
	"formation Building: GONegotiationRequest after 5 s": {before: func(w *world) { w.building(true) }, event: func(w *world) {
		again := dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton}
		w.say(again) // a repeated frame
		if n := len(w.fake.called("Cancel")); n != 0 {
			w.t.Error("cancelled for a repeated frame")
		}
		w.pass(secondThoughts + time.Second)
		w.say(again)
		if n := len(w.fake.called("Cancel")); n != 1 {
			w.t.Errorf("%d times cancelled", n)
		}
		w.wps(0) // what Cancel has the supplicant say
	}},
	"formation Building: client, no owner for 5 s": {before: func(w *world) { w.building(false) }, event: func(w *world) {
		w.pass(ownerLimit)
		if n := len(w.fake.called("Cancel")); n != 1 {
			w.t.Errorf("%d times cancelled", n)
		}
		w.wps(0) // what Cancel has the supplicant say
		w.removed()
	}},
	"formation Joining: GroupStarted as client": {before: (*world).joining, event: func(w *world) { w.groupUp(false, "") }},
	"formation Joining: peer has no such group any more": {before: (*world).joining, event: func(w *world) {
		w.say(dbusapi.ProvisionFailure{Peer: peerPath(fakePeer), Status: 2})
	}},
	"formation Joining: FREQ_CONFLICT": {before: (*world).joining, event: func(w *world) {
		w.say(dbusapi.GroupFormationFailure{Path: fakeOwner, Reason: "FREQ_CONFLICT"})
	}},
	"formation Idle: Connect, owner joined us before": {before: func(w *world) {
		w.say(dbusapi.Provision{Peer: peerPath(fakePeer), Kind: "pbc"})
	}, event: func(w *world) {
		w.joining()
		if len(w.fake.called("Flush")) != 1 || len(w.fake.called("Connect")) != 0 {
			w.t.Errorf("calls are %q", w.fake.calls)
		}
		// That the supplicant forgets the peers is our doing, and no news.
		w.say(dbusapi.DeviceLost{Path: peerPath(fakePeer)})
		if w.event(func(e Event) bool { _, ok := e.(PeerLost); return ok }) {
			w.t.Error("a peer was lost")
		}
	}},
	"formation Idle: Connect, group of the owner ended": {before: func(w *world) {
		w.joining()
		w.groupUp(false, "")
		w.disconnect(3)
		w.finished(false)
	}, event: func(w *world) { w.connect(PBC(), ConnectOptions{Intent: -1}) }},
	"formation Joining: GONegotiationRequest of the peer": {before: (*world).joining, event: func(w *world) {
		w.say(dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton})
		w.pass(settle)
		if got := w.fake.called("Connect"); len(got) != 2 || got[1] != "Connect pbc join false intent 7" && got[1] != "Connect pbc join false intent 0" {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Joining: nothing for 12 s": {before: (*world).joining, event: func(w *world) {
		w.pass(joinSearch)
		if len(w.fake.called("Flush")) != 1 {
			w.t.Errorf("calls are %q", w.fake.calls)
		}
	}},
	"formation Joining: nothing for 12 s, peer owns no group": {before: (*world).joining, event: func(w *world) {
		w.pass(joinSearch)
		w.near(0)
		w.pass(settle)
		if got := w.fake.called("Connect"); len(got) != 2 || strings.Contains(got[1], "join true") {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Joining: 65 s": {before: (*world).joining, event: func(w *world) {
		w.pass(joinSearch)
		w.near(dbusapi.GroupOwner)
		w.pass(joinLimit)
	}},
	"formation Joining: ctx ends, InterfaceAdded after 5 s": {before: (*world).joining, event: func(w *world) {
		w.stopForming()
		w.pass(5 * time.Second)
		w.groupUp(false, "")
		if got := w.fake.called("Disconnect"); len(got) == 0 || w.event(func(e Event) bool { _, ok := e.(GroupUp); return ok }) {
			w.t.Errorf("a cancelled join was told, calls are %q", got)
		}
		w.finished(false)
	}},
	"formation Inviting: InvitationResult 0": {cfg: fakeProfile, before: (*world).waiting, event: func(w *world) {
		w.say(dbusapi.InvitationResult{})
	}},
	"formation Inviting: InvitationResult 8": {cfg: fakeProfile, before: (*world).waiting, event: func(w *world) {
		w.say(dbusapi.InvitationResult{Status: 8})
		if n := len(w.fake.called("RemovePersistent")); n != 1 {
			w.t.Errorf("%d profiles removed", n)
		}
	}},
	"formation Inviting: GroupFormationFailure": {cfg: fakeProfile, before: (*world).waiting, event: func(w *world) {
		// The peer's invitation crossed ours, and was for a group that never came.
		w.say(dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-0"})
		w.wps(0)
		w.removed()
		if got := w.fake.called("Invite"); len(got) != 2 {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Inviting: 20 s": {cfg: fakeProfile, before: (*world).waiting, event: func(w *world) { w.pass(inviteLimit) }},

	"group Linked: PeerJoined":          {before: func(w *world) { w.owner(false) }, event: func(w *world) { w.joined(false) }},
	"group Populated: PeerDisconnected": {before: func(w *world) { w.owner(true) }, event: func(w *world) { w.joined(true) }},
	"group Linked: no client for GroupIdle": {before: func(w *world) { w.owner(true); w.joined(true) }, event: func(w *world) {
		w.pass(defaultGroupIdle)
		w.finished(true)
	}},
	"group Populated: GroupFinished": {before: func(w *world) { w.owner(true) }, event: func(w *world) { w.finished(true) }},
	"group Populated: owner says goodbye": {before: (*world).client, event: func(w *world) {
		w.disconnect(3)
		w.finished(false)
	}},
	"group Populated: beacons lost": {before: (*world).client, event: func(w *world) { w.disconnect(-4) }},
	"group Degraded: State completed": {before: func(w *world) { w.client(); w.disconnect(-4) }, event: func(w *world) {
		w.say(dbusapi.InterfaceChanged{Path: fakeGroup, State: "completed"})
	}},
	"group Degraded: GroupFinished": {before: func(w *world) { w.client(); w.disconnect(-4) }, event: func(w *world) { w.finished(false) }},
	"group Populated: Leave": {before: (*world).client, event: func(w *world) {
		id := w.Status().Groups[0].ID
		left := make(chan error, 1)
		go func() { left <- w.Leave(context.Background(), id) }()
		w.wait()
		w.finished(false)
		must(w, <-left)
	}},
	"group Populated: InterfaceRemoved": {before: func(w *world) { w.owner(true); w.pass(killWindow) }, event: (*world).removed},
	"group Populated: Wi-Fi connection changes channel": {before: func(w *world) { w.owner(true) }, event: func(w *world) {
		w.ask(func(m *machine) {
			m.seat = seat{index: 3, channels: 2}
			m.moving(3, 2462) // a radio that can be on both
			m.seat.channels = 1
			m.moving(4, 2462) // another adapter's
			m.moving(3, 2437) // where the group is
			for _, g := range m.groups {
				if g.state != groupPopulated {
					w.t.Errorf("group is %s", g.state)
				}
			}
			m.moving(3, 2462)
		})
		w.finished(true)
	}},
	"group Populated: supplicant gone": {before: (*world).client, event: func(w *world) { w.say(dbusapi.OwnerChanged{}) }},
}
