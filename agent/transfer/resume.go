package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
)

// loadJournal takes what an earlier run left. Bytes of large files are counted here and taken back should they prove wrong.
func (p *pull) loadJournal() error {
	e, t := p.e, p.t
	j, err := e.db.progress(t.rec.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	p.known = j.Groups
	n := p.m.entries()
	p.written, p.synced, p.failed = j.Written.sized(n), j.Synced.sized(n), j.Failed.sized(n)
	p.short = newBitmap(n)
	var done int64
	for c := p.m.from(0); ; {
		entry, ok := c.next()
		if !ok {
			break
		}
		if p.written.has(entry.Index) {
			done += entry.Size
		} else if known := p.known[entry.Index]; known != nil {
			p.known[entry.Index] = known.sized(content.Groups(entry.Size))
			done += knownBytes(entry.Size, p.known[entry.Index])
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t.rec.Done = done
	t.rec.Failures, t.rec.FilesFailed = j.Failures, j.FilesFailed
	t.rec.Sent = max(t.rec.Sent, j.Sent)
	return nil
}

// knownBytes is the size of the groups in a bitmap.
func knownBytes(size int64, groups bitmap) (n int64) {
	for i := range content.Groups(size) {
		if groups.has(i) {
			_, length := content.GroupBounds(size, i)
			n += length
		}
	}
	return n
}

// keepJournal syncs and writes the journal after every journalBytes, or some time after the first byte since the last time.
func (p *pull) keepJournal(stop <-chan struct{}) {
	ticker := time.NewTicker(journalEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-p.due:
		case <-ticker.C:
			if p.unjournaled.Load() == 0 {
				continue
			}
		}
		p.unjournaled.Store(0)
		if err := p.writeJournal(true); err != nil {
			p.e.log.Warn("Journal not written", "transfer", p.t.rec.ID, "err", err)
		}
	}
}

// writeJournal writes what is there now. With sync the bytes are on the disk before the journal says so; without it they count only
// until the machine stops hard, and groups of large files are hashed again in any case.
func (p *pull) writeJournal(sync bool) error {
	j := &progress{Boot: bootID(), Groups: map[int]bitmap{}}
	var leaves []leafValue
	var open *largeFile
	p.mu.Lock()
	j.Written = slices.Clone(p.written)
	j.Synced = slices.Clone(p.synced)
	j.Failed = slices.Clone(p.failed)
	if sync {
		j.Synced = slices.Clone(p.written)
	}
	maps.Copy(j.Groups, p.known)
	for i, l := range p.large {
		open = l
		groups, pages := l.journal()
		j.Groups[i] = groups
		leaves = append(leaves, pages...)
	}
	single := len(p.large) == 1 && p.m.Files == 1
	p.mu.Unlock()
	p.e.mu.Lock()
	j.Failures, j.FilesFailed = slices.Clone(p.t.rec.Failures), p.t.rec.FilesFailed
	j.Sent = p.t.rec.Sent
	p.e.mu.Unlock()
	if sync {
		err := error(nil)
		if single {
			err = open.sync()
		} else {
			err = p.folder.Sync()
		}
		if err != nil {
			return err
		}
	}
	if err := p.e.db.saveProgress(p.t.rec.ID, j, leaves); err != nil {
		return err
	}
	if sync {
		p.mu.Lock()
		copy(p.synced, j.Synced)
		p.mu.Unlock()
	}
	return nil
}

// journal returns the groups that are there and the pages of leaves that changed since the last call.
func (l *largeFile) journal() (bitmap, []leafValue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var pages []leafValue
	for page := range l.changed {
		part := l.leaves[page*leafPage : min(len(l.leaves), (page+1)*leafPage)]
		p := make([]byte, 0, len(part)*content.HashSize)
		for _, leaf := range part {
			p = append(p, leaf[:]...)
		}
		pages = append(pages, leafValue{l.Index, page, p})
	}
	clear(l.changed)
	return slices.Clone(l.have), pages
}

// sync writes the file's data to the disk; a file that was closed meanwhile was whole, and is synced before it gets its name.
func (l *largeFile) sync() error {
	l.mu.Lock()
	fd := -1
	var err error
	if l.file != nil {
		// A file descriptor of its own, so that the file can be finished and closed meanwhile.
		fd, err = unix.FcntlInt(l.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	}
	l.mu.Unlock()
	if fd < 0 || err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // Fdatasync has told what became of the bytes
	for {
		if err := unix.Fdatasync(fd); err != unix.EINTR {
			return err
		}
	}
}

// recover keeps what an earlier run wrote after its last journal entry: groups that are on the disk and not known are compared with the
// sender's leaves. A process that was killed so loses almost nothing, though the journal is written rarely.
func (p *pull) recover(ctx context.Context, l *largeFile) error {
	buf := buffers.get(int(content.GroupSize(l.Size)))
	defer buffers.put(buf)
	var all []content.Leaf
	var err error
	if p.shared {
		// The sender may be gone for good.
		if p.firstAsked(ctx); p.board.rooted(l) != nil {
			if all, err = p.provenLeaves(ctx, l, nil, false); err != nil && ctx.Err() != nil {
				return err
			}
		}
	}
	for from := 0; from < len(l.leaves); {
		if l.have.has(from) || !l.written(from) {
			from++
			continue
		}
		to := from + 1
		for to < len(l.leaves) && to-from < maxLeaves && !l.have.has(to) && l.written(to) {
			to++
		}
		var leaves []content.Leaf
		if all != nil {
			leaves = all[from:to]
		} else if leaves, err = p.originLeaves(ctx, l, from, to); err != nil {
			if errors.Is(err, ErrPeerGone) && p.shared && p.board.others(p.origin) {
				return nil // they come once more, from others
			}
			return err
		}
		for i, leaf := range leaves {
			g := from + i
			off, n := content.GroupBounds(l.Size, g)
			if _, err := l.file.ReadAt(buf[:n], off); err != nil || content.LeafOf(buf[:n], l.Size, g) != leaf {
				continue
			}
			l.mu.Lock()
			l.hasLocked(g, leaf)
			l.mu.Unlock()
			p.recount(n)
		}
		from = to
	}
	return nil
}

// written reports whether the file system has data, not only blocks, at the beginning of a group.
func (l *largeFile) written(i int) bool {
	off, _ := content.GroupBounds(l.Size, i)
	data, err := unix.Seek(int(l.file.Fd()), off, unix.SEEK_DATA)
	return err == nil && data == off
}

// rehash keeps of the groups that the journal tells of those whose bytes are really there, and returns the bytes of the others.
func (l *largeFile) rehash(known bitmap) (wrong int64) {
	buf := buffers.get(int(content.GroupSize(l.Size)))
	defer buffers.put(buf)
	for i := range l.leaves {
		if !known.has(i) {
			continue
		}
		off, n := content.GroupBounds(l.Size, i)
		if _, err := l.file.ReadAt(buf[:n], off); err != nil || content.LeafOf(buf[:n], l.Size, i) != l.leaves[i] {
			wrong += n
			continue
		}
		l.have.set(i)
		l.missing--
	}
	return wrong
}
