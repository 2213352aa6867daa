package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

const (
	// What ForEach holds in memory at a time.
	pageEntries = 256
	pageBytes   = 1 << 20

	scanEntries = 4096 // that Scan passes over in one transaction
)

// Bucket is one named set of JSON values by key. From [Store.Bucket] each method
// is a transaction of its own; from [Tx.Bucket] all are part of that one.
type Bucket struct {
	s    *Store
	tx   *bolt.Tx // nil: a transaction for each method
	name []byte
}

// Tx is a running transaction; it is only usable inside the function that got it.
type Tx struct {
	s  *Store
	tx *bolt.Tx
}

// Bucket returns the bucket of that name; it need not exist before its first Put.
// It does no I/O.
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s: s, name: []byte(name)} }

// Bucket returns the bucket of that name inside the transaction.
func (t *Tx) Bucket(name string) *Bucket { return &Bucket{s: t.s, tx: t.tx, name: []byte(name)} }

// Update runs fn in one transaction: all its changes are written together, with
// one sync, or none when fn returns an error, which Update returns. There is one
// writer at a time; fn must not call methods of s or of its buckets other than
// through the Tx.
func (s *Store) Update(fn func(*Tx) error) error {
	return closed(s.db.Update(func(tx *bolt.Tx) error { return fn(&Tx{s: s, tx: tx}) }))
}

// Put writes v as JSON under key, which must not be empty.
func (b *Bucket) Put(key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("store: put in %s: %w", b.name, err)
	}
	return b.wrap("put in", b.update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(b.name)
		if err != nil {
			return err
		}
		return bucket.Put(key, raw)
	}))
}

// Get reads the value under key into v, a pointer. It returns an error wrapping
// fs.ErrNotExist when there is none.
func (b *Bucket) Get(key []byte, v any) error {
	return b.wrap("get from", b.view(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(b.name)
		if bucket == nil {
			return fs.ErrNotExist
		}
		raw := bucket.Get(key)
		if raw == nil {
			return fs.ErrNotExist
		}
		return json.Unmarshal(raw, v)
	}))
}

// Delete removes the value under key. A key that does not exist is no error.
func (b *Bucket) Delete(key []byte) error {
	return b.wrap("delete from", b.update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(b.name)
		if bucket == nil {
			return nil
		}
		return bucket.Delete(key)
	}))
}

// Clear removes the whole bucket.
func (b *Bucket) Clear() error {
	return b.wrap("clear", b.update(func(tx *bolt.Tx) error {
		err := tx.DeleteBucket(b.name)
		if errors.Is(err, bolterrors.ErrBucketNotFound) {
			return nil
		}
		return err
	}))
}

// ForEach calls fn for every value in the order of the keys, until fn returns an
// error, which ForEach returns. The slices are fn's to keep. fn may change the
// bucket: the values are read in pages, so it sees changes to keys that are still
// to come, and memory does not grow with the bucket.
func (b *Bucket) ForEach(fn func(key, raw []byte) error) error { return b.ForEachPrefix(nil, fn) }

// ForEachPrefix is [Bucket.ForEach] for the keys that begin with prefix.
func (b *Bucket) ForEachPrefix(prefix []byte, fn func(key, raw []byte) error) error {
	return b.ForEachFrom(prefix, nil, fn)
}

// ForEachFrom is [Bucket.ForEachPrefix] for the keys that are not before from.
func (b *Bucket) ForEachFrom(prefix, from []byte, fn func(key, raw []byte) error) error {
	type entry struct{ key, raw []byte }
	var page []entry
	first := prefix
	if bytes.Compare(from, prefix) > 0 {
		first = from
	}
	for next := bytes.Clone(first); ; {
		page = page[:0]
		more := false
		err := b.view(func(tx *bolt.Tx) error {
			bucket := tx.Bucket(b.name)
			if bucket == nil {
				return nil
			}
			size := 0
			c := bucket.Cursor()
			for k, v := c.Seek(next); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
				if len(page) == pageEntries || size > pageBytes {
					more = true
					return nil
				}
				page = append(page, entry{bytes.Clone(k), bytes.Clone(v)})
				size += len(k) + len(v)
			}
			return nil
		})
		if err != nil {
			return b.wrap("read", err)
		}
		for _, e := range page {
			if err := fn(e.key, e.raw); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		next = append(bytes.Clone(page[len(page)-1].key), 0) // the first possible key after it
	}
}

// Scan is [Bucket.ForEachPrefix] for passing over very many values: nothing is copied. The slices end with the call of fn, which must not
// use the store. It sees changes to keys that are still to come, and keeps no writer waiting.
func (b *Bucket) Scan(prefix []byte, fn func(key, raw []byte) error) error {
	var failed error
	for next := prefix; next != nil; {
		err := b.view(func(tx *bolt.Tx) error {
			bucket, n := tx.Bucket(b.name), 0
			if bucket == nil {
				next = nil
				return nil
			}
			c := bucket.Cursor()
			for k, v := c.Seek(next); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
				if n++; n > scanEntries {
					next = bytes.Clone(k)
					return nil
				}
				if failed = fn(k, v); failed != nil {
					break
				}
			}
			next = nil
			return nil
		})
		if err != nil {
			return b.wrap("read", err)
		}
	}
	return failed
}

// Release gives the kernel back what was read of the database, which is mapped: until it is read again it does not count as memory of this
// process. It is for those who read a large part of it once.
func (s *Store) Release() {
	_ = s.db.View(func(tx *bolt.Tx) error { // in a transaction: so long the mapping stays
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, s.db.Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
		return errno // without it memory is the kernel's to take back
	})
}

func (b *Bucket) update(fn func(*bolt.Tx) error) error {
	if b.tx != nil {
		return fn(b.tx)
	}
	return b.s.db.Update(fn)
}

func (b *Bucket) view(fn func(*bolt.Tx) error) error {
	if b.tx != nil {
		return fn(b.tx)
	}
	return b.s.db.View(fn)
}

func (b *Bucket) wrap(verb string, err error) error {
	if err = closed(err); err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("store: %s %s: %w", verb, b.name, err)
}

func closed(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}
