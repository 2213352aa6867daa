package wpa

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// row is one row of the table in the package documentation.
type row struct{ machine, state, event, then string }

// table reads the rows out of doc.go.
func table(t *testing.T) []row {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	line := regexp.MustCompile(`(?m)^//\t(supplicant|discovery|formation|group) +(\S+) +(.*?)  +(.*)$`)
	for _, m := range line.FindAllStringSubmatch(string(doc), -1) {
		rows = append(rows, row{m[1], m[2], m[3], m[4]})
	}
	if len(rows) < 50 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	return rows
}

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
	"supplicant Absent: owner of the name appears": {fake: absent, event: func(w *world) {
		w.fake.mu.Lock()
		w.fake.ifaces = map[dbusapi.Path]dbusapi.Interface{} // so that it stays Starting until the test has looked
		w.fake.fail["Present"] = nil
		w.fake.mu.Unlock()
		w.states = true
		w.say(dbusapi.OwnerChanged{Owner: ":1.99"})
	}},
	"supplicant Starting: prepared": {before: func(w *world) { w.hold() }, event: func(w *world) { w.release() }},
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
	"formation Waiting: GONegotiationFailure 7":  {before: (*world).waiting, event: func(w *world) { w.fails(7) }},
	"formation Waiting: GONegotiationFailure 1, peer is GO": {before: (*world).waiting, event: func(w *world) {
		w.fake.mu.Lock()
		w.fake.peers[peerPath(fakePeer)] = dbusapi.Peer{Name: "other", GroupCapab: dbusapi.GroupOwner}
		w.fake.mu.Unlock()
		w.fails(1)
	}},
	"formation Waiting: GONegotiationFailure -1": {before: (*world).waiting, event: func(w *world) {
		w.fails(-1)
		if len(w.fake.called("Flush")) != 1 {
			w.t.Error("no Flush")
		}
	}},
	"formation Waiting: 5 s": {before: (*world).waiting, event: func(w *world) {
		w.pass(nudgePause)
		w.near(0) // seen again
		if got := w.fake.called("Connect"); len(got) != 2 || got[0] != got[1] {
			w.t.Errorf("calls are %q", got)
		}
		w.pass(nudgePause + lookLimit) // not seen
		if got := w.fake.called("Connect"); len(got) != 3 || len(w.fake.called("Find")) != 2 {
			w.t.Errorf("calls are %q", got)
		}
	}},
	"formation Waiting: 125 s":             {before: (*world).waiting, event: func(w *world) { w.pass(waitLimit) }},
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
	"formation Building: GroupFormationFailure twice": {before: func(w *world) { w.building(true) }, event: func(w *world) {
		w.wps(0)
		w.removed()
		w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer)}, dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-1"})
		w.wps(0)
	}},
	"formation Joining: GroupStarted as client": {before: (*world).joining, event: func(w *world) { w.groupUp(false, "") }},
	"formation Joining: FREQ_CONFLICT": {before: (*world).joining, event: func(w *world) {
		w.say(dbusapi.GroupFormationFailure{Path: fakeOwner, Reason: "FREQ_CONFLICT"})
	}},
	"formation Joining: 65 s": {before: (*world).joining, event: func(w *world) { w.pass(joinLimit) }},
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
	"group Populated: supplicant gone":  {before: (*world).client, event: func(w *world) { w.say(dbusapi.OwnerChanged{}) }},
}

var sentinels = map[string]error{
	"ErrPeerGone": ErrPeerGone, "ErrBusy": ErrBusy, "ErrRejected": ErrRejected, "ErrMethod": ErrMethod, "ErrChannel": ErrChannel,
	"ErrTimeout": ErrTimeout, "context.Canceled": context.Canceled, "ErrFormation": ErrFormation, "ErrWrongPIN": ErrWrongPIN,
	"ErrOverlap": ErrOverlap, "ErrKilledByNetworkManager": ErrKilledByNetworkManager, "ErrSupplicantGone": ErrSupplicantGone,
}

// TestTable runs every row of the table in the package documentation.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table(t) {
		key := r.machine + " " + r.state + ": " + r.event
		s, ok := scenarios[key]
		if !ok {
			t.Errorf("no scenario for %q", key)
			continue
		}
		seen[key] = true
		t.Run(strings.ReplaceAll(key, " ", "_"), func(t *testing.T) {
			inWorld(t, s.cfg, s.fake, func(w *world) {
				if s.before != nil {
					s.before(w)
				}
				if got := w.where(r.machine); got != r.state {
					t.Fatalf("before: %s, want %s", got, r.state)
				}
				s.event(w)
				w.check(r)
			})
		})
	}
	for key := range scenarios {
		if !seen[key] {
			t.Errorf("the table has no row for scenario %q", key)
		}
	}
}

