package transfer

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// Handler serves the endpoints of doc.go below /v1/offer and /v1/x/. Every request needs a caller; a transfer is shown only to the
// peer that it is with, to all others it does not exist.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request, identity.DeviceID) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			peer, ok := e.cfg.Caller(r)
			if !ok {
				writeRefusal(w, ErrNotFound, "")
				return
			}
			if err := fn(w, r, peer); err != nil {
				reason := ""
				if refused, ok := errors.AsType[*refusedError](err); ok {
					reason = refused.reason
				}
				e.log.Debug("Request refused", "peer", peer.Short(), "err", err)
				writeRefusal(w, err, reason)
			}
		})
	}
	handle("POST /v1/offer", e.serveOffer)
	handle("POST /v1/x/{x}/state", e.serveState)
	handle("GET /v1/x/{x}/manifest", e.serving(e.serveManifest))
	handle("GET /v1/x/{x}/file/{entry}", e.serving(e.serveFile))
	handle("GET /v1/x/{x}/tree/{entry}", e.serving(e.serveTree))
	handle("POST /v1/x/{x}/batch", e.serving(e.serveBatch))
	handle("POST /v1/x/{x}/file/{entry}", e.serving(e.serveGive))
	handle("POST /v1/have", e.serveHave)
	handle("GET /v1/b/{root}", e.serveHeld((*Engine).serveFile))
	handle("GET /v1/b/{root}/tree", e.serveHeld((*Engine).serveTree))
	handle("GET /v1/h/{name}/file/{entry}", e.serveSeed)
	return mux
}

// A refusedError carries our person's words to the peer.
type refusedError struct{ reason string }

func (r *refusedError) Error() string { return ErrRefused.Error() }
func (r *refusedError) Unwrap() error { return ErrRefused }

// A request is one bulk request while it is served.
type request struct {
	e      *Engine
	t      *transfer         // nil for what another device than the receiver of an offer asks for
	peer   identity.DeviceID // who asks
	src    *source
	w      http.ResponseWriter
	r      *http.Request
	rc     *http.ResponseController
	stop   <-chan struct{}
	gate   *gate
	files  *givings // of a source that goes to several devices
	leaves *given   // of the only file, which has no number
	sent   bool     // the answer has begun: only breaking the connection can tell of an error
}

// serving wraps what the sender of a transfer serves to its receiver: finds the transfer, loads its source, bounds how much is served at
// once, and ends the answer when the transfer stops.
func (e *Engine) serving(fn func(*request) error) func(http.ResponseWriter, *http.Request, identity.DeviceID) error {
	return func(w http.ResponseWriter, r *http.Request, peer identity.DeviceID) error {
		t, stop, err := e.beginServing(peerX{peer, r.PathValue("x"), Send})
		if err != nil {
			return err
		}
		defer e.endServing(t)
		src, err := e.loadSource(t)
		if err != nil {
			return err
		}
		q := &request{e: e, t: t, peer: peer, src: src, w: w, r: r, rc: http.NewResponseController(w), stop: stop, gate: &e.gatesOf(peer).up, files: e.givingsOf(t)}
		return q.answer(func() error { return fn(q) })
	}
}

// answer runs fn and ends what it wrote when the transfer stops, or when it fails in the middle.
func (q *request) answer(fn func() error) error {
	defer q.e.moves()()
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-q.stop:
			// Unblocks a write to a receiver that does not read; the connection is of no more use.
			_ = q.rc.SetWriteDeadline(time.Unix(1, 0))
		case <-ended:
		}
	}()
	err := fn()
	close(ended)
	<-watched
	if !q.sent {
		return err
	}
	if err != nil {
		q.e.log.Debug("Answer broken off", "peer", q.peer.Short(), "err", err)
		panic(http.ErrAbortHandler) // so that the receiver sees that it is not whole
	}
	_ = q.rc.SetWriteDeadline(time.Time{})
	return nil
}

