package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/store"
)

// MaxDevices bounds the book; a user who trusts more has another problem.
const MaxDevices = 4096

// MaxName bounds a device's name, in characters.
const MaxName = 64

const bucketName = "trust"

var (
	// ErrFull is returned when the book holds [MaxDevices].
	ErrFull = errors.New("trust: the book of devices is full")
	// ErrUnknown is returned for a device that is not in the book.
	ErrUnknown = errors.New("trust: no such device")
	// ErrWrongKey is returned for a key that is not that of the device.
	ErrWrongKey = errors.New("trust: the key is another device's")
	// ErrBlocked is returned for what only a device that is not blocked can get.
	ErrBlocked = errors.New("trust: the device is blocked")
	// ErrZeroID is returned for the zero DeviceID, which names no device.
	ErrZeroID = errors.New("trust: no device ID given")
)

// Standing is what the user decided about a key.
type Standing int

// The standings. The zero value is New: a key that nobody decided about.
const (
	New Standing = iota
	Trusted
	Blocked
)

var standings = [...]string{New: "new", Trusted: "trusted", Blocked: "blocked"}

// String returns "new", "trusted" or "blocked".
func (s Standing) String() string {
	if s < 0 || int(s) >= len(standings) {
		return fmt.Sprintf("standing %d", int(s))
	}
	return standings[s]
}

