package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// A pull receives one transfer: from the manifest to the last word. One exists while the transfer's task runs.
type pull struct {
	e      *Engine
	t      *transfer
	m      *manifest
	folder *receive.Folder
	hash   content.Hash // of the file settled last, guarded by mu; shown when there is only one

	origin  *holder // the peer of t
	board   *board
	woken   chan struct{} // a device came near
	shared  bool          // other devices may have content of it, under a name that they know
	started time.Time
	group   *errgroup.Group   // of fetch
	ctx     context.Context   // of it
	final   map[string]string // final names by top-level name, when it is served to others

	mu      sync.Mutex
	written bitmap // entries that are whole, or failed for good
	failed  bitmap // those that failed
	synced  bitmap // the part of written that a hard stop cannot undo
	short   bitmap // entries that have no room on the disk; not in written
	least   int64  // size of the smallest of them
	full    error  // why there is none; nil while there is
	wrongs  int    // files that the peer sent wrong twice
	large   map[int]*largeFile
	known   map[int]bitmap // groups that the journal tells of, of large files not yet opened again
	again   bool           // it goes on after an earlier run, which may have left files that the journal does not know

	began sync.Once // the first byte of content has come

	unjournaled atomic.Int64  // bytes since the last journal entry
	due         chan struct{} // they are enough for one
	portion     atomic.Int64  // bytes of one request
}

// A job is what one bulk request asks for: a batch of small files, or groups of a large one.
type job struct {
	batch    []smallFile
	there    bool // the batch's files are there, from a run whose journal does not know them
	large    *largeFile
	from, to int // groups
}

type smallFile struct {
	Entry
	part string // path to write at
}

// pullAndSettle is the task that receives t; its context ends with Run, or when the transfer is halted.
func (e *Engine) pullAndSettle(ctx context.Context, t *transfer) {
	p := &pull{e: e, t: t, large: map[int]*largeFile{}, due: make(chan struct{}, 1), woken: make(chan struct{}, 1), started: time.Now(), least: math.MaxInt64,
		origin: &holder{peer: t.rec.Peer, origin: true, asked: true}}
	p.board = newBoard(p)
	e.mu.Lock()
	t.pull = p
	e.mu.Unlock()
	err := p.do(ctx)
	if p.folder != nil {
		_ = p.folder.Close()
	}
	e.mu.Lock()
	e.running--
	t.busy, t.cancel, t.pull, t.yielding, t.progress = false, nil, nil, false, nil
	e.keepSeed(t)
	now := time.Now()
	halted := ctx.Err() != nil
	switch {
	case err == nil, t.rec.State.Ended(), t.rec.State == Paused:
		// Whoever halted it has set the state.
	case halted:
		e.set(t, Queued, nil) // Run ends, or others have their turn
	case errors.Is(err, ErrPeerGone), errors.Is(err, ErrBusy):
		if t.tries == 0 && t.rec.State == Running {
			e.log.Debug("Connection lost", "transfer", t.rec.ID, "err", err)
		}
		t.later(now)
		e.set(t, Queued, err)
	case errors.Is(err, ErrPaused) && t.wentOn.After(p.started): // said before the sender went on, and here after it said so
		t.later(now)
		e.set(t, Queued, nil)
	case errors.Is(err, ErrPaused):
		t.rec.PausedThere = true
		e.set(t, Paused, nil)
	default:
		e.end(t, err, true)
	}
	e.mu.Unlock()
	_ = e.save(t)
	signal(e.kick)
}

