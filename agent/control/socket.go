package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// maxSocketPath is the longest path that every Unix accepts for a socket (the
// kernel's limit here is 107 bytes, elsewhere 103).
const maxSocketPath = 104

// dialWait bounds the dial that tells a live socket from a stale one.
const dialWait = time.Second

// SocketPath returns where an agent of this user listens: $NIGH_SOCKET, else
// $XDG_RUNTIME_DIR/nigh/agent.sock, else /run/nigh/USER/agent.sock. It does not
// look whether anything is there.
func SocketPath() string {
	return socketPaths()[0]
}

// FindSocket returns the socket that a face should speak to: the first of
// [SocketPath]'s places at which an agent answers, so that a desktop session
// finds the agent that runs as the system service. For root the places of the
// user who called sudo, and of the only running agent, follow. Without any
// answer it returns SocketPath. It dials each place once and blocks at most a
// second for each.
func FindSocket() string {
	paths := socketPaths()
	if os.Getenv("NIGH_SOCKET") != "" {
		return paths[0]
	}
	if os.Geteuid() == 0 {
		if name := os.Getenv("SUDO_USER"); name != "" {
			paths = append(paths, servicePath(name))
		}
	}
	for _, path := range paths {
		if answers(path) {
			return path
		}
	}
	if os.Geteuid() == 0 {
		var live []string
		all, _ := filepath.Glob(servicePath("*")) // the pattern is constant and valid
		for _, path := range all {
			if answers(path) {
				live = append(live, path)
			}
		}
		if len(live) == 1 {
			return live[0]
		}
	}
	return paths[0]
}

// socketPaths returns the places of this user's socket, first choice first.
func socketPaths() []string {
	if path := os.Getenv("NIGH_SOCKET"); path != "" {
		return []string{path}
	}
	var paths []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		paths = append(paths, filepath.Join(dir, "nigh", "agent.sock"))
	}
	return append(paths, servicePath(userName()))
}

func servicePath(name string) string {
	return filepath.Join("/run/nigh", name, "agent.sock")
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Geteuid())
}

// answers reports whether something accepts connections at path.
func answers(path string) bool {
	conn, err := net.DialTimeout("unix", path, dialWait)
	if err != nil {
		return errors.Is(err, syscall.EAGAIN) // its queue is full, so it lives
	}
	conn.Close()
	return true
}

// Listen opens the agent's socket at path with mode 0600. It makes the folder with
// mode 0700 where it is missing, and takes the place of a socket at which nobody
// answers. It refuses a path that is too long, one that is not a socket, a
// folder that other users may write in, and a socket at which an agent answers
// (an [Error] with CodeBusy). Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("control: listen: %w", err)
	}
	if len(path) > maxSocketPath {
		return nil, longPath(path)
	}
	folder, err := openFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	// Two agents that start together must not each remove the other's socket:
	// the folder is locked from the test to the bind.
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("control: lock %s: %w", folder.Name(), err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control: listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("control: listen: %w", errors.Join(err, ln.Close()))
	}
	return ln, nil
}

// openFolder makes and opens the socket's folder, and checks that nobody else
// can put another socket in our socket's place.
func openFolder(dir string) (*os.File, error) {
	// Only the last folder is ours alone: /run/nigh holds those of all users.
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if errors.Is(err, fs.ErrPermission) {
			return nil, &Error{Code: CodePermission,
				Message: fmt.Sprintf("this user cannot make the folder %s for the agent's socket", dir),
				Hint:    "set NIGH_SOCKET or XDG_RUNTIME_DIR to a place of your own, or start nigh@USER with systemctl"}
		}
		return nil, fmt.Errorf("control: listen: %w", err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("control: listen: %w", err)
	}
	info, err := folder.Stat()
	if err != nil {
		folder.Close()
		return nil, fmt.Errorf("control: listen: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	foreign := owner != 0 && int(owner) != os.Geteuid()
	open := info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0
	if foreign || open {
		folder.Close()
		return nil, &Error{Code: CodePermission,
			Message: fmt.Sprintf("other users may write in %s, the folder of the agent's socket", dir),
			Hint:    fmt.Sprintf("chmod 0700 %s, or choose another place with NIGH_SOCKET", dir)}
	}
	return folder, nil
}

// clearStale removes the socket of an agent that no longer runs.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control: listen: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return &Error{Code: CodeUsage,
			Message: fmt.Sprintf("%s is there and is not a socket", path),
			Hint:    "choose another place with NIGH_SOCKET, or move the file away"}
	}
	conn, err := net.DialTimeout("unix", path, dialWait)
	switch {
	case err == nil:
		conn.Close()
		fallthrough
	case errors.Is(err, syscall.EAGAIN):
		return &Error{Code: CodeBusy,
			Message: fmt.Sprintf("an agent already answers at %s", path),
			Hint:    "use it, or stop it first"}
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("control: remove the stale socket: %w", err)
		}
		return nil
	case errors.Is(err, fs.ErrNotExist): // it was closed between the two looks
		return nil
	default:
		return fmt.Errorf("control: listen: %w", err)
	}
}

func longPath(path string) *Error {
	return &Error{Code: CodeUsage,
		Message: fmt.Sprintf("the socket's path has %d bytes, at most %d are possible: %s", len(path), maxSocketPath, path),
		Hint:    "set NIGH_SOCKET to a shorter path"}
}

// credentials returns who is at the other end of a Unix socket: for a listener's
// connection the process that connected, for a dialled one the process that
// called listen (unix(7), SO_PEERCRED).
func credentials(conn net.Conn) (*syscall.Ucred, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("control: %T has no peer credentials", conn)
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("control: peer credentials: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("control: peer credentials: %w", err)
	}
	return cred, nil
}
