package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

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
	refs    int          // the planner, the board and tasks that use file

	// With several holders.
	next     int              // no group before it is left that nobody was asked for
	asked    bitmap           // groups that a holder was asked for
	writing  bitmap           // groups that are being written
	proved   bitmap           // groups whose leaf is known for certain: it is in leaves
	unproved map[int]claim    // groups that are written, but whose leaf is not known yet
	refused  map[*holder]bool // holders that do not have it after all
	proofs   sync.Mutex       // taken to ask the sender for leaves
	proving  bool             // all leaves are being fetched, or are known; guarded by board.mu
}

// A claim is what a holder sent as a group.
type claim struct {
	leaf content.Leaf
	h    *holder
}

// giveLarge opens a large file and hands out its missing groups.
func (p *pull) giveLarge(ctx context.Context, w *receive.Writer, e Entry, part string, give func(job) error) error {
	l, err := p.openLarge(w, e, part)
	if err != nil {
		if errors.Is(err, ErrInternal) {
			return err
		}
		return p.unwritten(&e, err)
	}
	defer p.release(w, l)
	if l.reopened {
		if err := p.fileError(l, p.recover(ctx, l)); err != nil {
			return err
		}
	}
	l.ref() // for the board
	return give(job{large: l})
}

// openLarge makes the file, or goes on with the one of an earlier run.
func (p *pull) openLarge(w *receive.Writer, e Entry, part string) (*largeFile, error) {
	groups := content.Groups(e.Size)
	l := &largeFile{Entry: e, part: part, have: newBitmap(groups), leaves: make([]content.Leaf, groups), missing: groups,
		changed: map[int]bool{}, refs: 1, asked: newBitmap(groups), writing: newBitmap(groups), proved: newBitmap(groups),
		unproved: map[int]claim{}, refused: map[*holder]bool{}}
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

// fetchGroups asks a holder for the groups of a task, verifies and writes each. A wrong group of the transfer's own peer is asked for once
// more by itself; another holder is not asked again.
func (p *pull) fetchGroups(ctx context.Context, k *task) error {
	l, h := k.large, k.h
	if k.from == k.to && !k.given {
		return nil
	}
	path, inSwarm := p.fileOf(h, l)
	if inSwarm {
		if err := p.proveRun(ctx, l, k.from, k.to); err != nil {
			return err
		}
	} else if !h.origin {
		p.prove(l, h)
	}
	var wrong []int
	var err error
	for tries := 0; ; tries++ {
		var bad []int
		bad, err = p.readGroups(ctx, k, path)
		wrong = append(wrong, bad...)
		if !h.origin || k.given || p.board.others(h) || !p.elsewhere(ctx, err, tries) {
			break
		}
	}
	if len(wrong) > 0 && !h.origin {
		return fmt.Errorf("%w: group %d of entry %d", ErrVerify, wrong[0], l.Index)
	}
	for _, i := range wrong {
		if err != nil {
			break
		}
		p.e.log.Warn("Wrong group asked for again", "transfer", p.t.rec.ID, "peer", p.t.rec.Peer.Short(), "entry", l.Index, "group", i)
		one := &task{job: job{large: l, from: i, to: i + 1}, h: h}
		one.at.Store(int64(i))
		one.limit.Store(int64(i + 1))
		var again []int
		if again, err = p.readGroups(ctx, one, path); err == nil && len(again) > 0 {
			err = ErrVerify
		}
	}
	if h.origin && (errors.Is(err, ErrChanged) || errors.Is(err, ErrUnreadable)) && !l.Hash.IsZero() {
		if p.firstAsked(ctx); p.board.rooted(l) != nil {
			l.refuse(h)
			return nil
		}
	}
	if h.origin && errors.Is(err, ErrVerify) {
		if l.hasFailed() {
			return nil
		}
		err = p.wrong(ctx, func() { l.fail(ErrVerify) })
	}
	if h.origin || errors.Is(err, ErrDiskFull) {
		return p.fileError(l, err)
	}
	return err
}

// fileOf returns where a holder serves a file, and whether it is one that the file's sender sent it to.
func (p *pull) fileOf(h *holder, l *largeFile) (path string, inSwarm bool) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	switch {
	case h.origin:
		return p.t.path(fmt.Sprintf("/file/%d", l.Index)), false
	case h.roots[l.Hash] && !l.Hash.IsZero():
		return "/v1/b/" + l.Hash.String(), false
	}
	return fmt.Sprintf("/v1/h/%s/file/%d", h.swarm, l.Index), true
}

// fileError keeps an error that is only of this file from ending the transfer.
func (p *pull) fileError(l *largeFile, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrUnreadable) || errors.Is(err, ErrName) || errors.Is(err, ErrFileSize) || errors.Is(err, ErrExists) || errors.Is(err, ErrDiskFull) {
		l.fail(err)
		return nil
	}
	return err
}

// fail notes why the file will not come.
func (l *largeFile) fail(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = why
	}
}

func (l *largeFile) hasFailed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed != nil
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

