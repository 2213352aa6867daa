package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// What has no room on the disk is left out while the rest comes: smaller files may still fit. In the end the top-level names that are whole
// get their final names, the others stay as parts, and the transfer has failed with disk_full until it is resumed.

// leaveOut notes that an entry had no room. Larger files are then not asked for.
func (p *pull) leaveOut(e *Entry, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.short.set(e.Index)
	p.least, p.full = min(p.least, e.Size), why
	p.e.log.Debug("No room for an entry", "transfer", p.t.rec.ID, "entry", e.Index, "err", why)
}

// hasRoom reports whether nothing of that size or smaller had no room yet; if something had, it says why.
func (p *pull) hasRoom(size int64) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return size < p.least, p.full
}

// isSettled reports whether an entry is not to be asked for any more in this run.
func (p *pull) isSettled(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written.has(i) || p.short.has(i)
}

// unwritten settles an entry that could not be written. The error that it returns ends the pull: no other will fare better.
func (p *pull) unwritten(e *Entry, err error) error {
	err, fatal := diskError(err)
	switch {
	case errors.Is(err, ErrDiskFull):
		p.leaveOut(e, err)
	case fatal:
		return err
	case !p.isWritten(e.Index): // a directory is tried again after a restart
		p.fail(e, err, 0)
	}
	return nil
}

// room leaves out of a task what does not fit beside what is to stay free: others fill the disk too. It reports whether something is left.
func (p *pull) room(k *task) bool {
	switch {
	case k.there:
	case k.large == nil:
		room, err := p.folder.Room()
		if err != nil {
			return true // writing will tell
		}
		kept := k.batch[:0]
		for _, f := range k.batch {
			ok, why := p.hasRoom(f.Size)
			if ok && f.Size > room {
				ok, why = false, fmt.Errorf("%w: room for %d bytes", ErrDiskFull, max(0, room))
			}
			if !ok {
				p.leaveOut(&f.Entry, why)
				continue
			}
			kept = append(kept, f)
			room -= f.Size
		}
		k.batch = kept
		return len(kept) > 0
	case k.to > k.from && !p.folder.Allocates(k.large.Size):
		if err := p.folder.CheckSpace(int64(k.to-k.from) * content.GroupSize(k.large.Size)); receive.IsFull(err) {
			_ = p.fileError(k.large, fmt.Errorf("%w: %w", ErrDiskFull, err)) // nil: it is of this file
			return false
		}
	}
	return true
}

// isPlaced reports whether the n-th top-level name has its final name from an earlier run.
func (p *pull) isPlaced(n int, part string) bool {
	return p.t.rec.Placed.has(n) && !p.folder.Exists(part)
}

// leave ends a run in which entries had no room: it gives their final names to the top-level names that are whole, and returns why the
// transfer fails; nil when there was room for all.
func (p *pull) leave(ctx context.Context) error {
	p.mu.Lock()
	full := p.full
	p.mu.Unlock()
	if full == nil {
		return nil
	}
	p.setTimes()
	if err := p.writeJournal(true); err != nil {
		p.e.log.Warn("Journal not written", "transfer", p.t.rec.ID, "err", err)
		return full // nothing may get its final name before it is on the disk
	}
	whole, tops := newBitmap(p.t.rec.Offer.Tops), 0
	var failures []Failure
	failed := 0
	for c := p.m.from(0); ; {
		e, ok := c.next()
		if !ok {
			break
		}
		if e.top() {
			whole.set(tops)
			tops++
		}
		if p.short.has(e.Index) {
			whole.clear(tops - 1)
			if !e.Dir {
				failed++
				if len(failures) < maxFailures {
					failures = append(failures, Failure{Path: strings.Clone(e.Path), Code: Code(ErrDiskFull)})
				}
			}
		}
	}
	r := &p.t.rec
	p.e.mu.Lock()
	r.Placed = whole
	ok := ctx.Err() == nil
	p.e.mu.Unlock()
	if !ok {
		return context.Cause(ctx)
	}
	if err := p.e.save(p.t); err != nil {
		return full
	}
	if _, err := p.nameTops(func(n int) bool { return whole.has(n) }); err != nil {
		return err
	}
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	r.FilesFailed += failed
	r.Failures = append(failures, r.Failures...)
	r.Failures = r.Failures[:min(len(r.Failures), maxFailures)]
	return full
}
