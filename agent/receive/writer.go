package receive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nigh/agent/sandbox"
)

// A Writer writes below a [Folder]. It keeps the directory it last wrote in open, so files should come directory by directory. It
// is for one goroutine; any number of writers may write in one folder. Paths are relative to the folder, their first component a
// part's name; each is checked by [CheckPath]. Errors wrap those of the system (fs.ErrExist, unix.ENOSPC) or [ErrNotOurs].
type Writer struct {
	folder *Folder
	open   []openDir // the components of the current directory
	dir    string    // it, with a slash at the end; "" when there is none
}

type openDir struct {
	name string
	fd   int
}

// NewWriter returns a writer; close it.
func (f *Folder) NewWriter() *Writer { return &Writer{folder: f} }

// Close closes the directories that the writer holds open.
func (w *Writer) Close() { w.cut(0) }

func (w *Writer) cut(n int) {
	for _, d := range w.open[n:] {
		_ = unix.Close(d.fd)
	}
	if n < len(w.open) {
		w.dir = ""
	}
	w.open = w.open[:n]
}

// at returns the open directory of p and its last component.
func (w *Writer) at(p string) (dirfd int, base string, err error) {
	if n := len(w.dir); n > 0 && strings.HasPrefix(p, w.dir) && len(p) <= MaxPath && CheckName(p[n:]) == nil {
		return w.open[len(w.open)-1].fd, p[n:], nil
	}
	if err := CheckPath(p); err != nil {
		return 0, "", err
	}
	w.dir = "" // until all of it is open
	dir, base := path.Split(p)
	depth := 0
	dirfd = w.folder.fd()
	for name := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if name == "" {
			break
		}
		if depth < len(w.open) && w.open[depth].name != name {
			w.cut(depth)
		}
		if depth == len(w.open) {
			fd := -1
			err := retry(func() (err error) {
				fd, err = sandbox.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
				return err
			})
			if err != nil {
				return 0, "", pathError("open", dir, notOurs(err))
			}
			w.open = append(w.open, openDir{strings.Clone(name), fd})
		}
		dirfd = w.open[depth].fd
		depth++
	}
	w.cut(depth)
	w.dir = strings.Clone(dir)
	return dirfd, base, nil
}

// Mkdir makes a directory with mode 0755 less the umask.
func (w *Writer) Mkdir(p string) error {
	dirfd, base, err := w.at(p)
	if err != nil {
		return err
	}
	return pathError("mkdir", p, retry(func() error { return sandbox.Mkdirat(dirfd, base, 0o755) }))
}

// Create makes a file that must not exist, with mode 0644 or, for executables, 0755, less the umask, and takes blocks for size bytes.
// On an error nothing stays. The caller closes the file.
func (w *Writer) Create(p string, size int64, executable bool) (*os.File, error) {
	dirfd, base, err := w.at(p)
	if err != nil {
		return nil, err
	}
	fd, err := create(dirfd, base, executable)
	if err != nil {
		return nil, pathError("create", p, err)
	}
	file := os.NewFile(uintptr(fd), base)
	if err := w.folder.allocate(file, size); err != nil {
		_ = file.Close()
		_ = sandbox.Unlinkat(dirfd, base, 0)
		return nil, err
	}
	return file, nil
}

// Open opens a file that [Writer.Create] made before, to go on with it. It returns [ErrNotOurs] when something else lies there: a link,
// a directory, a FIFO, a file with a second name.
func (w *Writer) Open(p string) (*os.File, error) {
	dirfd, base, err := w.at(p)
	if err != nil {
		return nil, err
	}
	fd := -1
	err = retry(func() (err error) {
		fd, err = sandbox.Openat(dirfd, base, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, pathError("open", p, notOurs(err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		_ = unix.Close(fd)
		return nil, pathError("open", p, ErrNotOurs)
	}
	return os.NewFile(uintptr(fd), base), nil
}

// WriteFile makes a whole small file: create, write, set the time of change. With again set, a file that an interrupted run of the
// same transfer left is replaced. On an error nothing stays.
func (w *Writer) WriteFile(p string, content []byte, executable bool, mtime time.Time, again bool) error {
	dirfd, base, err := w.at(p)
	if err != nil {
		return err
	}
	fd, err := create(dirfd, base, executable)
	if again && errors.Is(err, fs.ErrExist) {
		if err = sandbox.Unlinkat(dirfd, base, 0); err == nil {
			fd, err = create(dirfd, base, executable)
		}
	}
	if err != nil {
		return pathError("create", p, err)
	}
	for len(content) > 0 && err == nil {
		var n int
		err = retry(func() (err error) {
			n, err = unix.Write(fd, content)
			return err
		})
		content = content[max(n, 0):]
	}
	if err == nil {
		setTimeOf(fd, mtime)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		_ = sandbox.Unlinkat(dirfd, base, 0)
	}
	return pathError("write", p, err)
}

// Size returns the size of a regular file, or -1 when there is none.
func (w *Writer) Size(p string) int64 {
	dirfd, base, err := w.at(p)
	if err != nil {
		return -1
	}
	var st unix.Stat_t
	if unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1
	}
	return st.Size
}

// ReadFile reads a file that [Writer.WriteFile] made before into buf and returns its length. It returns [ErrNotOurs] like Open.
func (w *Writer) ReadFile(p string, buf []byte) (int, error) {
	f, err := w.Open(p)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := io.ReadFull(f, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// Sync writes one file to the disk.
func (w *Writer) Sync(p string) error {
	f, err := w.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// SetTime sets the time of change of a file or directory; what cannot be set is left, for a time is never worth a file.
func (w *Writer) SetTime(p string, mtime time.Time) {
	if dirfd, base, err := w.at(p); err == nil {
		setTime(dirfd, base, mtime)
	}
}

// Remove removes a single file or link. One that is not there is no error.
func (w *Writer) Remove(p string) error {
	dirfd, base, err := w.at(p)
	if err != nil {
		return err
	}
	err = retry(func() error { return sandbox.Unlinkat(dirfd, base, 0) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return pathError("remove", p, err)
}

func create(dirfd int, base string, executable bool) (fd int, err error) {
	mode := uint32(0o644)
	if executable {
		mode = 0o755
	}
	err = retry(func() (err error) {
		fd, err = sandbox.Openat(dirfd, base, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW, mode)
		return err
	})
	return fd, err
}

// The times that ext4, xfs and tmpfs all hold; others are not set.
var firstTime, lastTime = time.Unix(0, 0), time.Unix(1<<33, 0)

func setTime(dirfd int, base string, mtime time.Time) {
	if times, ok := timesOf(mtime); ok {
		_ = unix.UtimesNanoAt(dirfd, base, times[:], unix.AT_SYMLINK_NOFOLLOW)
	}
}

// setTimeOf is setTime for an open file, which need not be looked up again: futimens(3).
func setTimeOf(fd int, mtime time.Time) {
	if times, ok := timesOf(mtime); ok {
		_, _, _ = unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	}
}

func timesOf(mtime time.Time) (times [2]unix.Timespec, ok bool) {
	if mtime.Before(firstTime) || mtime.After(lastTime) {
		return times, false
	}
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime.UnixNano())}, true
}

// notOurs names what O_NOFOLLOW and O_DIRECTORY refuse.
func notOurs(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR) {
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	return err
}

func pathError(op, p string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("receive: %w", &fs.PathError{Op: op, Path: p, Err: err})
}