func (p *pull) do(ctx context.Context) error {
	e, t := p.e, p.t
	e.mu.Lock()
	now, committing := t.snapshot(), t.rec.Committing
	e.mu.Unlock()
	if err := e.cfg.Permit(now); err != nil && !committing {
		return err
	}
	folder, err := receive.OpenFolder(t.rec.Into)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	e.mu.Lock()
	folder.KeepFree(e.limits.MinFree)
	e.mu.Unlock()
	p.folder = folder
	if err := p.loadManifest(ctx); err != nil {
		return err
	}
	p.shared = e.cfg.Near != nil && e.sources.Load() > 1 && (t.rec.Offer.Swarm != "" || t.rec.Hashed)
	if !committing {
		if err := p.loadJournal(); err != nil {
			return err
		}
		if t.rec.Offer.Swarm != "" && e.cfg.Trusted != nil {
			p.final = map[string]string{}
			s := newSeed(p)
			e.mu.Lock()
			t.seed = s
			e.mu.Unlock()
		}
	}
	e.mu.Lock()
	done := t.rec.Done
	ok := ctx.Err() == nil
	if ok && !committing {
		ok = e.set(t, Running, nil)
		t.sources = 1
	}
	e.mu.Unlock()
	if !ok {
		return context.Cause(ctx)
	}
	if !committing {
		// What was begun goes on with what fits.
		if err := folder.CheckSpace(p.m.Bytes); err != nil && done == 0 {
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		for round := 0; ; round++ {
			if err := p.fetch(ctx, done); err != nil {
				return err
			}
			lost := p.vanished()
			if lost == 0 {
				break
			}
			e.log.Warn("Files vanished while they were received", "transfer", t.rec.ID, "files", lost)
			if round > 0 {
				return fmt.Errorf("%w: %d files vanished from it", ErrFolder, lost)
			}
			p.again = true
		}
		if err := p.leave(ctx); err != nil {
			return err
		}
	}
	e.mu.Lock()
	ok = ctx.Err() == nil && e.set(t, Verifying, nil)
	e.mu.Unlock()
	if !ok {
		return context.Cause(ctx)
	}
	return p.commit(ctx)
}

// loadManifest gets the manifest from the store, or from the sender page by page, and holds it against the offer.
func (p *pull) loadManifest(ctx context.Context) error {
	e, t := p.e, p.t
	offer := &t.rec.Offer
	p.again = t.rec.Fetched
	if p.again {
		m, err := e.db.manifest(t.rec.ID, offer.Root)
		if err == nil {
			p.m = m
			return nil
		}
		e.log.Warn("Stored manifest is fetched again", "transfer", t.rec.ID, "err", err)
	}
	blob := make([]byte, 0, offer.Size) // at most maxManifest; the kernel gives pages only for what came
	for int64(len(blob)) < offer.Size {
		body, end, err := p.get(ctx, t.path(fmt.Sprintf("/manifest?from=%d", len(blob))), "", nil)
		if err != nil {
			return err
		}
		want := min(offer.Size-int64(len(blob)), manifestPage)
		before := len(blob)
		blob = blob[:before+int(want)]
		_, err = io.ReadFull(body, blob[before:])
		end(err == nil)
		if err != nil {
			return p.lost(ctx, err)
		}
	}
	m, err := parse(blob)
	if err != nil {
		return err
	}
	if !m.equal(&offer.Summary) {
		return fmt.Errorf("%w: the manifest is not the one that was offered", ErrProtocol)
	}
	if entry, _ := m.from(0).next(); !t.rec.Want.IsZero() && (m.entries() != 1 || entry.Hash != t.rec.Want) {
		return fmt.Errorf("%w: not the content that was asked for", ErrVerify)
	}
	if err := e.db.saveManifest(t.rec.ID, m); err != nil {
		return storeError(err)
	}
	p.m = m
	// From here on there may be parts.
	hashed := m.hashed()
	e.mu.Lock()
	t.rec.Fetched, t.rec.Hashed = true, hashed
	e.mu.Unlock()
	return e.save(t)
}

// fetch gets all content that is missing. When it fails, the journal knows all that is there.
func (p *pull) fetch(ctx context.Context, done int64) error {
	defer p.e.moves()()
	p.portion.Store(groupBuffer)
	b := newBoard(p)
	b.holders = []*holder{p.origin}
	p.e.mu.Lock() // Wake reads it
	p.board = b
	p.e.mu.Unlock()
	p.look(0)
	near := p.addNear()
	g, gctx := errgroup.WithContext(ctx)
	p.group, p.ctx = g, gctx
	g.Go(func() error {
		defer p.board.finish()
		return p.plan(gctx)
	})
	for range inFlight {
		g.Go(func() error { return p.work(gctx, p.origin) })
	}
	if p.shared {
		g.Go(func() error { return p.seek(gctx, g) })
	}
	for _, h := range near {
		g.Go(func() error { return p.follow(gctx, g, h) })
	}
	// The sender's person sees that it began; the bytes do not wait for that, nor does it end with them: to give up a request under way
	// costs its connection, which is the session's.
	p.e.tellRunning(p.t, done)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		p.keepJournal(stop)
	}()
	err := g.Wait()
	p.board.drain()
	close(stop)
	<-stopped
	if err == nil {
		return nil
	}
	if err := p.writeJournal(false); err != nil {
		p.e.log.Warn("Journal not written", "transfer", p.t.rec.ID, "err", err)
	}
	p.closeLarge()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// plan makes directories and hands out jobs in the order of the manifest.
func (p *pull) plan(ctx context.Context) error {
	w := p.folder.NewWriter()
	defer w.Close()
	var batch, there []smallFile
	var size int64
	give := func(j job) error { return p.board.put(ctx, j) }
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		j := job{batch: batch}
		batch, size = make([]smallFile, 0, len(batch)), 0 // the next one is about as long
		return give(j)
	}
	flushThere := func() error {
		if len(there) == 0 {
			return nil
		}
		j := job{batch: there, there: true}
		there = nil
		return give(j)
	}
	tops := 0
	var top topName
	var blocked string // a directory that could not be made, and why
	var why error
	var twins *twins
	if p.folder.FoldsNames() {
		twins = newTwins()
	}
	for c := p.m.from(0); ; {
		e, ok := c.next()
		if !ok {
			return errors.Join(flushThere(), flush())
		}
		if blocked != "" && strings.HasPrefix(e.Path, blocked) {
			if !p.isSettled(e.Index) {
				if err := p.unwritten(&e, why); err != nil {
					return err
				}
			}
			continue
		}
		block := func(err error) error {
			blocked, why = e.Path+"/", err
			return p.unwritten(&e, err)
		}
		if e.top() {
			var err error
			if top, err = p.beginTop(&e, tops); err != nil {
				return err
			}
			tops++
			if e.Dir && top.fresh {
				if err := w.Mkdir(top.part); err != nil {
					if err := block(err); err != nil {
						return err
					}
					continue
				}
			}
		}
		part := top.part + e.Path[len(top.name):]
		if twins.has(e.Path) {
			if !p.isWritten(e.Index) {
				p.fail(&e, ErrExists, 0)
			}
			continue
		}
		switch {
		case top.skip:
			p.finish(&e, content.Hash{})
			continue
		case top.fresh:
			p.unmark(&e)
		}
		if e.Dir {
			if err := p.mkdir(w, &e, part); err != nil {
				if err := block(err); err != nil {
					return err
				}
			}
			continue
		}
		if p.isSettled(e.Index) {
			continue
		}
		if ok, full := p.hasRoom(e.Size); !ok && w.Size(part) < 0 {
			p.leaveOut(&e, full)
			continue
		}
		p.look(e.Index)
		if e.Size > batchFile {
			if err := p.giveLarge(ctx, w, e, part, give); err != nil {
				return err
			}
			continue
		}
		if p.again && !top.fresh && w.Size(part) == e.Size {
			if there = append(there, smallFile{e, part}); len(there) == batchEntries {
				if err := flushThere(); err != nil {
					return err
				}
			}
			continue
		}
		if len(batch) == batchEntries || size+e.Size > p.portion.Load() {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, smallFile{e, part})
		size += e.Size
	}
}

