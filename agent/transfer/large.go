package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// A largeFile is a file of more than batchFile bytes while it is received, group by group in any order.
type largeFile struct {
	Entry
	part     string
	reopened bool // an earlier run began it

	mu      sync.Mutex
	file    *os.File // nil once closed
	have    bitmap   // groups that are verified and written
	leaves  []content.Leaf
	missing int          // groups
	changed map[int]bool // pages of leaves since the last journal
	failed  error        // the file will not come
	refs    int          // the planner and jobs that use file
}

// giveLarge opens a large file and hands out its missing groups.
func (p *pull) giveLarge(ctx context.Context, w *receive.Writer, e Entry, part string, give func(job) error) error {
	l, err := p.openLarge(w, e, part)
	if err != nil {
		err, fatal := diskError(err)
		if fatal {
			return err
		}
		p.fail(&e, err, 0)
		return nil
	}
	defer p.release(w, l)
	if l.reopened {
		if err := p.fileError(l, p.recover(ctx, l)); err != nil {
			return err
		}
	}
	for from := 0; from < len(l.leaves); {
		most := max(1, int(p.portion.Load()/content.GroupSize(e.Size)))
		l.mu.Lock()
		failed := l.failed != nil
		for from < len(l.leaves) && l.have.has(from) {
			from++
		}
		to := from
		for to < len(l.leaves) && to-from < most && !l.have.has(to) {
			to++
		}
		if !failed && to > from {
			l.refs++
		}
		l.mu.Unlock()
		if failed || to == from {
			break
		}
		if err := give(job{large: l, from: from, to: to}); err != nil {
			l.unref()
			return err
		}
		from = to
	}
	return nil
}

// openLarge makes the file, or goes on with the one of an earlier run.
func (p *pull) openLarge(w *receive.Writer, e Entry, part string) (*largeFile, error) {
	groups := content.Groups(e.Size)
	l := &largeFile{Entry: e, part: part, have: newBitmap(groups), leaves: make([]content.Leaf, groups), missing: groups,
		changed: map[int]bool{}, refs: 1}
	p.mu.Lock()
	known := p.known[e.Index]
	p.mu.Unlock()
	file, err := w.Create(part, e.Size, e.Executable)
	reopened := p.again && errors.Is(err, fs.ErrExist)
	if reopened {
		file, err = w.Open(part)
	}
	if err != nil {
		return nil, err
	}
	l.file, l.reopened = file, reopened
	switch {
	case known == nil:
	case !reopened:
		p.recount(-knownBytes(e.Size, known)) // someone removed what was there
	default:
		if err := p.e.db.leaves(p.t.rec.ID, e.Index, l.leaves); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("%w: %w", ErrInternal, err)
		}
		p.recount(-l.rehash(known))
	}
	p.mu.Lock()
	delete(p.known, e.Index)
	p.large[e.Index] = l
	p.mu.Unlock()
	return l, nil
}

// fetchGroups asks for the groups [from, to) of a file, verifies and writes each. A wrong group is asked for once more by itself.
func (p *pull) fetchGroups(ctx context.Context, w *receive.Writer, l *largeFile, from, to int) error {
	defer p.release(w, l)
	var wrong []int
	var err error
	for tries := 0; ; tries++ {
		var bad []int
		bad, from, err = p.readGroups(ctx, l, from, to)
		wrong = append(wrong, bad...)
		if !p.elsewhere(ctx, err, tries) {
			break
		}
	}
	for _, i := range wrong {
		if err != nil {
			break
		}
		p.e.log.Warn("Wrong group asked for again", "transfer", p.t.rec.ID, "peer", p.t.rec.Peer.Short(), "entry", l.Index, "group", i)
		var again []int
		if again, _, err = p.readGroups(ctx, l, i, i+1); err == nil && len(again) > 0 {
			err = ErrVerify
		}
	}
	return p.fileError(l, err)
}

// fileError keeps an error that is only of this file from ending the transfer.
func (p *pull) fileError(l *largeFile, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrUnreadable) || errors.Is(err, ErrName) || errors.Is(err, ErrExists) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.failed == nil {
			l.failed = err
		}
		return nil
	}
	return err
}

// elsewhere reports whether a request that broke is to be made again at once: the connection may have been lost with its
// path, and the session knows another one.
func (p *pull) elsewhere(ctx context.Context, err error, tries int) bool {
	if tries >= pathTries || ctx.Err() != nil || !errors.Is(err, ErrPeerGone) {
		return false
	}
	p.e.log.Debug("Asking again for what a lost connection did not bring", "transfer", p.t.rec.ID, "peer", p.t.rec.Peer.Short(), "err", err)
	return true
}

// readGroups makes one range request. It returns the groups whose bytes were wrong, and the first one that did not come.
func (p *pull) readGroups(ctx context.Context, l *largeFile, from, to int) (wrong []int, next int, err error) {
	start, _ := content.GroupBounds(l.Size, from)
	last, n := content.GroupBounds(l.Size, to-1)
	body, end, err := p.get(ctx, p.t.path(fmt.Sprintf("/file/%d", l.Index)), fmt.Sprintf("bytes=%d-%d", start, last+n-1), nil)
	if err != nil {
		return nil, from, err
	}
	defer func() { end(err == nil) }()
	buf := buffers.get(int(content.GroupSize(l.Size)) + content.HashSize)
	defer buffers.put(buf)
	for i := from; i < to; i++ {
		off, n := content.GroupBounds(l.Size, i)
		if _, err := io.ReadFull(body, buf[:n+content.HashSize]); err != nil {
			return wrong, i, p.lost(ctx, err)
		}
		leaf := content.LeafOf(buf[:n], l.Size, i)
		if leaf != content.Leaf(buf[n:n+content.HashSize]) {
			wrong = append(wrong, i)
			continue
		}
		if _, err := l.file.WriteAt(buf[:n], off); err != nil {
			err, _ = diskError(err)
			return wrong, i, err
		}
		l.mu.Lock()
		l.leaves[i] = leaf
		l.have.set(i)
		l.missing--
		l.changed[i/leafPage] = true
		l.mu.Unlock()
		p.counted(n)
	}
	return wrong, to, nil
}

// release gives back one use of the file. The last one settles it: whole, failed, or to be gone on with.
func (p *pull) release(w *receive.Writer, l *largeFile) {
	l.mu.Lock()
	settle := l.refs == 1 && (l.failed != nil || l.missing == 0)
	failed := l.failed
	var hash content.Hash
	if settle && failed == nil {
		if h := content.Root(l.leaves); !l.Hash.IsZero() && h != l.Hash {
			failed = ErrVerify
		} else {
			hash = h
		}
	}
	l.unrefLocked()
	have := l.have
	l.mu.Unlock()
	if !settle {
		return
	}
	if failed != nil {
		if err := w.Remove(l.part); err != nil {
			p.e.log.Warn("Part not removed", "transfer", p.t.rec.ID, "err", err)
		}
		p.fail(&l.Entry, failed, knownBytes(l.Size, have))
	} else {
		w.SetTime(l.part, l.Mtime)
		p.finish(&l.Entry, hash)
	}
	p.mu.Lock()
	delete(p.large, l.Index)
	p.mu.Unlock()
}

func (l *largeFile) unref() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unrefLocked()
}

func (l *largeFile) unrefLocked() {
	if l.refs--; l.refs == 0 {
		_ = l.file.Close()
		l.file = nil
	}
}

// closeLarge ends with the files that are not whole; the journal has them.
func (p *pull) closeLarge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.large)
}
