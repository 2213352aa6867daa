package share

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"nigh/agent/clean"
	"nigh/agent/receive"
	"nigh/agent/sandbox"
)

// checkShareName returns [ErrName] unless a share may have the name.
func checkShareName(name string) error {
	if err := receive.CheckName(name); err != nil {
		return fmt.Errorf("%w: %s", ErrName, clean.Text(name))
	}
	if utf8.RuneCountInString(name) > MaxName || clean.Text(name) != name || strings.TrimSpace(name) != name || name[0] == '.' {
		return fmt.Errorf("%w: %s", ErrName, clean.Name(name, MaxName))
	}
	return nil
}

// checkFolder returns the real path of a folder that may be shared, and its inode, or [ErrFolder] with the reason.
func (s *Shares) checkFolder(path string) (string, uint64, error) {
	bad := func(why string) (string, uint64, error) { return "", 0, fmt.Errorf("%w: %s", ErrFolder, why) }
	if !filepath.IsAbs(path) {
		return bad("the path must be absolute")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return bad(system(err))
	}
	if real == "/" {
		return bad("the whole machine; share a folder of it")
	}
	state, err := filepath.EvalSymlinks(s.cfg.State)
	if err != nil {
		state = s.cfg.State
	}
	switch {
	case within(real, state):
		return bad("it is nigh's own state, with the device key")
	case within(state, real):
		return bad("nigh's own state with the device key lies in it; share a folder beside it")
	}
	dir, err := openDir(unix.AT_FDCWD, real)
	if err != nil {
		return bad(system(err))
	}
	defer dir.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return bad(system(err))
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return bad("what is there are no files but the kernel's own data")
	}
	ino, err := inode(dir)
	if err != nil {
		return bad(system(err))
	}
	return real, ino, nil
}

// remote reports whether a file system changes without inotify being told.
func remote(dir *os.File) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &fs) != nil {
		return false
	}
	switch uint32(fs.Type) { // 32 bits on any machine, signed on some
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC:
		return true
	}
	return false
}

// within reports whether path is dir or lies in it; both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func base(path string) string { return filepath.Base(path) }

// system returns the system's word for err.
func system(err error) string {
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return e.Error()
	}
	return err.Error()
}

// openDir opens the directory name in the one open at dirfd; a link is not followed.
func openDir(dirfd int, name string) (*os.File, error) {
	fd, err := openat(dirfd, name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openat(dirfd int, name string, flags int) (int, error) {
	// O_NONBLOCK: a FIFO must not hold us.
	return sandbox.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
}

// openBelow opens the directory at rel below root, component by component, following no link. "" is root itself.
func openBelow(root *os.File, rel string) (*os.File, error) {
	dir, err := openDir(int(root.Fd()), ".")
	if err != nil || rel == "" {
		return dir, err
	}
	for name := range strings.SplitSeq(rel, "/") {
		next, err := openDir(int(dir.Fd()), name)
		_ = dir.Close() // only read
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

func inode(dir *os.File) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(dir.Fd()), &st)
	return st.Ino, err
}

// errMissing means that the folder of a share is not there.
var errMissing = errors.New("share: not there")

// openRoot opens the folder of a share. When another one is in its place, changed is its inode, or errMissing when it is empty: so looks a
// place where nothing is mounted.
func (r *record) openRoot() (root *os.File, changed uint64, err error) {
	root, err = openDir(unix.AT_FDCWD, r.Folder)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s", errMissing, system(err))
	}
	ino, err := inode(root)
	if err == nil && ino != r.Ino {
		changed = ino
		if names, _ := root.Readdirnames(1); len(names) == 0 {
			err = fmt.Errorf("%w: the folder is empty and not the one that was shared; is a disk not mounted?", errMissing)
		}
	}
	if err != nil {
		_ = root.Close()
		return nil, 0, err
	}
	return root, changed, nil
}

// splitPath returns the directory and the name of a path below a share; "." is the share itself.
func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// join puts a name below a directory.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
