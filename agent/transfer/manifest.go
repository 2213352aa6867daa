package transfer

import (
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"time"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// An Entry is one file or directory of a manifest.
type Entry struct {
	Index      int    // position in the manifest
	Path       string // relative, "/" between components; the first one is a top-level name
	Dir        bool
	Executable bool // files only: any x bit was set
	Size       int64
	Mtime      time.Time    // files and directories, whole nanoseconds
	Hash       content.Hash // zero when the sender has not hashed the file yet
}

// top reports whether the entry is a top-level name.
func (e *Entry) top() bool { return !strings.Contains(e.Path, "/") }

// Kinds and flags of an encoded entry.
const (
	kindFile   = 0x01
	kindDir    = 0x02
	flagExec   = 0x10
	flagHash   = 0x20
	seekEvery  = 256 // entries whose path is written in full, so that reading can begin there
	maxSeconds = 1 << 40
)

// A manifest is the list of what a transfer holds, encoded as doc.go says, with what the offer says about it. It is immutable.
type manifest struct {
	Summary
	blob  []byte
	marks []int // offset of every seekEvery-th entry
}

// A Summary is what an offer tells about its manifest; the receiver checks it against the manifest itself, so that what was shown
// is what is written.
type Summary struct {
	Root        content.Hash `json:"manifest_root"`
	Size        int64        `json:"manifest_bytes"`
	Files       int          `json:"files"`
	Dirs        int          `json:"dirs"`
	Bytes       int64        `json:"bytes"`
	Tops        int          `json:"tops"`  // top-level names
	Names       []string     `json:"names"` // the first of them
	Dotfiles    bool         `json:"dotfiles,omitempty"`
	Executables bool         `json:"executables,omitempty"`
}

func (s *Summary) entries() int { return s.Files + s.Dirs }

// equal compares without the order-insensitive looseness of JSON: nil and empty names are the same.
func (s *Summary) equal(o *Summary) bool {
	if len(s.Names) != len(o.Names) {
		return false
	}
	for i := range s.Names {
		if s.Names[i] != o.Names[i] {
			return false
		}
	}
	return s.Root == o.Root && s.Size == o.Size && s.Files == o.Files && s.Dirs == o.Dirs && s.Bytes == o.Bytes && s.Tops == o.Tops &&
		s.Dotfiles == o.Dotfiles && s.Executables == o.Executables
}

// less is the order of a manifest: by components, so that a directory's content follows it at once. No checked name has a byte
// below 0x20, so "/" counts as 1.
func less(a, b string) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' {
			x = 1
		}
		if y == '/' {
			y = 1
		}
		return x < y
	}
	return len(a) < len(b)
}

// A builder checks entries as they come, from the disk or from a peer, and sums them up.
type builder struct {
	m       manifest
	prev    string
	prevDir bool
}

// add checks that e may follow what was added before. It does not encode.
func (b *builder) add(e *Entry) error {
	m := &b.m
	if m.entries() >= maxEntries {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, maxEntries)
	}
	if err := receive.CheckPath(e.Path); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if m.entries() > 0 && !less(b.prev, e.Path) {
		return fmt.Errorf("%w: entry %d out of order or twice", ErrProtocol, e.Index)
	}
	// The order lets the entry before prove the parent: it is the parent, or lies in it.
	parent, name := path.Split(e.Path)
	if parent != "" {
		if (!b.prevDir || b.prev != parent[:len(parent)-1]) && !strings.HasPrefix(b.prev, parent) {
			return fmt.Errorf("%w: entry %d below a path that is not a directory", ErrProtocol, e.Index)
		}
	}
	if e.Size < 0 || e.Size > maxFileSize || m.Bytes+e.Size > maxTotal {
		return fmt.Errorf("%w: entry %d of %d bytes", ErrTooLarge, e.Index, e.Size)
	}
	if e.Dir {
		m.Dirs++
	} else {
		m.Files++
		m.Bytes += e.Size
	}
	m.Dotfiles = m.Dotfiles || name[0] == '.'
	m.Executables = m.Executables || e.Executable
	if e.top() {
		m.Tops++
		if len(m.Names) < maxTopNames {
			m.Names = append(m.Names, strings.Clone(name))
		}
	}
	b.prev, b.prevDir = e.Path, e.Dir
	return nil
}

// encode adds e and writes it.
func (b *builder) encode(e Entry) error {
	e.Index = b.m.entries()
	shared := 0
	if e.Index%seekEvery != 0 {
		for shared < len(e.Path) && shared < len(b.prev) && e.Path[shared] == b.prev[shared] {
			shared++
		}
	}
	if err := b.add(&e); err != nil {
		return err
	}
	m := &b.m
	if e.Index%seekEvery == 0 {
		m.marks = append(m.marks, len(m.blob))
	}
	kind := byte(kindFile)
	if e.Dir {
		kind = kindDir
	}
	if e.Executable {
		kind |= flagExec
	}
	if !e.Hash.IsZero() {
		kind |= flagHash
	}
	p := append(m.blob, kind)
	p = binary.AppendUvarint(p, uint64(shared))
	p = binary.AppendUvarint(p, uint64(len(e.Path)-shared))
	p = append(p, e.Path[shared:]...)
	if !e.Dir {
		p = binary.AppendUvarint(p, uint64(e.Size))
	}
	p = binary.AppendVarint(p, e.Mtime.Unix())
	p = binary.AppendUvarint(p, uint64(e.Mtime.Nanosecond()))
	if kind&flagHash != 0 {
		p = append(p, e.Hash[:]...)
	}
	m.blob = p
	if len(m.blob) > maxManifest {
		return fmt.Errorf("%w: manifest over %d bytes", ErrTooLarge, maxManifest)
	}
	return nil
}

