package receive

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// maxReserve is left free on the disk, or a twentieth of it where that is less.
	maxReserve = 1 << 30
	// minPrealloc is the size from which a file's blocks are taken before its first byte.
	minPrealloc = 1 << 20
)

// Reserve returns how much of a disk of that size is left free: a twentieth, at most 1 GiB.
func Reserve(total int64) int64 { return min(maxReserve, total/20) }

func (f *Folder) statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(f.fd(), &st) })
	return st, err
}

// Free returns the bytes that this user may still write and the size of the file system.
func (f *Folder) Free() (free, total int64, err error) {
	st, err := f.statfs()
	if err != nil {
		return 0, 0, fmt.Errorf("receive: free space of %s: %w", f.path, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// CheckSpace returns an error wrapping [ErrNoSpace] unless need bytes fit and the reserve stays free.
func (f *Folder) CheckSpace(need int64) error {
	free, total, err := f.Free()
	if err != nil {
		return err
	}
	if total == 0 {
		return nil // a file system that does not say
	}
	if reserve := Reserve(total); need > free-reserve {
		return fmt.Errorf("receive: %w: %d bytes needed, %d free in %s", ErrNoSpace, need, max(0, free-reserve), f.path)
	}
	return nil
}

// allocate takes the blocks for a file of size bytes. On a full disk ext4 keeps what it got, so the file is emptied again.
func (f *Folder) allocate(file *os.File, size int64) error {
	// tmpfs would write zeros for as long as the transfer itself takes.
	if size < minPrealloc || f.tmpfs {
		return nil
	}
	err := retry(func() error { return unix.Fallocate(int(file.Fd()), 0, 0, size) })
	switch {
	case err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
		return nil
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EDQUOT):
		_ = file.Truncate(0)
		return fmt.Errorf("receive: %d bytes: %w: %w", size, ErrNoSpace, err)
	}
	return fmt.Errorf("receive: allocate: %w", err)
}

// IsFull reports whether a write failed because the disk or the quota is full.
func IsFull(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// retry repeats a system call that a signal interrupted; FUSE and NFS do that.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
