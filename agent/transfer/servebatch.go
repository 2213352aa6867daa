package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"

	"nigh/agent/content"
)

// serveBatch answers many small files in one stream.
func (e *Engine) serveBatch(q *request) error {
	var req batchRequest
	if err := readJSON(q.r.Body, maxBatchBody, &req); err != nil {
		return err
	}
	if len(req.Entries) == 0 || len(req.Entries) > batchEntries {
		return fmt.Errorf("%w: batch of %d", ErrProtocol, len(req.Entries))
	}
	// All is checked before anything is sent.
	c := q.src.from(0)
	total, largest, last := int64(0), int64(0), -1
	entries := make([]Entry, len(req.Entries))
	for n, i := range req.Entries {
		entry, ok := c.at(i)
		if i <= last || !ok || entry.Dir || entry.Size > batchFile {
			return fmt.Errorf("%w: entry in a batch", ErrProtocol)
		}
		last = i
		total += entry.Size
		largest = max(largest, entry.Size)
		entries[n] = entry
	}
	if total > batchBytes && !req.Hashes {
		return fmt.Errorf("%w: batch of %d bytes", ErrTooLarge, total)
	}
	files := q.src.newReader()
	defer files.close()
	files.expect(entries)
	buf := buffers.get(frameRoom + int(largest) + content.HashSize)
	defer buffers.put(buf)
	q.w.Header().Set("Content-Type", "application/octet-stream")
	out := writers.Get().(*bufio.Writer)
	out.Reset(q)
	defer func() {
		out.Reset(nil)
		writers.Put(out)
	}()
	unreported := int64(0)
	for i := range entries {
		entry := &entries[i]
		head, data := buf[frameRoom-frameHeader:], buf[frameRoom:]
		n, status := e.readSmall(files, entry, data)
		var sum content.Hash
		if status == frameOK {
			sum = content.Sum(data[:n])
			if req.Hashes {
				n, status = 0, frameHash
			}
		}
		binary.BigEndian.PutUint32(head, uint32(entry.Index))
		head[4] = status
		binary.BigEndian.PutUint32(head[5:], uint32(n))
		frame := head[:frameHeader]
		if status == frameOK || status == frameHash {
			frame = append(head[:frameHeader+n], sum[:]...)
		}
		if _, err := out.Write(frame); err != nil {
			return err
		}
		if unreported += int64(n); unreported >= groupBuffer {
			e.progressed(q.t, unreported, unreported)
			unreported = 0
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	e.progressed(q.t, unreported, unreported)
	return nil
}

// readSmall reads a whole file into p and returns its length and status.
func (e *Engine) readSmall(files *reader, entry *Entry, p []byte) (int, byte) {
	err := files.readWhole(entry, p)
	switch {
	case err == nil:
		return int(entry.Size), frameOK
	case errors.Is(err, ErrChanged):
		return 0, frameChanged
	}
	e.log.Debug("File not readable", "entry", entry.Index, "err", err)
	return 0, frameUnreadable
}