// finish returns the manifest with its root.
func (b *builder) finish() *manifest {
	m := b.m
	m.Size = int64(len(m.blob))
	m.Root = content.Sum(m.blob)
	return &m
}

// parse checks a whole encoded manifest from a peer or from the store. Its errors wrap [ErrProtocol] or [ErrTooLarge].
func parse(blob []byte) (*manifest, error) {
	if len(blob) > maxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes", ErrTooLarge, len(blob))
	}
	var b builder
	rest, prev := blob, ""
	for len(rest) > 0 {
		i := b.m.entries()
		if i%seekEvery == 0 {
			b.m.marks = append(b.m.marks, len(blob)-len(rest))
			prev = ""
		}
		e, n, err := decodeEntry(rest, prev)
		if err != nil {
			return nil, fmt.Errorf("%w at entry %d", err, i)
		}
		e.Index = i
		if err := b.add(&e); err != nil {
			return nil, err
		}
		rest, prev = rest[n:], e.Path
	}
	b.m.blob = blob
	return b.finish(), nil
}

// decodeEntry reads one entry and returns how many bytes it took.
func decodeEntry(p []byte, prev string) (e Entry, n int, err error) {
	bad := func(what string) (Entry, int, error) {
		return Entry{}, 0, fmt.Errorf("%w: manifest: %s", ErrProtocol, what)
	}
	kind := p[0]
	n = 1
	uvarint := func() (uint64, bool) {
		v, k := binary.Uvarint(p[n:])
		if k <= 0 {
			return 0, false
		}
		n += k
		return v, true
	}
	switch kind &^ (flagExec | flagHash) {
	case kindFile:
	case kindDir:
		if kind != kindDir {
			return bad("directory with flags")
		}
		e.Dir = true
	default:
		return bad("unknown kind")
	}
	e.Executable = kind&flagExec != 0
	shared, ok1 := uvarint()
	length, ok2 := uvarint()
	if !ok1 || !ok2 || shared > uint64(len(prev)) || length > uint64(len(p)-n) || shared+length > receive.MaxPath {
		return bad("path length")
	}
	e.Path = prev[:shared] + string(p[n:n+int(length)])
	n += int(length)
	if !e.Dir {
		size, ok := uvarint()
		if !ok || size > maxFileSize {
			return bad("size")
		}
		e.Size = int64(size)
	}
	sec, k := binary.Varint(p[n:])
	if k <= 0 || sec > maxSeconds || sec < -maxSeconds {
		return bad("time")
	}
	n += k
	nsec, ok := uvarint()
	if !ok || nsec >= 1e9 {
		return bad("time")
	}
	e.Mtime = time.Unix(sec, int64(nsec))
	if kind&flagHash != 0 {
		if len(p)-n < content.HashSize {
			return bad("hash")
		}
		n += copy(e.Hash[:], p[n:])
	}
	return e, n, nil
}

// A cursor reads a checked manifest in order.
type cursor struct {
	m    *manifest
	rest []byte
	prev string
	i    int
}

// from returns a cursor whose next entry is i, or one at the end when there is no such entry.
func (m *manifest) from(i int) *cursor {
	c := &cursor{m: m, i: m.entries()}
	if i < 0 || i >= m.entries() {
		return c
	}
	c.i = i / seekEvery * seekEvery
	c.rest = m.blob[m.marks[i/seekEvery]:]
	for c.i < i {
		c.next()
	}
	return c
}

// next returns the next entry, or false after the last.
func (c *cursor) next() (Entry, bool) {
	if c.i >= c.m.entries() {
		return Entry{}, false
	}
	if c.i%seekEvery == 0 {
		c.prev = ""
	}
	e, n, err := decodeEntry(c.rest, c.prev)
	if err != nil {
		panic("transfer: manifest changed after it was checked: " + err.Error())
	}
	e.Index = c.i
	c.rest, c.prev, c.i = c.rest[n:], e.Path, c.i+1
	return e, true
}

// at returns entry i; the cursor moves forward cheaply and back or far by seeking.
func (c *cursor) at(i int) (Entry, bool) {
	if i < 0 || i >= c.m.entries() {
		return Entry{}, false
	}
	if i < c.i || i >= c.i+seekEvery {
		*c = *c.m.from(i)
	}
	for c.i < i {
		c.next()
	}
	return c.next()
}
