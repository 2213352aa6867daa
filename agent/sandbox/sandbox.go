package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxLanes bounds what the broker does at the same time: a disk that does not answer must not hold up the others.
const maxLanes = 8

// stopTime is what the broker has to end the programs that it runs, and itself, before it is killed.
const stopTime = 3 * time.Second

// ErrBroker is wrapped when the broker is gone: nothing of the person's can be opened any more.
var ErrBroker = errors.New("sandbox: the broker is gone")

// A Sandbox is the way of one process out of its rules.
type Sandbox struct {
	abi    int
	broker *exec.Cmd
	main   int           // connection for new lanes
	gone   chan struct{} // closed when the broker has ended

	programs [][]string // that it may run; set by Enter

	mu   sync.Mutex
	free *sync.Cond // of mu: a lane is idle, or may be made
	idle []int
	made int
}

// entered is the sandbox that this process is in, or nil.
var entered atomic.Pointer[Sandbox]

// Start starts the broker. Call it early: what the process opens before [Sandbox.Enter] is open to it for good, and the broker
// inherits nothing of it. An error says in one sentence why there can be no sandbox on this machine.
func Start() (*Sandbox, error) {
	abi, err := version()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the sandbox's broker does not start: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), brokerName)
	// It has next to nothing on its heap, and does little at once.
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{brokerName}, Env: []string{"GOMAXPROCS=2", "GOGC=20"}, Dir: "/", Stderr: os.Stderr,
		ExtraFiles: []*os.File{theirs}}
	started := make(chan error)
	go func() {
		// This thread is not used again: it gives up the capabilities that a program it starts would inherit.
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // before Linux 4.3 there are none
		started <- cmd.Start()
	}()
	err = <-started
	_ = theirs.Close()
	if err != nil {
		_ = unix.Close(pair[0])
		return nil, fmt.Errorf("the sandbox's broker does not start: %w", err)
	}
	s := newSandbox(pair[0])
	s.abi, s.broker, s.gone = abi, cmd, make(chan struct{})
	go func() { // ends with the broker
		_ = cmd.Wait()
		close(s.gone)
	}()
	return s, nil
}

// newSandbox speaks to the broker at the other end of main.
func newSandbox(main int) *Sandbox {
	s := &Sandbox{main: main}
	s.free = sync.NewCond(&s.mu)
	return s
}

// Enter puts the rules in force for the whole process and its children. There is no way back. After an error, one sentence,
// they are not in force. Folders to write are granted, too: one that is removed can be made again.
func (s *Sandbox) Enter(r Rules) error {
	if err := s.tell(r); err != nil {
		return err
	}
	if err := restrict(s.abi, r); err != nil {
		return err
	}
	entered.Store(s)
	for _, path := range r.Write {
		if err := Grant(path, true); err != nil {
			return err
		}
	}
	return nil
}

// tell has the broker know the programs that it may run, now and never again.
func (s *Sandbox) tell(r Rules) error {
	for _, p := range r.Programs {
		if _, err := s.ask(request{verb: verbProgram, a: strings.Join(p, "\x00"), b: strings.Join(r.Environ, "\x00")}); err != nil {
			return fmt.Errorf("sandbox: program %s: %w", p[0], err)
		}
	}
	s.programs = r.Programs
	_, err := s.ask(request{verb: verbSeal})
	return err
}

// ABI returns the version of Landlock in this kernel.
func (s *Sandbox) ABI() int { return s.abi }

// Gone is closed when the broker has ended.
func (s *Sandbox) Gone() <-chan struct{} { return s.gone }

// Close ends the broker and waits for it. A process that has entered the sandbox keeps its rules.
func (s *Sandbox) Close() {
	s.shut()
	late := time.AfterFunc(stopTime, func() {
		_ = s.broker.Process.Signal(syscall.SIGKILL) // refused from within the rules of newer kernels; the closed connection is enough
	})
	defer late.Stop()
	<-s.gone
}