// readGroups makes one range request, for what is left of a task. It returns the groups whose bytes were wrong.
func (p *pull) readGroups(ctx context.Context, k *task, path string) (wrong []int, err error) {
	l := k.large
	from, to := int(k.at.Load()), int(k.limit.Load())
	var body io.Reader
	var end func(bool)
	if k.given {
		if body, from, to, end, err = p.askGiven(ctx, k, path); err != nil || to == 0 {
			return nil, err
		}
	} else {
		start, _ := content.GroupBounds(l.Size, from)
		last, n := content.GroupBounds(l.Size, to-1)
		if body, _, end, err = p.getFrom(ctx, k.h, path, fmt.Sprintf("bytes=%d-%d", start, last+n-1), nil); err != nil {
			return nil, err
		}
	}
	whole := false
	defer func() { end(whole) }()
	buf := buffers.get(int(content.GroupSize(l.Size)) + content.HashSize)
	defer buffers.put(buf)
	for i := from; i < to; i++ {
		if int64(i) >= k.limit.Load() {
			return wrong, nil // another holder brings the rest
		}
		_, n := content.GroupBounds(l.Size, i)
		if _, err := io.ReadFull(body, buf[:n+content.HashSize]); err != nil {
			return wrong, p.lost(ctx, err)
		}
		right := false
		if leaf := content.LeafOf(buf[:n], l.Size, i); leaf == content.Leaf(buf[n:n+content.HashSize]) {
			if right, err = p.keep(k.h, l, i, buf[:n], leaf); err != nil {
				return wrong, err
			}
		}
		if !right {
			wrong = append(wrong, i)
		}
		k.at.Store(int64(i + 1))
	}
	whole = true
	return wrong, nil
}

// askGiven asks the sender for groups that nobody else has. to is 0 when all are given to others now.
func (p *pull) askGiven(ctx context.Context, k *task, path string) (body io.Reader, from, to int, end func(bool), err error) {
	l := k.large
	q, err := json.Marshal(giveRequest{Lack: k.lack, Bytes: p.portion.Load()})
	if err != nil {
		return nil, 0, 0, nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	body, resp, end, err := p.getFrom(ctx, k.h, path, "", q) //nolint:bodyclose // end closes it
	if err != nil {
		return nil, 0, 0, nil, err
	}
	if resp.StatusCode == http.StatusNoContent {
		end(true)
		p.board.mu.Lock()
		k.h.full = time.Now().Add(swarmFull)
		p.board.mu.Unlock()
		return nil, 0, 0, nil, nil
	}
	spec, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes "), "/")
	if from, to, err = parseRange("bytes="+spec, &l.Entry); err != nil {
		end(false)
		return nil, 0, 0, nil, err
	}
	l.mu.Lock()
	for i := from; i < to; i++ {
		l.asked.set(i)
	}
	l.mu.Unlock()
	k.from, k.to = from, to
	k.at.Store(int64(from))
	k.limit.Store(int64(to))
	return body, from, to, end, nil
}

// keep writes a group that came from h, and counts it once its leaf is known to be right. It returns false when it is wrong.
func (p *pull) keep(h *holder, l *largeFile, i int, group []byte, leaf content.Leaf) (right bool, err error) {
	l.mu.Lock()
	_, waits := l.unproved[i]
	if l.have.has(i) || l.writing.has(i) || waits {
		right = !l.have.has(i) || l.leaves[i] == leaf
		l.mu.Unlock()
		return right, nil // somebody else was quicker
	}
	if l.proved.has(i) && l.leaves[i] != leaf {
		l.mu.Unlock()
		return false, nil
	}
	l.writing.set(i)
	l.mu.Unlock()
	off, _ := content.GroupBounds(l.Size, i)
	err = receive.WriteAt(l.file, group, off)
	l.mu.Lock()
	l.writing.clear(i)
	switch {
	case err != nil:
		l.mu.Unlock()
		err, _ = diskError(err)
		return false, err
	case l.proved.has(i) && l.leaves[i] != leaf:
		l.mu.Unlock()
		return false, nil
	case !l.proved.has(i) && !h.origin:
		l.unproved[i] = claim{leaf, h}
		l.mu.Unlock()
		return true, nil
	}
	l.hasLocked(i, leaf)
	l.mu.Unlock()
	p.counted(h, int64(len(group)))
	return true, nil
}

// hasLocked notes that a group is there; with mu held.
func (l *largeFile) hasLocked(i int, leaf content.Leaf) {
	l.leaves[i] = leaf
	l.have.set(i)
	l.missing--
	l.changed[i/leafPage] = true
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
	switch {
	case errors.Is(failed, ErrDiskFull):
		p.leaveOut(&l.Entry, failed)
		p.board.settled(l.Index)
		return // the journal has what is there
	case failed != nil:
		if err := w.Remove(l.part); err != nil {
			p.e.log.Warn("Part not removed", "transfer", p.t.rec.ID, "err", err)
		}
		p.fail(&l.Entry, failed, knownBytes(l.Size, have))
	default:
		w.SetTime(l.part, l.Mtime)
		p.finish(&l.Entry, hash)
	}
	p.mu.Lock()
	delete(p.large, l.Index)
	p.mu.Unlock()
	p.board.settled(l.Index)
}

// refuse notes that a holder does not have the file after all.
func (l *largeFile) refuse(h *holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[h] = true
}

func (l *largeFile) ref() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs++
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