// MarshalText returns the form of [Standing.String].
func (s Standing) MarshalText() ([]byte, error) {
	if s < 0 || int(s) >= len(standings) {
		return nil, fmt.Errorf("trust: %v does not exist", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Standing) UnmarshalText(text []byte) error {
	i := slices.Index(standings[:], string(text))
	if i < 0 {
		return fmt.Errorf("trust: unknown standing %q", text)
	}
	*s = Standing(i)
	return nil
}

// Record is what the book holds about one device.
type Record struct {
	ID identity.DeviceID `json:"id"`
	// Name is the user's label for the device, already safe to show. It is only a
	// label: two devices may have the same.
	Name     string   `json:"name,omitempty"`
	Standing Standing `json:"standing"`
	Permissions
	// Used is how many bytes of the quota the device has used.
	Used int64 `json:"used,omitempty"`
	// Key is the device's public key, zero while no session and no announcement
	// has shown it: a device may be trusted by its ID alone.
	Key identity.PublicKey `json:"key,omitzero"`
	// Barred says that the device counts as blocked because the rules say so ([Rules]),
	// not the user.
	Barred bool `json:"-"`
	// Added is the wall clock when the standing was given, for display only: many
	// devices have no clock.
	Added time.Time `json:"added"`
}

// Change tells of one device whose record changed. Old and New have the standing
// New when the device was or is not in the book.
type Change struct {
	Old, New Record
}

// Book is the open book. All methods may be called by several goroutines.
type Book struct {
	store  *store.Store
	bucket *store.Bucket

	// writing serialises changes and the calls to subscribers.
	writing    sync.Mutex
	copyPath   string      // "" keeps no copy; guarded by writing
	copyFailed func(error) // guarded by writing

	mu          sync.RWMutex
	records     map[identity.DeviceID]Record // guarded by mu
	subscribers map[int]func(Change)         // guarded by mu
	next        int                          // guarded by mu
	rules       Rules                        // guarded by mu
}

// Open reads the book from the database. A record that cannot be read counts as
// blocked under its key, because it must never grant anything.
func Open(s *store.Store) (*Book, error) {
	b := &Book{
		store:       s,
		bucket:      s.Bucket(bucketName),
		records:     make(map[identity.DeviceID]Record),
		subscribers: make(map[int]func(Change)),
	}
	err := b.bucket.ForEach(func(key, raw []byte) error {
		var id identity.DeviceID
		if len(key) != len(id) {
			return nil // names no device
		}
		copy(id[:], key)
		var r Record
		if err := json.Unmarshal(raw, &r); err != nil || r.ID != id || r.check() != nil || r.Used < 0 {
			r = Record{ID: id, Name: "unreadable record", Standing: Blocked}
		}
		if !r.Key.IsZero() && r.Key.ID() != id {
			r.Key = identity.PublicKey{} // it is learned again
		}
		b.records[id] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return b, nil
}

// Standing returns what was decided about id, by the user or by the rules. It does no
// I/O.
func (b *Book) Standing(id identity.DeviceID) Standing {
	r, _ := b.Record(id)
	return r.Standing
}

// Record returns the record of id as it counts under the rules, and whether the book
// has one. Of a device that it does not have, only ID, Standing and Barred are set.
func (b *Book) Record(id identity.DeviceID) (Record, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.records[id]
	r.ID = id
	return b.rules.over(r), ok
}

// List returns all records as they count under the rules, in the order of their IDs.
func (b *Book) List() []Record {
	b.mu.RLock()
	list := make([]Record, 0, len(b.records))
	for _, r := range b.records {
		list = append(list, b.rules.over(r))
	}
	b.mu.RUnlock()
	byID(list)
	return list
}

// Add makes id trusted, under the given name unless that is empty. The
// permissions of a device that was trusted already stay; a blocked one starts
// without any.
func (b *Book) Add(id identity.DeviceID, name string) error {
	return b.change(id, func(r Record, _ bool) (Record, error) {
		if r.Standing != Trusted {
			r = Record{ID: id, Name: r.Name, Standing: Trusted, Key: r.Key, Added: time.Now()}
		}
		if name != "" {
			r.Name = name
		}
		return r, nil
	})
}

// Pair makes the device with this key trusted, as [Book.Add] does, and keeps its key.
// name is what it calls itself: the label of a device that has none. A device that is
// blocked stays so, with [ErrBlocked]: the user may block it while it pairs.
func (b *Book) Pair(key identity.PublicKey, name string) error {
	id := key.ID()
	return b.change(id, func(r Record, _ bool) (Record, error) {
		if r.Standing == Blocked {
			return r, ErrBlocked
		}
		if r.Standing != Trusted {
			r = Record{ID: id, Name: r.Name, Standing: Trusted, Added: time.Now()}
		}
		r.Key = key
		if r.Name == "" {
			r.Name = name
		}
		return r, nil
	})
}

// Unpair takes back what [Book.Pair] wrote, which added the device at that time. One that was decided about since stays as it is.
func (b *Book) Unpair(id identity.DeviceID, added time.Time) error {
	return b.change(id, func(r Record, _ bool) (Record, error) {
		if r.Standing == Trusted && r.Added.Equal(added) {
			r = Record{ID: id}
		}
		return r, nil
	})
}

// Block makes id blocked: its connections are refused before it can ask for
// anything. Its permissions are gone.
func (b *Book) Block(id identity.DeviceID) error {
	return b.change(id, func(r Record, _ bool) (Record, error) {
		if r.Standing != Blocked {
			r = Record{ID: id, Name: r.Name, Standing: Blocked, Key: r.Key, Added: time.Now()}
		}
		return r, nil
	})
}

// Remove takes id out of the book, so that it is new again. It returns
// [ErrUnknown] when it is not in it.
func (b *Book) Remove(id identity.DeviceID) error {
	return b.change(id, func(_ Record, known bool) (Record, error) {
		if !known {
			return Record{}, ErrUnknown
		}
		return Record{ID: id}, nil
	})
}

// Rename changes the label of a device in the book; [ErrUnknown] otherwise.
func (b *Book) Rename(id identity.DeviceID, name string) error {
	return b.change(id, func(r Record, known bool) (Record, error) {
		if !known {
			return r, ErrUnknown
		}
		r.Name = name
		return r, nil
	})
}

// SetAutoAccept sets whether a trusted device may send without asking. It
// returns [ErrUnknown] for a device that is not trusted.
func (b *Book) SetAutoAccept(id identity.DeviceID, auto bool) error {
	return b.SetPermissions(id, func(p *Permissions) { p.AutoAccept = auto })
}

// SetKey notes the public key of a device in the book. It returns [ErrUnknown]
// for another device and [ErrWrongKey] for a key that does not give the ID.
func (b *Book) SetKey(id identity.DeviceID, key identity.PublicKey) error {
	if key.ID() != id {
		return ErrWrongKey
	}
	return b.change(id, func(r Record, known bool) (Record, error) {
		if !known {
			return r, ErrUnknown
		}
		r.Key = key
		return r, nil
	})
}

// Changes calls fn for every later change, in order, each before the call that
// made it returns. fn may read the book but must not change it and should not
// wait. The returned function ends the subscription; fn may still be running
// when it returns.
func (b *Book) Changes(fn func(Change)) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.next
	b.next++
	b.subscribers[n] = fn
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subscribers, n)
	}
}

// change replaces the record of id by what decide makes of it, on the disk
// first. A record of standing New is deleted.
func (b *Book) change(id identity.DeviceID, decide func(r Record, known bool) (Record, error)) error {
	if id.IsZero() {
		return ErrZeroID
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.RLock()
	old, known := b.records[id]
	rules := b.rules
	b.mu.RUnlock()
	old.ID = id
	r, err := decide(old, known)
	if err != nil {
		return err
	}
	if err := rules.allow(old, r); err != nil {
		return err
	}
	r.ID, r.Barred = id, false
	r.Name = clean.Name(r.Name, MaxName)
	if known && r.equal(old) {
		return nil
	}
	if err := b.write(r, known); err != nil {
		return err
	}
	for _, fn := range b.remember(r) {
		fn(Change{Old: rules.over(old), New: rules.over(r)})
	}
	if used := r.Used; used != old.Used {
		// What is used changes with every transfer, and is worth no copy of its own.
		if old.Used = used; known && r.equal(old) {
			return nil
		}
	}
	b.keepCopy()
	return nil
}

func (b *Book) write(r Record, known bool) error {
	if r.Standing == New {
		return b.bucket.Delete(r.ID[:])
	}
	if !known {
		b.mu.RLock()
		n := len(b.records)
		b.mu.RUnlock()
		if n >= MaxDevices {
			return ErrFull
		}
	}
	return b.bucket.Put(r.ID[:], r)
}

// remember puts r in the table and returns the subscribers to tell.
func (b *Book) remember(r Record) []func(Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Standing == New {
		delete(b.records, r.ID)
	} else {
		b.records[r.ID] = r
	}
	return b.tellees()
}

// tellees returns the subscribers in their order; mu is held.
func (b *Book) tellees() []func(Change) {
	fns := make([]func(Change), 0, len(b.subscribers))
	for _, n := range slices.Sorted(maps.Keys(b.subscribers)) {
		fns = append(fns, b.subscribers[n])
	}
	return fns
}