// check compares the state with a row's last column.
func (w *world) check(r row) {
	w.t.Helper()
	then, detail, _ := strings.Cut(r.then, ": ")
	got := w.where(r.machine)
	if w.states { // passed through
		if !slices.ContainsFunc(w.events(), func(e Event) bool { s, ok := e.(StateChanged); return ok && s.Status.State == Starting }) {
			w.t.Error("never was Starting")
		}
		return
	}
	if got != then {
		w.t.Errorf("after: %s, want %s", got, then)
	}
	switch {
	case then == "Gone":
		gone := []Reason{}
		for _, e := range w.events() {
			if g, ok := e.(GroupGone); ok {
				gone = append(gone, g.Reason)
			}
		}
		if fmt.Sprint(gone) != "["+detail+"]" {
			w.t.Errorf("group is gone for %q, want %q", gone, detail)
		}
	case detail == "group":
		if !w.last.done || w.last.err != nil || w.last.group.SSID != "DIRECT-xy" {
			w.t.Errorf("formation gave %+v", w.last)
		}
	case detail != "":
		if !w.last.done || !errors.Is(w.last.err, sentinels[detail]) {
			w.t.Errorf("formation gave %v, want %s", w.last.err, detail)
		}
	}
}

// hold makes a restarting supplicant stay in Starting until release.
func (w *world) hold() {
	w.fake.mu.Lock()
	w.fake.held = make(chan struct{})
	w.fake.mu.Unlock()
	w.restart()
}

func (w *world) release() {
	w.fake.mu.Lock()
	close(w.fake.held)
	w.fake.held = nil
	w.fake.mu.Unlock()
	w.wait()
}

// TestPutBack checks that what Run changed is as it was when it has returned.
func TestPutBack(t *testing.T) {
	var f *fake
	inWorld(t, Config{DeviceName: "ours", Intent: 9}, func(g *fake) { f = g }, func(w *world) { w.client() })
	if got := f.called("Disconnect"); len(got) != 1 || got[0] != "Disconnect "+string(fakeGroup) {
		t.Errorf("calls are %q", got)
	}
	last := func(prefix string) string {
		calls := f.called(prefix)
		if len(calls) == 0 {
			return "none"
		}
		return calls[len(calls)-1]
	}
	for prefix, want := range map[string]string{
		"SetConfig {DeviceName":          "SetConfig {DeviceName before}",
		"SetConfig {GOIntent":            "SetConfig {GOIntent 3}",
		"SetConfig {PersistentReconnect": "SetConfig {PersistentReconnect false}",
		"SetConfigMethods":               "SetConfigMethods nfc",
	} {
		if got := last(prefix); got != want {
			t.Errorf("last call is %q, want %q", got, want)
		}
	}
}

// TestVisible checks that a visible device listens while it has no group, and stops when Run ends.
func TestVisible(t *testing.T) {
	var f *fake
	last := func() string {
		calls := f.called("ExtendedListen")
		return calls[len(calls)-1]
	}
	const on, off = "ExtendedListen 500ms 1.5s", "ExtendedListen 0s 0s"
	inWorld(t, Config{Visible: true}, func(g *fake) { f = g }, func(w *world) {
		if got := last(); got != on {
			t.Errorf("at first: %s", got)
		}
		w.client()
		if got := last(); got != off {
			t.Errorf("in a group: %s", got)
		}
		w.finished(false)
		if got := last(); got != on {
			t.Errorf("after the group: %s", got)
		}
		w.restart()
		if got := f.called("ExtendedListen"); len(got) != 4 || got[3] != on {
			t.Errorf("after a restart: %q", got)
		}
	})
	if got := last(); got != off {
		t.Errorf("after Run: %s", got)
	}
}

// TestRequests checks that one attempt of a peer makes one question.
func TestRequests(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		count := func() (n int) {
			for _, e := range w.events() {
				if _, ok := e.(RequestReceived); ok {
					n++
				}
			}
			return n
		}
		ask := dbusapi.GONegotiationRequest{Peer: peerPath(fakePeer), PasswordID: PasswordPushButton, Intent: 7}
		w.near(0)
		for range 5 {
			w.say(ask)
			w.pass(time.Second)
		}
		if n := count(); n != 1 {
			t.Fatalf("%d requests", n)
		}
		w.pass(requestLife)
		w.say(ask)
		if n := count(); n != 2 {
			t.Fatalf("%d requests after the first expired", n)
		}
		for i := range 1000 { // a hostile device with many addresses
			addr := slices.Clone(fakePeer)
			addr[3], addr[4] = byte(i>>8), byte(i)
			w.say(dbusapi.GONegotiationRequest{Peer: peerPath(addr), PasswordID: PasswordPushButton})
		}
		if n := count(); n > maxRequests+2 {
			t.Fatalf("%d requests", n)
		}
	})
}

