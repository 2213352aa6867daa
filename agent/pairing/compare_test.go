package pairing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/identity"
)

func TestBothSayYes(t *testing.T) {
	a, b := two(t)
	paired(t, a, b)
	for _, d := range []struct{ of, other *device }{{a, b}, {b, a}} {
		r, _ := d.of.book.Record(d.other.id.ID)
		want := map[*device]string{a: "ada", b: "bob"}[d.other]
		if r.Name != want || r.Key != d.other.id.Key() || r.AutoAccept {
			t.Errorf("the record is %+v; want the name %q and the key, and no permission", r, want)
		}
	}
	if len(a.List())+len(b.List()) != 0 {
		t.Error("a pairing that is over is still listed")
	}
	paired(t, b, a) // again, the other way: nothing is lost by it
}

// Nothing is trusted unless both say yes, whatever the order of their answers.
func TestNoTrustUnlessBothSayYes(t *testing.T) {
	for _, c := range []struct {
		name       string
		a, b       []bool // answers in their order
		first      string
		errA, errB error
	}{
		{"asker says no", []bool{false}, nil, "a", ErrCancelled, ErrRefused},
		{"asked says no", nil, []bool{false}, "b", ErrRefused, ErrCancelled},
		{"asker says yes, asked no", []bool{true}, []bool{false}, "a", ErrRefused, ErrCancelled},
		{"asked says yes, asker no", []bool{false}, []bool{true}, "b", ErrCancelled, ErrRefused},
		{"asker takes its yes back", []bool{true, false}, nil, "a", ErrCancelled, ErrRefused},
		{"asked takes its yes back", nil, []bool{true, false}, "b", ErrRefused, ErrCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := two(t)
			atA, atB := begin(t, a, b)
			sides := []func(){
				func() {
					for _, yes := range c.a {
						a.answer(atA, yes)
					}
				},
				func() {
					for _, yes := range c.b {
						b.answer(atB, yes)
					}
				},
			}
			if c.first == "b" {
				sides[0], sides[1] = sides[1], sides[0]
			}
			for _, answer := range sides {
				answer()
			}
			is(t, "asker", a.outcome(atA.ID), c.errA)
			is(t, "asked", b.outcome(atB.ID), c.errB)
			if a.trusts(b.id.ID) || b.trusts(a.id.ID) {
				t.Error("somebody is trusted")
			}
			if err := a.Answer(atA.ID, true); !errors.Is(err, ErrUnknown) {
				t.Errorf("an answer after the end: %v", err)
			}
		})
	}
}

// Cancelling is seen on the other side at once.
func TestCancelIsSeenAtOnce(t *testing.T) {
	a, b := two(t)
	a.limits.hold, b.limits.hold = defaultLimits.hold, defaultLimits.hold
	for _, c := range []struct{ by, at *device }{{a, b}, {b, a}} {
		atA, atB := begin(t, a, b)
		mine, theirs := atA, atB
		if c.by == b {
			mine, theirs = atB, atA
		}
		began := time.Now()
		c.by.answer(mine, false)
		is(t, "the other side", c.at.outcome(theirs.ID), ErrRefused)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the other side saw it after %v", took)
		}
		a.forgive()
		b.forgive()
	}
}

func TestNobodyAnswers(t *testing.T) {
	a, b := two(t)
	a.limits.question, b.limits.question = time.Second, time.Second
	atA, atB := begin(t, a, b)
	b.answer(atB, true) // one yes is none
	is(t, "asker", a.outcome(atA.ID), ErrExpired)
	if err := b.outcome(atB.ID); !errors.Is(err, ErrExpired) && !errors.Is(err, ErrRefused) {
		t.Errorf("asked: %v", err)
	}
	if a.trusts(b.id.ID) || b.trusts(a.id.ID) {
		t.Error("somebody is trusted")
	}
}

func TestTheOtherSideGoesAway(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	a.answer(atA, true)
	b.answer(atB, false)
	_ = a.outcome(atA.ID)
	b.forgive()
	atA, atB = begin(t, a, b)
	a.stop()
	if err := b.outcome(atB.ID); !errors.Is(err, ErrLost) && !errors.Is(err, ErrRefused) {
		t.Errorf("the asker went away: %v", err)
	}
	if _, err := a.Wait(wait(t), atA.ID); err == nil {
		t.Error("the pairing of a stopped device succeeded")
	}
	if b.trusts(a.id.ID) {
		t.Error("a device that went away is trusted")
	}
}

