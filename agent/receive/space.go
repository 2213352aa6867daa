package receive

import (
	"bytes"
	"errors"
	"fmt"
	"math"
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

// KeepFree sets how many bytes stay free on the disk, beside what others take; 0 is [Reserve]. Call it before the folder is used.
func (f *Folder) KeepFree(bytes int64) { f.keep = bytes }

// Room returns how many bytes can be written so that those that stay free do; below zero when too few are free already. A file system
// that does not say how large it is has room for everything.
func (f *Folder) Room() (int64, error) {
	free, total, err := f.Free()
	switch {
	case err != nil:
		return 0, err
	case total == 0:
		return math.MaxInt64, nil
	case f.keep > 0:
		return free - f.keep, nil
	}
	return free - Reserve(total), nil
}

// Allocates reports whether the blocks of a file are taken before its first byte, as far as the file system can.
func (f *Folder) Allocates(size int64) bool {
	// tmpfs would write zeros for as long as the transfer itself takes.
	return size >= minPrealloc && !f.tmpfs
}

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
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// CheckSpace returns an error wrapping [ErrNoSpace] unless there is room for need bytes.
func (f *Folder) CheckSpace(need int64) error {
	room, err := f.Room()
	if err == nil && need > room {
		err = fmt.Errorf("receive: %w: %d bytes needed, room for %d in %s", ErrNoSpace, need, max(0, room), f.path)
	}
	return err
}

// allocate takes the blocks for a file of size bytes. On a full disk ext4 keeps what it got, so the file is emptied again.
func (f *Folder) allocate(file *os.File, size int64) error {
	if err := f.CheckSpace(size); err != nil {
		return err
	}
	if !f.Allocates(size) {
		if size >= minPrealloc { // holes need a size, which costs nothing here
			return pathError("truncate", file.Name(), file.Truncate(size))
		}
		return nil
	}
	err := retry(func() error { return unix.Fallocate(int(file.Fd()), 0, 0, size) })
	switch {
	case err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
		return nil
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		_ = file.Truncate(0)
		return fmt.Errorf("receive: %d bytes: %w: %w", size, ErrNoSpace, err)
	}
	return fmt.Errorf("receive: allocate: %w", err)
}

// WriteAt writes p at an offset of a file that [Writer.Create] or [Writer.Open] opened. Where p is nothing but zeros it leaves a hole, when
// the file system can: what a sparse file did not take on the other side it does not take here.
func WriteAt(file *os.File, p []byte, off int64) error {
	if len(p) > 0 && p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) && punch(int(file.Fd()), off, int64(len(p))) {
		return nil
	}
	_, err := file.WriteAt(p, off)
	return err
}

// punch makes a hole of n bytes in a file that is at least as long, and reports whether it could.
func punch(fd int, off, n int64) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Size >= off+n &&
		retry(func() error { return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) }) == nil
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
