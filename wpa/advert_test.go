package wpa

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// TestAdvertiseOneSettingAtATime checks what the supplicant is told, when, and what is put back.
func TestAdvertiseOneSettingAtATime(t *testing.T) {
	first, second := []byte("NGH\x01a"), []byte("NGH\x01b")
	inWorld(t, Config{DeviceName: "one", Vendor: [][]byte{first}, Visible: true}, nil, func(w *world) {
		since := func(f func()) []string {
			t.Helper()
			before := len(w.fake.called(""))
			f()
			return w.fake.called("")[before:]
		}
		advertise := func(a Advert) func() {
			return func() {
				if err := w.Advertise(w.t.Context(), a); err != nil {
					t.Error(err)
				}
				w.wait()
			}
		}
		if calls := since(advertise(Advert{"one", [][]byte{first}, true})); len(calls) != 0 {
			t.Errorf("nothing changed, and it called %q", calls)
		}
		if calls := since(advertise(Advert{"one", [][]byte{second}, true})); len(calls) != 1 || !strings.Contains(calls[0], "VendorExtension") {
			t.Errorf("for a new vendor extension it called %q", calls)
		}
		if calls := since(advertise(Advert{"two", [][]byte{second}, true})); len(calls) != 1 || !strings.Contains(calls[0], "DeviceName two") {
			t.Errorf("for a new name it called %q", calls)
		}
		if calls := since(advertise(Advert{"two", [][]byte{second}, false})); len(calls) != 1 || calls[0] != "ExtendedListen 0s 0s" {
			t.Errorf("to hide it called %q", calls)
		}
		// A new supplicant is told the newest.
		calls := since(func() {
			w.say(dbusapi.OwnerChanged{Owner: ""})
			advertise(Advert{"three", [][]byte{first}, true})()
			w.say(dbusapi.OwnerChanged{Owner: ":1.9"})
			w.pass(time.Second)
		})
		all := strings.Join(calls, "\n")
		if !strings.Contains(all, "DeviceName three") || strings.Contains(all, "DeviceName two") || !strings.Contains(all, "ExtendedListen 500ms") {
			t.Errorf("a new supplicant was told:\n%s", all)
		}
		for _, bad := range []Advert{{Name: strings.Repeat("x", 33)}, {Vendor: [][]byte{{1}}}, {Vendor: [][]byte{make([]byte, maxVendorBytes)}}, {Vendor: make([][]byte, 11)}} {
			if err := w.Advertise(w.t.Context(), bad); !errors.Is(err, ErrConfig) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

// TestListeningFollowsTheConnection checks that a device with a Wi-Fi connection listens less, from the moment it has one.
func TestListeningFollowsTheConnection(t *testing.T) {
	inWorld(t, Config{Visible: true}, nil, func(w *world) {
		last := func() string {
			calls := w.fake.called("ExtendedListen")
			return calls[len(calls)-1]
		}
		alone, beside := "ExtendedListen "+visiblePeriod.String()+" "+visibleAlone.String(), "ExtendedListen "+visiblePeriod.String()+" "+visibleInterval.String()
		if got := last(); got != alone {
			t.Errorf("alone: %s", got)
		}
		for _, step := range []struct{ state, want string }{
			{"scanning", alone}, {"associating", alone}, {"completed", beside}, {"scanning", beside}, {"completed", beside}, {"disconnected", alone},
		} {
			w.say(dbusapi.InterfaceChanged{Path: fakeOwner, State: step.state})
			if got := last(); got != step.want {
				t.Errorf("%s: %s, want %s", step.state, got, step.want)
			}
		}
		if n := len(w.fake.called("ExtendedListen")); n != 3 {
			t.Errorf("%d calls", n)
		}
	})
}

// TestLook checks that a look returns what is heard after it began, and leaves the radio as it was.
func TestLook(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		type result struct {
			peer Peer
			err  error
		}
		look := func() <-chan result {
			ch := make(chan result, 1)
			go func() {
				p, err := w.Look(w.t.Context(), fakePeer, 3*time.Second)
				ch <- result{p, err}
			}()
			w.wait()
			return ch
		}
		w.near(0)
		got := look()
		select {
		case r := <-got:
			t.Fatalf("it returned what was heard before: %+v, %v", r.peer, r.err)
		default:
		}
		w.pass(time.Second)
		w.near(dbusapi.GroupOwner)
		if r := <-got; r.err != nil || !r.peer.IsGO {
			t.Errorf("%+v, %v", r.peer, r.err)
		}
		if calls := w.fake.called(""); calls[len(calls)-1] != "StopFind" {
			t.Errorf("the last call is %s", calls[len(calls)-1])
		}
		got = look()
		w.pass(3 * time.Second)
		if r := <-got; !errors.Is(r.err, ErrPeerGone) {
			t.Errorf("of a device that is not there: %v", r.err)
		}
		// A search that is wanted goes on.
		if err := w.Find(w.t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		got = look()
		w.near(0)
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}
		if !w.Status().Finding {
			t.Error("the look ended the search")
		}
		got = look()
		w.say(dbusapi.OwnerChanged{Owner: ""})
		if r := <-got; !errors.Is(r.err, ErrSupplicantGone) {
			t.Errorf("when the supplicant goes: %v", r.err)
		}
		if r := <-look(); r.err == nil {
			t.Error("it works without a supplicant")
		}
	})
}

// TestOneTimePIN checks that a PIN good for one run of WPS is never tried twice, by us or on the peer's wish.
func TestOneTimePIN(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(0)
		out := w.forming(func(context.Context) (Group, error) {
			return w.Connect(w.t.Context(), fakePeer, ShowPIN("12345670", nil), ConnectOptions{Intent: 7, OneTime: true})
		})
		w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer), Owner: true})
		w.say(dbusapi.GroupFormationFailure{Path: fakeOwner})
		if err := out.err; !errors.Is(err, ErrFormation) {
			t.Errorf("the formation ended with %v", err)
		}
		if n := len(w.fake.called("Connect")); n != 1 {
			t.Errorf("%d calls of Connect", n)
		}
	})
	inWorld(t, Config{}, nil, func(w *world) {
		w.groupUp(true, "")
		w.near(0)
		group := w.Status().Groups[0].ID
		var out *outcome
		admit := func() {
			out = w.forming(func(context.Context) (Group, error) {
				return w.Accept(w.t.Context(), Request{Peer: Peer{Address: fakePeer}, Kind: ProvisionEnterPIN, Group: group}, EnterPIN("12345670"), ConnectOptions{})
			})
		}
		admit()
		for range 3 {
			w.say(dbusapi.Provision{Peer: peerPath(fakePeer), Kind: "keypad"})
		}
		if n := len(w.fake.called("OpenWPS")); n != 1 {
			t.Errorf("the group was opened %d times with one PIN", n)
		}
		w.say(dbusapi.WPSFailed{Path: fakeGroup, ConfigError: wpsWrongPIN})
		if err := out.err; !errors.Is(err, ErrWrongPIN) {
			t.Errorf("a wrong PIN ends with %v", err)
		}
		if !slices.Contains(w.fake.called(""), "CloseWPS "+string(fakeGroup)) {
			t.Error("the group stays open")
		}
		admit()
		w.pass(admitLimit)
		if err := out.err; !errors.Is(err, ErrTimeout) || len(w.fake.called("CloseWPS")) != 2 {
			t.Errorf("a client that does not come: %v, closed %d times", err, len(w.fake.called("CloseWPS")))
		}
	})
}

