package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// ReadGuarded returns the bytes of a file, at most as many as most, that none but some users can write: they own it and the folder
// that it is in, for who may write there can put another file in its place. It is a regular file; a link is not followed, and a
// pipe not waited for. owner names the users for the error, which wraps fs.ErrNotExist for a file that is not there.
func ReadGuarded(path string, most int64, owner string, uids ...int) ([]byte, error) {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := guarded(filepath.Dir(path), dir, owner, uids); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := guarded(path, info, owner, uids); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return raw, nil
}

// guarded returns an error unless only the users can write.
func guarded(path string, info fs.FileInfo, owner string, uids []int) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !slices.Contains(uids, int(st.Uid)):
		return fmt.Errorf("%s is not owned by %s", path, owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others than %s", path, owner)
	}
	return nil
}
