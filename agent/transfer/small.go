package transfer

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// fetchBatch asks for many small files at once, verifies and writes each. A wrong file is asked for once more by itself.
func (p *pull) fetchBatch(ctx context.Context, w *receive.Writer, batch []smallFile) error {
	var wrong []smallFile
	var err error
	for tries := 0; ; tries++ {
		var bad []smallFile
		var done int
		bad, done, err = p.readBatch(ctx, w, batch)
		wrong = append(wrong, bad...)
		batch = batch[done:]
		if !p.elsewhere(ctx, err, tries) {
			break
		}
	}
	for i := range wrong {
		if err != nil {
			break
		}
		p.e.log.Warn("Wrong file asked for again", "transfer", p.t.rec.ID, "peer", p.t.rec.Peer.Short(), "entry", wrong[i].Index)
		var again []smallFile
		if again, _, err = p.readBatch(ctx, w, wrong[i:i+1]); err == nil && len(again) > 0 {
			err = p.wrong(ctx, func() { p.fail(&again[0].Entry, ErrVerify, 0) })
		}
	}
	return err
}

// wrong settles a file that the transfer's own peer sent wrong twice: it fails alone. The error that it returns says that the peer does so
// often, or that others have the file.
func (p *pull) wrong(ctx context.Context, fail func()) error {
	p.firstAsked(ctx)
	if p.board.others(p.origin) {
		return ErrVerify
	}
	p.mu.Lock()
	p.wrongs++
	many := p.wrongs > maxWrong
	p.mu.Unlock()
	if many {
		return ErrVerify
	}
	fail()
	return nil
}

// keepBatch settles files that an earlier run wrote after its last journal entry: those whose hash is the sender's are whole.
func (p *pull) keepBatch(ctx context.Context, w *receive.Writer, batch []smallFile) error {
	body, end, err := p.askBatch(ctx, batch, true)
	if err != nil {
		return err
	}
	buf := buffers.get(batchFile + content.HashSize)
	defer buffers.put(buf)
	var missing []smallFile
	for i := range batch {
		f := &batch[i]
		status, sum, err := readFrame(body, &f.Entry, buf)
		if err != nil {
			end(false)
			return p.frameError(ctx, err)
		}
		if status != frameHash { // the sender says why when it is asked for the file
			missing = append(missing, *f)
			continue
		}
		if n, err := w.ReadFile(f.part, buf); err != nil || int64(n) != f.Size || content.Sum(buf[:n]) != sum {
			missing = append(missing, *f)
			continue
		}
		w.SetTime(f.part, f.Mtime)
		p.finish(&f.Entry, sum)
		p.recount(f.Size)
	}
	end(true)
	for len(missing) > 0 {
		n, size := 0, int64(0)
		for n < len(missing) && (n == 0 || size+missing[n].Size <= p.portion.Load()) {
			size += missing[n].Size
			n++
		}
		if err := p.fetchBatch(ctx, w, missing[:n]); err != nil {
			return err
		}
		missing = missing[n:]
	}
	return nil
}

