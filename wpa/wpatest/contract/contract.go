// Package contract is what package wpa must do on any supplicant, real or scripted: one suite of steps with the events and
// errors that they must bring.
//
// [Run] is called with the recorded supplicants of package wpatest on the host, and with real ones on simulated radios in the
// lab's guest. What differs between the two is only how long it takes.
package contract

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"nigh/wpa"
)

// Node is one supplicant: the address of its bus, and how it is killed as by a crash and started again.
type Node struct {
	Name  string
	Bus   string
	Kill  func() error
	Start func() error
}

// Bed is what the steps run on.
type Bed struct {
	// Nodes are three supplicants whose radios hear each other.
	Nodes []Node
	// Limit is how long one thing may take, such as until a group is up.
	Limit time.Duration
	// Part is told what comes next, as "step/part": recordings are divided by it. It may be nil.
	Part func(name string)
	// Expire makes the first node's supplicant forget peers that it does not hear, without the minute that it takes. Nil waits.
	Expire func()
}

// Pool is the subnet that group owners give addresses from.
var Pool = netip.MustParsePrefix("192.168.50.0/24")

// PIN is the one that the steps with a PIN use: it is no secret.
const (
	PIN      = "12345670"
	wrongPIN = "87654325"
)

// suite is the state that steps share: the three stations.
type suite struct {
	bed     Bed
	a, b, c *station
}

// Run runs all steps, in order, on one bed: they share the stations.
func Run(t *testing.T, bed Bed) {
	if len(bed.Nodes) != 3 || bed.Limit <= 0 {
		t.Fatalf("the bed is %+v", bed)
	}
	s := &suite{bed: bed}
	s.part("start/begin")
	s.a = s.start(t, 0, wpa.Config{Pool: Pool, GroupIdle: -1})
	s.b = s.start(t, 1, wpa.Config{Pool: Pool, GroupIdle: -1, Vendor: [][]byte{{0x00, 0x4e, 0x47, 'n', 'i', 'g', 'h'}}})
	s.c = s.start(t, 2, wpa.Config{Pool: Pool, GroupIdle: -1})
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"find", s.find},
		{"autonomous", s.autonomous}, // before anybody has seen the owner quit another group, and takes it for none any more
		{"owner", s.owner},
		{"client", s.client},
		{"reject", s.reject},
		{"pin", s.pin},
		{"wrong-pin", s.wrongPIN},
		{"insist", s.insist},
		{"invite", s.invite},
		{"persistent", s.persistent},
		{"forgot", s.forgot},
		{"restart", s.restart},
		{"lost", s.lost},
		// A Connect that is called while the two agree leaves the supplicant ready for that peer without a question: so it is last.
		{"both", s.both},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			for _, st := range []*station{s.a, s.b, s.c} {
				st.t = t
			}
			step.run(t)
		})
		for _, st := range []*station{s.a, s.b, s.c} {
			st.t = t
			st.rest()
		}
		if !ok && t.Context().Err() != nil {
			return
		}
	}
}

func (s *suite) part(name string) {
	if s.bed.Part != nil {
		s.bed.Part(name)
	}
}

func (s *suite) start(t *testing.T, i int, cfg wpa.Config) *station {
	t.Helper()
	return newStation(t, s.bed.Nodes[i], s.bed.Limit, cfg)
}

// find: a device that listens is seen once, with what it says of itself, and the search ends when told.
func (s *suite) find(t *testing.T) {
	s.part("find/listen")
	ctx := t.Context()
	must(t, "listen", s.b.Listen(ctx, 10*time.Minute))
	s.part("find/found")
	mark := s.a.mark()
	p := s.a.findName(s.b.name)
	if p.ConfigMethods&0x188 != 0x188 || p.IsGO || p.Seen.IsZero() || p.DeviceType == ([8]byte{}) {
		t.Errorf("peer is %+v", p)
	}
	if len(p.Vendor) != 1 || string(p.Vendor[0]) != "\x00\x4e\x47nigh" {
		t.Errorf("vendor extensions are %q", p.Vendor)
	}
	if !s.a.Status().Finding {
		t.Error("status does not say that it is finding")
	}
	s.part("find/stop")
	must(t, "stop find", s.a.StopFind(ctx))
	if s.a.Status().Finding {
		t.Error("status says that it is finding")
	}
	if n := count(s.a, mark, func(e wpa.PeerSeen) bool { return e.Peer.Name == s.b.name }); n > 1 {
		t.Errorf("peer was seen %d times", n)
	}
}

