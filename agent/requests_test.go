package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/recognise"
	"nigh/discovery"
	"nigh/wpa"
)

// newAirAgent is a book agent that recognises, without a radio.
func newAirAgent(t *testing.T, visibility Visibility) *Agent {
	t.Helper()
	a := newBookAgent(t)
	id, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a.id = id
	a.cfg = Config{Settings: Settings{Name: "ada", Visibility: visibility, Join: JoinTrusted, Accept: AcceptAsk}}
	a.air = recognise.New(id, visibility == VisibleEveryone)
	a.direct = newDirect(a)
	if a.finder, err = discovery.New(discovery.Config{Port: 7421, NoPublish: true}); err != nil {
		t.Fatal(err)
	}
	return a
}

// trusts makes b a device that a trusts, with its key when known.
func trusts(t *testing.T, a, b *Agent, key bool) {
	t.Helper()
	a.befriend(t, b.id.ID, "friend")
	if key {
		if err := a.trust.SetKey(b.id.ID, b.id.Key()); err != nil {
			t.Fatal(err)
		}
	}
	a.recogniseFriends()
}

// peerOf is b as a radio hears it.
func peerOf(b *Agent, mac byte) wpa.Peer {
	v := b.direct.advert()
	return wpa.Peer{Address: net.HardwareAddr{2, 0, 0, 0, 0, mac}, Name: v.Name, Vendor: v.Vendor, SignalDBm: -40, Seen: time.Now()}
}

func TestTrustedDeviceIsListedByItsTag(t *testing.T) {
	for _, visibility := range []Visibility{VisibleEveryone, VisibleTrusted, VisibleHidden} {
		a, b, stranger := newAirAgent(t, VisibleEveryone), newAirAgent(t, visibility), newAirAgent(t, VisibleEveryone)
		trusts(t, a, b, true)
		trusts(t, b, a, true)
		p := peerOf(b, 1)
		if visible := b.direct.advert().Visible; visible == (visibility == VisibleHidden) {
			t.Errorf("%s: listens %v", visibility, visible)
		}
		a.direct.heard(p)
		stranger.direct.heard(p)
		views := a.table.views()
		if len(views) != 1 || views[0].ID != b.id.ID.String() || views[0].State != "visible" || len(views[0].Paths) != 1 || views[0].Paths[0].Signal != -40 {
			t.Errorf("%s: the friend lists %+v", visibility, views)
		}
		views = stranger.table.views()
		if len(views) != 1 || views[0].ID != "" {
			t.Fatalf("%s: a stranger lists %+v", visibility, views)
		}
		if known := views[0].Name == "ada" || views[0].Short != ""; known != (visibility == VisibleEveryone) {
			t.Errorf("%s: a stranger sees %q, %q", visibility, views[0].Name, views[0].Short)
		}
		if views[0].Name == p.Name && visibility != VisibleEveryone {
			t.Errorf("%s: a stranger is shown the made-up name", visibility)
		}
	}
}

// Who becomes trusted is told by the announcement at once.
func TestAnnouncementNamesNewFriendsAtOnce(t *testing.T) {
	a, b := newAirAgent(t, VisibleTrusted), newAirAgent(t, VisibleTrusted)
	txt := func() map[string]string {
		m := map[string]string{}
		for _, s := range a.announcement().TXT {
			key, value, _ := strings.Cut(s, "=")
			m[key] = value
		}
		return m
	}
	trusts(t, b, a, true)
	if b.announced(txt()) {
		t.Error("an announcement is recognised before its device trusts anybody")
	}
	if err := a.trust.Pair(b.id.Key(), "bob"); err != nil {
		t.Fatal(err)
	}
	a.recogniseFriends()
	if !b.announced(txt()) {
		t.Error("a friend does not recognise the announcement")
	}
	if err := a.trust.Remove(b.id.ID); err != nil {
		t.Fatal(err)
	}
	a.recogniseFriends()
	if b.announced(txt()) {
		t.Error("a device that is trusted no more recognises the announcement")
	}
}

func TestKeyIsLearnedFromTheAirForTrustedDevicesOnly(t *testing.T) {
	a, b, stranger := newAirAgent(t, VisibleTrusted), newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleEveryone)
	trusts(t, a, b, false)
	for i, other := range []*Agent{b, stranger} {
		a.direct.heard(peerOf(other, byte(i)))
	}
	if r := a.record(b.id.ID); r.Key != b.id.Key() {
		t.Errorf("the key of a trusted device is %x", r.Key)
	}
	if _, ok := a.trust.Record(stranger.id.ID); ok {
		t.Error("a stranger is in the book")
	}
	// A forged advert with the friend's tags and another's key teaches nothing.
	forged := b.air.Advert()
	forged.Key = stranger.id.Key()
	a.direct.heard(wpa.Peer{Address: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Vendor: [][]byte{forged.Encode()}, Seen: time.Now()})
	if r := a.record(b.id.ID); r.Key != b.id.Key() {
		t.Errorf("a forged advert changed the key to %x", r.Key)
	}
}

