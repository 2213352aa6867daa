package transfer

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
)

// hashed remembers the leaves of files that were sent, so that what is sent again, to whomever, is not hashed again: a quarter of the
// sender's work.
type hashed struct {
	mu     sync.Mutex
	files  []*hashedFile // the one begun first first
	groups int           // of all files
}

type hashedFile struct {
	fileState
	leaves leaves
}

// A fileState is a file as it was at a time.
type fileState struct {
	device, inode uint64
	size          int64
	mtime, ctime  int64 // nanoseconds
}

// of returns what is known of an open file, nil when it is too large to be remembered.
func (h *hashed) of(f *os.File) *leaves {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return nil
	}
	groups := content.Groups(st.Size)
	if groups > maxHashed {
		return nil
	}
	state := fileState{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, file := range h.files {
		if file.fileState == state {
			return &file.leaves
		}
	}
	for h.groups+groups > maxHashed || len(h.files) >= maxHashedFiles {
		h.groups -= len(h.files[0].leaves.all)
		h.files = h.files[1:]
	}
	file := &hashedFile{fileState: state}
	file.leaves.sized(groups)
	h.files = append(h.files, file)
	h.groups += groups
	return &file.leaves
}

// leaves are those of one file, as far as they are known; nil knows none.
type leaves struct {
	mu    sync.Mutex
	all   []content.Leaf
	known bitmap
}

// sized makes room for n leaves and knows none.
func (l *leaves) sized(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all, l.known = make([]content.Leaf, n), newBitmap(n)
}

func (l *leaves) leaf(i int) (content.Leaf, bool) {
	if l == nil {
		return content.Leaf{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[i], l.known.has(i)
}

// doubt has a leaf made anew.
func (l *leaves) doubt(i int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.clear(i)
}

// setLeaf remembers a leaf that was made. When another one was known, the file was written without a new time, as it can be through a
// mapping: nothing that was known of it counts.
func (l *leaves) setLeaf(i int, leaf content.Leaf) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[i] != leaf && l.all[i] != (content.Leaf{}) {
		clear(l.known)
	}
	l.all[i] = leaf
	l.known.set(i)
}