// TestMethodForANewGroup checks that a method for a new group is not used to join one, which the peer would answer with silence:
// the caller is told as soon as it is sure.
func TestMethodForANewGroup(t *testing.T) {
	ask := func(w *world) *outcome {
		return w.connect(EnterPIN("12345670"), ConnectOptions{Intent: 7, OneTime: true, NewGroup: true})
	}
	refused := func(w *world, what string, out *outcome) {
		t.Helper()
		if w.wait(); !out.done || !errors.Is(out.err, ErrMethod) {
			t.Errorf("%s: the formation ended with %+v", what, out)
		}
		if joins := slices.DeleteFunc(w.fake.called("Connect"), func(c string) bool { return !strings.Contains(c, "join true") }); len(joins) > 0 {
			t.Errorf("%s: calls are %q", what, joins)
		}
	}
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(dbusapi.GroupOwner)
		out := ask(w)
		if out.done || len(w.fake.called("Flush")) != 1 {
			t.Errorf("before it is looked for again: %+v, calls are %q", out, w.fake.called(""))
		}
		w.near(dbusapi.GroupOwner)
		refused(w, "an owner", out)
	})
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(0)
		out := ask(w)
		w.say(dbusapi.InvitationReceived{Source: fakePeer, OwnerAddress: fakePeer, BSSID: fakePeer})
		refused(w, "an owner that invites", out)
	})
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(0)
		out := ask(w)
		w.pass(firstNudge.most)
		w.near(dbusapi.GroupOwner) // while it is looked for before it is asked again
		if got := w.fake.called("Connect"); out.done || got[len(got)-1] != "Connect keypad join true intent 7" {
			t.Errorf("the group may be the one that was asked for: %+v, calls are %q", out, got)
		}
		w.pass(joinSearch)
		w.near(dbusapi.GroupOwner)
		if !out.done || !errors.Is(out.err, ErrMethod) {
			t.Errorf("an owner since it was asked: the formation ended with %+v", out)
		}
	})
	inWorld(t, Config{}, nil, func(w *world) {
		w.near(dbusapi.GroupOwner)
		out := ask(w)
		w.near(0) // the group was an old scan's
		w.pass(settle)
		if got := w.fake.called("Connect"); out.done || len(got) != 1 || got[0] != "Connect keypad join false intent 7" {
			t.Errorf("an owner no more: %+v, calls are %q", out, got)
		}
		w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer)})
		w.groupUp(false, "")
		if !out.done || out.err != nil {
			t.Errorf("an owner no more: the formation ended with %+v", out)
		}
	})
}
