package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// brokerName is what the broker is called in a list of processes; who is called so is one.
const brokerName = "nigh-broker"

// brokerFD is its connection with the agent.
const brokerFD = 3

// Broker is the whole of the process that [Start] starts: it returns false at once in any other one, else true when the agent
// has ended.
func Broker() bool {
	if len(os.Args) != 1 || os.Args[0] != brokerName {
		return false
	}
	// A stop that is meant for both is the agent's to hear: it may need files until its end.
	// (Not ignored, which the programs that are run would inherit.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	unix.CloseOnExec(brokerFD)
	b := newBroker()
	b.serve(brokerFD)
	b.stop()
	return true
}

// A broker is what the process of that name holds.
type broker struct {
	mu     sync.Mutex
	grants map[string]bool // path -> also to write; guarded by mu

	programs [][]string // that may be run; guarded by mu, and the same for good once sealed
	environ  []string   // of them; likewise
	sealed   bool       // guarded by mu
	life     context.Context
	end      context.CancelFunc
	running  sync.WaitGroup // programs; added to with mu while life has not ended
}

func newBroker() *broker {
	b := &broker{grants: map[string]bool{}}
	b.life, b.end = context.WithCancel(context.Background())
	return b
}

// stop kills the programs that run, and waits for it. No more are run.
func (b *broker) stop() {
	b.mu.Lock()
	b.end()
	b.mu.Unlock()
	b.running.Wait()
}

// serve answers one connection until its other end closes.
func (b *broker) serve(fd int) {
	// Go's runtime waits for what comes next: for each thread that waits in the kernel itself it would look a thousand times a
	// second, for ten milliseconds, whether it still does.
	_ = unix.SetNonblock(fd, true)
	conn := os.NewFile(uintptr(fd), brokerName)
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, maxRequest)
	for {
		var n int
		var dirs []int
		waited := raw.Read(func(fd uintptr) bool {
			n, dirs, err = receive(int(fd), buf)
			return err != unix.EAGAIN
		})
		err = errors.Join(waited, err)
		var r request
		if err == nil {
			r, err = parse(buf[:n])
		}
		if err != nil {
			closeAll(dirs)
			return
		}
		if r.verb == verbLane && len(dirs) == 1 {
			go b.serve(dirs[0]) // ends when the agent does
			continue
		}
		r.dirs = dirs
		var answer []byte
		var opened []int
		switch r.verb {
		case verbOpenAll:
			answer, opened = b.openAll(&r)
		case verbRun:
			answer = b.run(&r)
		default:
			one, err := b.do(&r)
			answer = appendErrno(nil, err)
			if one >= 0 {
				opened = []int{one}
			}
		}
		closeAll(dirs)
		waited = raw.Write(func(fd uintptr) bool {
			err = send(int(fd), answer, opened...)
			return err != unix.EAGAIN
		})
		closeAll(opened)
		if errors.Join(waited, err) != nil {
			return
		}
	}
}

func appendErrno(p []byte, err error) []byte {
	var errno unix.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return binary.BigEndian.AppendUint32(p, uint32(errno))
}

// openAll opens several files of one directory to read. Where the directory is, is asked once: that costs more than to open a file.
func (b *broker) openAll(r *request) (answer []byte, opened []int) {
	dir, err := "", error(unix.EACCES)
	if len(r.dirs) == 1 && !writes(r.flags) {
		dir, err = placeOf(r.dirs[0])
	}
	whole := err == nil && b.granted(dir, false)
	for name, rest, more := "", r.a, true; more && len(answer) < 4*maxOpen; {
		name, rest, more = strings.Cut(rest, "\x00")
		fd, err := -1, err
		if err == nil && (!single(name) || !whole && !b.granted(filepath.Join(dir, name), false)) {
			err = unix.EACCES
		}
		if err == nil {
			fd, err = openIn(r.dirs[0], name, r.flags, 0)
		}
		if answer = appendErrno(answer, err); err == nil {
			opened = append(opened, fd)
		}
	}
	return answer, opened
}

