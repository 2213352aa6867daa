package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// outboxFull returns [ErrOutbox] when so many more transfers, with a manifest of size bytes between them, would be too much to wait
// for their devices; with mu held.
func (e *Engine) outboxFull(more int, size int64) error {
	count := more
	sources := map[string]bool{}
	for _, t := range e.all {
		if t.rec.Direction != Send || t.rec.State.Ended() {
			continue
		}
		if count++; !sources[t.rec.Source] {
			sources[t.rec.Source] = true
			size += t.rec.Offer.Size
		}
	}
	if count > maxSending || size > maxOutbox {
		return fmt.Errorf("%w: %d transfers, lists of %d bytes", ErrOutbox, count, size)
	}
	return nil
}

// renew looks, before t is offered, whether its paths are what they were when it was put in the outbox. When not, it is what is there now
// that will be sent: under another name between the two, for the device may have had the offer and its answer was lost. Paths that are
// gone are left out and counted, and [ErrVanished] says that all are.
func (e *Engine) renew(ctx context.Context, t *transfer) error {
	e.mu.Lock()
	asked := t.rec.Origin != "" || !t.lastSeen.IsZero() // what a device asked for, or asks for now, stays as it is
	late := time.Since(t.walked) > renewAfter
	e.mu.Unlock()
	if asked || !late {
		return nil
	}
	old, err := e.loadSource(t)
	if err != nil {
		return err
	}
	var paths, gone []string
	for _, at := range old.places {
		path := filepath.Join(at.Dir, at.Name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, at.Name)
			continue
		}
		paths = append(paths, path) // an error comes again from walk
	}
	if len(paths) == 0 {
		return ErrVanished
	}
	slices.Sort(paths)
	src, err := walk(ctx, paths)
	if err != nil {
		return err
	}
	e.mu.Lock()
	t.walked = time.Now()
	e.mu.Unlock()
	slices.Sort(gone)
	for _, name := range gone {
		src.skipped.note(&src.skipped.Unreadable, name)
	}
	if src.Root == old.Root && slices.Equal(src.stamps, old.stamps) {
		return nil
	}
	key := newHex(8)
	if err := e.db.saveSource(key, src); err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	e.mu.Lock()
	if t.rec.State.Ended() || !t.lastSeen.IsZero() {
		e.mu.Unlock()
		return e.db.dropSource(key)
	}
	unused := e.leaveSource(t)
	delete(e.byX, t.rec.key())
	t.rec.Offer.X = newHex(16)
	e.byX[t.rec.key()] = t
	t.rec.Source, t.src = key, src
	t.rec.Offer.Summary, t.rec.Offer.Skipped = src.Summary, src.skipped
	e.changedLocked(t)
	e.mu.Unlock()
	e.log.Info("Source changed while its device was away, sent as it is now", "transfer", t.rec.ID, "files", src.Files, "bytes", src.Bytes,
		"gone", len(gone))
	if err := e.save(t); err != nil {
		return err
	}
	return e.db.dropSource(unused)
}
