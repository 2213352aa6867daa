package pairing

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/store"
)

func TestSetupCodeText(t *testing.T) {
	c := NewSetupCode()
	text := c.Text()
	if len(text) != 21 || strings.Count(text, "-") != 4 {
		t.Fatalf("the code is written %q", text)
	}
	if s := fmt.Sprintf("%v %s %+v %q", c, c, c, c); strings.Contains(s, text[:4]) {
		t.Errorf("a log would show %s", s)
	}
	lookalike := strings.NewReplacer("O", "0", "I", "1", "B", "8").Replace(text)
	for _, in := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", ""), "  " + strings.ReplaceAll(text, "-", " ") + "\r\n", lookalike} {
		if got, err := ParseSetupCode(in); err != nil || got != c {
			t.Errorf("%q: %v", in, err)
		}
	}
	if other := NewSetupCode(); other == c {
		t.Error("two codes are the same")
	}
}

func TestEverySlipInACodeIsFound(t *testing.T) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	text := strings.ReplaceAll(NewSetupCode().Text(), "-", "")
	for i := range len(text) {
		for _, l := range letters {
			if rune(text[i]) == l {
				continue
			}
			if _, err := ParseSetupCode(text[:i] + string(l) + text[i+1:]); !errors.Is(err, ErrBadCode) {
				t.Fatalf("character %d as %c: %v", i, l, err)
			}
		}
		for j := i + 1; j < len(text); j++ {
			b := []byte(text)
			b[i], b[j] = b[j], b[i]
			if _, err := ParseSetupCode(string(b)); text[i] != text[j] && !errors.Is(err, ErrBadCode) {
				t.Fatalf("%d and %d changed places: %v", i, j, err)
			}
		}
	}
	for _, in := range []string{"", "-", text[:16], text + "A", text + text, "9" + text[1:], "\x00" + text[1:], strings.Repeat(" ", 1<<20), strings.Repeat("ä", 17)} {
		_, err := ParseSetupCode(in)
		if !errors.Is(err, ErrBadCode) {
			t.Errorf("%q: %v", in, err)
		}
		if err != nil && len(in) > 4 && strings.Contains(err.Error(), in[:4]) {
			t.Errorf("the error quotes the code: %v", err)
		}
	}
}

// The headless side has nobody to answer: the right code pairs both.
func TestSetupCodePairs(t *testing.T) {
	a, b := two(t)
	code := must(b.SetupCode(false))
	if again := must(b.SetupCode(false)); again != code {
		t.Error("the code changed by itself")
	}
	p, err := a.WithCode(wait(t), b.id.ID, strings.ToLower(code))
	if err != nil || p.State != Paired || p.Name != "bob" || p.Peer != b.id.ID {
		t.Fatalf("%+v, %v", p, err)
	}
	if !a.trusts(b.id.ID) || !b.trusts(a.id.ID) || len(b.List()) != 0 {
		t.Error("not both trust each other without a question")
	}
	if r, _ := b.book.Record(a.id.ID); r.Name != "ada" || r.Key != a.id.Key() || r.AutoAccept {
		t.Errorf("the record is %+v", r)
	}
	// A new code takes the old one's place.
	c := newDevice(t, "carl")
	c.knows(b)
	if fresh := must(b.SetupCode(true)); fresh == code {
		t.Fatal("the new code is the old one")
	}
	_, err = c.WithCode(wait(t), b.id.ID, code)
	is(t, "the old code", err, ErrWrongCode)
	_, err = c.WithCode(wait(t), b.id.ID, "7Q4K")
	is(t, "half a code", err, ErrBadCode)
}

// A device that never made a code cannot be told apart from one that has.
func TestNoCodeIsAsGoodAsAWrongOne(t *testing.T) {
	with, without := newDevice(t, "with"), newDevice(t, "without")
	must(with.SetupCode(false))
	s := newStranger(t)
	for i := range wrongCodes + 1 {
		var said [2]string
		for j, d := range []*device{with, without} {
			r := s.dial(d.addr())
			status, a := r.say("code", codeMessage{Version: 1, Proof: r.who.proof(asker, NewSetupCode())})
			said[j] = fmt.Sprint(status, a)
		}
		if said[0] != said[1] {
			t.Errorf("try %d: %s and %s", i, said[0], said[1])
		}
	}
}

