package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/sandbox"
)

// A reader reads the files of a source for one request. It keeps the directory of the last file open, for they come directory by
// directory. No component below the place of a top-level name is followed when it is a link: what was a directory when it was offered must
// still be one.
type reader struct {
	src  *source
	base string // the place that dirs[0] is open at
	dirs []sourceDir
	dir  string     // the path in the manifest of the last of dirs, with a slash at the end; "" when it is not known
	next []Entry    // what will be asked for, as far as it is known, in order
	held []heldFile // files of the last directory that were opened with an earlier one
}

// A heldFile is open already, or cannot be opened.
type heldFile struct {
	index int // of its entry
	sandbox.Opened
}

type sourceDir struct {
	name string
	fd   int
}

func (src *source) newReader() *reader { return &reader{src: src} }

func (r *reader) close() { r.cut(0) }

func (r *reader) cut(n int) {
	if n < len(r.dirs) {
		r.release()
	}
	r.dir = ""
	for _, d := range r.dirs[n:] {
		_ = unix.Close(d.fd)
	}
	r.dirs = r.dirs[:n]
}

// open opens the file of an entry and checks that it is what was offered. It returns [ErrChanged] or [ErrUnreadable].
func (r *reader) open(e *Entry) (*os.File, error) {
	fd, err := r.openFD(e)
	if err != nil {
		return nil, err
	}
	if err := r.unchanged(fd, e); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), e.Path), nil
}

// openFD opens the file of an entry; what it is, is still to be checked.
func (r *reader) openFD(e *Entry) (int, error) {
	if name := strings.TrimPrefix(e.Path, r.dir); r.dir != "" && len(name) < len(e.Path) && !strings.Contains(name, "/") {
		fd, err := r.openIn(r.dirs[len(r.dirs)-1].fd, name, e)
		if err != nil {
			return -1, gone(e.Path, err)
		}
		return fd, nil
	}
	r.dir = "" // until all of it is open
	top, rest, _ := strings.Cut(e.Path, "/")
	at, ok := r.src.places[top]
	if !ok {
		return -1, fmt.Errorf("%w: no place for %q", ErrInternal, top)
	}
	if len(r.dirs) == 0 || r.base != at.Dir {
		r.cut(0)
		// O_PATH: what lies beside it is none of ours.
		fd, err := openat(unix.AT_FDCWD, at.Dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return -1, gone(at.Dir, err)
		}
		r.base, r.dirs = at.Dir, append(r.dirs, sourceDir{fd: fd})
	}
	dir, name := path.Split(path.Join(at.Name, rest))
	depth := 1
	for dir != "" {
		var component string
		component, dir, _ = strings.Cut(dir, "/")
		if depth < len(r.dirs) && r.dirs[depth].name != component {
			r.cut(depth)
		}
		if depth == len(r.dirs) {
			fd, err := openat(r.dirs[depth-1].fd, component, unix.O_DIRECTORY|unix.O_NOFOLLOW)
			if err != nil {
				return -1, gone(e.Path, err)
			}
			r.dirs = append(r.dirs, sourceDir{component, fd})
		}
		depth++
	}
	r.cut(depth)
	if rest != "" {
		r.dir = e.Path[:len(e.Path)-len(name)]
	}
	fd, err := r.openIn(r.dirs[depth-1].fd, name, e)
	if err != nil {
		return -1, gone(e.Path, err)
	}
	return fd, nil
}

// expect says what will be asked for, in order.
func (r *reader) expect(entries []Entry) { r.next = entries }

// openIn opens the file of an entry in its directory, and those that come after it there when that costs little.
func (r *reader) openIn(dirfd int, name string, e *Entry) (int, error) {
	for len(r.next) > 0 && r.next[0].Index <= e.Index {
		r.next = r.next[1:]
	}
	for len(r.held) > 0 {
		h := r.held[0]
		r.held = r.held[1:]
		if h.index == e.Index {
			return h.FD, h.Err
		}
		closeOpened(h.Opened) // it was not asked for after all
	}
	ahead := r.next[:min(aheadFiles-1, len(r.next))]
	more := func() (names []string) {
		dir := path.Dir(e.Path)
		for i := range ahead {
			if dir == "." || path.Dir(ahead[i].Path) != dir { // top-level names may lie in different places
				break
			}
			names = append(names, path.Base(ahead[i].Path))
		}
		return names
	}
	// O_NONBLOCK: a FIFO put in the file's place must not hold us.
	opened := sandbox.OpenAll(dirfd, name, more, unix.O_RDONLY|unix.O_NONBLOCK)
	for i, o := range opened[1:] {
		r.held = append(r.held, heldFile{ahead[i].Index, o})
	}
	return opened[0].FD, opened[0].Err
}

// closeOpened closes what was opened too early.
func closeOpened(all ...sandbox.Opened) {
	for _, o := range all {
		if o.Err == nil {
			_ = unix.Close(o.FD)
		}
	}
}

// release closes what was held.
func (r *reader) release() {
	for i := range r.held {
		closeOpened(r.held[i].Opened)
	}
	r.held = nil
}

func openat(dirfd int, name string, flags int) (int, error) {
	return sandbox.Openat(dirfd, name, unix.O_RDONLY|flags, 0)
}

// gone turns an error of opening into [ErrChanged] when something else, or nothing, is in the place of what was offered.
func gone(p string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return unreadable(p, err)
}

// unchanged compares a file with its entry. The change time tells of every write, rename over it, or set time.
func (r *reader) unchanged(fd int, e *Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return unreadable(e.Path, err)
	}
	sec, nsec := st.Mtim.Unix()
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != e.Size || !time.Unix(sec, nsec).Equal(e.Mtime) ||
		st.Ctim.Nano() != r.src.stamps[e.Index] {
		return ErrChanged
	}
	return nil
}

// readWhole reads the whole file of an entry into p, which has room for it. One look afterwards tells whether it is, and was while it was
// read, what was offered: whatever else lies there gives up to that many bytes, at once, and they go nowhere.
func (r *reader) readWhole(e *Entry, p []byte) error {
	fd, err := r.openFD(e)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // read only: nothing can be lost
	for p = p[:e.Size]; len(p) > 0; {
		n, err := unix.Read(fd, p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			if changed := r.unchanged(fd, e); changed != nil {
				return changed
			}
			return unreadable(e.Path, err)
		case n == 0:
			return ErrChanged
		default:
			p = p[n:]
		}
	}
	return r.unchanged(fd, e)
}
