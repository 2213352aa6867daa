// Package private keeps the agent's own files to their owner. It looks at the
// modes and owners of the state folder and of the files in it, repairs what is
// ours to repair and refuses the rest; and of files that others write for the
// agent, such as the administrator's policy, it reads those that only they can
// write. It decides nothing about contents.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrUnsafe is returned for a folder or file that somebody else owns, or that is
// not of the kind it has to be (a symbolic link or a device where a file belongs).
var ErrUnsafe = errors.New("not safe to use")

// Dir makes sure that path is a folder of ours with mode 0700. A missing folder
// is made (with its parents); a folder of ours with a wider mode is narrowed.
// A folder owned by another user is refused with [ErrUnsafe].
func Dir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	d, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: not a folder: %w", path, ErrUnsafe)
	}
	if err := owned(path, info); err != nil {
		return err
	}
	if info.Mode().Perm() == 0o700 {
		return nil
	}
	return d.Chmod(0o700)
}

// File makes sure that the open file f is a regular file of ours which only we
// can read or write. It reports whether the mode was wider and had to be
// narrowed; the caller decides whether that is worth telling. A file of another
// user, or one that is not a regular file, is refused with [ErrUnsafe].
func File(f *os.File) (repaired bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: not a regular file: %w", f.Name(), ErrUnsafe)
	}
	if err := owned(f.Name(), info); err != nil {
		return false, err
	}
	if info.Mode().Perm()&0o177 == 0 {
		return false, nil
	}
	return true, f.Chmod(0o600)
}

// SyncDir makes the names in the folder path durable, so that a file that was
// created or renamed there is still there after a power cut.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func owned(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: owned by user %d, not by user %d who runs nigh: %w",
			path, st.Uid, os.Geteuid(), ErrUnsafe)
	}
	return nil
}