// shut closes the connections that nobody uses, and so ends a broker that does nothing.
func (s *Sandbox) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeAll(append(s.idle, s.main))
	s.idle, s.main = nil, -1
	s.free.Broadcast()
}

// lane takes a connection for one request; give it back with leave.
func (s *Sandbox) lane() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) == 0 && s.made >= maxLanes && s.main >= 0 {
		s.free.Wait()
	}
	if s.main < 0 {
		return -1, ErrBroker
	}
	if n := len(s.idle); n > 0 {
		fd := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return fd, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	p, _ := (&request{verb: verbLane}).bytes() // no names: no error
	err = send(s.main, p, pair[1])
	_ = unix.Close(pair[1])
	if err != nil {
		_ = unix.Close(pair[0])
		return -1, fmt.Errorf("%w: %w", ErrBroker, err)
	}
	s.made++
	return pair[0], nil
}

func (s *Sandbox) leave(fd int, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case broken:
		_ = unix.Close(fd)
		s.made--
	case s.main < 0:
		_ = unix.Close(fd)
	default:
		s.idle = append(s.idle, fd)
	}
	s.free.Signal()
}

// ask has the broker do something and returns what it opened, or -1.
func (s *Sandbox) ask(r request) (int, error) {
	var answer [4]byte
	opened, err := s.exchange(r, answer[:])
	if err != nil {
		return -1, err
	}
	if errno := unix.Errno(binary.BigEndian.Uint32(answer[:])); errno != 0 {
		closeAll(opened)
		return -1, errno
	}
	if len(opened) != 1 {
		closeAll(opened)
		return -1, nil
	}
	return opened[0], nil
}

// exchange sends a request and takes its answer, of exactly that length.
func (s *Sandbox) exchange(r request, answer []byte) (opened []int, err error) {
	return s.exchangeUntil(context.Background(), r, answer)
}

// exchangeUntil is exchange that gives up when ctx ends.
func (s *Sandbox) exchangeUntil(ctx context.Context, r request, answer []byte) (opened []int, err error) {
	p, err := r.bytes()
	if err != nil {
		return nil, err
	}
	lane, err := s.lane()
	if err != nil {
		return nil, err
	}
	shut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(lane, unix.SHUT_RDWR); close(shut) })
	n := 0
	if err = send(lane, p, r.dirs...); err == nil {
		n, opened, err = receive(lane, answer)
	}
	if !stop() {
		<-shut // before the number of the connection is another's
		err = errors.Join(err, ctx.Err())
	}
	s.leave(lane, err != nil)
	if err != nil || n != len(answer) {
		closeAll(opened)
		return nil, fmt.Errorf("%w: %w", ErrBroker, errors.Join(err, errMessage))
	}
	return opened, nil
}

// refused returns the sandbox when err may be the word of its rules.
func refused(err error) *Sandbox {
	if errors.Is(err, fs.ErrPermission) {
		return entered.Load()
	}
	return nil
}

// Grant lets the process use path, which the person named, and what is below it: to read, or with write also to write. It need
// not be there yet. Outside a sandbox Grant does nothing.
func Grant(path string, write bool) error {
	s := entered.Load()
	if s == nil {
		return nil
	}
	r := request{verb: verbGrant, a: path}
	if write {
		r.flags = 1
	}
	if _, err := s.ask(r); err != nil {
		return &fs.PathError{Op: "grant", Path: path, Err: err}
	}
	return nil
}