// TestFlood checks that events that nobody takes do not add up, and that the order about one thing stays.
func TestFlood(t *testing.T) {
	o := newOutbox()
	o.push(PeerSeen{Peer{Address: fakePeer}})
	for i := range 10000 {
		o.push(PeerChanged{Peer{Address: fakePeer, SignalDBm: -i}})
		o.push(StateChanged{Status{Ifname: fmt.Sprint(i)}})
	}
	if len(o.queue) != 2 {
		t.Fatalf("%d events wait", len(o.queue))
	}
	if p, ok := o.queue[0].(PeerSeen); !ok || p.Peer.SignalDBm != -9999 {
		t.Errorf("first event is %+v", o.queue[0])
	}
	o.push(PeerLost{fakePeer})
	o.push(PeerSeen{Peer{Address: fakePeer}})
	o.push(PeerChanged{Peer{Address: fakePeer, SignalDBm: 1}})
	last := o.queue[len(o.queue)-1]
	if p, ok := last.(PeerSeen); !ok || p.Peer.SignalDBm != 1 {
		t.Errorf("last event is %+v", last)
	}
	for range 5000 {
		o.push(PeerLost{fakePeer})
	}
	if len(o.queue) > maxPending {
		t.Errorf("%d events wait", len(o.queue))
	}
}

// TestSecretsStayOut checks that printing a value by accident shows no secret.
func TestSecretsStayOut(t *testing.T) {
	const secret = "s3cr3t-12345670"
	for _, v := range []any{
		Group{Passphrase: secret}, Persistent{PSK: secret},
	} {
		if s := fmt.Sprintf("%v %s %+v", v, v, v); strings.Contains(s, secret) {
			t.Errorf("%T prints %s", v, s)
		}
	}
	var b strings.Builder
	log := testLogger(&b)
	log.Info("Values", "group", Group{Passphrase: secret}, "persistent", Persistent{PSK: secret},
		"method", EnterPIN(secret), "request", Request{PIN: secret})
	if strings.Contains(b.String(), secret) {
		t.Errorf("log has %s", b.String())
	}
}

// TestBadArguments checks what is refused before the radio is used.
func TestBadArguments(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		for name, m := range map[string]Method{
			"no PIN": EnterPIN(""), "letters": EnterPIN("1234567a"), "short": EnterPIN("123"), "button with PIN": {PIN: "12345670"},
		} {
			if _, err := w.Connect(w.t.Context(), fakePeer, m, ConnectOptions{}); !errors.Is(err, ErrBadMethod) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := w.Connect(w.t.Context(), nil, PBC(), ConnectOptions{}); !errors.Is(err, ErrConfig) {
			t.Errorf("no address: %v", err)
		}
		if err := w.Leave(w.t.Context(), "77"); !errors.Is(err, ErrNoGroup) {
			t.Errorf("unknown group: %v", err)
		}
		if got := w.fake.called("Connect"); len(got) != 0 {
			t.Errorf("calls are %q", got)
		}
	})
	for name, c := range map[string]Config{
		"intent": {Intent: 16}, "name": {DeviceName: strings.Repeat("x", 33)}, "vendor": {Vendor: [][]byte{{1}}},
	} {
		if _, err := Open(t.Context(), c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClosed checks that commands after Run do not hang.
func TestClosed(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.cancel()
		w.wait()
		if err := w.Find(w.t.Context(), time.Second); !errors.Is(err, ErrClosed) {
			t.Errorf("find: %v", err)
		}
		if _, err := w.StartGroup(w.t.Context(), GroupOptions{}); !errors.Is(err, ErrClosed) {
			t.Errorf("start group: %v", err)
		}
	})
}

// TestHints checks that every error has one thing to do about it.
func TestHints(t *testing.T) {
	for _, err := range sentinels {
		if err != context.Canceled && Hint(fmt.Errorf("wpa: x: %w", err)) == "" {
			t.Errorf("no hint for %v", err)
		}
	}
	if Hint(errors.New("other")) != "" {
		t.Error("a hint for anything")
	}
}
