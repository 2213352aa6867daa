//go:build radio

package wpa

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"nigh/lab/radio"
)

// TestSilentPINOnRadio forms groups of two programs that know a PIN without any person: whoever asks shows it, whoever answers
// types it.
func TestSilentPINOnRadio(t *testing.T) {
	const pin, other = "12345670", "00345673"
	nodes := radio.Nodes(t, 2)
	a := newStation(t, nodes[0], Config{Pool: testPool, Visible: true})
	b := newStation(t, nodes[1], Config{Pool: testPool, Visible: true})
	both := func(asked, accepted <-chan result) (ga, gb Group) {
		t.Helper()
		ra, rb := a.wait(asked), b.wait(accepted)
		if ra.err != nil || rb.err != nil {
			t.Fatalf("formation failed: %v, %v", ra.err, rb.err)
		}
		t.Logf("%s after %.2f s, %s after %.2f s", ra.group.Role, ra.took.Seconds(), rb.group.Role, rb.took.Seconds())
		return ra.group, rb.group
	}
	check := func(ga, gb Group) {
		t.Helper()
		if ga.Role == Owner {
			checkGroup(a, b, ga, gb, testPool)
		} else {
			checkGroup(b, a, gb, ga, testPool)
		}
		leaveBoth(a, b)
	}

	t.Run("new group", func(t *testing.T) {
		for _, intent := range []int{15, 0, 7} {
			peer, mark := meet(a, b), b.mark()
			asked := later(func() (Group, error) {
				return a.Connect(t.Context(), peer, ShowPIN(pin, nil), ConnectOptions{Intent: intent})
			})
			req := b.awaitRequest(mark)
			if req.Kind != Negotiation || req.PasswordID != PasswordRegistrarSpecified {
				t.Errorf("request is %+v", req)
			}
			accepted := later(func() (Group, error) {
				return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: 15 - intent})
			})
			check(both(asked, accepted))
		}
	})
	t.Run("both ask at once", func(t *testing.T) {
		for range 3 {
			atOnce(t, a, b, pin, other)
		}
	})
	t.Run("running group, its owner asks", func(t *testing.T) {
		peer := meet(a, b)
		g, err := a.StartGroup(t.Context(), GroupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ma, mb := a.mark(), b.mark()
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(pin, nil), ConnectOptions{Intent: -1})
		})
		req := b.awaitRequest(mb)
		if req.Kind != Invitation {
			t.Errorf("request is %+v", req)
		}
		accepted := later(func() (Group, error) {
			return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: -1})
		})
		ga, gb := both(asked, accepted)
		if ga.ID != g.ID || a.requests(ma) != 0 {
			t.Errorf("group %s, not %s, after %d questions", ga.ID, g.ID, a.requests(ma))
		}
		check(ga, gb)
	})
	t.Run("running group, a client asks", func(t *testing.T) {
		g, err := b.StartGroup(t.Context(), GroupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		peer := a.findName(b.name).Address
		a.findOwner(peer)
		mark := b.mark()
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(pin, nil), ConnectOptions{Intent: -1})
		})
		req := b.awaitRequest(mark)
		// It is asked for a new group by a client that holds it for the owner of the group before, which has just ended.
		if join := req.Kind == ProvisionEnterPIN && req.Group == g.ID; !join && req.Kind != Negotiation {
			t.Errorf("request is %+v", req)
		}
		accepted := later(func() (Group, error) {
			return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: -1})
		})
		check(both(asked, accepted))
	})
	t.Run("running group, a client asks for a new one", func(t *testing.T) {
		// It was seen before it became a group owner. It invites instead.
		peer := meet(a, b)
		if _, err := b.StartGroup(t.Context(), GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		mark := b.mark()
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(pin, nil), ConnectOptions{Intent: -1})
		})
		req := b.awaitRequest(mark)
		t.Logf("request is of kind %d", req.Kind)
		accepted := later(func() (Group, error) {
			return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: -1})
		})
		check(both(asked, accepted))
	})
	t.Run("wrong PIN into a running group", func(t *testing.T) {
		g, err := b.StartGroup(t.Context(), GroupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		peer := a.findName(b.name).Address
		a.findOwner(peer)
		mark := b.mark()
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(other, nil), ConnectOptions{Intent: -1})
		})
		req := b.awaitRequest(mark)
		accepted := later(func() (Group, error) {
			return b.Accept(t.Context(), req, EnterPIN(pin), ConnectOptions{Intent: -1})
		})
		ra := a.wait(asked)
		mustFail(t, "client", ra.err, ErrWrongPIN)
		lasted(t, "told", ra.took, 20*time.Second)
		if s := b.Status().Groups; len(s) != 1 || s[0].ID != g.ID || len(s[0].Members) != 0 || len(a.groupLinks()) != 0 {
			t.Errorf("groups are %v, interfaces %v", s, a.groupLinks())
		}
		// The owner learns of it when the client comes back.
		mark = b.mark()
		again := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(other, nil), ConnectOptions{Intent: -1})
		})
		rightly := b.answer(mark, EnterPIN(other), ConnectOptions{Intent: -1})
		// Or a new request has taken the place of the first one.
		if err := b.wait(accepted).err; !errors.Is(err, ErrWrongPIN) && !errors.Is(err, ErrBusy) {
			t.Errorf("owner: error is %v", err)
		}
		ga, gb := both(again, rightly)
		if ga.SSID != g.SSID {
			t.Errorf("groups are %s and %s", ga, g)
		}
		check(ga, gb)
	})
	t.Run("the owner and a client ask at once", func(t *testing.T) {
		peer := meet(a, b)
		if _, err := b.StartGroup(t.Context(), GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		a.findOwner(peer)
		to, mark := b.findsAgain(a), b.mark()
		asked := later(func() (Group, error) {
			return a.Connect(t.Context(), peer, ShowPIN(other, nil), ConnectOptions{Intent: -1})
		})
		invited := later(func() (Group, error) {
			return b.Connect(t.Context(), to, ShowPIN(pin, nil), ConnectOptions{Intent: -1})
		})
		// The owner's invitation gives way to what the client asks for, or does not begin when that came first.
		accepted := b.answer(mark, EnterPIN(other), ConnectOptions{Intent: -1})
		if err := b.wait(invited).err; !errors.Is(err, ErrMethod) && !errors.Is(err, ErrBusy) {
			t.Errorf("owner: error is %v", err)
		}
		check(both(asked, accepted))
	})
}