// writes reports whether a file opened with flags could be changed by it.
func writes(flags uint32) bool {
	return flags&(unix.O_ACCMODE|unix.O_CREAT|unix.O_TRUNC) != unix.O_RDONLY
}

func openIn(dirfd int, name string, flags, mode uint32) (int, error) {
	return unix.Openat(dirfd, name, int(flags)|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode&0o777)
}

// do does what is asked, and returns what was opened or -1.
func (b *broker) do(r *request) (int, error) {
	switch r.verb {
	case verbProgram:
		return -1, b.program(r)
	case verbSeal:
		b.seal()
		return -1, nil
	case verbGrant:
		return -1, b.grant(r.a, r.flags != 0)
	case verbMkdirAll:
		if path := filepath.Clean(r.a); !filepath.IsAbs(path) || !b.granted(path, true) {
			return -1, unix.EACCES
		}
		if err := os.MkdirAll(r.a, os.FileMode(r.mode&0o777)); err != nil {
			return -1, err
		}
		return -1, b.grant(r.a, true) // now that it is known what links in the path lead to
	case verbOpen:
		if err := b.check(r, 1, writes(r.flags)); err != nil {
			return -1, err
		}
		return openIn(r.dirs[0], r.a, r.flags, r.mode)
	}
	want := 1
	if r.verb == verbRename || r.verb == verbLink {
		want = 2
	}
	if err := b.check(r, want, true); err != nil {
		return -1, err
	}
	switch r.verb {
	case verbMkdir:
		return -1, unix.Mkdirat(r.dirs[0], r.a, r.mode&0o777)
	case verbUnlink:
		return -1, unix.Unlinkat(r.dirs[0], r.a, int(r.flags))
	case verbRename:
		return -1, unix.Renameat2(r.dirs[0], r.a, r.dirs[1], r.b, uint(r.flags))
	case verbLink:
		return -1, unix.Linkat(r.dirs[0], r.a, r.dirs[1], r.b, 0)
	case verbRemoveAll:
		root, err := os.OpenRoot(procPath(r.dirs[0]))
		if err != nil {
			return -1, err
		}
		defer func() { _ = root.Close() }()
		return -1, root.RemoveAll(r.a)
	}
	return -1, unix.ENOSYS
}

// check returns EACCES unless every name of the request is in a directory that was granted, and one name.
func (b *broker) check(r *request, want int, write bool) error {
	if len(r.dirs) != want {
		return unix.EBADF
	}
	for i, name := range []string{r.a, r.b}[:want] {
		if !single(name) && (name != "." || r.verb != verbOpen) {
			return unix.EACCES
		}
		dir, err := placeOf(r.dirs[i])
		if err != nil || !b.granted(filepath.Join(dir, name), write) {
			return unix.EACCES
		}
	}
	return nil
}

// single reports whether name can be one of something in a directory.
func single(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.Contains(name, "/")
}

// placeOf returns what the kernel calls a directory now: that is without links, whatever way it was reached.
func placeOf(fd int) (string, error) {
	dir, err := os.Readlink(procPath(fd))
	if err != nil || !filepath.IsAbs(dir) {
		return "", unix.EACCES
	}
	return dir, nil
}

func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// grant remembers a path of the person's, with what links in it lead to.
func (b *broker) grant(path string, write bool) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
		return unix.EACCES
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	paths := []string{filepath.Clean(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		paths = append(paths, real)
	}
	for _, p := range paths {
		b.grants[p] = b.grants[p] || write
	}
	return nil
}

// granted reports whether path, which is clean, is or lies in what was granted.
func (b *broker) granted(path string, write bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := path; ; p = filepath.Dir(p) {
		if w, ok := b.grants[p]; ok && (w || !write) {
			return true
		}
		if p == "/" {
			return false
		}
	}
}
