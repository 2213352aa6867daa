package transfer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
	"nigh/agent/store"
)

// A record is what the store keeps of a transfer.
type record struct {
	ID          string            `json:"id"`
	Direction   Direction         `json:"direction"`
	Peer        identity.DeviceID `json:"peer"`
	Offer       Offer             `json:"offer"`
	State       State             `json:"state"`
	Code        string            `json:"code,omitempty"`
	Error       string            `json:"error,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Path        string            `json:"path,omitempty"`
	Sent        int64             `json:"sent,omitempty"`
	Done        int64             `json:"done,omitempty"`
	Hash        content.Hash      `json:"hash,omitzero"`
	Failures    []Failure         `json:"failures,omitempty"`
	FilesFailed int               `json:"files_failed,omitempty"`
	PausedHere  bool              `json:"paused_here,omitempty"`
	PausedThere bool              `json:"paused_there,omitempty"`
	Notice      *stateMessage     `json:"notice,omitempty"` // what the peer has not been told yet
	Cleanup     bool              `json:"cleanup,omitempty"`
	Started     time.Time         `json:"started"`
	Ended       time.Time         `json:"ended,omitzero"`

	// Receiving.
	Into       string        `json:"into,omitempty"`
	Fetched    bool          `json:"fetched,omitempty"`    // the manifest is in the store
	Stranger   bool          `json:"stranger,omitempty"`   // the peer was not trusted when it offered
	Asked      bool          `json:"asked,omitempty"`      // it is what this device asked for
	Counted    bool          `json:"counted,omitempty"`    // Config.Received was told
	Committing bool          `json:"committing,omitempty"` // a top-level name without a part has its final name already
	Hashed     bool          `json:"hashed,omitempty"`     // the manifest has the hash of a file: other devices may have it
	Holders    []HolderShare `json:"holders,omitempty"`
	// Want is the content that was asked for, of a transfer of one file; zero when any is right.
	Want content.Hash `json:"want,omitzero"`
	// Placed are the top-level names that got their final names while others had no room; one whose part is there has not yet.
	Placed bitmap `json:"placed,omitempty"`

	// Sending.
	Source  string `json:"source,omitempty"` // key of the source in the store; several transfers may share it
	Offered bool   `json:"offered,omitempty"`
	Origin  string `json:"origin,omitempty"` // see SendRequest
}

// Buckets of the store and their keys.
const (
	bucketTransfers = "transfers" // ID -> record
	bucketManifests = "manifests" // ID or source key, "/", page -> bytes of the manifest
	bucketSources   = "sources"   // source key -> sourceRecord; source key, "/", page -> stamps
	bucketProgress  = "progress"  // ID -> progress
	bucketLeaves    = "leaves"    // ID, "/", entry, page -> leaves
)

// valueSize is how much of a long text one value of the store holds.
const valueSize = 256 << 10

// A journal is the store as this package uses it.
type journal struct{ s *store.Store }

// storeError is the error of a transfer that the store could not take.
func storeError(err error) error {
	if receive.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return fmt.Errorf("%w: %w", ErrInternal, err)
}

func (j journal) save(r *record) error { return j.s.Bucket(bucketTransfers).Put([]byte(r.ID), r) }

// records calls fn for every record; one that cannot be read comes with an error and costs the others nothing.
func (j journal) records(fn func(record, error)) error {
	return j.s.Bucket(bucketTransfers).ForEach(func(key, raw []byte) error {
		var r record
		err := json.Unmarshal(raw, &r)
		if err == nil && r.ID != string(key) {
			err = fmt.Errorf("transfer: record of %q under %q", r.ID, key)
		}
		fn(r, err)
		return nil
	})
}

// forget removes a transfer with all that belongs to it; source is removed too when it is not "".
func (j journal) forget(id, source string) error {
	return errors.Join(j.drop(id), j.dropSource(source), j.s.Bucket(bucketTransfers).Delete([]byte(id)))
}

// drop removes what only an unfinished transfer needs.
func (j journal) drop(id string) error {
	return errors.Join(j.s.Bucket(bucketProgress).Delete([]byte(id)), j.deletePrefix(bucketLeaves, id+"/"),
		j.deletePrefix(bucketManifests, id+"/"))
}

func (j journal) dropSource(key string) error {
	if key == "" {
		return nil
	}
	return errors.Join(j.deletePrefix(bucketManifests, key+"/"), j.deletePrefix(bucketSources, key))
}

func (j journal) deletePrefix(bucket, prefix string) error {
	var keys [][]byte
	err := j.s.Bucket(bucket).ForEachPrefix([]byte(prefix), func(key, _ []byte) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return j.s.Update(func(tx *store.Tx) error {
		for _, key := range keys {
			if err := tx.Bucket(bucket).Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

func pageKey(prefix string, page int) []byte {
	return binary.BigEndian.AppendUint32([]byte(prefix+"/"), uint32(page))
}

// putPages stores p in values of a bounded size.
func putPages(tx *store.Tx, bucket, prefix string, p []byte) error {
	for page := 0; len(p) > 0; page++ {
		n := min(len(p), valueSize)
		if err := tx.Bucket(bucket).Put(pageKey(prefix, page), p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (j journal) pages(bucket, prefix string) ([]byte, error) {
	var all []byte
	err := j.s.Bucket(bucket).ForEachPrefix([]byte(prefix+"/"), func(key, raw []byte) error {
		var p []byte
		if err := json.Unmarshal(raw, &p); err != nil {
			return err
		}
		all = append(all, p...)
		return nil
	})
	return all, err
}

func (j journal) saveManifest(id string, m *manifest) error {
	return j.s.Update(func(tx *store.Tx) error { return putPages(tx, bucketManifests, id, m.blob) })
}

// manifest reads a stored manifest; it is checked again, as everything from a disk.
func (j journal) manifest(id string, root content.Hash) (*manifest, error) {
	blob, err := j.pages(bucketManifests, id)
	if err != nil {
		return nil, err
	}
	m, err := parse(blob)
	if err != nil {
		return nil, err
	}
	if m.Root != root {
		return nil, fmt.Errorf("transfer: stored manifest of %s is damaged", id)
	}
	return m, nil
}

// A sourceRecord is what the store keeps of a source beside its manifest and its stamps.
type sourceRecord struct {
	Root    content.Hash     `json:"root"`
	Places  map[string]place `json:"places"`
	Skipped Skipped          `json:"skipped,omitzero"`
}

func (j journal) saveSource(key string, src *source) error {
	if len(src.blob) > 4*valueSize {
		runtime.GC() // what listing them left must not lie beside the copies that the store makes
	}
	stamps := make([]byte, 0, 8*len(src.stamps))
	for _, s := range src.stamps {
		stamps = binary.BigEndian.AppendUint64(stamps, uint64(s))
	}
	return j.s.Update(func(tx *store.Tx) error {
		r := sourceRecord{Root: src.Root, Places: src.places, Skipped: src.skipped}
		if err := tx.Bucket(bucketSources).Put([]byte(key), r); err != nil {
			return err
		}
		if err := putPages(tx, bucketSources, key, stamps); err != nil {
			return err
		}
		return putPages(tx, bucketManifests, key, src.blob)
	})
}

func (j journal) source(key string) (*source, error) {
	var r sourceRecord
	if err := j.s.Bucket(bucketSources).Get([]byte(key), &r); err != nil {
		return nil, err
	}
	m, err := j.manifest(key, r.Root)
	if err != nil {
		return nil, err
	}
	stamps, err := j.pages(bucketSources, key)
	if err != nil {
		return nil, err
	}
	src := &source{manifest: m, skipped: r.Skipped, places: r.Places}
	for ; len(stamps) >= 8; stamps = stamps[8:] {
		src.stamps = append(src.stamps, int64(binary.BigEndian.Uint64(stamps)))
	}
	if len(src.stamps) != m.entries() {
		return nil, fmt.Errorf("transfer: stored source %s is damaged", key)
	}
	return src, nil
}

// A progress is the journal of a transfer being received. Bits of entries mean: whole, verified and written under the part's name (or
// failed for good). Written ones count while the machine runs, synced ones also after it stopped hard. Groups of large files are
// believed only after they were hashed again.
type progress struct {
	Boot    string         `json:"boot"`
	Written bitmap         `json:"written"`
	Synced  bitmap         `json:"synced"`
	Groups  map[int]bitmap `json:"groups,omitempty"` // by entry: groups of a file that is not whole

	// With the bits, so that a failed file is never taken for a whole one.
	Failed      bitmap    `json:"failed,omitempty"`
	Failures    []Failure `json:"failures,omitempty"`
	FilesFailed int       `json:"files_failed,omitempty"`
	Sent        int64     `json:"sent"`
}

func (j journal) saveProgress(id string, p *progress, leaves []leafValue) error {
	return j.s.Update(func(tx *store.Tx) error {
		for _, l := range leaves {
			if err := tx.Bucket(bucketLeaves).Put(leafKey(id, l.entry, l.page), l.bytes); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketProgress).Put([]byte(id), p)
	})
}

// progress returns the journal of a transfer, an empty one when there is none.
func (j journal) progress(id string) (*progress, error) {
	p := &progress{}
	if err := j.s.Bucket(bucketProgress).Get([]byte(id), p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if p.Boot != bootID() {
		p.Written = p.Synced
	}
	return p, nil
}

// A leafValue is one page of leaves of a large file.
type leafValue struct {
	entry, page int
	bytes       []byte
}

func leafKey(id string, entry, page int) []byte {
	return binary.BigEndian.AppendUint32(pageKey(id, entry), uint32(page))
}

// leaves reads what is stored of a file's leaves into all.
func (j journal) leaves(id string, entry int, all []content.Leaf) error {
	prefix := pageKey(id, entry)
	return j.s.Bucket(bucketLeaves).ForEachPrefix(prefix, func(key, raw []byte) error {
		var p []byte
		if err := json.Unmarshal(raw, &p); err != nil || len(key) != len(prefix)+4 {
			return errors.Join(err, errors.New("transfer: stored leaves are damaged"))
		}
		for i := int(binary.BigEndian.Uint32(key[len(prefix):])) * leafPage; len(p) >= content.HashSize && i < len(all); i++ {
			copy(all[i][:], p)
			p = p[content.HashSize:]
		}
		return nil
	})
}

// bootID changes when the machine starts: what was written without a sync is then not believed.
var bootID = sync.OnceValue(func() string {
	p, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return newHex(8) // never equal to a stored one
	}
	return strings.TrimSpace(string(p))
})

// A bitmap is a set of small numbers; its text form in the store is that of []byte.
type bitmap []byte

func newBitmap(n int) bitmap { return make(bitmap, (n+7)/8) }

func (b bitmap) has(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
func (b bitmap) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bitmap) clear(i int)    { b[i/8] &^= 1 << (i % 8) }

// sized returns a copy with room for n bits; a stored map of another size is damaged and counts as empty.
func (b bitmap) sized(n int) bitmap {
	c := newBitmap(n)
	if len(b) == len(c) {
		copy(c, b)
	}
	return c
}
