package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// An offer that the rules forbid is refused before a byte of it is asked for, both sides say why, and it is remembered here.
func TestForbiddenOffers(t *testing.T) {
	for _, why := range rulings {
		t.Run(Code(why), func(t *testing.T) {
			b := newBed(t)
			bob := b.device("bob", func(c *Config) { c.Decide = func(Offer) Decision { return Forbid(why) } })
			ada := b.device("ada", nil)
			path := write(t, filepath.Join(t.TempDir(), "x"), 10)
			ada.send(bob, path)
			for _, d := range []*device{ada, bob} {
				if got := d.untilState(Refused); got.ErrorCode != Code(why) || got.BytesDone != 0 {
					t.Errorf("one side has %+v", got)
				}
			}
			if left, err := os.ReadDir(bob.inbox); err == nil && len(left) > 0 {
				t.Errorf("bob's inbox has %v", left)
			}
		})
	}
}

// What was accepted and is no longer permitted ends on both sides, whether it waits, moves or is about to.
func TestDeny(t *testing.T) {
	b := newBed(t)
	var mu sync.Mutex
	var permit error
	var counted []int64
	bob := b.device("bob", func(c *Config) {
		c.Permit = func(Transfer) error { mu.Lock(); defer mu.Unlock(); return permit }
		c.Received = func(t Transfer) { mu.Lock(); defer mu.Unlock(); counted = append(counted, t.BytesDone) }
	})
	ada := b.device("ada", nil)
	path := write(t, filepath.Join(t.TempDir(), "x"), 1000)

	ada.send(bob, path)
	waits := bob.untilState(Waiting)
	if err := bob.Deny(waits.ID, ErrQuota); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{ada, bob} {
		if got := d.untilState(Refused); got.ErrorCode != "quota" {
			t.Errorf("refused while it waited: %+v", got)
		}
	}
	if err := bob.Deny(waits.ID, ErrQuota); !errors.Is(err, ErrState) {
		t.Errorf("denied twice: %v", err)
	}
	if err := bob.Deny("none", ErrQuota); !errors.Is(err, ErrNotFound) {
		t.Errorf("denied what is not there: %v", err)
	}

	mu.Lock()
	permit = ErrOff
	mu.Unlock()
	ada.send(bob, path)
	if err := bob.Accept(bob.until("waiting again", func(t Transfer) bool { return t.State == Waiting && t.ID != waits.ID }).ID, ""); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{ada, bob} {
		if got := d.untilState(Failed); got.ErrorCode != "off" || got.BytesDone != 0 {
			t.Errorf("not permitted when its turn came: %+v", got)
		}
	}

	mu.Lock()
	permit = nil
	mu.Unlock()
	ada.send(bob, path)
	if err := bob.Accept(bob.until("waiting for the third time", func(t Transfer) bool { return t.State == Waiting }).ID, ""); err != nil {
		t.Fatal(err)
	}
	done := bob.untilState(Done)
	if err := bob.Deny(done.ID, ErrOff); !errors.Is(err, ErrState) {
		t.Errorf("denied when it was done: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(counted) != 1 || counted[0] != 1000 {
		t.Errorf("received was told %v, want once 1000 bytes", counted)
	}
}
