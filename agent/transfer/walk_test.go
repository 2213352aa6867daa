package transfer

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"nigh/agent/sandbox"
)

// TestDirectoryHolds has directories be opened with an earlier one, as the broker does it: each is given out for its own name, and those
// that nobody asks for are closed.
func TestDirectoryHolds(t *testing.T) {
	parent := t.TempDir()
	dir, err := os.Open(parent)
	if err != nil {
		t.Fatal(err)
	}
	d := &directory{File: dir, names: []string{"a", "b", "c", "d", "e"}}
	fds := map[string]int{}
	for _, name := range d.names {
		if err := os.Mkdir(parent+"/"+name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "c", "d"} {
		if fds[name], err = unix.Open(parent+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}
	d.held, d.until = []sandbox.Opened{{FD: fds["a"]}, {FD: -1, Err: unix.ENOTDIR}, {FD: fds["c"]}, {FD: fds["d"]}}, 4
	isOpen := func(fd int) bool {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return err == nil
	}
	if fd, err := d.open(2); err != nil || fd != fds["c"] {
		t.Errorf("the third name is %d, %v, not %d", fd, err, fds["c"])
	}
	if isOpen(fds["a"]) || !isOpen(fds["c"]) || !isOpen(fds["d"]) {
		t.Error("what was passed over is open, or what was not is closed")
	}
	fd, err := d.open(4)
	if err != nil || isOpen(fds["d"]) && fd != fds["d"] {
		t.Errorf("the last name is %d, %v, and the one before it is left open", fd, err)
	}
	var want, got unix.Stat_t
	if err := errors.Join(unix.Stat(parent+"/e", &want), unix.Fstat(fd, &got)); err != nil || want.Ino != got.Ino {
		t.Errorf("another directory was opened: %v", err)
	}
	if err := errors.Join(unix.Close(fd), unix.Close(fds["c"]), os.Remove(parent+"/e")); err != nil {
		t.Fatal(err)
	}
	if _, err := (&directory{File: dir, names: []string{"e"}}).open(0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is gone: %v", err)
	}
	d.until = 1
	if fd, err := d.open(3); err != nil { // nothing is held, and that long ago
		t.Error(err)
	} else if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	d.close()
}
