package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/trust"
	"nigh/wpa"
)

// pins are what each of two derives with the other's present advert.
func pins(t *testing.T, a, b *Agent, seenByA, seenByB wpa.Peer) (ofA, ofB string) {
	t.Helper()
	for _, side := range []struct {
		self, other *Agent
		seen        wpa.Peer
		pin         *string
	}{{a, b, seenByA, &ofA}, {b, a, seenByB, &ofB}} {
		m, err := side.self.direct.method(side.other.id.ID, side.self.direct.sighting(side.seen))
		if err != nil {
			t.Fatal(err)
		}
		*side.pin = m.PIN
	}
	return ofA, ofB
}

// TestNonceOfAFailedAttemptIsNotFresh has two devices that ask each other fail, one a moment before the other. What the first
// one hears of the other then is the nonce of the attempt that failed, which the other is about to throw away: with it the
// two would derive different PINs for ever.
func TestNonceOfAFailedAttemptIsNotFresh(t *testing.T) {
	a, b := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleTrusted)
	trusts(t, a, b, true)
	trusts(t, b, a, true)
	first := peerOf(b, 1)
	if ofA, ofB := pins(t, a, b, first, peerOf(a, 2)); ofA != ofB {
		t.Fatalf("the two derive %s and %s", ofA, ofB)
	}
	if s := a.direct.sighting(first); !a.direct.fresh(s) {
		t.Error("what was heard just now is not fresh")
	}
	failed := fmt.Errorf("agent: connect: %w", wpa.ErrWrongPIN)
	a.direct.spendAfter(a.direct.sighting(first).nonce, failed)
	a.direct.renew()
	again := peerOf(b, 1) // heard now, and b has not noticed its end of the attempt
	if s := a.direct.sighting(again); a.direct.fresh(s) {
		t.Error("the nonce of the attempt that failed passes for a fresh one")
	}
	b.direct.spendAfter(b.direct.sighting(peerOf(a, 2)).nonce, failed)
	b.direct.renew()
	if ofA, ofB := pins(t, a, b, again, peerOf(a, 2)); ofA == ofB {
		t.Error("the test shows nothing: the old nonce gives the PIN, too")
	}
	now := peerOf(b, 1)
	if s := a.direct.sighting(now); !a.direct.fresh(s) {
		t.Error("the next nonce is not fresh")
	}
	if ofA, ofB := pins(t, a, b, now, peerOf(a, 2)); ofA != ofB {
		t.Errorf("the two derive %s and %s", ofA, ofB)
	}

	// A device that did not answer has taken no part, and keeps its nonce.
	a.direct.spendAfter(a.direct.sighting(now).nonce, wpa.ErrTimeout)
	if !a.direct.fresh(a.direct.sighting(now)) {
		t.Error("the nonce of a device that was not reached is taken for an old one")
	}
	for range 2 * maxSpent {
		b.direct.renew()
		a.direct.spendAfter(a.direct.sighting(peerOf(b, 1)).nonce, nil)
	}
	if n := len(a.direct.spent); n > maxSpent {
		t.Errorf("%d nonces are kept", n)
	}
	if a.direct.fresh(a.direct.sighting(peerOf(b, 1))) {
		t.Error("the newest of many is forgotten")
	}
}

func TestLooksUntilTheNonceIsAnotherOne(t *testing.T) {
	a, b := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleTrusted)
	trusts(t, a, b, true)
	synctest.Test(t, func(t *testing.T) {
		old := a.direct.sighting(peerOf(b, 1))
		a.direct.spendAfter(old.nonce, nil)
		looks, renewsAfter := 0, 5
		look := func() (radioSighting, error) {
			if looks++; looks == renewsAfter {
				b.direct.renew()
			}
			return a.direct.sighting(peerOf(b, 1)), nil
		}
		s, err := a.direct.anew(t.Context(), look)
		if err != nil || s.nonce == old.nonce || looks != renewsAfter {
			t.Errorf("after %d looks: nonce %x, %v", looks, s.nonce, err)
		}
		// One that keeps its nonce took no part in that attempt.
		a.direct.spendAfter(s.nonce, nil)
		began := time.Now()
		same, err := a.direct.anew(t.Context(), look)
		if took := time.Since(began); err != nil || same.nonce != s.nonce || took < renewTime || took > renewTime+renewPause {
			t.Errorf("after %v: nonce %x, %v", took, same.nonce, err)
		}
		// A frame that asks has no vendor extension, with the key of a friend that is trusted by its ID only.
		c := newAirAgent(t, VisibleEveryone)
		trusts(t, c, b, false)
		trusts(t, b, c, true)
		b.direct.asking, looks = true, 0
		s, err = c.direct.anew(t.Context(), func() (radioSighting, error) {
			p := peerOf(b, 1)
			p.Vendor = nil
			if looks++; looks == renewsAfter {
				p = peerOf(c, 1) // whose advert has its key
			}
			return c.direct.sighting(p), nil
		})
		if err != nil || !s.whole || looks != renewsAfter {
			t.Errorf("after %d looks: %+v, %v", looks, s, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.direct.anew(ctx, look); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a look that was ended gave %v", err)
		}
		if _, err := a.direct.anew(t.Context(), func() (radioSighting, error) { return radioSighting{}, wpa.ErrPeerGone }); !errors.Is(err, wpa.ErrPeerGone) {
			t.Errorf("a look at nobody gave %v", err)
		}
	})
}

// TestKeyLearnedTwiceAtOnce has a friend's key come with two sightings at the same moment, the second of them while the first
// is being written: both are of a friend.
func TestKeyLearnedTwiceAtOnce(t *testing.T) {
	a, b := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleEveryone)
	trusts(t, a, b, false)
	trusts(t, b, a, true)
	p := peerOf(b, 1)
	second := make(chan radioSighting, 1)
	var early []radioSighting
	cancel := a.trust.Changes(func(trust.Change) {
		go func() { second <- a.direct.sighting(p) }() // read below
		select {
		case s := <-second:
			early = append(early, s)
			second <- s
		case <-time.After(50 * time.Millisecond): // it waits for the first, or it has not come so far: no matter
		}
	})
	first := a.direct.sighting(p)
	cancel()
	if s := <-second; !first.friend || !s.friend {
		t.Errorf("the first is %+v, the second %+v", first, s)
	}
	if len(early) > 0 {
		t.Errorf("the second was done before the first: %+v", early)
	}
}

// TestLateEventIsNoNewSighting: what the radio told while a device was being looked at does not replace what the look saw.
func TestLateEventIsNoNewSighting(t *testing.T) {
	a, b := newAirAgent(t, VisibleEveryone), newAirAgent(t, VisibleTrusted)
	trusts(t, a, b, true)
	late := peerOf(b, 1)
	b.direct.renew()
	now := peerOf(b, 1)
	now.Seen = late.Seen.Add(time.Millisecond)
	a.direct.heard(now)
	a.direct.heard(late)
	if s, ok := a.table.at(now.Address); !ok || s.nonce != a.direct.sighting(now).nonce {
		t.Errorf("the table has nonce %x", s.nonce)
	}
}