// askBatch makes one batch request, for the files or only for their hashes.
func (p *pull) askBatch(ctx context.Context, batch []smallFile, hashes bool) (io.Reader, func(bool), error) {
	req := batchRequest{Entries: make([]int, len(batch)), Hashes: hashes}
	for i := range batch {
		req.Entries[i] = batch[i].Index
	}
	q, err := json.Marshal(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	body, end, err := p.get(ctx, p.t.path("/batch"), "", q)
	if err != nil {
		return nil, nil, err
	}
	return bufio.NewReaderSize(body, 64<<10), end, nil
}

// readBatch makes one batch request. It returns the files whose bytes were wrong, and how many files came.
func (p *pull) readBatch(ctx context.Context, w *receive.Writer, batch []smallFile) (wrong []smallFile, done int, err error) {
	in, end, err := p.askBatch(ctx, batch, false)
	if err != nil {
		return nil, 0, err
	}
	defer func() { end(err == nil) }()
	largest := int64(0)
	for i := range batch {
		largest = max(largest, batch[i].Size)
	}
	buf := buffers.get(int(largest))
	defer buffers.put(buf)
	var unreported int64
	var full error
	defer func() { p.counted(p.origin, unreported) }()
	for i := range batch {
		f := &batch[i]
		status, sum, err := readFrame(in, &f.Entry, buf)
		if err != nil {
			return wrong, i, p.frameError(ctx, err)
		}
		switch status {
		case frameHash:
			return wrong, i, fmt.Errorf("%w: a hash instead of a file", ErrProtocol)
		case frameChanged:
			p.fail(&f.Entry, ErrChanged, 0)
			continue
		case frameUnreadable:
			p.fail(&f.Entry, ErrUnreadable, 0)
			continue
		}
		whole := buf[:f.Size]
		h := content.Sum(whole)
		if h != sum {
			wrong = append(wrong, *f)
			continue
		}
		if !f.Hash.IsZero() && h != f.Hash {
			if err := p.wrong(ctx, func() { p.fail(&f.Entry, ErrVerify, 0) }); err != nil {
				return wrong, i, err
			}
			continue
		}
		err = full
		if err == nil {
			err = w.WriteFile(f.part, whole, f.Executable, f.Mtime, p.again)
		}
		if err != nil {
			if err = p.unwritten(&f.Entry, err); err != nil {
				return wrong, i, err
			}
			continue
		}
		p.finish(&f.Entry, h)
		if unreported += f.Size; unreported >= groupBuffer {
			p.counted(p.origin, unreported)
			unreported = 0
			if err := p.folder.CheckSpace(0); receive.IsFull(err) {
				full = err // others fill the disk, too
			}
		}
	}
	return wrong, len(batch), nil
}

// fetchByRoot asks another holder than the transfer's own peer for small files by their hashes. With there, they may be on the disk.
func (p *pull) fetchByRoot(ctx context.Context, w *receive.Writer, h *holder, batch []smallFile, there bool) error {
	buf := buffers.get(batchFile + content.HashSize)
	defer buffers.put(buf)
	for i := range batch {
		f := &batch[i]
		if there {
			if n, err := w.ReadFile(f.part, buf); err == nil && int64(n) == f.Size && content.Sum(buf[:n]) == f.Hash {
				w.SetTime(f.part, f.Mtime)
				p.finish(&f.Entry, f.Hash)
				p.recount(f.Size)
				continue
			}
		}
		if err := p.readByRoot(ctx, h, f, buf); err != nil {
			return err
		}
		if content.Sum(buf[:f.Size]) != f.Hash {
			return fmt.Errorf("%w: entry %d", ErrVerify, f.Index)
		}
		if err := w.WriteFile(f.part, buf[:f.Size], f.Executable, f.Mtime, p.again); err != nil {
			if err = p.unwritten(&f.Entry, err); err != nil {
				return err
			}
			continue
		}
		p.finish(&f.Entry, f.Hash)
		p.counted(h, f.Size)
	}
	return nil
}

// readByRoot reads one small file into buf.
func (p *pull) readByRoot(ctx context.Context, h *holder, f *smallFile, buf []byte) (err error) {
	if f.Size == 0 {
		return nil
	}
	body, _, end, err := p.getFrom(ctx, h, "/v1/b/"+f.Hash.String(), fmt.Sprintf("bytes=0-%d", f.Size-1), nil)
	if err != nil {
		return err
	}
	defer func() { end(err == nil) }()
	for g := range content.Groups(f.Size) {
		off, n := content.GroupBounds(f.Size, g)
		var leaf content.Leaf // the hash of the whole says more
		if _, err = io.ReadFull(body, buf[off:off+n]); err == nil {
			_, err = io.ReadFull(body, leaf[:])
		}
		if err != nil {
			return p.lost(ctx, err)
		}
	}
	return nil
}

// readFrame reads one file of a batch into buf and returns its status and the sender's hash of it. It reads no more than the entry allows.
func readFrame(in io.Reader, e *Entry, buf []byte) (status byte, sum content.Hash, err error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, sum, err
	}
	status = head[4]
	length := int64(binary.BigEndian.Uint32(head[5:]))
	if got := binary.BigEndian.Uint32(head[:]); int64(got) != int64(e.Index) {
		return 0, sum, fmt.Errorf("%w: entry %d in a batch where %d was asked for", ErrProtocol, got, e.Index)
	}
	switch {
	case status == frameOK && length == e.Size:
	case (status == frameChanged || status == frameUnreadable) && length == 0:
		return status, sum, nil
	case status == frameHash && length == 0:
		_, err = io.ReadFull(in, sum[:])
		return status, sum, err
	default:
		return 0, sum, fmt.Errorf("%w: entry %d of %d bytes came with status %d and %d bytes", ErrProtocol, e.Index, e.Size, status, length)
	}
	if _, err := io.ReadFull(in, buf[:length]); err != nil {
		return 0, sum, err
	}
	_, err = io.ReadFull(in, sum[:])
	return status, sum, err
}

// frameError keeps what the peer did wrong apart from a connection that was lost.
func (p *pull) frameError(ctx context.Context, err error) error {
	if Code(err) == Code(ErrProtocol) {
		return err
	}
	return p.lost(ctx, err)
}
