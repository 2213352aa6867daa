package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
)

// A seed is a content that a sender sent to several devices, as this one has it or receives it: what is verified of it is served to the
// others.
type seed struct {
	m     *manifest
	id    string
	into  string
	tops  map[string]int    // number of each top-level name
	p     *pull             // while it is received; guarded by Engine.mu
	final map[string]string // then: by top-level name, the final ones; guarded by Engine.mu
	used  time.Time         // guarded by Engine.mu
}

func newSeed(p *pull) *seed {
	s := &seed{m: p.m, id: p.t.rec.ID, into: p.t.rec.Into, p: p, tops: map[string]int{}, used: time.Now()}
	for c := p.m.from(0); ; {
		e, ok := c.next()
		if !ok {
			return s
		}
		if e.top() {
			s.tops[e.Path] = len(s.tops)
		}
	}
}

// seedFor returns what peer asks for under a name between the two, nil when there is nothing.
func (e *Engine) seedFor(peer identity.DeviceID, name string) *seed {
	if name == "" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.all {
		if t.seed == nil || swarmName(t.rec.Offer.Swarm, peer, e.cfg.Self) != name {
			continue
		}
		now := time.Now()
		if t.seed.p == nil && now.Sub(t.seed.used) > seedLife {
			t.seed = nil
			return nil
		}
		t.seed.used = now
		return t.seed
	}
	return nil
}

// keepSeed ends the receiving of t: when it is done its files are served for some time more; with mu held.
func (e *Engine) keepSeed(t *transfer) {
	s := t.seed
	if s == nil {
		return
	}
	s.p = nil
	if t.rec.State != Done || s.final == nil {
		t.seed = nil
		return
	}
	s.used = time.Now()
	var kept []*transfer
	for _, o := range e.all {
		if o.seed != nil && o.seed.p == nil {
			kept = append(kept, o)
		}
	}
	if len(kept) > maxSeeds {
		slices.MinFunc(kept, func(a, b *transfer) int { return a.seed.used.Compare(b.seed.used) }).seed = nil
	}
}

// now returns how the seed stands.
func (e *Engine) now(s *seed) (p *pull, final map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.p, s.final
}

// groups returns the groups of a file that are here, nil when there is none.
func (s *seed) groups(e *Engine, i int) bitmap {
	entry, ok := s.m.from(i).next()
	if !ok || entry.Dir || entry.Size <= batchFile {
		return nil
	}
	p, final := e.now(s)
	if p != nil {
		p.mu.Lock()
		l, written := p.large[i], p.written.has(i) && !p.failed.has(i)
		p.mu.Unlock()
		if l != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.Clone(l.have)
		}
		if !written {
			return nil
		}
	} else if final == nil {
		return nil
	}
	all := newBitmap(content.Groups(entry.Size))
	for g := range content.Groups(entry.Size) {
		all.set(g)
	}
	return all
}

// open opens a file for reading some of its groups, all of which must be here. leaves are those of the groups, nil when they are to be
// made.
func (s *seed) open(e *Engine, entry *Entry, from, to int) (f *os.File, leaves []content.Leaf, err error) {
	p, final := e.now(s)
	name, rest := entry.Path, ""
	if i := slices.Index([]byte(name), '/'); i >= 0 {
		name, rest = name[:i], name[i:]
	}
	path := partName(s.id, name, s.tops[name]) + rest
	if p != nil {
		p.mu.Lock()
		l, written := p.large[entry.Index], p.written.has(entry.Index) && !p.failed.has(entry.Index)
		p.mu.Unlock()
		if l != nil {
			return l.duplicate(from, to)
		}
		if !written {
			return nil, nil, ErrNotFound
		}
	} else {
		if final[name] == "" {
			return nil, nil, ErrNotFound
		}
		path = final[name] + rest
	}
	folder, err := receive.OpenFolder(s.into)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	defer func() { _ = folder.Close() }() // only read
	w := folder.NewWriter()
	defer w.Close()
	if f, err = w.Open(path); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != entry.Size {
		_ = f.Close()
		return nil, nil, ErrChanged
	}
	return f, nil, nil
}

// duplicate opens the file of l once more, so that it can be finished and closed meanwhile.
func (l *largeFile) duplicate(from, to int) (*os.File, []content.Leaf, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g := from; g < to; g++ {
		if !l.have.has(g) {
			return nil, nil, ErrNotFound
		}
	}
	if l.file == nil {
		return nil, nil, ErrNotFound
	}
	fd, err := unix.FcntlInt(l.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	return os.NewFile(uintptr(fd), l.Path), slices.Clone(l.leaves[from:to]), nil
}

// serveSeed answers a range of a file that was sent to the caller too.
func (e *Engine) serveSeed(w http.ResponseWriter, r *http.Request, peer identity.DeviceID) error {
	if !e.trusted(peer) {
		return ErrNotFound
	}
	s := e.seedFor(peer, r.PathValue("name"))
	if s == nil {
		return ErrNotFound
	}
	i, err := strconv.Atoi(r.PathValue("entry"))
	if err != nil {
		return fmt.Errorf("%w: entry", ErrProtocol)
	}
	entry, ok := s.m.from(i).next()
	if !ok || entry.Dir || entry.Size <= batchFile {
		return fmt.Errorf("%w: entry", ErrProtocol)
	}
	from, to, err := parseRange(r.Header.Get("Range"), &entry)
	if err != nil {
		return err
	}
	f, leaves, err := s.open(e, &entry, from, to)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if !e.holding.begin(peer) {
		return ErrBusy
	}
	defer e.holding.end(peer)
	q := &request{e: e, w: w, r: r, peer: peer, gate: &e.gatesOf(peer).up, rc: http.NewResponseController(w)}
	return q.answer(func() error {
		return q.groups(&entry, from, to, func(g int, buf []byte) (content.Leaf, error) {
			off, _ := content.GroupBounds(entry.Size, g)
			if _, err := f.ReadAt(buf, off); err != nil {
				return content.Leaf{}, errors.Join(ErrChanged, err)
			}
			if leaves != nil {
				return leaves[g-from], nil
			}
			return content.LeafOf(buf, entry.Size, g), nil
		}, func(int) {})
	})
}
