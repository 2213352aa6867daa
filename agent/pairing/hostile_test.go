package pairing

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nigh/agent/trust"
)

// Whoever asks may send anything in any order: it is refused, the pairing ends, nothing
// is trusted, and the user can still pair with another device.
func TestWrongOrderAndOddValues(t *testing.T) {
	good := newNonce()
	long := strings.Repeat("A", 64<<10)
	for _, c := range []struct {
		name string
		run  func(r *raw, b *device) (status int)
	}{
		{"reveal before commit", func(r *raw, _ *device) int { s, _ := r.say("reveal", revealMessage{good}); return s }},
		{"confirm before commit", func(r *raw, _ *device) int { s, _ := r.say("confirm", confirmMessage{}); return s }},
		{"confirm before reveal", func(r *raw, _ *device) int {
			_, _ = r.commit(good)
			s, _ := r.say("confirm", confirmMessage{MAC: &good})
			return s
		}},
		{"two commitments", func(r *raw, _ *device) int {
			_, _ = r.commit(good)
			s, _ := r.say("commit", commitMessage{Version: 1, Commitment: r.who.commitment(newNonce())})
			return s
		}},
		{"a reveal that does not match", func(r *raw, _ *device) int {
			_, _ = r.commit(good)
			s, _ := r.say("reveal", revealMessage{newNonce()})
			return s
		}},
		{"the other's nonce as one's own", func(r *raw, _ *device) int {
			theirs, _ := r.commit(good)
			s, _ := r.say("reveal", revealMessage{theirs})
			return s
		}},
		{"two reveals", func(r *raw, b *device) int {
			_, _ = r.commit(good)
			if s, _ := r.say("reveal", revealMessage{good}); s != http.StatusOK {
				return s
			}
			s, _ := r.say("reveal", revealMessage{good})
			return s
		}},
		{"a wrong confirmation", func(r *raw, _ *device) int {
			_, _ = r.commit(good)
			_, _ = r.say("reveal", revealMessage{good})
			s, _ := r.say("confirm", confirmMessage{MAC: &good})
			return s
		}},
		{"our own confirmation sent back", func(r *raw, _ *device) int {
			theirs, _ := r.commit(good)
			_, _ = r.say("reveal", revealMessage{good})
			mac := r.who.confirmation(asked, good, theirs)
			s, _ := r.say("confirm", confirmMessage{MAC: &mac})
			return s
		}},
		{"a commitment of zeros", func(r *raw, _ *device) int { s, _ := r.say("commit", commitMessage{Version: 1}); return s }},
		{"no version", func(r *raw, _ *device) int {
			s, _ := r.say("commit", commitMessage{Commitment: r.who.commitment(good)})
			return s
		}},
		{"a negative version", func(r *raw, _ *device) int {
			s, _ := r.say("commit", commitMessage{Version: math.MinInt32, Commitment: r.who.commitment(good)})
			return s
		}},
		{"a huge version", func(r *raw, _ *device) int {
			s, _ := r.say("commit", `{"v":1e400,"commitment":"`+long[:43]+`"}`)
			return s
		}},
		{"a short commitment", func(r *raw, _ *device) int { s, _ := r.say("commit", `{"v":1,"commitment":"AAAA"}`); return s }},
		{"a long commitment", func(r *raw, _ *device) int {
			s, _ := r.say("commit", `{"v":1,"commitment":"`+long[:2000]+`"}`)
			return s
		}},
		{"a commitment with a line break", func(r *raw, _ *device) int {
			s, _ := r.say("commit", `{"v":1,"commitment":"AAAA\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
			return s
		}},
		{"a number as commitment", func(r *raw, _ *device) int { s, _ := r.say("commit", `{"v":1,"commitment":-1}`); return s }},
		{"a list", func(r *raw, _ *device) int { s, _ := r.say("commit", `[[[[[[]]]]]]`); return s }},
		{"no JSON", func(r *raw, _ *device) int { s, _ := r.say("commit", "\x00\xff"); return s }},
		{"nothing", func(r *raw, _ *device) int { s, _ := r.say("commit", ""); return s }},
		{"a message of 60 KiB", func(r *raw, _ *device) int {
			s, _ := r.say("commit", `{"v":1,"name":"`+long[:60<<10]+`"}`)
			return s
		}},
		{"a proof of zeros", func(r *raw, _ *device) int { s, _ := r.say("code", codeMessage{Version: 1}); return s }},
		{"our own proof sent back", func(r *raw, b *device) int {
			code, err := ParseSetupCode(must(b.SetupCode(false)))
			if err != nil {
				return http.StatusOK
			}
			s, _ := r.say("code", codeMessage{Version: 1, Proof: r.who.proof(asked, code)})
			return s
		}},
		{"another method", func(r *raw, _ *device) int {
			resp, err := r.client.Get("http://nigh/v1/pair/commit")
			if err != nil {
				return 0
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}},
		{"a message that is none", func(r *raw, _ *device) int { s, _ := r.say("pin", "{}"); return s }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newDevice(t, "bob")
			s := newStranger(t)
			if status := c.run(s.dial(b.addr()), b); status == http.StatusOK || status == 0 {
				t.Errorf("status %d", status)
			}
			if list := b.List(); len(list) != 0 {
				t.Errorf("the user sees %+v", list)
			}
			if b.trusts(s.id.ID) {
				t.Error("the stranger is trusted")
			}
			a := newDevice(t, "ada")
			a.knows(b)
			paired(t, a, b)
		})
	}
}

func must(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}

// Messages of one connection are worth nothing on another one, nor later on the same.
func TestReplay(t *testing.T) {
	b := newDevice(t, "bob")
	s := newStranger(t)
	first := s.dial(b.addr())
	nonce := newNonce()
	theirs, err := first.commit(nonce)
	if err != nil {
		t.Fatal(err)
	}
	if status, a := first.say("reveal", revealMessage{nonce}); status != http.StatusOK {
		t.Fatal(status, a)
	}
	p := b.question(func(Pairing) bool { return true })
	b.answer(p, true)
	mac := first.who.confirmation(asker, nonce, theirs)
	// The same device, on another connection.
	second := s.dial(b.addr())
	for _, what := range []struct {
		name string
		body any
	}{{"reveal", revealMessage{nonce}}, {"confirm", confirmMessage{MAC: &mac}}, {"confirm", confirmMessage{}}} {
		if status, _ := second.say(what.name, what.body); status == http.StatusOK {
			t.Errorf("%s was taken on another connection", what.name)
		}
	}
	if b.trusts(s.id.ID) {
		t.Fatal("a replayed confirmation was taken")
	}
	if status, a := first.say("confirm", confirmMessage{MAC: &mac}); status != http.StatusOK || a["state"] != "paired" {
		t.Fatalf("its own connection: %d %v", status, a)
	}
	// When it is over, the same words begin nothing.
	if err := b.book.Remove(s.id.ID); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"reveal", "confirm"} {
		body := any(revealMessage{nonce})
		if what == "confirm" {
			body = confirmMessage{MAC: &mac}
		}
		_, _ = first.say(what, body)
	}
	third := s.dial(b.addr())
	_, _ = third.say("commit", commitMessage{Version: 1, Commitment: first.who.commitment(nonce)})
	if status, _ := third.say("reveal", revealMessage{nonce}); status == http.StatusOK {
		t.Error("an old commitment was taken on a new connection")
	}
	if b.trusts(s.id.ID) {
		t.Error("a removed device came back by a replay")
	}
}

// Before the asker has said yes it does not learn whether our user did.
func TestYesIsNoOracle(t *testing.T) {
	b := newDevice(t, "bob")
	b.limits.hold = 20 * time.Millisecond
	r := newStranger(t).dial(b.addr())
	nonce := newNonce()
	theirs, err := r.commit(nonce)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.say("reveal", revealMessage{nonce})
	p := b.question(func(Pairing) bool { return true })
	ask := func() string {
		status, a := r.say("confirm", confirmMessage{})
		return fmt.Sprint(status, a)
	}
	before := ask()
	b.answer(p, true)
	if after := ask(); after != before {
		t.Errorf("before the yes %s, after it %s", before, after)
	}
	mac := r.who.confirmation(asker, nonce, theirs)
	status, a := r.say("confirm", confirmMessage{MAC: &mac})
	if status != http.StatusOK || a["state"] != "paired" || wordOf(t, a["mac"]) != r.who.confirmation(asked, nonce, theirs) {
		t.Errorf("after both yes: %d %v", status, a)
	}
}

// A device that says nothing after its commitment is shown to nobody, and holds up
// nobody for long.
func TestHalfOpenPairing(t *testing.T) {
	a, b := two(t)
	b.limits.reveal = 300 * time.Millisecond
	r := newStranger(t).dial(b.addr())
	if _, err := r.commit(newNonce()); err != nil {
		t.Fatal(err)
	}
	if len(b.List()) != 0 {
		t.Error("the user is asked before the nonce is revealed")
	}
	deadline := time.After(patience)
	for {
		if p, err := a.Compare(wait(t), b.id.ID); err == nil {
			b.answer(b.question(func(q Pairing) bool { return q.Code == p.Code }), true)
			a.answer(p, true)
			break
		} else if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrTooOften) {
			t.Fatal(err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Fatal("a half-open pairing is still in the way")
		}
	}
}

// Strangers with ever new keys and addresses ask a thousand times, half of them without
// ever going on, on connections that they keep. They get few questions through, and while
// they go on the users of two devices pair: when both begin, no bound of strangers applies.
func TestThousandRequestsWhileTheUserPairs(t *testing.T) {
	a, b := two(t)
	const requests = 1000
	var asked, revealed, tried atomic.Int32
	var flood sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		silent := i%2 == 0
		flood.Go(func() {
			for tried.Load() < requests {
				select {
				case <-stop:
					return
				default:
				}
				s := newStranger(t)
				for range 10 { // each key a few times
					tried.Add(1)
					r, err := s.tryDial(b.addr())
					if err != nil {
						continue
					}
					nonce := newNonce()
					status, _ := r.say("commit", commitMessage{Version: 1, Name: "prize", Commitment: r.who.commitment(nonce)})
					if status == http.StatusOK {
						asked.Add(1)
						if silent {
							continue // the connection stays, half open
						}
						if status, _ := r.say("reveal", revealMessage{nonce}); status == http.StatusOK {
							revealed.Add(1)
						}
					}
					if !silent {
						r.close()
					}
				}
			}
		})
	}
	// In the middle of it.
	for tried.Load() < requests/10 {
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the flood does not begin")
		}
	}
	var both sync.WaitGroup
	var p [2]Pairing
	var err [2]error
	both.Go(func() { p[0], err[0] = a.Compare(wait(t), b.id.ID) })
	both.Go(func() { p[1], err[1] = b.Compare(wait(t), a.id.ID) })
	both.Wait()
	if err[0] != nil || err[1] != nil || p[0].Code != p[1].Code {
		t.Fatalf("%+v, %v; %+v, %v", p[0], err[0], p[1], err[1])
	}
	a.answer(p[0], true)
	b.answer(p[1], true)
	if e1, e2 := a.outcome(p[0].ID), b.outcome(p[1].ID); e1 != nil || e2 != nil {
		t.Errorf("%v, %v", e1, e2)
	}
	flood.Wait()
	close(stop)
	t.Logf("of %d requests %d were heard and %d became questions", tried.Load(), asked.Load(), revealed.Load())
	if n := asked.Load(); n > questionsAtOnce+3 {
		t.Errorf("%d requests of strangers were heard within seconds", n)
	}
	if !a.trusts(b.id.ID) || !b.trusts(a.id.ID) || len(b.book.List()) != 1 {
		t.Errorf("trusted: %v, %v; %d records", a.trusts(b.id.ID), b.trusts(a.id.ID), len(b.book.List()))
	}
}

// A device that is blocked cannot even ask, and trust is not given to it by a pairing
// that began before.
func TestBlockedDeviceCannotAsk(t *testing.T) {
	b := newDevice(t, "bob")
	s := newStranger(t)
	if err := b.book.Block(s.id.ID); err != nil {
		t.Fatal(err)
	}
	r, err := s.tryDial(b.addr())
	if err == nil {
		if _, err = r.commit(newNonce()); err == nil {
			t.Error("a blocked device was heard")
		}
	}
	if b.book.Standing(s.id.ID) != trust.Blocked {
		t.Error("the block is gone")
	}
}

// Names that would act on a screen are escaped and cut before anybody sees them.
func TestHostileNames(t *testing.T) {
	b := newDevice(t, "bob")
	s := newStranger(t)
	r := s.dial(b.addr())
	nonce := newNonce()
	name := "evil\x1b[2K\u202e\x07" + strings.Repeat("x", 3000)
	status, a := r.say("commit", commitMessage{Version: 1, Name: name, Commitment: r.who.commitment(nonce)})
	if status != http.StatusOK {
		t.Fatal(status, a)
	}
	_, _ = r.say("reveal", revealMessage{nonce})
	p := b.question(func(Pairing) bool { return true })
	if strings.ContainsAny(p.Name, "\x1b\u202e\x07") || len([]rune(p.Name)) > maxName {
		t.Errorf("the user sees %q", p.Name)
	}
}
