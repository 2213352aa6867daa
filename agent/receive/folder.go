package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nigh/agent/sandbox"
)

// Errors of places.
var (
	ErrExists  = errors.New("a file of this name is already there")
	ErrNoSpace = errors.New("not enough free space")
	ErrNotOurs = errors.New("not a file that nigh made") // a link or something else lies where a part was
)

// A Policy says what happens when a name is taken.
type Policy int

// The policies.
const (
	Rename Policy = iota // take the next free "name (1).ext"
	Skip                 // leave out what has the taken name
	Refuse               // fail
)

// maxNumber bounds the search for a free name.
const maxNumber = 10_000

// A Folder is a directory that receives. It is safe for concurrent use; the caller closes it.
type Folder struct {
	path  string
	root  *os.Root // nil when the sandbox's broker opens the folder
	dir   *os.File
	tmpfs bool
	keep  int64 // bytes that stay free; 0 for the usual reserve
}

// OpenFolder opens the directory at path, which the user chose, and makes it and its parents when missing. Links in that path are
// followed; below it none is.
func OpenFolder(path string) (*Folder, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("receive: folder %s: not an absolute path", path)
	}
	if err := sandbox.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("receive: folder: %w", err)
	}
	f := &Folder{path: path}
	var err error
	if f.root, err = os.OpenRoot(path); err == nil {
		f.dir, err = f.root.Open(".")
	} else if errors.Is(err, fs.ErrPermission) {
		f.dir, err = openGranted(path)
	}
	if err != nil {
		if f.root != nil {
			_ = f.root.Close()
		}
		return nil, fmt.Errorf("receive: folder: %w", err)
	}
	if st, err := f.statfs(); err == nil {
		f.tmpfs = st.Type == unix.TMPFS_MAGIC
	}
	return f, nil
}

// openGranted opens a folder outside of those that the sandbox leaves open.
func openGranted(path string) (*os.File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	fd, err := sandbox.Openat(unix.AT_FDCWD, real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Path returns the path given to [OpenFolder].
func (f *Folder) Path() string { return f.path }

// Close closes the folder; writers of it must be closed before.
func (f *Folder) Close() error {
	err := f.dir.Close()
	if f.root != nil {
		err = errors.Join(err, f.root.Close())
	}
	return err
}

func (f *Folder) fd() int { return int(f.dir.Fd()) }

// Exists reports whether something, be it a dangling link, has this name in the folder.
func (f *Folder) Exists(name string) bool {
	var st unix.Stat_t
	return CheckName(name) == nil && unix.Fstatat(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// FoldsNames reports whether the folder's file system takes names that differ only in case for one (vfat, exfat, some ext4).
func (f *Folder) FoldsNames() bool {
	const probe = "case-probe.nigh-part"
	fd, err := create(f.fd(), probe, false)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	defer func() { _ = f.Remove(probe) }() // at worst an empty part stays
	return f.Exists("CASE-PROBE.nigh-part")
}

// Commit gives the finished part its final name and returns it. Nothing is ever replaced: a taken name follows the policy, and
// with Skip and Refuse the error wraps [ErrExists] and the part stays. The part must have been synced; Commit then syncs the folder.
func (f *Folder) Commit(part, name string, dir bool, policy Policy) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	for n := range maxNumber {
		final := Numbered(name, dir, n)
		err := renameNoReplace(f.fd(), part, final, dir)
		if err == nil {
			return final, ignoreUnsupported(f.dir.Sync())
		}
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return "", fmt.Errorf("receive: rename to %q: %w", final, err)
		}
		if policy != Rename {
			break
		}
	}
	return "", fmt.Errorf("receive: %q: %w", name, ErrExists)
}

// renameNoReplace renames within one directory and returns fs.ErrExist when the new name is taken, on file systems without
// RENAME_NOREPLACE (vfat, NFS, FUSE) too.
func renameNoReplace(dirfd int, from, to string, dir bool) error {
	err := sandbox.Renameat2(dirfd, from, dirfd, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return renamePlain(dirfd, from, to, dir)
}

func renamePlain(dirfd int, from, to string, dir bool) error {
	if dir {
		// Only an empty directory is replaced by rename, and this one is made here.
		if err := sandbox.Mkdirat(dirfd, to, 0o755); err != nil {
			return err
		}
		return sandbox.Renameat2(dirfd, from, dirfd, to, 0)
	}
	err := sandbox.Linkat(dirfd, from, dirfd, to)
	if err == nil {
		return sandbox.Unlinkat(dirfd, from, 0)
	}
	if errors.Is(err, unix.EEXIST) {
		return err
	}
	// No hard links either (vfat): an empty file of our own reserves the name, and rename replaces only that.
	fd, err := sandbox.Openat(dirfd, to, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_ = unix.Close(fd)
	return sandbox.Renameat2(dirfd, from, dirfd, to, 0)
}

// Remove removes a part and all below it; links are removed, not followed. A part that is not there is no error. It removes
// nothing but parts: any other name is an [ErrNotOurs].
func (f *Folder) Remove(part string) error {
	if filepath.Ext(part) != partSuffix || CheckName(part) != nil {
		return fmt.Errorf("receive: remove %q: %w", part, ErrNotOurs)
	}
	if f.root == nil {
		return sandbox.RemoveAll(f.fd(), part)
	}
	return f.root.RemoveAll(part)
}

// Sync writes everything of the folder's file system to the disk (syncfs): one call for any number of small files.
func (f *Folder) Sync() error { return unix.Syncfs(f.fd()) }

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // some FUSE and network file systems cannot sync a directory
	}
	return err
}