func (p *pull) isWritten(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written.has(i)
}

// unmark forgets what the journal told of an entry.
func (p *pull) unmark(e *Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written.has(e.Index) {
		p.written.clear(e.Index)
		p.synced.clear(e.Index)
		p.recount(-e.Size)
	}
	if known := p.known[e.Index]; known != nil {
		p.recount(-knownBytes(e.Size, known))
		delete(p.known, e.Index)
	}
}

// recount changes the bytes done by what was there before or turned out not to be.
func (p *pull) recount(n int64) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.t.rec.Done += n
}

// finish marks an entry as settled; h is the hash of a file that is whole.
func (p *pull) finish(e *Entry, h content.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written.set(e.Index)
	p.hash = h
}

// fail notes that a file will not come; the others go on. bytes of it that were counted are taken back.
func (p *pull) fail(e *Entry, why error, counted int64) {
	p.mu.Lock()
	p.written.set(e.Index)
	p.failed.set(e.Index)
	p.mu.Unlock()
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	r := &p.t.rec
	r.Done -= counted
	r.FilesFailed++
	if len(r.Failures) < maxFailures {
		r.Failures = append(r.Failures, Failure{Path: strings.Clone(e.Path), Code: Code(why)})
	}
	p.e.log.Debug("File failed", "transfer", r.ID, "entry", e.Index, "err", why)
	p.e.changedLocked(p.t)
}

// usual is how many bytes one request asks for while they come soon.
func (p *pull) usual() int64 {
	least := int64(askMin)
	if p.again {
		least = askAgain
	}
	return min(max(p.m.Bytes/askParts, least), askMax)
}

// adapt makes requests larger while they take little time, and smaller when they are long: on a slow link other transfers of the same
// peer wait for the end of one.
func (p *pull) adapt(took time.Duration) {
	switch now := p.portion.Load(); {
	case took < askSoon && now < p.usual():
		p.portion.Store(min(2*now, p.usual()))
	case took > askLate:
		p.portion.Store(max(now/2, groupBuffer))
	}
}

// firstByte notes that content begins to come; what is measured as the time to the first byte ends here.
func (p *pull) firstByte() {
	p.began.Do(func() { p.e.log.Debug("First byte arrived", "transfer", p.t.rec.ID, "peer", p.t.rec.Peer.Short()) })
}
