package share

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/store"
)

// lowPriority makes the calling goroutine give way to everything else on the machine: processor and disk. Its thread ends with it. Where that
// is not allowed (a sandbox) it works as any other.
func lowPriority() {
	runtime.LockOSThread() // never unlocked: the priority is the thread's
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 15)
	const whoProcess, classIdle, classShift = 1, 3, 13 // linux/ioprio.h
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle<<classShift)
}

// hashAll hashes files that have no hash until ctx ends.
func (s *Shares) hashAll(ctx context.Context) error {
	lowPriority()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hash:
		}
		rest.Reset(s.hashSettle)
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		began := time.Now()
		for _, h := range s.unhashed() {
			if err := h.pass(ctx); err != nil && ctx.Err() == nil {
				s.log.Debug("Hashing a share was given up", "share", h.rec.ID, "err", err)
			}
			s.cfg.Changed()
		}
		s.tidy()
		// A file that changes all the time must not keep a core busy.
		rest.Reset(min(time.Since(began)*hashRest, hashRestMax))
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
	}
}

// tidy gives back the memory that a pass over a share took: the next one may be far away.
func (s *Shares) tidy() {
	s.cfg.Store.Release()
	debug.FreeOSMemory()
}

// unhashed returns a pass for each share that has files without a hash.
func (s *Shares) unhashed() []*hasher {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*hasher
	for _, f := range s.folders {
		if f.hashed < f.files && f.state != Missing {
			list = append(list, &hasher{s: s, f: f, rec: f.record})
		}
	}
	return list
}

// A hasher makes one pass over a share.
type hasher struct {
	s    *Shares
	f    *folder
	rec  record
	root *os.File

	dir   *os.File // the last one
	path  string   // of dir
	buf   []byte
	batch []change
	last  time.Time // of a write
}

func (h *hasher) pass(ctx context.Context) error {
	root, changed, err := h.rec.openRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	if changed != 0 {
		return errMissing // the scan is about to see it
	}
	h.root, h.last = root, time.Now()
	defer func() {
		if h.dir != nil {
			_ = h.dir.Close()
		}
	}()
	err = h.s.db.below(h.rec.ID, "", func(key []byte, e entry) error {
		if e.dir || !e.hash.IsZero() {
			return nil
		}
		if err := h.s.quiet.wait(ctx); err != nil {
			return err
		}
		dir, name := splitKey(key)
		sum, err := h.file(ctx, dir, name, &e)
		if err != nil {
			return ctx.Err() // this one will be seen by the next scan, if it is worth it
		}
		e.hash = sum
		h.batch = append(h.batch, change{key, &e})
		if len(h.batch) >= hashBatch || time.Since(h.last) > hashFlush {
			return h.flush()
		}
		return nil
	})
	return errors.Join(err, h.flush())
}

// file returns the hash of a file that is as the index has it.
func (h *hasher) file(ctx context.Context, dir, name string, want *entry) (content.Hash, error) {
	if h.dir == nil || h.path != dir {
		if h.dir != nil {
			_ = h.dir.Close() // only read
			h.dir = nil
		}
		d, err := openBelow(h.root, dir)
		if err != nil {
			return content.Hash{}, err
		}
		h.dir, h.path = d, dir
	}
	fd, err := openat(int(h.dir.Fd()), name, 0)
	if err != nil {
		return content.Hash{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := unchanged(f, want); err != nil {
		return content.Hash{}, err
	}
	if n := content.GroupSize(want.size); int64(len(h.buf)) < min(n, want.size) {
		h.buf = make([]byte, n)
	}
	leaves := make([]content.Leaf, 0, content.Groups(want.size))
	for g := range content.Groups(want.size) {
		if err := h.s.quiet.wait(ctx); err != nil {
			return content.Hash{}, err
		}
		_, n := content.GroupBounds(want.size, g)
		if _, err := io.ReadFull(f, h.buf[:n]); err != nil {
			return content.Hash{}, err
		}
		leaves = append(leaves, content.LeafOf(h.buf[:n], want.size, g))
	}
	return content.Root(leaves), unchanged(f, want)
}

var errChanged = errors.New("share: changed")

// unchanged returns an error unless the open file is the regular one that the index has.
func unchanged(f *os.File, want *entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if got := entryOf(&st); st.Mode&unix.S_IFMT != unix.S_IFREG || !got.same(want) {
		return errChanged
	}
	return nil
}

// flush writes the hashes whose entries are still the same.
func (h *hasher) flush() error {
	h.last = time.Now()
	if len(h.batch) == 0 {
		return nil
	}
	set, err := h.s.db.setHashes(h.batch)
	h.batch = h.batch[:0]
	h.s.mu.Lock()
	h.f.hashed += set
	h.s.mu.Unlock()
	return err
}

// setHashes writes the hashes of entries that are still as they were, and returns how many.
func (x index) setHashes(changes []change) (set int, err error) {
	err = x.s.Update(func(tx *store.Tx) error {
		b := tx.Bucket(bucketIndex)
		set = 0
		for _, c := range changes {
			var raw json.RawMessage
			if err := b.Get(c.key, &raw); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			if now, err := decode(raw); err != nil || !now.same(c.new) || !now.hash.IsZero() {
				continue
			}
			if err := b.Put(c.key, c.new.encode()); err != nil {
				return err
			}
			set++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return set, nil
}