// Openat is openat(2), for a name of one component or, with unix.AT_FDCWD, an absolute path whose parents may be links. Below what
// was granted a link is never followed.
func Openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, mode) })
	s := refused(err)
	if s == nil {
		return fd, err
	}
	if dirfd == unix.AT_FDCWD {
		dir, err := retry(func() (int, error) {
			return unix.Openat(dirfd, filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return -1, err
		}
		defer func() { _ = unix.Close(dir) }()
		dirfd, name = dir, filepath.Base(name)
	}
	return s.ask(request{verb: verbOpen, a: name, flags: uint32(flags), mode: mode, dirs: []int{dirfd}})
}

// An Opened is a file of [OpenAll], or why there is none.
type Opened struct {
	FD  int
	Err error
}

// OpenAll opens the file name of a directory to read, with flags as openat(2); when that takes the broker, which is asked once
// for all of them, also those that more names, as far as they fit. Names are of one component, and no link is followed.
func OpenAll(dirfd int, name string, more func() []string, flags int) []Opened {
	fd, err := retry(func() (int, error) { return unix.Openat(dirfd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	s := refused(err)
	if s == nil {
		return []Opened{{fd, err}}
	}
	names, size := []string{name}, len(name)
	for _, n := range more() {
		if size += len(n) + 1; len(names) == maxOpen || size > maxPath {
			break
		}
		names = append(names, n)
	}
	return s.openAll(dirfd, names, flags)
}

func (s *Sandbox) openAll(dirfd int, names []string, flags int) []Opened {
	answer := make([]byte, 4*len(names))
	fds, err := s.exchange(request{verb: verbOpenAll, a: strings.Join(names, "\x00"), flags: uint32(flags), dirs: []int{dirfd}}, answer)
	if err != nil {
		return []Opened{{-1, err}}
	}
	all := make([]Opened, len(names))
	for i := range all {
		all[i].FD = -1
		if errno := unix.Errno(binary.BigEndian.Uint32(answer[4*i:])); errno != 0 {
			all[i].Err = errno
		} else if len(fds) > 0 {
			all[i].FD, fds = fds[0], fds[1:]
		} else {
			all[i].Err = ErrBroker // it passed fewer than it said: no descriptors were left
		}
	}
	closeAll(fds)
	return all
}

// Mkdirat is mkdirat(2) for a name of one component.
func Mkdirat(dirfd int, name string, mode uint32) error {
	return do(unix.Mkdirat(dirfd, name, mode), request{verb: verbMkdir, a: name, mode: mode, dirs: []int{dirfd}})
}

// Unlinkat is unlinkat(2) for a name of one component.
func Unlinkat(dirfd int, name string, flags int) error {
	return do(unix.Unlinkat(dirfd, name, flags), request{verb: verbUnlink, a: name, flags: uint32(flags), dirs: []int{dirfd}})
}

// Renameat2 is renameat2(2) for names of one component.
func Renameat2(fromfd int, from string, tofd int, to string, flags uint) error {
	return do(unix.Renameat2(fromfd, from, tofd, to, flags), // flags 0 is renameat(2)
		request{verb: verbRename, a: from, b: to, flags: uint32(flags), dirs: []int{fromfd, tofd}})
}

// Linkat is linkat(2) for names of one component; a link is not followed.
func Linkat(fromfd int, from string, tofd int, to string) error {
	return do(unix.Linkat(fromfd, from, tofd, to, 0), request{verb: verbLink, a: from, b: to, dirs: []int{fromfd, tofd}})
}

// do has the broker do what the rules refused.
func do(err error, r request) error {
	if s := refused(err); s != nil {
		_, err = s.ask(r)
	}
	return err
}

// MkdirAll is os.MkdirAll for an absolute path.
func MkdirAll(path string, mode fs.FileMode) error {
	return do(os.MkdirAll(path, mode), request{verb: verbMkdirAll, a: path, mode: uint32(mode.Perm())})
}

// RemoveAll has the broker remove name in the directory open at dirfd, and everything below it; links are removed, not followed.
// It is for folders that the rules keep from [os.OpenRoot]: outside a sandbox it returns an error.
func RemoveAll(dirfd int, name string) error {
	return do(unix.EACCES, request{verb: verbRemoveAll, a: name, dirs: []int{dirfd}})
}

// retry repeats a system call that a signal interrupted; FUSE and NFS do that.
func retry(call func() (int, error)) (int, error) {
	for {
		if fd, err := call(); !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
