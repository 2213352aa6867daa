package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/store"
)

// MaxDocument bounds an exported book, in bytes.
const MaxDocument = 4 << 20

// documentVersion is that of the exported form.
const documentVersion = 1

// ErrDocument is returned for what is no exported book, or is damaged; its text says what.
var ErrDocument = errors.New("trust: not a list of trusted devices")

// document is the exported form of a book: JSON, with a sum over the bytes of Devices.
type document struct {
	Version int             `json:"nigh_trust"`
	Sum     string          `json:"sha256"`
	Devices json.RawMessage `json:"devices"`
	// Key is the sealed device key, when the file moves the device itself.
	Key string `json:"key,omitempty"`
}

// ErrNoKey is returned by [KeyOf] for an exported book without a device key.
var ErrNoKey = errors.New("trust: no device key in it")

// WithKey returns an exported book with a sealed device key in it, as it is; [Book.Import] passes over it. The error wraps
// [ErrDocument].
func WithKey(raw []byte, sealed string) ([]byte, error) {
	var d document
	if _, err := parseDocument(raw); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	d.Key = sealed
	raw, err := json.Marshal(d)
	return append(raw, '\n'), err
}

// KeyOf returns the sealed key of an exported book, which is checked. The error wraps [ErrDocument] or [ErrNoKey].
func KeyOf(raw []byte) (string, error) {
	var d document
	if _, err := parseDocument(raw); err != nil {
		return "", err
	}
	if err := json.Unmarshal(raw, &d); err != nil || d.Key == "" {
		return "", ErrNoKey
	}
	return d.Key, nil
}

// Imported counts what [Book.Import] did.
type Imported struct {
	Trusted int // devices that are trusted now and were not in the book
	Blocked int // devices that are blocked now and were not
	Kept    int // devices that stay as they were decided about here
	Refused int // devices that the rules do not let be trusted
}

// Export returns the whole book as the user decided it, with keys and permissions. It
// holds no secret: who reads it learns whom the user trusts.
func (b *Book) Export() ([]byte, error) {
	b.mu.RLock()
	list := make([]Record, 0, len(b.records))
	for _, r := range b.records {
		list = append(list, r)
	}
	b.mu.RUnlock()
	byID(list)
	devices, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("trust: export: %w", err)
	}
	sum := sha256.Sum256(devices)
	raw, err := json.Marshal(document{Version: documentVersion, Sum: hex.EncodeToString(sum[:]), Devices: devices})
	if err != nil {
		return nil, fmt.Errorf("trust: export: %w", err)
	}
	return append(raw, '\n'), nil
}

// parseDocument reads what Export writes.
func parseDocument(raw []byte) ([]Record, error) {
	var d document
	if len(raw) > MaxDocument {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrDocument, MaxDocument)
	}
	if err := json.Unmarshal(raw, &d); err != nil || d.Version == 0 {
		return nil, fmt.Errorf("%w: it is cut short, or something else", ErrDocument)
	}
	if d.Version != documentVersion {
		return nil, fmt.Errorf("%w: it is of a later nigh", ErrDocument)
	}
	if sum := sha256.Sum256(d.Devices); d.Sum != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%w: it was changed or damaged", ErrDocument)
	}
	var list []Record
	if err := json.Unmarshal(d.Devices, &list); err != nil {
		return nil, fmt.Errorf("%w: it is damaged", ErrDocument)
	}
	if len(list) > MaxDevices {
		return nil, fmt.Errorf("%w: it has more than %d devices", ErrDocument, MaxDevices)
	}
	for i := range list {
		r := &list[i]
		r.Name = clean.Name(r.Name, MaxName)
		if r.ID.IsZero() || r.Standing != Trusted && r.Standing != Blocked || r.Used < 0 || r.check() != nil ||
			!r.Key.IsZero() && r.Key.ID() != r.ID {
			return nil, fmt.Errorf("%w: one of its devices cannot be", ErrDocument)
		}
	}
	return list, nil
}

// Import merges an exported book into this one, all of it or nothing. What was decided
// here about a device stays, but for this: a device that is blocked there is blocked
// here too. Nothing that is blocked here becomes anything else. self, this device, is
// left out. The error wraps [ErrDocument], [ErrFull] or what the disk said.
func (b *Book) Import(raw []byte, self identity.DeviceID) (Imported, error) {
	list, err := parseDocument(raw)
	if err != nil {
		return Imported{}, err
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.RLock()
	rules, size := b.rules, len(b.records)
	var done Imported
	var changes []Change
	seen := map[identity.DeviceID]bool{self: true}
	for _, r := range list {
		old, known := b.records[r.ID]
		old.ID = r.ID
		if seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		switch {
		case r.Standing == Blocked && old.Standing != Blocked:
			done.Blocked++
			r.Permissions, r.Used = Permissions{}, 0
			if old.Name != "" {
				r.Name = old.Name
			}
		case known:
			done.Kept++
			continue
		case rules.allow(old, r) != nil:
			done.Refused++
			continue
		default:
			done.Trusted++
		}
		if !known {
			size++
		}
		changes = append(changes, Change{Old: old, New: r})
	}
	b.mu.RUnlock()
	if size > MaxDevices {
		return Imported{}, ErrFull
	}
	err = b.store.Update(func(tx *store.Tx) error {
		bucket := tx.Bucket(bucketName)
		for _, c := range changes {
			if err := bucket.Put(c.New.ID[:], c.New); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Imported{}, fmt.Errorf("trust: import: %w", err)
	}
	for _, c := range changes {
		for _, fn := range b.remember(c.New) {
			fn(Change{Old: rules.over(c.Old), New: rules.over(c.New)})
		}
	}
	b.keepCopy()
	return done, nil
}

// KeepCopy keeps the exported form of the book in the file at path, mode 0600, from now
// on: the database may be damaged. failed is told when that does not work; the book
// itself is not held up by it.
func (b *Book) KeepCopy(path string, failed func(error)) {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.copyPath, b.copyFailed = path, failed
	b.keepCopy()
}

// keepCopy writes the copy; writing is held.
func (b *Book) keepCopy() {
	if b.copyPath == "" {
		return
	}
	raw, err := b.Export()
	if err == nil {
		err = writeFile(b.copyPath, raw)
	}
	if err != nil && b.copyFailed != nil {
		b.copyFailed(fmt.Errorf("trust: copy: %w", err))
	}
}

// writeFile puts raw at path as a whole, readable by the owner only.
func writeFile(path string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// ReadCopy returns the bytes of a copy that [Book.KeepCopy] kept, for [Book.Import]; the
// error wraps fs.ErrNotExist when there is none.
func ReadCopy(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a file", ErrDocument, path)
	}
	return io.ReadAll(io.LimitReader(f, MaxDocument+1))
}

func byID(list []Record) {
	sort.Slice(list, func(i, j int) bool {
		x, y := list[i], list[j]
		return x.ID.Compare(y.ID) < 0
	})
}