// Three wrong codes lock; ten thousand more, of ever new keys, addresses and
// connections, are not even looked at. The right code does not open the lock. The user
// of the device still pairs: by comparing codes, and with a new code.
func TestTenThousandGuesses(t *testing.T) {
	dir := t.TempDir()
	a, b := newDevice(t, "ada"), startDevice(t, "bob", dir)
	a.knows(b)
	code := must(b.SetupCode(false))
	const guesses = 10_000
	var looked, refused, broken atomic.Int32
	var script sync.WaitGroup
	var tried atomic.Int32
	for range 8 {
		script.Go(func() {
			for tried.Load() < guesses {
				s := newStranger(t)
				r, err := s.tryDial(b.addr())
				if err != nil {
					tried.Add(1)
					broken.Add(1)
					continue
				}
				for range 20 { // what one connection may ask before its rate is bounded
					tried.Add(1)
					status, a := r.say("code", codeMessage{Version: 1, Proof: r.who.proof(asker, NewSetupCode())})
					switch {
					case status == 0:
						broken.Add(1)
					case a["code"] == "wrong":
						looked.Add(1)
					default:
						refused.Add(1)
					}
				}
				r.close()
			}
		})
	}
	script.Wait()
	t.Logf("of %d guesses %d were looked at, %d refused, %d never arrived", tried.Load(), looked.Load(), refused.Load(), broken.Load())
	if n := looked.Load(); n < wrongCodes || n > wrongCodes+2 {
		t.Errorf("%d guesses were looked at", n)
	}
	if refused.Load() < guesses/4 {
		t.Errorf("only %d guesses were refused: the script did not get through", refused.Load())
	}
	// The lock outlives the agent. What strangers may ask in a second does not, which
	// they have used up here.
	b.stop()
	b = startDevice(t, "bob", dir)
	a.knows(b)
	b.knows(a)
	_, err := a.WithCode(wait(t), b.id.ID, code)
	is(t, "the right code, locked", err, ErrLocked)
	if len(b.book.List()) != 0 {
		t.Error("a guess was trusted")
	}
	paired(t, a, b)
	for _, d := range []*device{a, b} {
		for _, r := range d.book.List() {
			if err := d.book.Remove(r.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := a.WithCode(wait(t), b.id.ID, must(b.SetupCode(true))); err != nil {
		t.Errorf("a new code: %v", err)
	}
}

// The lock grows with each wrong code, survives a restart in its full length, needs no
// clock, and is gone after the right code.
func TestLockGrowsAndSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		open := func() (*keeper, *store.Store) {
			s, err := store.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			k, err := openKeeper(s)
			if err != nil {
				t.Fatal(err)
			}
			return k, s
		}
		k, s := open()
		right, err := k.code(false)
		if err != nil {
			t.Fatal(err)
		}
		wrong := func(SetupCode) bool { return false }
		is1 := func(c SetupCode) bool { return c == right }
		for range wrongCodes {
			_, err := k.try(wrong)
			is(t, "a wrong code", err, ErrWrongCode)
		}
		total := time.Duration(0)
		for i := range 12 {
			want := min(lockMin<<i, lockMax)
			locked, n := k.locked()
			if locked != want || n != wrongCodes+i {
				t.Fatalf("after %d wrong ones the lock is %v, want %v", n, locked, want)
			}
			time.Sleep(want - time.Millisecond) // the bubble's clock
			_, err := k.try(is1)
			is(t, "the right code, locked", err, ErrLocked)
			if i == 5 { // a restart just before the end
				_ = s.Close()
				k, s = open()
				if again, n := k.locked(); again != want || n != wrongCodes+i {
					t.Fatalf("after a restart the lock is %v (%d wrong), want %v", again, n, want)
				}
				time.Sleep(want - time.Millisecond)
			}
			time.Sleep(time.Millisecond)
			_, err = k.try(wrong)
			is(t, "a wrong code after the lock", err, ErrWrongCode)
			total += want
		}
		if total < 6*time.Hour {
			t.Errorf("15 guesses took %v", total)
		}
		locked, _ := k.locked()
		time.Sleep(locked)
		if _, err := k.try(is1); err != nil {
			t.Errorf("the right code: %v", err)
		}
		if locked, n := k.locked(); locked != 0 || n != 0 {
			t.Errorf("after the right code: %v, %d wrong", locked, n)
		}
		_ = s.Close()
		k, s = open()
		defer s.Close()
		if c, err := k.code(false); err != nil || c != right {
			t.Errorf("the code changed by a restart: %v", err)
		}
	})
}

// A code that the owner has just made is not locked by whoever guesses, and every one of the guesses is wrong. Once the time is over
// those count as many as lock it.
func TestGuessesDoNotLockANewCode(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		k, err := openKeeper(s)
		if err != nil {
			t.Fatal(err)
		}
		right, err := k.code(true)
		if err != nil {
			t.Fatal(err)
		}
		wrong := func() error { _, err := k.try(func(SetupCode) bool { return false }); return err }
		for range 1000 {
			is(t, "a wrong code", wrong(), ErrWrongCode)
		}
		if _, err := k.try(func(c SetupCode) bool { return c == right }); err != nil {
			t.Errorf("the right one among them: %v", err)
		}
		for range 1000 {
			is(t, "a wrong code", wrong(), ErrWrongCode)
		}
		if locked, n := k.locked(); locked != 0 || n != wrongCodes {
			t.Errorf("locked for %v, after %d", locked, n)
		}
		time.Sleep(unlocked) // the bubble's clock
		if locked, n := k.locked(); locked != lockMin || n != wrongCodes {
			t.Errorf("then locked for %v, after %d", locked, n)
		}
		is(t, "once the time is over", wrong(), ErrLocked)
		time.Sleep(lockMin)
		is(t, "after the lock", wrong(), ErrWrongCode)
		if locked, _ := k.locked(); locked != 2*lockMin {
			t.Errorf("the lock does not grow: %v", locked)
		}
	})
}

// A failed write is no way around the count.
func TestWrongCodesCountOnAFullDisk(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k, err := openKeeper(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.code(false); err != nil {
		t.Fatal(err)
	}
	_ = s.Close() // every write fails from here
	for range wrongCodes {
		if _, err := k.try(func(SetupCode) bool { return false }); err == nil || errors.Is(err, ErrLocked) {
			t.Errorf("a wrong code: %v", err)
		}
	}
	_, err = k.try(func(SetupCode) bool { return true })
	is(t, "the next", err, ErrLocked)
	if _, err := k.code(true); err == nil {
		t.Error("a code that cannot be kept was given out")
	}
}
