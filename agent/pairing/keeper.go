package pairing

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"nigh/agent/store"
)

var (
	// ErrWrongCode is returned when the setup code is not the device's.
	ErrWrongCode = errors.New("pairing: the setup code is wrong")
	// ErrLocked is returned while a device takes no setup code, after wrong ones.
	ErrLocked = errors.New("pairing: the setup code is locked")
)

const keeperBucket = "setup"

var keeperKey = []byte("code")

// keeper keeps this device's setup code and counts wrong tries of it. What it counts
// survives a restart: the lock then begins anew in its full length, because no clock
// tells how long this device was off.
type keeper struct {
	bucket *store.Bucket

	mu     sync.Mutex
	kept   kept      // guarded by mu
	opens  time.Time // no try before; monotonic; guarded by mu
	free   time.Time // but before this every one is looked at; guarded by mu
	random SetupCode // what tries are compared with while there is no code
}

// kept is the record in the database.
type kept struct {
	Code  string `json:"code,omitempty"` // "" while nobody asked for one
	Wrong int    `json:"wrong,omitempty"`
	// Given is the code that came from a file, which counts once; "" when none did.
	Given string `json:"given,omitempty"`
}

func openKeeper(s *store.Store) (*keeper, error) {
	k := &keeper{bucket: s.Bucket(keeperBucket), random: NewSetupCode()}
	if err := k.bucket.Get(keeperKey, &k.kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pairing: %w", err)
	}
	k.opens = time.Now().Add(lockTime(k.kept.Wrong))
	return k, nil
}

// lockTime is how long so many wrong tries in a row lock the code.
func lockTime(wrong int) time.Duration {
	if wrong < wrongCodes {
		return 0
	}
	return min(lockMin<<min(wrong-wrongCodes, 16), lockMax)
}

// code returns the code, making it at the first call, or a new one that takes the
// place of the old one and of its lock.
func (k *keeper) code(anew bool) (SetupCode, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, err := ParseSetupCode(k.kept.Code); err == nil && !anew {
		return c, nil
	}
	c := NewSetupCode()
	next := kept{Code: c.Text(), Given: k.kept.Given}
	if !anew {
		err := k.keep(next)
		k.opens = time.Now()
		return c, err
	}
	return c, k.renew(next)
}

// renew keeps a code that the owner has just made, without a lock; k.mu is held.
func (k *keeper) renew(next kept) error {
	if err := k.keep(next); err != nil {
		return err
	}
	k.opens = time.Now()
	k.free = k.opens.Add(unlocked)
	return nil
}

// locked returns for how long no try is taken, and how many were wrong in a row.
func (k *keeper) locked() (time.Duration, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().Before(k.free) {
		return 0, k.kept.Wrong
	}
	return max(0, time.Until(k.opens)), k.kept.Wrong
}

// try compares the code with what somebody proved by ok. A wrong try is written down
// before it is answered; while the code is locked nothing is compared at all. A code that
// the owner made a moment ago is not locked yet: wrong tries count up to those that lock
// it once that time is over. It costs no safety: what strangers may ask in all that time
// is nothing against 80 bits.
func (k *keeper) try(ok func(SetupCode) bool) (SetupCode, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	free := now.Before(k.free)
	if now.Before(k.opens) && !free {
		return SetupCode{}, ErrLocked
	}
	code, err := ParseSetupCode(k.kept.Code)
	if err != nil {
		code = k.random // nobody can know it; takes as long and counts as any other
	}
	next := k.kept
	if ok(code) {
		next.Wrong = 0
	} else if next.Wrong++; free {
		next.Wrong = min(next.Wrong, wrongCodes) // nor does each cost a write
	}
	changed := next != k.kept
	k.kept.Wrong = next.Wrong // also when it cannot be written
	k.opens = now.Add(lockTime(next.Wrong))
	if free {
		k.opens = k.free.Add(lockTime(next.Wrong))
	}
	if changed {
		if err := k.keep(next); err != nil {
			return SetupCode{}, err
		}
	}
	if next.Wrong > 0 {
		return SetupCode{}, ErrWrongCode
	}
	return code, nil
}

// keep writes the record; k.mu is held.
func (k *keeper) keep(next kept) error {
	if err := k.bucket.Put(keeperKey, next); err != nil {
		return fmt.Errorf("pairing: %w", err)
	}
	k.kept = next
	return nil
}
