package share

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/store"
)

// Buckets of the store and their keys.
const (
	bucketShares   = "shares"       // ID -> record
	bucketIndex    = "share_index"  // ID, directory, NUL, name -> entry. So what is in a directory lies together, in the order of names
	bucketExpected = "share_expect" // transfer name -> expected
)

// An entry is what the index knows of one file or directory.
type entry struct {
	dir, executable bool
	size            int64
	mtime           int64 // nanoseconds since 1970, as far as 64 bits go
	ctime           int64 // the same; no program can set it
	ino             uint64
	hash            content.Hash // zero: not known
}

// Flags of an encoded entry: flags (1 byte), size, mtime, ctime, inode (8 bytes each, big endian), the hash if its flag is set.
const (
	flagDir  = 1
	flagExec = 2
	flagHash = 4
	stamps   = 1 + 4*8
)

func (e *entry) encode() []byte {
	p := make([]byte, 1, stamps+content.HashSize)
	if e.dir {
		p[0] |= flagDir
	}
	if e.executable {
		p[0] |= flagExec
	}
	for _, n := range []uint64{uint64(e.size), uint64(e.mtime), uint64(e.ctime), e.ino} {
		p = binary.BigEndian.AppendUint64(p, n)
	}
	if !e.hash.IsZero() {
		p[0] |= flagHash
		p = append(p, e.hash[:]...)
	}
	return p
}

// decode reads an entry as the store has it: the JSON of a byte slice. It is called for every entry of a search, so it does not go through
// package json.
func decode(raw []byte) (entry, error) {
	var p [stamps + content.HashSize]byte
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' || base64.StdEncoding.DecodedLen(len(raw)-2) > len(p)+2 {
		return entry{}, errDamaged
	}
	var long [stamps + content.HashSize + 2]byte
	n, err := base64.StdEncoding.Decode(long[:], raw[1:len(raw)-1])
	if err != nil || n != stamps && n != stamps+content.HashSize {
		return entry{}, errDamaged
	}
	copy(p[:], long[:n])
	e := entry{dir: p[0]&flagDir != 0, executable: p[0]&flagExec != 0, size: int64(binary.BigEndian.Uint64(p[1:])),
		mtime: int64(binary.BigEndian.Uint64(p[9:])), ctime: int64(binary.BigEndian.Uint64(p[17:])), ino: binary.BigEndian.Uint64(p[25:])}
	if (p[0]&flagHash != 0) != (n > stamps) || e.size < 0 {
		return entry{}, errDamaged
	}
	if n > stamps {
		copy(e.hash[:], p[stamps:])
	}
	return e, nil
}

var errDamaged = errors.New("share: damaged entry")

// entryOf makes the entry of what was found on the disk.
func entryOf(st *unix.Stat_t) entry {
	e := entry{dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), ino: st.Ino}
	if !e.dir {
		e.size, e.executable = st.Size, st.Mode&0o111 != 0
	}
	return e
}

// same reports whether two entries are of a file that did not change between them.
func (e *entry) same(o *entry) bool {
	return e.dir == o.dir && e.size == o.size && e.mtime == o.mtime && e.ctime == o.ctime && e.ino == o.ino
}

// count adds the entry to c, n times (1 or -1).
func (c *counts) count(e *entry, n int) {
	if e.dir {
		c.dirs += n
		return
	}
	c.files += n
	c.bytes += int64(n) * e.size
	if !e.hash.IsZero() {
		c.hashed += n
	}
}

// An index is the store as this package uses it.
type index struct{ s *store.Store }

func dirKey(id, dir string) []byte { return []byte(id + dir + "\x00") }

func entryKey(id, dir, name string) []byte { return []byte(id + dir + "\x00" + name) }

// splitKey returns the directory and the name of a key of the index.
func splitKey(key []byte) (dir, name string) {
	dir, name, _ = strings.Cut(string(key[idLength:]), "\x00")
	return dir, name
}

// lookup returns the entry at a path, or [ErrNotFound].
func (x index) lookup(id, path string) (entry, error) {
	dir, name := splitPath(path)
	var raw json.RawMessage
	err := x.s.Bucket(bucketIndex).Get(entryKey(id, dir, name), &raw)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return entry{}, ErrNotFound
	case err != nil:
		return entry{}, err
	}
	return decode(raw)
}

// A change of the index: a new value, or none.
type change struct {
	key []byte
	new *entry
}

// apply writes changes together and returns what they changed of the counts: against what is in the store now, for a scan and the hashing work
// at the same time.
func (x index) apply(changes []change) (delta counts, err error) {
	err = x.s.Update(func(tx *store.Tx) error {
		b := tx.Bucket(bucketIndex)
		delta = counts{}
		for _, c := range changes {
			var raw json.RawMessage
			err := b.Get(c.key, &raw)
			if err == nil {
				if old, err := decode(raw); err == nil {
					delta.count(&old, -1)
				}
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if c.new == nil {
				err = b.Delete(c.key)
			} else {
				delta.count(c.new, 1)
				err = b.Put(c.key, c.new.encode())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return counts{}, err
	}
	return delta, nil
}

// below calls fn for all entries below a directory, at any depth.
func (x index) below(id, dir string, fn func(key []byte, e entry) error) error {
	each := func(key, raw []byte) error {
		e, err := decode(raw)
		if err != nil {
			return nil // the next scan finds it different and writes it anew
		}
		return fn(key, e)
	}
	b := x.s.Bucket(bucketIndex)
	if dir == "" {
		return b.ForEachPrefix([]byte(id), each)
	}
	return errors.Join(b.ForEachPrefix(dirKey(id, dir), each), b.ForEachPrefix([]byte(id+dir+"/"), each))
}

// A visit is one entry that a pass over the index comes to. Its slices end with the call.
type visit struct{ dir, name, raw []byte }

// path returns that of the entry.
func (v *visit) path() string { return join(string(v.dir), string(v.name)) }

// scan calls fn for all entries of a share, directory by directory: what a search costs is paid here, for each of them. fn must not use
// the store. ctx ends it with errEnough.
func (x index) scan(ctx context.Context, id string, fn func(v *visit) error) error {
	n := 0
	var v visit
	return x.s.Bucket(bucketIndex).Scan([]byte(id), func(key, raw []byte) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return errEnough
		}
		v.dir, v.name, _ = bytes.Cut(key[idLength:], []byte{0})
		v.raw = raw
		return fn(&v)
	})
}

// clear removes the index of a share, in parts, so that nobody waits long for the database.
func (x index) clear(id string) error {
	var batch []change
	err := x.s.Bucket(bucketIndex).ForEachPrefix([]byte(id), func(key, _ []byte) error {
		batch = append(batch, change{key: key})
		if len(batch) < batchEntries {
			return nil
		}
		_, err := x.apply(batch)
		batch = batch[:0]
		return err
	})
	_, last := x.apply(batch)
	return errors.Join(err, last)
}
