package transfer

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"nigh/agent/receive"
)

// commit syncs, sets times, gives the final names and tells the sender.
func (p *pull) commit(ctx context.Context) error {
	e, t := p.e, p.t
	p.setTimes()
	if err := p.sync(); err != nil {
		err, _ = diskError(err)
		return err
	}
	e.mu.Lock()
	t.rec.Committing = true
	ok := ctx.Err() == nil
	e.mu.Unlock()
	if !ok {
		return context.Cause(ctx)
	}
	if err := e.save(t); err != nil {
		return storeError(err)
	}
	final, err := p.nameTops(func(int) bool { return true })
	if err != nil {
		return err
	}
	last, why := p.outcome(final)
	p.tellReceived()
	p.lastWord(ctx, last)
	e.mu.Lock()
	defer e.mu.Unlock()
	if why != nil {
		e.set(t, Failed, why)
	} else {
		t.rec.Done = t.rec.Offer.Bytes
		if t.seed != nil {
			t.seed.final = p.final
		}
		e.set(t, Done, nil)
	}
	t.rec.Cleanup = true
	return nil
}

// nameTops gives their final names to those of the top-level names that which says, by their numbers, and returns the last one.
func (p *pull) nameTops(which func(n int) bool) (final string, err error) {
	e, t := p.e, p.t
	tops := 0
	for c := p.m.from(0); ; {
		entry, ok := c.next()
		if !ok {
			return final, nil
		}
		if !entry.top() {
			continue
		}
		part := partName(t.rec.ID, entry.Path, tops)
		tops++
		if !which(tops-1) || !p.folder.Exists(part) {
			continue // skipped, failed, or renamed before a restart
		}
		name, err := p.folder.Commit(part, entry.Path, entry.Dir, e.cfg.Conflict)
		why, fatal := diskError(err)
		if err != nil && !fatal {
			// The name was taken meanwhile and the policy says not to find another, or the disk does not take it.
			if e.cfg.Conflict == receive.Refuse || !errors.Is(err, receive.ErrExists) {
				p.fail(&entry, why, 0)
			}
			if err := p.folder.Remove(part); err != nil {
				e.log.Warn("Part not removed", "transfer", t.rec.ID, "err", err)
			}
			continue
		}
		if err != nil {
			return final, why
		}
		final = name
		if p.final != nil {
			p.final[entry.Path] = name
		}
	}
}

// tellReceived has the transfer counted, once.
func (p *pull) tellReceived() {
	e, t := p.e, p.t
	e.mu.Lock()
	now, counted := t.snapshot(), t.rec.Counted
	t.rec.Counted = true
	e.mu.Unlock()
	if !counted {
		e.cfg.Received(now)
		_ = e.save(t) // logged; it is saved again when it is done
	}
}

// vanished looks once at every file before it is given its final name, forgets those that someone removed or changed the size of, and
// returns how many they are. All else waits for it, so each processor looks at a part.
func (p *pull) vanished() int {
	var lost atomic.Int64
	var looks sync.WaitGroup
	each := max(lookFiles, p.m.entries()/runtime.NumCPU()+1)
	for from := 0; from < p.m.entries(); from += each {
		looks.Go(func() { lost.Add(p.vanishedOf(from, from+each)) })
	}
	looks.Wait()
	return int(lost.Load())
}

// vanishedOf is vanished for the entries [from, to).
func (p *pull) vanishedOf(from, to int) (lost int64) {
	w := p.folder.NewWriter()
	defer w.Close()
	tops := 0
	part, name := "", ""
	skip := false
	for c := p.m.from(0); ; {
		entry, ok := c.next()
		if !ok || entry.Index >= to {
			return lost
		}
		if entry.top() {
			part, name = partName(p.t.rec.ID, entry.Path, tops), entry.Path
			tops++
			skip = p.isPlaced(tops-1, part) || p.e.cfg.Conflict == receive.Skip && !p.folder.Exists(part)
		}
		if entry.Index < from || skip || entry.Dir || p.failed.has(entry.Index) || p.short.has(entry.Index) ||
			w.Size(part+entry.Path[len(name):]) == entry.Size {
			continue
		}
		lost++
		p.unmark(&entry)
	}
}

// sync has everything on the disk before anything gets its final name: a few files by themselves, for others wait behind all that the
// machine writes, and many by one call for the whole file system.
func (p *pull) sync() error {
	if p.m.Dirs > 0 || p.m.Files > fewFiles {
		return p.folder.Sync()
	}
	w := p.folder.NewWriter()
	defer w.Close()
	tops := 0
	for c := p.m.from(0); ; tops++ {
		entry, ok := c.next()
		if !ok {
			return nil
		}
		if err := w.Sync(partName(p.t.rec.ID, entry.Path, tops)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// outcome notes where the transfer lies. It returns what the sender is to be told about its end, and why it failed if it did.
func (p *pull) outcome(final string) (last *stateMessage, why error) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	r := &p.t.rec
	switch {
	case final == "" && r.Path != "": // noted before a restart
	case r.Offer.Tops == 1 && final != "":
		r.Path = filepath.Join(r.Into, final)
	default:
		r.Path = r.Into
	}
	r.Hash = hashOf(&r.Offer, p.hash)
	last = &stateMessage{State: Done, Hash: r.Hash}
	if r.FilesFailed > 0 {
		why = ErrSomeFailed
		if r.Offer.Files == 1 && len(r.Failures) == 1 {
			why = fromCode(r.Failures[0].Code)
		}
		last = &stateMessage{State: Failed, Code: Code(why), Failed: r.FilesFailed}
	}
	p.t.notify(last)
	return last, why
}

// lastWord tells the sender how it ended before the transfer is called so here. If the sender cannot be reached now, it is told later:
// the files are there and the person should know.
func (p *pull) lastWord(ctx context.Context, msg *stateMessage) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	_, err := p.e.post(ctx, p.t.rec.Peer, p.t.path("/state"), msg)
	if errors.Is(err, ErrPeerGone) {
		p.e.log.Debug("Sender to be told later", "transfer", p.t.rec.ID, "err", err)
		return
	}
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if p.t.rec.Notice == msg {
		p.t.rec.Notice = nil
	}
}

// setTimes gives directories their times, after everything in them is written.
func (p *pull) setTimes() {
	if p.m.Dirs == 0 {
		return
	}
	w := p.folder.NewWriter()
	defer w.Close()
	tops := 0
	part, name := "", ""
	for c := p.m.from(0); ; {
		entry, ok := c.next()
		if !ok {
			return
		}
		if entry.top() {
			part, name = partName(p.t.rec.ID, entry.Path, tops), entry.Path
			tops++
		}
		if entry.Dir {
			w.SetTime(part+entry.Path[len(name):], entry.Mtime)
		}
	}
}
