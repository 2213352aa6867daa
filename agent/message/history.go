package message

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"nigh/agent/identity"
)

// Unread says what the person has not seen.
type Unread struct {
	Read  uint64 // every message up to this number was read
	Count int    // messages received after it
}

// A Query says which messages are wanted. The zero value is the newest ones.
type Query struct {
	// Since wants those with a higher number, Before those with a lower one; 0 is no bound.
	Since, Before uint64
	// Oldest takes the oldest of those that fit, so that a reader can go on where it was. Otherwise the newest are taken.
	Oldest bool
	// Limit is the most that are wanted; 0 is 50, and never more than 500 come, nor more than 1 MiB of text.
	Limit int
	// Search wants those whose text has these words or parts of words, whatever their case. "" wants all.
	Search string
	// From wants those that this device sent here. The zero ID wants all.
	From identity.DeviceID
	// Waiting wants those that wait for somebody.
	Waiting bool
}

// List returns the messages that q wants in the order of their numbers, and whether there are more. It reads the disk and ends
// early with the error of ctx.
func (e *Engine) List(ctx context.Context, q Query) (list []Message, more bool, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	var wanted []uint64
	e.mu.Lock()
	for _, en := range e.entries {
		if en.seq > q.Since && (q.Before == 0 || en.seq < q.Before) &&
			(q.From.IsZero() || en.direction == Receive && en.peer == q.From) && (!q.Waiting || en.waiting() > 0) {
			wanted = append(wanted, en.seq)
		}
	}
	e.mu.Unlock()
	if !q.Oldest {
		slices.Reverse(wanted)
	}
	search := strings.ToLower(q.Search)
	size := 0
	for _, seq := range wanted {
		if err := ctx.Err(); err != nil {
			return nil, false, fmt.Errorf("message: %w", err)
		}
		m, err := e.message(seq)
		if err != nil || search != "" && !strings.Contains(strings.ToLower(m.Text), search) {
			continue // dropped meanwhile, or not what is looked for
		}
		if len(list) == limit || len(list) > 0 && size+len(m.Text) > maxPageBytes {
			more = true
			break
		}
		list = append(list, m)
		size += len(m.Text)
	}
	if !q.Oldest {
		slices.Reverse(list)
	}
	return list, more, nil
}

// Message returns the message of this ID, or an error that wraps [ErrNotFound].
func (e *Engine) Message(id string) (Message, error) {
	e.mu.Lock()
	en := e.byID[id]
	e.mu.Unlock()
	if en == nil {
		return Message{}, ErrNotFound
	}
	return e.message(en.seq)
}

// IDs returns the IDs that begin with prefix, oldest message first.
func (e *Engine) IDs(prefix string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for _, en := range e.entries {
		if strings.HasPrefix(en.id, prefix) {
			ids = append(ids, en.id)
		}
	}
	return ids
}

// Unread says what the person has not seen.
func (e *Engine) Unread() Unread {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Unread{Read: e.read, Count: e.unread}
}

// MarkRead notes that the person has seen every message up to the number seq, and returns what is left. A number that is lower
// than before, or of a message that is still to come, changes nothing that was not read.
func (e *Engine) MarkRead(seq uint64) (Unread, error) {
	e.writing.Lock()
	defer e.writing.Unlock()
	e.mu.Lock()
	seq = min(seq, e.last)
	now := Unread{Read: e.read, Count: e.unread}
	e.mu.Unlock()
	if seq <= now.Read {
		return now, nil
	}
	if err := e.db.setMark(markRead, seq); err != nil {
		return now, fmt.Errorf("message: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.read, e.unread = seq, 0
	for _, en := range slices.Backward(e.entries) {
		if en.seq <= seq {
			break
		}
		if en.direction == Receive {
			e.unread++
		}
	}
	e.marked = true
	signal(e.news)
	return Unread{Read: e.read, Count: e.unread}, nil
}

// room returns what has to be dropped for r to be kept within the bounds, oldest first; with mu held. What waits for somebody, or
// has marks that are not on the disk, is never dropped: the outbox has bounds of its own.
func (e *Engine) room(r *record) (drop []*entry) {
	peer, count, bytes := r.Peer, maxShare, maxShareBytes
	if r.Direction == Send {
		count, bytes = maxShareOwn, maxShareOwnBytes
	}
	share := tally{1, r.cost()}
	all := share
	for _, en := range e.entries {
		all.add(en)
		if en.direction == r.Direction && en.peer == peer {
			share.add(en)
		}
	}
	for _, en := range e.entries {
		ours := en.direction == r.Direction && en.peer == peer
		over := all.over(maxHistory, maxHistoryBytes)
		if !over && !share.over(count, bytes) {
			break
		}
		if en.to == nil && (over || ours) {
			drop = append(drop, en)
			all.sub(en)
			if ours {
				share.sub(en)
			}
		}
	}
	return drop
}

// A tally counts messages and the room they take.
type tally struct{ count, bytes int }

func (t *tally) add(en *entry)              { t.count, t.bytes = t.count+1, t.bytes+en.cost }
func (t *tally) sub(en *entry)              { t.count, t.bytes = t.count-1, t.bytes-en.cost }
func (t *tally) over(count, bytes int) bool { return t.count > count || t.bytes > bytes }

// added brings the tables up to date with a message that is on the disk and what made room for it; with mu held.
func (e *Engine) added(r record, drop []*entry) {
	for _, en := range drop {
		if en.direction == Receive && en.seq > e.read {
			e.unread--
		}
		delete(e.byID, en.id)
		e.gone = append(e.gone, en.id)
	}
	if len(drop) > 0 {
		e.entries = slices.DeleteFunc(e.entries, func(en *entry) bool { return slices.Contains(drop, en) })
	}
	e.last = r.Seq
	e.changedLocked(e.insert(r))
}

// numbers returns the numbers of entries.
func numbers(entries []*entry) []uint64 {
	seqs := make([]uint64, 0, len(entries))
	for _, en := range entries {
		seqs = append(seqs, en.seq)
	}
	return seqs
}