// Granted reports whether r, a request of peer, is for a transfer that goes on between us and it with our user's consent: data
// of what was offered to it, or word of what it sends and we accepted. A session need not count such requests.
func (e *Engine) Granted(peer identity.DeviceID, r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/x/")
	if !ok {
		return false
	}
	x, _, _ := strings.Cut(rest, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.byX[peerX{peer, x, Send}]; t != nil && !t.rec.State.Ended() {
		return true
	}
	t := e.byX[peerX{peer, x, Receive}]
	return t != nil && t.rec.State != Waiting && !t.rec.State.Ended()
}

func (e *Engine) beginServing(key peerX) (*transfer, <-chan struct{}, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.byX[key]
	if t != nil && t.rec.State == Failed && t.rec.Code == Code(ErrCancelled) {
		return nil, nil, ErrCancelled // it may ask before it is told
	}
	if t == nil || t.rec.State.final() || t.rec.Cleanup || t.rec.Source == "" {
		return nil, nil, ErrNotFound
	}
	switch {
	case t.rec.PausedHere:
		return nil, nil, ErrPaused
	case t.serving >= maxServing:
		return nil, nil, ErrBusy
	}
	late := !t.stopped.IsZero() && time.Since(t.stopped) < e.late
	if late && t.rec.State != Queued {
		// Made before the receiver stopped; had it gone on, it would say so. When that word is lost, it is asked for again.
		return nil, nil, ErrBusy
	}
	t.serving++
	t.lastSeen = time.Now()
	t.rec.PausedThere = false
	if t.rec.State != Running && !late {
		e.set(t, Running, nil)
	}
	return t, t.stop, nil
}

func (e *Engine) endServing(t *transfer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t.serving--
	now := time.Now()
	t.lastSeen = now
	if t.serving > 0 {
		return
	}
	e.idleAfter(t, now)
}

// idleAfter looks at t again some time after it was last seen; with mu held. The timer outlives nothing: it only looks, and finds an
// engine that stopped as it left it.
func (e *Engine) idleAfter(t *transfer, seen time.Time) {
	time.AfterFunc(e.senderIdle, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if t.serving > 0 || !t.lastSeen.Equal(seen) {
			return
		}
		t.src = nil // the store has it
		if t.rec.State == Running {
			e.set(t, Queued, ErrPeerGone)
		}
	})
}

// loadSource returns the source of t, after a restart from the store.
func (e *Engine) loadSource(t *transfer) (*source, error) {
	e.mu.Lock()
	src, key := t.src, t.rec.Source
	e.mu.Unlock()
	if src != nil {
		return src, nil
	}
	src, err := e.db.source(key)
	if err != nil {
		return nil, fmt.Errorf("%w: source of %s: %w", ErrInternal, t.rec.ID, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.src == nil {
		t.src = src
	}
	return t.src, nil
}

// write sends p as fast as the rates allow.
func (q *request) write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece := q.gate.piece(len(p) - n)
		if !q.gate.pass(q.stop, piece) {
			return n, ErrCancelled
		}
		var m int
		m, err = q.writePiece(p[n : n+piece])
		n += m
	}
	return n, err
}

// writePiece sends p with a deadline, so that a receiver that pauses for ever does not hold us; one that keeps to a low rate may.
func (q *request) writePiece(p []byte) (int, error) {
	select {
	case <-q.stop:
		return 0, ErrCancelled
	default:
	}
	_ = q.rc.SetWriteDeadline(time.Now().Add(serveStall * time.Duration(1+len(p)/maxPiece)))
	select {
	case <-q.stop: // the deadline just set may have replaced the one that stops us
		return 0, ErrCancelled
	default:
	}
	q.sent = true
	return q.w.Write(p)
}

// Write makes the request the destination of a buffered writer.
func (q *request) Write(p []byte) (int, error) { return q.write(p) }

func (e *Engine) serveManifest(q *request) error {
	from, err := strconv.ParseInt(q.r.FormValue("from"), 10, 64)
	if err != nil || from < 0 || from >= q.src.Size {
		return fmt.Errorf("%w: manifest page", ErrProtocol)
	}
	page := q.src.blob[from:min(q.src.Size, from+manifestPage)]
	q.w.Header().Set("Content-Type", "application/octet-stream")
	q.w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	for len(page) > 0 {
		n, err := q.write(page[:min(len(page), groupBuffer)])
		if err != nil {
			return err
		}
		page = page[n:]
	}
	return nil
}

// serveFile answers a range of a file: each group followed by its leaf.
func (e *Engine) serveFile(q *request) error {
	entry, err := q.entry()
	if err != nil {
		return err
	}
	from, to, err := parseRange(q.r.Header.Get("Range"), &entry)
	if err != nil {
		return err
	}
	return q.file(&entry, from, to, q.given(&entry), func(int) {})
}

// given returns what is remembered of a file, nil when nothing is.
func (q *request) given(entry *Entry) *given {
	if q.files != nil && entry.Size > batchFile {
		return q.files.of(entry)
	}
	return q.leaves
}

// file answers the groups [from, to) of a file of the source; left is called when one is on its way.
func (q *request) file(entry *Entry, from, to int, g *given, left func(int)) error {
	files := q.src.newReader()
	defer files.close()
	f, err := files.open(entry)
	if err != nil {
		return err
	}
	defer f.Close()
	known := g.known()
	if g == nil {
		known = q.e.hashed.of(f)
		if to-from == 1 {
			known.doubt(from) // it may be asked for once more because it was found wrong
		}
	}
	return q.groups(entry, from, to, func(i int, buf []byte) (content.Leaf, error) { return readGroup(files, f, entry, i, buf, known) },
		func(i int) {
			left(i)
			if _, n := content.GroupBounds(entry.Size, i); q.t != nil && q.files == nil {
				q.e.progressed(q.t, n, n)
			} else if q.t != nil {
				q.e.progressed(q.t, 0, n) // the receiver says what it has
			}
		})
}