// owner: the asking side insists and becomes the owner; it ends the group for both.
func (s *suite) owner(t *testing.T) {
	ga, gb := s.form(t, "owner", s.a, s.b, forming{wpa.PBC(), wpa.PBC(), wpa.ConnectOptions{Intent: 15}, wpa.ConnectOptions{Intent: 0}})
	s.check(t, ga, gb, true)
	again, err := s.a.Connect(t.Context(), ga.Peer, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	if err != nil || again.ID != ga.ID {
		t.Errorf("connect to a device of the same group: %v, %v", again, err)
	}
	if _, err := s.a.StartGroup(t.Context(), wpa.GroupOptions{}); !errors.Is(err, wpa.ErrBusy) {
		t.Errorf("second group: %v", err)
	}
	s.part("owner/leave")
	ma, mb := s.a.mark(), s.b.mark()
	must(t, "leave", s.a.Leave(t.Context(), ga.ID))
	s.a.gone(ma, wpa.ReasonLeft)
	s.b.gone(mb, wpa.ReasonPeerLeft)
	if err := s.a.Leave(t.Context(), ga.ID); !errors.Is(err, wpa.ErrNoGroup) {
		t.Errorf("leave again: %v", err)
	}
}

// client: the asked side insists; the client leaves, and the owner's group goes on until it ends it.
func (s *suite) client(t *testing.T) {
	mark := s.b.mark()
	ga, gb := s.form(t, "client", s.a, s.b, forming{wpa.PBC(), wpa.PBC(), wpa.ConnectOptions{Intent: 0}, wpa.ConnectOptions{Intent: 15}})
	s.check(t, gb, ga, true)
	if n := count(s.b, mark, func(wpa.RequestReceived) bool { return true }); n != 1 {
		t.Errorf("one attempt made %d requests", n)
	}
	s.part("client/leave")
	ma, mb := s.a.mark(), s.b.mark()
	must(t, "leave", s.a.Leave(t.Context(), ga.ID))
	s.a.gone(ma, wpa.ReasonLeft)
	await(s.b, mb, "group without members", func(e wpa.GroupChanged) bool { return len(e.Group.Members) == 0 })
	if n := count(s.b, mb, func(wpa.GroupGone) bool { return true }); n != 0 {
		t.Error("the owner's group went with its client")
	}
	s.part("client/end")
	must(t, "leave", s.b.Leave(t.Context(), gb.ID))
	s.b.gone(mb, wpa.ReasonLeft)
}

// reject: the caller of a Connect gives up; the asked side says no, and the asking side learns that when it asks again.
func (s *suite) reject(t *testing.T) {
	s.part("reject/ask")
	peer := s.meet(t, s.a, s.b)
	mark := s.b.mark()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := later(func() (wpa.Group, error) { return s.a.Connect(ctx, peer, wpa.PBC(), wpa.ConnectOptions{Intent: -1}) })
	req := s.b.request(mark)
	if req.Kind != wpa.Negotiation || req.PasswordID != wpa.PasswordPushButton || req.Peer.Name != s.a.name {
		t.Errorf("request is %+v", req)
	}
	s.part("reject/cancel")
	cancel()
	if r := s.a.wait(asked); !errors.Is(r.err, context.Canceled) {
		t.Errorf("cancelled: %v", r.err)
	}
	s.part("reject/no")
	must(t, "reject", s.b.Reject(t.Context(), req))
	s.part("reject/again")
	peer = s.meet(t, s.a, s.b)
	r := s.a.wait(later(func() (wpa.Group, error) {
		return s.a.Connect(t.Context(), peer, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	}))
	if !errors.Is(r.err, wpa.ErrRejected) {
		t.Errorf("rejected: %v", r.err)
	}
	if n := count(s.b, mark, func(wpa.RequestReceived) bool { return true }); n != 1 {
		t.Errorf("a rejected device made %d requests", n)
	}
	// The rejected side is let in when the other one asks.
	ga, gb := s.form(t, "reject-lifted", s.b, s.a, forming{wpa.PBC(), wpa.PBC(), wpa.ConnectOptions{Intent: 15}, wpa.ConnectOptions{Intent: 0}})
	s.check(t, ga, gb, true)
	s.leaveBoth(t, "reject-lifted", s.b, s.a, ga)
}

// pin: one side shows, the other types.
func (s *suite) pin(t *testing.T) {
	ga, gb := s.form(t, "pin", s.a, s.b, forming{wpa.ShowPIN(PIN, nil), wpa.EnterPIN(PIN), wpa.ConnectOptions{Intent: 15}, wpa.ConnectOptions{Intent: 0}})
	s.check(t, ga, gb, true)
	s.leaveBoth(t, "pin", s.a, s.b, ga)
	gb, ga = s.form(t, "pin-typed", s.b, s.a, forming{wpa.EnterPIN(PIN), wpa.ShowPIN(PIN, nil), wpa.ConnectOptions{Intent: 0}, wpa.ConnectOptions{Intent: 15}})
	s.check(t, ga, gb, true)
	s.leaveBoth(t, "pin-typed", s.a, s.b, ga)
	if _, err := s.a.Connect(t.Context(), ga.Peer, wpa.EnterPIN(""), wpa.ConnectOptions{}); !errors.Is(err, wpa.ErrBadMethod) {
		t.Errorf("an empty PIN: %v", err)
	}
}

// wrongPIN: both sides fail, nothing is left, and the right PIN works afterwards.
func (s *suite) wrongPIN(t *testing.T) {
	s.part("wrong-pin/ask")
	peer := s.meet(t, s.a, s.b)
	mark := s.b.mark()
	asked := later(func() (wpa.Group, error) {
		return s.a.Connect(t.Context(), peer, wpa.ShowPIN(PIN, nil), wpa.ConnectOptions{Intent: 15})
	})
	req := s.b.request(mark)
	s.part("wrong-pin/accept")
	accepted := later(func() (wpa.Group, error) {
		return s.b.Accept(t.Context(), req, wpa.EnterPIN(wrongPIN), wpa.ConnectOptions{Intent: 0})
	})
	ra, rb := s.a.wait(asked), s.b.wait(accepted)
	t.Logf("%v after %.1f s, %v after %.1f s", ra.err, ra.took.Seconds(), rb.err, rb.took.Seconds())
	if !errors.Is(ra.err, wpa.ErrWrongPIN) || rb.err == nil {
		t.Errorf("owner: %v; client: %v", ra.err, rb.err)
	}
	if n := len(s.a.Status().Groups) + len(s.b.Status().Groups); n != 0 {
		t.Errorf("%d groups are left", n)
	}
	ga, gb := s.form(t, "wrong-pin-then", s.a, s.b, forming{wpa.ShowPIN(PIN, nil), wpa.EnterPIN(PIN), wpa.ConnectOptions{Intent: 15}, wpa.ConnectOptions{Intent: 0}})
	s.check(t, ga, gb, true)
	s.leaveBoth(t, "wrong-pin-then", s.a, s.b, ga)
}

// insist: both sides want to be the owner, and one gives in.
func (s *suite) insist(t *testing.T) {
	ga, gb := s.form(t, "insist", s.a, s.b, forming{wpa.PBC(), wpa.PBC(), wpa.ConnectOptions{Intent: 15}, wpa.ConnectOptions{Intent: 15}})
	if ga.SSID != gb.SSID || ga.Role == gb.Role {
		t.Errorf("groups are %s and %s", ga, gb)
	}
	s.leaveBoth(t, "insist", s.a, s.b, ga)
}

// both: both sides ask at once, and one group comes of it.
func (s *suite) both(t *testing.T) {
	s.part("both/connect")
	pb := s.meet(t, s.a, s.b)
	pa := s.meet(t, s.b, s.a)
	ca := later(func() (wpa.Group, error) {
		return s.a.Connect(t.Context(), pb, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	})
	cb := later(func() (wpa.Group, error) {
		return s.b.Connect(t.Context(), pa, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	})
	ra, rb := s.a.wait(ca), s.b.wait(cb)
	if ra.err != nil || rb.err != nil {
		t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
	}
	if ra.group.SSID != rb.group.SSID || ra.group.Role == rb.group.Role || len(s.a.Status().Groups) != 1 || len(s.b.Status().Groups) != 1 {
		t.Errorf("groups are %v and %v", s.a.Status().Groups, s.b.Status().Groups)
	}
	s.leaveBoth(t, "both", s.a, s.b, ra.group)
}

// autonomous: a group of one, which two join with a button and a PIN; one leaves, the group goes on, then it ends for all.
func (s *suite) autonomous(t *testing.T) {
	s.part("autonomous/start")
	g, err := s.a.StartGroup(t.Context(), wpa.GroupOptions{SSIDPostfix: "-nigh"})
	must(t, "start group", err)
	if g.Role != wpa.Owner || len(g.Passphrase) < 8 || g.SSID[len(g.SSID)-5:] != "-nigh" {
		t.Errorf("group is %s", g)
	}
	s.part("autonomous/find")
	p := s.b.findOwner(s.a.name)
	s.part("autonomous/ask")
	mark := s.a.mark()
	joined := later(func() (wpa.Group, error) {
		return s.b.Connect(t.Context(), p.Address, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	})
	req := s.a.request(mark)
	if req.Kind != wpa.ProvisionPBC || req.Group != g.ID {
		t.Errorf("request is %+v", req)
	}
	s.part("autonomous/admit")
	let, err := s.a.Accept(t.Context(), req, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	must(t, "admit", err)
	rb := s.b.wait(joined)
	must(t, "join", rb.err)
	s.check(t, let, rb.group, true)

	s.part("autonomous/find-pin")
	p = s.c.findOwner(s.a.name)
	s.part("autonomous/ask-pin")
	mark = s.a.mark()
	joined = later(func() (wpa.Group, error) {
		return s.c.Connect(t.Context(), p.Address, wpa.ShowPIN(PIN, nil), wpa.ConnectOptions{Intent: -1})
	})
	req = s.a.request(mark)
	if req.Kind != wpa.ProvisionEnterPIN {
		t.Errorf("request is %+v", req)
	}
	s.part("autonomous/admit-pin")
	let, err = s.a.Accept(t.Context(), req, wpa.EnterPIN(PIN), wpa.ConnectOptions{Intent: -1})
	must(t, "admit", err)
	rc := s.c.wait(joined)
	must(t, "join", rc.err)
	if len(let.Members) != 2 || rc.group.Local == rb.group.Local {
		t.Errorf("members %v, addresses %s and %s", let.Members, rb.group.Local, rc.group.Local)
	}

	s.part("autonomous/leave")
	mark = s.a.mark()
	mb := s.b.mark()
	must(t, "leave", s.b.Leave(t.Context(), rb.group.ID))
	s.b.gone(mb, wpa.ReasonLeft)
	await(s.a, mark, "one member", func(e wpa.GroupChanged) bool { return len(e.Group.Members) == 1 })
	s.part("autonomous/end")
	mark = s.c.mark()
	must(t, "leave", s.a.Leave(t.Context(), g.ID))
	s.c.gone(mark, wpa.ReasonPeerLeft)
	s.part("autonomous/impossible")
	if _, err = s.a.StartGroup(t.Context(), wpa.GroupOptions{Frequency: 5175}); !errors.Is(err, wpa.ErrChannel) {
		t.Errorf("impossible frequency: %v", err)
	}
}

// invite: the owner of a running group connects to a device, which is invited.
func (s *suite) invite(t *testing.T) {
	s.part("invite/start")
	peer := s.meet(t, s.a, s.b)
	g, err := s.a.StartGroup(t.Context(), wpa.GroupOptions{})
	must(t, "start group", err)
	s.part("invite/ask")
	mark, ma := s.b.mark(), s.a.mark()
	asked := later(func() (wpa.Group, error) {
		return s.a.Connect(t.Context(), peer, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	})
	req := s.b.request(mark)
	if req.Kind != wpa.Invitation {
		t.Errorf("request is %+v", req)
	}
	s.part("invite/accept")
	gb, err := s.b.Accept(t.Context(), req, wpa.PBC(), wpa.ConnectOptions{Intent: -1})
	must(t, "accept", err)
	ra := s.a.wait(asked)
	if ra.err != nil || ra.group.ID != g.ID {
		t.Fatalf("inviting side: %v, %v", ra.group, ra.err)
	}
	s.check(t, ra.group, gb, true)
	if n := count(s.a, ma, func(wpa.RequestReceived) bool { return true }); n != 0 {
		t.Error("the inviting side was asked whether it wants its own guest")
	}
	s.leaveBoth(t, "invite", s.a, s.b, ra.group)
}

// persistent: the group comes back without a question, whichever side starts.
func (s *suite) persistent(t *testing.T) {
	ma, mb := s.a.mark(), s.b.mark()
	ga, gb := s.form(t, "persistent", s.a, s.b, forming{wpa.PBC(), wpa.PBC(), wpa.ConnectOptions{Intent: 15, Persistent: true}, wpa.ConnectOptions{Intent: 0, Persistent: true}})
	s.check(t, ga, gb, true)
	pa, pb := saved(s.a, ma), saved(s.b, mb)
	if !ga.Persistent || !pa.Owner || pb.Owner || pa.SSID != pb.SSID || !slices.Equal(pa.Peer, ga.Peer) || !slices.Equal(pb.Peer, gb.Peer) || len(pb.PSK) < 8 {
		t.Errorf("profiles are %s for %s and %s for %s", pa, pa.Peer, pb, pb.Peer)
	}
	s.leaveBoth(t, "persistent", s.a, s.b, ga)
	for _, way := range []struct {
		name     string
		from, to *station
	}{{"reinvoke-owner", s.a, s.b}, {"reinvoke-client", s.b, s.a}} {
		g := s.reinvoke(t, way.name, way.from, way.to)
		s.leaveBoth(t, way.name, s.a, s.b, g)
	}
}

// forgot: a device that has forgotten the persistent group is asked anew, once.
func (s *suite) forgot(t *testing.T) {
	s.part("forgot/end")
	ended := s.b
	ended.end()
	if n := len(ended.Status().Groups); n != 0 {
		t.Errorf("%d groups are left", n)
	}
	s.part("forgot/begin")
	s.b = newStation(ended.whole, s.bed.Nodes[1], s.bed.Limit, wpa.Config{Pool: Pool, GroupIdle: -1})
	s.b.t = t
	ma := s.a.mark()
	ga, gb := s.form(t, "forgot", s.a, s.b, forming{wpa.PBC(), wpa.PBC(), wpa.ConnectOptions{Intent: 15, Persistent: true}, wpa.ConnectOptions{Intent: 0, Persistent: true}})
	s.check(t, ga, gb, false)
	await(s.a, ma, "removal of the profile", func(wpa.PersistentRemoved) bool { return true })
	if p := saved(s.a, ma); p.SSID != ga.SSID {
		t.Errorf("saved %s of %s", p, ga)
	}
	s.leaveBoth(t, "forgot", s.a, s.b, ga)
}

// restart: the supplicant is killed in a group. The group is gone once, commands fail at once, and when it is back everything
// is set again, persistent groups too.
func (s *suite) restart(t *testing.T) {
	g := s.reinvoke(t, "restart", s.a, s.b)
	s.part("restart/kill")
	mb, ma := s.b.mark(), s.a.mark()
	must(t, "kill", s.bed.Nodes[1].Kill())
	s.b.gone(mb, wpa.ReasonSupplicantGone)
	s.b.state(wpa.Absent)
	if err := s.b.Find(t.Context(), time.Second); !errors.Is(err, wpa.ErrSupplicantGone) {
		t.Errorf("find without supplicant: %v", err)
	}
	s.part("restart/start")
	must(t, "start", s.bed.Nodes[1].Start())
	s.b.state(wpa.Ready)
	if n := count(s.b, mb, func(wpa.GroupGone) bool { return true }); n != 1 {
		t.Errorf("the group was gone %d times", n)
	}
	must(t, "leave", s.a.Leave(t.Context(), g.ID))
	await(s.a, ma, "group gone", func(wpa.GroupGone) bool { return true })
	g = s.reinvoke(t, "restart-again", s.a, s.b)
	s.leaveBoth(t, "restart-again", s.a, s.b, g)
}

// lost: a device that is not heard for a minute is lost once, and seen again as the same one.
func (s *suite) lost(t *testing.T) {
	s.part("lost/meet")
	before := s.meet(t, s.a, s.b)
	must(t, "stop find", s.a.StopFind(t.Context()))
	mark := s.a.mark()
	s.part("lost/gone")
	must(t, "stop listening", s.b.StopFind(t.Context()))
	if s.bed.Expire != nil {
		s.bed.Expire()
	}
	lost := await(s.a, mark, "loss of "+s.b.name, func(e wpa.PeerLost) bool { return slices.Equal(e.Address, before) })
	for _, p := range s.a.Peers() {
		if slices.Equal(p.Address, lost.Address) {
			t.Errorf("%s is lost and listed", p.Name)
		}
	}
	s.part("lost/again")
	if after := s.meet(t, s.a, s.b); !slices.Equal(before, after) {
		t.Errorf("%s became %s", before, after)
	}
}