func TestOnlyAFriendIsAnsweredSilently(t *testing.T) {
	a, b, evil := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleTrusted), newAirAgent(t, VisibleEveryone)
	trusts(t, a, b, true)
	trusts(t, b, a, true)
	trusts(t, evil, a, true) // whom it trusts is its own affair
	real := peerOf(b, 1)
	named := wpa.Peer{Address: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Name: radioName("friend", b.id.ID), Seen: time.Now()}
	for _, c := range []struct {
		what string
		r    wpa.Request
		ok   bool
	}{
		{"a friend that shows a PIN", wpa.Request{Peer: real, PasswordID: wpa.PasswordRegistrarSpecified}, true},
		{"a friend that enters a PIN", wpa.Request{Peer: real, PasswordID: wpa.PasswordUserSpecified}, true},
		{"a friend that presses its button", wpa.Request{Peer: real, PasswordID: wpa.PasswordPushButton}, false},
		{"a friend's name and a button", wpa.Request{Peer: named, PasswordID: wpa.PasswordPushButton}, false},
		{"a friend's name and a PIN", wpa.Request{Peer: named, PasswordID: wpa.PasswordUserSpecified}, false},
		{"a device that trusts us", wpa.Request{Peer: peerOf(evil, 3), PasswordID: wpa.PasswordUserSpecified}, false},
		{"a button in provision discovery", wpa.Request{Peer: named, Kind: wpa.ProvisionPBC}, false},
	} {
		a.direct.heard(c.r.Peer)
		if _, _, ok := a.direct.asker(t.Context(), c.r); ok != c.ok {
			t.Errorf("%s: answered silently: %v", c.what, ok)
		}
	}
	// One who types a PIN by hand is a question, friend or not.
	b.air.Manual(true)
	byHand := peerOf(b, 1)
	a.direct.heard(byHand)
	if _, _, ok := a.direct.asker(t.Context(), wpa.Request{Peer: byHand, PasswordID: wpa.PasswordUserSpecified}); ok {
		t.Error("a PIN typed by hand is answered with a derived one")
	}
}

// A blocked device that says who it is is no question; one that was blocked and is no more is one again.
func TestBlockedDeviceIsNoQuestion(t *testing.T) {
	a, b := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleEveryone)
	trusts(t, b, a, true)
	button := wpa.Request{Peer: peerOf(b, 1), PasswordID: wpa.PasswordPushButton}
	for _, step := range []struct {
		what   string
		do     func() error
		wanted bool
	}{
		{"a stranger", func() error { return nil }, true},
		{"a blocked device", func() error { return a.trust.Block(b.id.ID) }, false},
		{"one that is blocked no more", func() error { return a.trust.Remove(b.id.ID) }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		a.direct.heard(button.Peer)
		if ask := a.direct.decide(t.Context(), button); ask != step.wanted {
			t.Errorf("%s is a question: %v", step.what, ask)
		}
	}
}

func TestStaleAdvertGivesNoPIN(t *testing.T) {
	a, b := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleEveryone)
	trusts(t, a, b, true)
	trusts(t, b, a, true)
	method := func(x *Agent, s radioSighting, id identity.DeviceID) wpa.Method {
		t.Helper()
		m, err := x.direct.method(id, s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ab := method(a, a.direct.sighting(peerOf(b, 1)), b.id.ID)
	ba := method(b, b.direct.sighting(peerOf(a, 2)), a.id.ID)
	if ab.PIN != ba.PIN || ab.Kind == ba.Kind {
		t.Errorf("one side does %v %s, the other %v %s", ab.Kind, ab.PIN, ba.Kind, ba.PIN)
	}
	recorded := a.direct.sighting(peerOf(b, 1))
	b.direct.renew()
	again := method(b, b.direct.sighting(peerOf(a, 2)), a.id.ID)
	if again.PIN == ba.PIN || method(a, recorded, b.id.ID).PIN == again.PIN {
		t.Error("a recorded advert gives the PIN of today")
	}
	if _, err := a.direct.method(someID(77), recorded); !errors.Is(err, errNotRecognised) {
		t.Errorf("a PIN with a stranger: %v", err)
	}
}

// A device whose group failed after the yes to it begins anew, and nobody is asked the same again; but only that device, with its
// button, twice, within a minute, and unless the person has left the group.
func TestYesLastsForAFailedFormation(t *testing.T) {
	button := wpa.Request{Peer: wpa.Peer{Address: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Name: "bob"}, PasswordID: wpa.PasswordPushButton}
	other, pin := button, button
	other.Peer.Address = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	pin.PasswordID = wpa.PasswordUserSpecified
	nothing := func(context.Context, *direct) {}
	for _, c := range []struct {
		what   string
		first  wpa.Request
		answer *control.AcceptRequest
		before func(ctx context.Context, d *direct)
		asks   []wpa.Request
		wanted []bool // whether each is a question
	}{
		{"the same device", button, &control.AcceptRequest{}, nothing, []wpa.Request{button, button, button}, []bool{false, false, true}},
		{"another device and another way", button, &control.AcceptRequest{}, nothing, []wpa.Request{other, pin, button}, []bool{true, true, false}},
		{"a minute later", button, &control.AcceptRequest{}, func(context.Context, *direct) { time.Sleep(yesLife) }, []wpa.Request{button}, []bool{true}},
		{"after leaving", button, &control.AcceptRequest{}, func(ctx context.Context, d *direct) { _ = d.leave(ctx, control.AnyGroup) }, []wpa.Request{button}, []bool{true}},
		{"a button after a PIN", pin, &control.AcceptRequest{}, nothing, []wpa.Request{button}, []bool{true}},
		{"after a no", button, nil, nothing, []wpa.Request{button}, []bool{true}},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newAirAgent(t, VisibleEveryone).direct
				done := make(chan struct{})
				go func() {
					defer close(done)
					d.ask(t.Context(), c.first)
				}()
				synctest.Wait()
				if !d.reply(questionID(button.Peer.Address), c.answer) {
					t.Fatal("there is no question")
				}
				<-done
				c.before(t.Context(), d)
				for i, r := range c.asks {
					if ask := d.decide(t.Context(), r); ask != c.wanted[i] {
						t.Errorf("request %d is a question: %v", i, ask)
					}
				}
			})
		})
	}
}

