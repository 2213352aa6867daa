package message

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"nigh/agent/identity"
	"nigh/agent/store"
)

// A record is what the store keeps of a message.
type record struct {
	Message
	Wire wireID `json:"wire"`
}

// Buckets of the store and their keys; a sequence number is 64 bits, big endian.
const (
	bucketMessages = "messages"         // sequence number -> record
	bucketSeen     = "messages_seen"    // device, sequence number -> wireID
	bucketMarks    = "messages_marks"   // "read", "last" -> sequence number
	bucketDamaged  = "messages_damaged" // "messages" or "messages_seen", "/", key in hexadecimal -> what was there
)

// The keys of bucketMarks.
const (
	markRead = "read" // every message up to this one was read
	markLast = "last" // the highest number that was given
)

// A journal is the store as this package uses it.
type journal struct{ s *store.Store }

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func seenKey(peer identity.DeviceID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(peer[:], seq)
}

// cost is the room that a record takes in the store, whatever becomes of its marks.
func (r *record) cost() int {
	text, err := json.Marshal(r.Text)
	if err != nil { // a string can always be marshalled
		panic(err)
	}
	return len(text) + 192 + 144*len(r.To)
}

// records calls fn for every record in the order of their numbers. What cannot be read is set aside.
func (j journal) records(fn func(record)) (damaged int, err error) {
	err = j.s.Bucket(bucketMessages).ForEach(func(key, raw []byte) error {
		var r record
		err := json.Unmarshal(raw, &r)
		if err == nil {
			err = r.check(key)
		}
		if err != nil {
			damaged++
			return j.setAside(bucketMessages, key, raw)
		}
		fn(r)
		return nil
	})
	return damaged, err
}

// check says what is wrong with a record that was read from the disk.
func (r *record) check(key []byte) error {
	switch {
	case string(key) != string(seqKey(r.Seq)):
		return fmt.Errorf("message: record %d under %x", r.Seq, key)
	case len(r.ID) != len(newID()) || r.ID[0] != 'm':
		return fmt.Errorf("message: record %d has no ID", r.Seq)
	case r.Direction == Receive && r.Peer.IsZero(), r.Direction == Send && len(r.To) == 0, r.Direction != Send && r.Direction != Receive:
		return fmt.Errorf("message: record %d is from and for nobody", r.Seq)
	}
	for _, to := range r.To {
		switch to.State {
		case Waiting, Delivered, Refused, Failed:
		default:
			return fmt.Errorf("message: record %d is in the state %q", r.Seq, to.State)
		}
	}
	return Check(r.Text)
}

// seen calls fn for every id that is remembered, in the order in which each device sent them.
func (j journal) seen(fn func(peer identity.DeviceID, seq uint64, wire wireID)) (damaged int, err error) {
	err = j.s.Bucket(bucketSeen).ForEach(func(key, raw []byte) error {
		var peer identity.DeviceID
		var wire wireID
		if err := json.Unmarshal(raw, &wire); err != nil || len(key) != len(peer)+8 {
			damaged++
			return j.setAside(bucketSeen, key, raw)
		}
		copy(peer[:], key)
		fn(peer, binary.BigEndian.Uint64(key[len(peer):]), wire)
		return nil
	})
	return damaged, err
}

// setAside moves a damaged value out of the way, for whoever wants to look at it. Only so many are kept.
func (j journal) setAside(bucket string, key, raw []byte) error {
	return j.s.Update(func(tx *store.Tx) error {
		n := 0
		err := tx.Bucket(bucketDamaged).ForEach(func(_, _ []byte) error { n++; return nil })
		if err != nil {
			return err
		}
		if n < maxDamaged {
			name := bucket + "/" + hex.EncodeToString(key)
			if err := tx.Bucket(bucketDamaged).Put([]byte(name), json.RawMessage(raw)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucket).Delete(key)
	})
}

// mark reads a number of bucketMarks, 0 when there is none.
func (j journal) mark(name string) uint64 {
	var v uint64
	if j.s.Bucket(bucketMarks).Get([]byte(name), &v) != nil {
		return 0 // none, or damaged: it is written anew
	}
	return v
}

func (j journal) setMark(name string, v uint64) error {
	return j.s.Bucket(bucketMarks).Put([]byte(name), v)
}

// add writes a new message in one step with what makes room for it.
func (j journal) add(r record, drop []uint64, forget []seenID) error {
	return j.s.Update(func(tx *store.Tx) error {
		messages, seen := tx.Bucket(bucketMessages), tx.Bucket(bucketSeen)
		if err := messages.Put(seqKey(r.Seq), r); err != nil {
			return err
		}
		if err := tx.Bucket(bucketMarks).Put([]byte(markLast), r.Seq); err != nil {
			return err
		}
		if r.Direction == Receive {
			if err := seen.Put(seenKey(r.Peer, r.Seq), r.Wire); err != nil {
				return err
			}
		}
		for _, seq := range drop {
			if err := messages.Delete(seqKey(seq)); err != nil {
				return err
			}
		}
		for _, s := range forget {
			if err := seen.Delete(seenKey(s.peer, s.seq)); err != nil {
				return err
			}
		}
		return nil
	})
}

// get reads one record.
func (j journal) get(seq uint64) (record, error) {
	var r record
	err := j.s.Bucket(bucketMessages).Get(seqKey(seq), &r)
	return r, err
}

// saveMarks writes who has which message, for all of them together.
func (j journal) saveMarks(marks map[uint64][]Recipient) error {
	return j.s.Update(func(tx *store.Tx) error {
		messages := tx.Bucket(bucketMessages)
		for seq, to := range marks {
			var r record
			if err := messages.Get(seqKey(seq), &r); err != nil {
				return fmt.Errorf("message %d: %w", seq, err)
			}
			r.To = to
			if err := messages.Put(seqKey(seq), r); err != nil {
				return err
			}
		}
		return nil
	})
}