// When both users begin at the same moment there is one pairing, with one code.
func TestBothBeginAtOnce(t *testing.T) {
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			a, b := two(t)
			var both sync.WaitGroup
			var p [2]Pairing
			var err [2]error
			both.Go(func() { p[0], err[0] = a.Compare(wait(t), b.id.ID) })
			both.Go(func() { p[1], err[1] = b.Compare(wait(t), a.id.ID) })
			both.Wait()
			if err[0] != nil || err[1] != nil || p[0].Code != p[1].Code || p[0].Code == "" {
				t.Fatalf("%+v, %v; %+v, %v", p[0], err[0], p[1], err[1])
			}
			if len(a.List()) != 1 || len(b.List()) != 1 {
				t.Fatalf("%d and %d pairings", len(a.List()), len(b.List()))
			}
			a.answer(p[0], true)
			b.answer(p[1], true)
			if e1, e2 := a.outcome(p[0].ID), b.outcome(p[1].ID); e1 != nil || e2 != nil || !a.trusts(b.id.ID) || !b.trusts(a.id.ID) {
				t.Errorf("%v, %v", e1, e2)
			}
		})
	}
}

// Who is asked and begins himself gets the pairing there is, not a second one.
func TestBeginningWhatIsAsked(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	p, err := b.Compare(wait(t), a.id.ID)
	if err != nil || p.ID != atB.ID || p.Code != atA.Code {
		t.Errorf("Compare = %+v, %v; want %+v", p, err, atB)
	}
	if q, err := a.Compare(wait(t), b.id.ID); err != nil || q.ID != atA.ID {
		t.Errorf("beginning twice = %+v, %v", q, err)
	}
}

// A device asks its user one question of others at a time.
func TestSecondAskerIsToldBusy(t *testing.T) {
	a, b := two(t)
	c := newDevice(t, "carl")
	c.knows(b)
	atA, atB := begin(t, a, b)
	_, err := c.Compare(wait(t), b.id.ID)
	is(t, "a second asker", err, ErrBusy)
	// One asks one device at a time, too.
	a.knows(c)
	_, err = a.Compare(wait(t), c.id.ID)
	is(t, "asking a second device", err, ErrBusy)
	a.answer(atA, true)
	b.answer(atB, true)
	if err := a.outcome(atA.ID); err != nil {
		t.Error(err)
	}
}

// The asker that is given up before the code is shown leaves nothing behind.
func TestGivingUpWhileConnecting(t *testing.T) {
	a, b := two(t)
	b.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := a.Compare(ctx, b.id.ID); err == nil {
		t.Errorf("Compare = %+v", p)
	}
	a.Engine.mu.Lock()
	n := len(a.live)
	a.Engine.mu.Unlock()
	if n != 0 {
		t.Errorf("%d pairings are left", n)
	}
	_, err := a.Compare(wait(t), identity.DeviceID{1})
	if err == nil {
		t.Error("pairing with a device that has no address succeeded")
	}
}

// Two faces answer the same question: the first counts, the second does no harm.
func TestTwoFacesAnswer(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	a.answer(atA, true)
	var faces sync.WaitGroup
	var errs [8]error
	for i := range errs {
		faces.Go(func() { errs[i] = b.Answer(atB.ID, true) })
	}
	faces.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	}
	if err := b.outcome(atB.ID); err != nil || !b.trusts(a.id.ID) {
		t.Errorf("%v", err)
	}
	if err := b.Answer(atB.ID, false); !errors.Is(err, ErrUnknown) {
		t.Errorf("a no after the end: %v", err)
	}
}

func TestRunEndsEverything(t *testing.T) {
	a, b := two(t)
	atA, _ := begin(t, a, b)
	b.stop()
	a.stop()
	if _, err := a.Wait(wait(t), atA.ID); err == nil {
		t.Error("a pairing outlived the engine")
	}
	_, err := a.Compare(wait(t), b.id.ID)
	is(t, "Compare after the end", err, ErrClosed)
	_, err = a.WithCode(wait(t), b.id.ID, NewSetupCode().Text())
	is(t, "WithCode after the end", err, ErrClosed)
}

// What strangers may ask is bounded by the minute and the hour, and what is remembered of
// those that broke the protocol is bounded too.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		count := func(d time.Duration) (n int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // the bubble's clock
				if g.allow(identity.DeviceID{byte(n), byte(n >> 8), 1}) {
					n++
				}
			}
			return n
		}
		if n := count(time.Minute); n < questionsAtOnce || n > questionsAtOnce+3 {
			t.Errorf("%d questions in the first minute", n)
		}
		if n := count(time.Hour); n > 2*questionsPerHour {
			t.Errorf("%d questions in an hour", n)
		}
		if n := count(4 * time.Hour); n > 4*questionsPerHour+1 {
			t.Errorf("%d questions in four hours", n)
		}
		g = newGate()
		bad := identity.DeviceID{9}
		g.shut(bad, time.Minute)
		if g.allow(bad) || !g.allow(identity.DeviceID{8}) {
			t.Error("the wrong one is refused")
		}
		for i := range 3 * maxCulprits {
			g.shut(identity.DeviceID{7, byte(i), byte(i >> 8)}, time.Hour)
		}
		if len(g.until) > maxCulprits {
			t.Errorf("%d devices are remembered", len(g.until))
		}
	})
}
