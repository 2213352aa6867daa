package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/receive"
)

// keep scans what is to be scanned until ctx ends.
func (s *Shares) keep(ctx context.Context) error {
	lowPriority()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if list := s.toScan(); len(list) > 0 {
			for _, f := range list {
				s.scanFolder(ctx, f)
			}
			s.tidy()
		}
		if next := s.nextDue(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.scan:
			if s.urgent() {
				continue
			}
			// One change seldom comes alone.
			select {
			case <-ctx.Done():
			case <-time.After(s.settle):
			}
		}
	}
	return nil
}

// toScan returns the shares that have something to scan, and takes those that are due as a whole.
func (s *Shares) toScan() []*folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*folder
	now := time.Now()
	for _, f := range s.folders {
		if !f.due.IsZero() && !f.due.After(now) {
			f.all = true
		}
		if f.all || len(f.dirty) > 0 {
			list = append(list, f)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

func (s *Shares) nextDue() (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.folders {
		if !f.due.IsZero() && (next.IsZero() || f.due.Before(next)) {
			next = f.due
		}
	}
	return next
}

// urgent reports whether a share waits for its first scan.
func (s *Shares) urgent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.folders {
		if f.all && f.state == Scanning {
			return true
		}
	}
	return false
}

// scanFolder brings the index of a share up to date, wholly or where it is dirty.
func (s *Shares) scanFolder(ctx context.Context, f *folder) {
	s.mu.Lock()
	rec, whole := f.record, f.all || f.state == Missing
	dirty := slices.Sorted(maps.Keys(f.dirty))
	f.all = false
	if whole {
		f.due = time.Time{}
	}
	clear(f.dirty)
	s.mu.Unlock()
	began, moved := time.Now(), false
	root, changed, err := rec.openRoot()
	if err == nil {
		defer root.Close()
		if changed != 0 {
			rec.Ino, whole = changed, true
			if err := s.renew(f, rec); err != nil {
				s.log.Warn("Share not saved", "share", rec.ID, "err", err)
			}
		}
		err = s.countOnce(f)
	}
	if err == nil {
		c := &scanner{ctx: ctx, s: s, f: f, rec: rec, root: root, removed: map[string]bool{}, seen: map[string]bool{}}
		err = c.run(whole, dirty)
		moved = c.moved && !whole
	}
	now := time.Now()
	s.mu.Lock()
	switch {
	case f.gone:
		s.mu.Unlock()
		// What was written after the share was removed.
		if err := s.db.clear(rec.ID); err != nil {
			s.log.Warn("Index of a removed share stays in the database", "share", rec.ID, "err", err)
		}
		return
	case ctx.Err() != nil:
		f.all = true
	case err != nil:
		if f.state != Missing {
			s.log.Warn("Share cannot be scanned", "share", rec.ID, "err", err)
		}
		f.state, f.why, f.due = Missing, strings.TrimPrefix(strings.TrimPrefix(err.Error(), errMissing.Error()), ": "), now.Add(missingEvery)
	case f.polled != "":
		f.due = now.Add(rescanEvery)
	case whole:
		f.rest = now.Add(hashRest * now.Sub(began))
	case moved:
		// A watch is one of an inode, and package fsnotify keeps it by a path: when a directory moves while it is found, its watch may
		// be lost, or tell of the old place. A scan of all when it is quiet, with new watches, sees what was missed.
		f.due = now.Add(s.verifyAfter)
		if f.due.Before(f.rest) {
			f.due = f.rest
		}
	}
	s.mu.Unlock()
	signal(s.hash)
	s.cfg.Changed()
}

// renew keeps that another folder is in the place of a share.
func (s *Shares) renew(f *folder, rec record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.gone {
		return nil
	}
	f.Ino = rec.Ino
	return s.cfg.Store.Bucket(bucketShares).Put([]byte(rec.ID), f.record)
}

// countOnce counts what the index holds after a start.
func (s *Shares) countOnce(f *folder) error {
	if f.counted { // only this goroutine changes it
		return nil
	}
	var c counts
	err := s.db.scan(context.Background(), f.ID, func(v *visit) error {
		if e, err := decode(v.raw); err == nil {
			c.count(&e, 1)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	f.counts, f.counted = c, err == nil
	return err
}

// A scanner is one scan of one share.
type scanner struct {
	ctx     context.Context
	s       *Shares
	f       *folder
	rec     record
	root    *os.File
	batch   []change
	n       int // entries in the index, as far as is known
	full    bool
	moved   bool            // a directory came or went
	removed map[string]bool // directories that are not there any more
	seen    map[string]bool // directories that were scanned, unless all are
}

var errGone = errors.New("share: removed")

func (c *scanner) run(whole bool, dirty []string) error {
	c.s.mu.Lock()
	c.n = c.f.files + c.f.dirs
	c.full = c.f.state == Full && !whole
	if whole {
		clear(c.f.skips)
		c.f.polled = ""
	}
	c.s.mu.Unlock()
	if whole {
		c.s.unwatch(c.rec.Folder)
		if err := c.walk("", true, false); err != nil {
			return err
		}
	} else {
		// First what is not there any more: a watch belongs to the inode, and would be taken away from the new place of a directory
		// that was moved.
		for _, gone := range []bool{true, false} {
			for _, rel := range dirty {
				if !gone && c.seen[rel] {
					continue // it was new in another one
				}
				if err := c.walk(rel, false, gone); err != nil {
					return err
				}
			}
			if err := c.flush(); err != nil {
				return err
			}
			if gone {
				c.s.unwatchAll(c.rec.Folder, c.removed)
			}
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.f.state, c.f.why = Ready, ""
	if c.full {
		c.f.state = Full
	}
	return nil
}

// walk scans a directory and those below it: all when deep, else those that are new. With gone it only removes what is not there.
func (c *scanner) walk(rel string, deep, gone bool) error {
	for stack := []string{rel}; len(stack) > 0; {
		rel := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		below, err := c.dir(rel, deep, gone)
		if err != nil {
			return err
		}
		if !gone {
			stack = append(stack, below...)
		}
	}
	return nil
}

// dir compares one directory with the index and returns which ones below it are to be scanned.
func (c *scanner) dir(rel string, deep, gone bool) (below []string, err error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := openBelow(c.root, rel)
	if err != nil {
		c.leftOut(rel, counts{})
		if errors.Is(err, fs.ErrPermission) {
			c.leftOut(rel, counts{unreadable: 1})
		}
		return nil, c.forget(rel)
	}
	defer dir.Close()
	if !gone {
		if !deep {
			c.seen[rel] = true
		}
		c.s.watch(c.f, dir, filepath.Join(c.rec.Folder, rel)) // before it is read, so that no change is missed
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("share: read %w", err)
	}
	slices.Sort(names)
	var left counts
	next := 0
	found := func(old *entry) error {
		name := names[next]
		next++
		sub, err := c.found(dir, rel, name, old, deep, gone, &left)
		if sub {
			below = append(below, join(rel, name))
		}
		return err
	}
	err = c.s.db.s.Bucket(bucketIndex).ForEachPrefix(dirKey(c.rec.ID, rel), func(key, raw []byte) error {
		_, name := splitKey(key)
		for next < len(names) && names[next] < name {
			if err := found(nil); err != nil {
				return err
			}
		}
		old, err := decode(raw)
		there := &old
		if err != nil {
			there = nil // written anew
		}
		if next < len(names) && names[next] == name {
			return found(there)
		}
		return c.lost(rel, name, there)
	})
	for err == nil && next < len(names) {
		err = found(nil)
	}
	if !gone {
		c.leftOut(rel, left)
	}
	return below, err
}

// found takes a name of a directory, with what the index has under it, and reports whether it is a directory to scan.
func (c *scanner) found(dir *os.File, rel, name string, old *entry, deep, gone bool, left *counts) (sub bool, err error) {
	out := func(count *int) (bool, error) {
		if count != nil {
			*count++
		}
		if old != nil {
			return false, c.lost(rel, name, old)
		}
		return false, nil
	}
	if c.rec.skip(name) {
		return out(nil)
	}
	if receive.CheckPath(join(rel, name)) != nil {
		return out(&left.skipped)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return out(nil)
		}
		return out(&left.unreadable)
	}
	e := entryOf(&st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
	case unix.S_IFREG:
		if unix.Faccessat(int(dir.Fd()), name, unix.R_OK, 0) != nil {
			return out(&left.unreadable)
		}
	default:
		return out(&left.skipped)
	}
	if old != nil && old.dir && (!e.dir || old.ino != e.ino) {
		if err := c.lost(rel, name, old); err != nil {
			return false, err
		}
		old = nil
	}
	if gone {
		return false, nil
	}
	if old != nil && old.same(&e) {
		return e.dir && deep, nil
	}
	if old == nil && c.n >= MaxEntries {
		c.full = true
		return false, nil
	}
	if old == nil {
		c.n++
	}
	c.moved = c.moved || e.dir && old == nil
	return e.dir && (deep || old == nil), c.change(change{entryKey(c.rec.ID, rel, name), &e})
}

// lost removes what is not there any more. What the index has under the name cannot be read when old is nil.
func (c *scanner) lost(rel, name string, old *entry) error {
	if old != nil {
		c.n--
		if old.dir {
			path := join(rel, name)
			c.removed[path], c.moved = true, true
			if err := c.forget(path); err != nil {
				return err
			}
		}
	}
	return c.change(change{key: entryKey(c.rec.ID, rel, name)})
}

// forget removes what the index has below a directory.
func (c *scanner) forget(rel string) error {
	if err := c.flush(); err != nil { // what is looked at must be in the store
		return err
	}
	c.s.mu.Lock()
	for dir := range c.f.skips {
		if dir != rel && within(dir, rel) {
			delete(c.f.skips, dir)
		}
	}
	c.s.mu.Unlock()
	return c.s.db.below(c.rec.ID, rel, func(key []byte, _ entry) error {
		c.n--
		return c.change(change{key: key})
	})
}

// leftOut notes what was left out of a directory.
func (c *scanner) leftOut(rel string, left counts) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if left == (counts{}) {
		delete(c.f.skips, rel)
	} else {
		c.f.skips[rel] = left
	}
}

func (c *scanner) change(ch change) error {
	c.batch = append(c.batch, ch)
	if len(c.batch) < batchEntries {
		return nil
	}
	return c.flush()
}

// flush writes the batch.
func (c *scanner) flush() error {
	c.s.mu.Lock()
	gone := c.f.gone
	c.s.mu.Unlock()
	if gone {
		return errGone
	}
	if len(c.batch) == 0 {
		return nil
	}
	delta, err := c.s.db.apply(c.batch)
	c.batch = c.batch[:0]
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.f.files += delta.files
	c.f.dirs += delta.dirs
	c.f.bytes += delta.bytes
	c.f.hashed += delta.hashed
	c.n = c.f.files + c.f.dirs
	return err
}