// TestFloodOfRequests has a thousand devices that say they are somebody else ask for a group each, and ten thousand more over
// an hour: one question at a time, few in all, and nothing that grows. The frames of this are real ones in lab/air; here are
// the addresses that one radio cannot have.
func TestFloodOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAirAgent(t, VisibleEveryone)
		ctx, cancel := context.WithCancel(context.Background())
		group, ctx := errgroup.WithContext(ctx)
		asked, most := 0, 0
		open := map[string]bool{}
		ask := func(n int) {
			mac := net.HardwareAddr{6, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
			kinds := []wpa.Request{{PasswordID: wpa.PasswordPushButton}, {PasswordID: wpa.PasswordUserSpecified}, {Kind: wpa.ProvisionPBC}, {Kind: wpa.ProvisionEnterPIN}}
			r := kinds[n%len(kinds)]
			r.Peer = wpa.Peer{Address: mac, Name: "free wifi", Seen: time.Now()}
			a.direct.requested(ctx, r, group)
			synctest.Wait()
			now := a.direct.inbox()
			if len(now) > 1 {
				t.Fatalf("%d questions at once", len(now))
			}
			for _, q := range now {
				if !open[q.ID] {
					asked++
					open[q.ID] = true
				}
			}
			most = max(most, runtime.NumGoroutine())
		}
		before := runtime.NumGoroutine()
		for n := range 1000 {
			ask(n)
		}
		if asked != 1 {
			t.Errorf("1000 requests made %d questions", asked)
		}
		if most > before+maxDeciding+2 {
			t.Errorf("%d goroutines, %d before", most, before)
		}
		begin := time.Now()
		for n := range 10000 {
			time.Sleep(360 * time.Millisecond) // an hour in all, in the bubble's time
			ask(1000 + n)
		}
		if hours := time.Since(begin).Hours(); asked > questionsPerHour+1+int(hours*questionsPerHour) {
			t.Errorf("%d questions in %.1f hours", asked, hours)
		}
		if asked < 2 {
			t.Error("after the first question nobody is ever asked again")
		}
		if n := len(a.table.onAir()); n > maxRadio {
			t.Errorf("%d devices are kept", n)
		}
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if items := a.direct.inbox(); !slices.Equal(items, []control.InboxItem{}) {
			t.Errorf("left open: %+v", items)
		}
	})
}

func TestNamesForStrangers(t *testing.T) {
	for _, c := range []struct {
		visibility Visibility
		publishes  bool
	}{{VisibleEveryone, true}, {VisibleTrusted, true}, {VisibleHidden, false}} {
		cfg := localConfig(t)
		cfg.Visibility = c.visibility
		a := runAgent(t, cfg)
		d := a.announcement()
		if d.NoPublish == c.publishes {
			t.Errorf("%s: announced: %v", c.visibility, !d.NoPublish)
		}
		said := d.Instance + d.ShortID
		for _, s := range d.TXT {
			said += s
		}
		everyone := c.visibility == VisibleEveryone
		if tells := containsAny(said, "ada", a.id.ID.Short()); tells != everyone {
			t.Errorf("%s: mDNS says %q", c.visibility, said)
		}
		// A stranger greets it over TLS.
		b := runAgent(t, localConfig(t))
		_, hello, err := b.sessions.Greet(t.Context(), localAddress(a))
		if err != nil {
			t.Fatal(err)
		}
		if (hello.Name != "") != everyone {
			t.Errorf("%s: the greeting tells a stranger %q", c.visibility, hello.Name)
		}
		if err := a.trust.Add(b.id.ID, "b"); err != nil {
			t.Fatal(err)
		}
		if _, hello, err = b.sessions.Greet(t.Context(), localAddress(a)); err != nil || hello.Name != "ada" {
			t.Errorf("%s: the greeting tells a trusted device %q, %v", c.visibility, hello.Name, err)
		}
	}
}

func containsAny(s string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}

// localAddress is where an agent takes sessions on this machine.
func localAddress(a *Agent) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.sessions.Port())
}