// findsAgain returns the other station's address, as far as it is known from before.
func (s *station) findsAgain(other *station) []byte {
	s.t.Helper()
	address := other.address(s)
	if address == nil {
		s.t.Fatalf("%s does not know %s", s.name, other.name)
	}
	return address
}

// atOnce has both sides ask at the same moment, each with a PIN of its own to show. That cannot work, and must be known soon.
// Then the side with the higher address asks again, and the other one waits to be asked.
func atOnce(t *testing.T, a, b *station, pinA, pinB string) {
	t.Helper()
	toB, toA := meet(a, b), meet(b, a)
	o := ConnectOptions{Intent: -1}
	begin := time.Now()
	ma, mb := a.mark(), b.mark()
	ca := later(func() (Group, error) { return a.Connect(t.Context(), toB, ShowPIN(pinA, nil), o) })
	cb := later(func() (Group, error) { return b.Connect(t.Context(), toA, ShowPIN(pinB, nil), o) })
	ra, rb := a.wait(ca), b.wait(cb)
	t.Logf("%v after %.1f s, %v after %.1f s", ra.err, ra.took.Seconds(), rb.err, rb.took.Seconds())
	for _, r := range []result{ra, rb} {
		if !errors.Is(r.err, ErrMethod) {
			t.Fatalf("error is %v", r.err)
		}
		lasted(t, "known", r.took, 15*time.Second)
	}
	asks, answers, to, pin, mark := a, b, toB, pinA, mb
	if bytes.Compare(toA, toB) < 0 { // a's own address is the lower one
		asks, answers, to, pin, mark = b, a, toA, pinB, ma
	}
	asked := later(func() (Group, error) { return asks.Connect(t.Context(), to, ShowPIN(pin, nil), o) })
	accepted := answers.answer(mark, EnterPIN(pin), o)
	r1, r2 := asks.wait(asked), answers.wait(accepted)
	if r1.err != nil || r2.err != nil {
		t.Fatalf("second try: %v, %v", r1.err, r2.err)
	}
	t.Logf("group after %.1f s in all", time.Since(begin).Seconds())
	leaveBoth(a, b)
}