// groups answers the groups [from, to) of a file as read gives them, each followed by its leaf; left is called when one is on its way.
func (q *request) groups(entry *Entry, from, to int, read func(i int, buf []byte) (content.Leaf, error), left func(int)) error {
	start, _ := content.GroupBounds(entry.Size, from)
	end, n := content.GroupBounds(entry.Size, to-1)
	end += n
	h := q.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(end-start+int64(to-from)*content.HashSize, 10))
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, entry.Size))
	buf := buffers.get(int(content.GroupSize(entry.Size)) + content.HashSize)
	defer buffers.put(buf)
	for g := from; g < to; g++ {
		_, n := content.GroupBounds(entry.Size, g)
		leaf, err := read(g, buf[:n])
		if err != nil {
			return err
		}
		copy(buf[n:], leaf[:])
		if !q.sent {
			q.sent = true
			q.w.WriteHeader(http.StatusPartialContent)
		}
		if _, err := q.write(buf[:int(n)+content.HashSize]); err != nil {
			return err
		}
		left(g)
	}
	return nil
}

// serveTree answers the leaves of some groups of a file, hashed from the disk.
func (e *Engine) serveTree(q *request) error {
	entry, err := q.entry()
	if err != nil {
		return err
	}
	from, err1 := strconv.Atoi(q.r.FormValue("from"))
	to, err2 := strconv.Atoi(q.r.FormValue("to"))
	if err1 != nil || err2 != nil || entry.Dir || from < 0 || to <= from || to > content.Groups(entry.Size) || to-from > maxLeaves {
		return fmt.Errorf("%w: leaves", ErrProtocol)
	}
	files := q.src.newReader()
	defer files.close()
	f, err := files.open(&entry)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := buffers.get(int(content.GroupSize(entry.Size)))
	defer buffers.put(buf)
	q.w.Header().Set("Content-Type", "application/octet-stream")
	known := q.given(&entry).known()
	for g := from; g < to; g++ {
		leaf, ok := known.leaf(g)
		if !ok {
			if leaf, err = readGroup(files, f, &entry, g, buf, known); err != nil {
				return err
			}
		}
		if _, err := q.write(leaf[:]); err != nil {
			return err
		}
		_ = q.rc.Flush() // a slow disk must not look like a dead peer
	}
	return nil
}

// entry returns the entry that the request's path names.
func (q *request) entry() (Entry, error) {
	text := q.r.PathValue("entry")
	if q.leaves != nil {
		text = "0"
	}
	i, err := strconv.Atoi(text)
	if err == nil {
		if entry, ok := q.src.from(i).next(); ok {
			return entry, nil
		}
	}
	return Entry{}, fmt.Errorf("%w: entry", ErrProtocol)
}

// readGroup reads group g into buf and returns its leaf, which is made only when it is not known.
func readGroup(files *reader, f *os.File, entry *Entry, g int, buf []byte, known *leaves) (content.Leaf, error) {
	off, n := content.GroupBounds(entry.Size, g)
	if _, err := f.ReadAt(buf[:n], off); err != nil {
		if errors.Is(err, io.EOF) {
			return content.Leaf{}, ErrChanged
		}
		return content.Leaf{}, unreadable(entry.Path, err)
	}
	if err := files.unchanged(int(f.Fd()), entry); err != nil {
		return content.Leaf{}, err
	}
	leaf, ok := known.leaf(g)
	if !ok {
		leaf = content.LeafOf(buf[:n], entry.Size, g)
		known.setLeaf(g, leaf)
	}
	return leaf, nil
}

// parseRange reads "bytes=a-b" as groups [from, to) of the file.
func parseRange(header string, e *Entry) (from, to int, err error) {
	bad := fmt.Errorf("%w: range", ErrProtocol)
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, ok2 := strings.Cut(spec, "-")
	a, err1 := strconv.ParseInt(first, 10, 64)
	b, err2 := strconv.ParseInt(last, 10, 64)
	group := content.GroupSize(e.Size)
	if !ok || !ok2 || err1 != nil || err2 != nil || e.Dir || a < 0 || b < a || b >= e.Size || a%group != 0 {
		return 0, 0, bad
	}
	if (b+1)%group != 0 && b+1 != e.Size || b-a+1 > max(maxRange, group) {
		return 0, 0, bad
	}
	return int(a / group), int(b/group) + 1, nil
}
