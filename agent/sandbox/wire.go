package sandbox

import (
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// What the broker is asked for. Names are single components in the directory that comes with the request.
const (
	verbLane      = iota + 1 // descriptor: a further connection
	verbGrant                // a: path, flags: 1 to write
	verbOpen                 // directory, a: name, flags and mode as openat(2)
	verbMkdir                // directory, a: name, mode
	verbUnlink               // directory, a: name, flags as unlinkat(2)
	verbRename               // directory, a, directory, b, flags as renameat2(2)
	verbLink                 // directory, a, directory, b
	verbMkdirAll             // a: path, mode
	verbRemoveAll            // directory, a: name
	verbProgram              // a: a program that may be run and its arguments, b: its environment, with NUL between them
	verbSeal                 // there are no more programs
	verbRun                  // descriptor: its standard input, flags: which program, mode: seconds that it has
	verbOpenAll              // directory, a: names with NUL between them, flags as openat(2), to read; the answer has an errno for each
)

// A request is one packet: verb, flags, mode, length of a, a, b; with it the descriptors of the directories.
type request struct {
	verb  byte
	flags uint32
	mode  uint32
	a, b  string
	dirs  []int
}

const (
	headSize   = 11
	maxPath    = 4096                 // PATH_MAX
	maxRequest = headSize + 2*maxPath // bytes: two paths
	maxDirs    = 2                    // descriptors of folders that come with a request
	maxOpen    = 64                   // files opened by one request
)

var errMessage = errors.New("sandbox: a message that is none")

func (r *request) bytes() ([]byte, error) {
	if len(r.a) > maxPath || len(r.b) > maxPath {
		return nil, unix.ENAMETOOLONG
	}
	p := make([]byte, 0, headSize+len(r.a)+len(r.b))
	p = append(p, r.verb)
	p = binary.BigEndian.AppendUint32(p, r.flags)
	p = binary.BigEndian.AppendUint32(p, r.mode)
	p = binary.BigEndian.AppendUint16(p, uint16(len(r.a)))
	return append(append(p, r.a...), r.b...), nil
}

func parse(p []byte) (r request, err error) {
	if len(p) < headSize {
		return r, errMessage
	}
	n := int(binary.BigEndian.Uint16(p[9:]))
	if n > len(p)-headSize {
		return r, errMessage
	}
	return request{verb: p[0], flags: binary.BigEndian.Uint32(p[1:]), mode: binary.BigEndian.Uint32(p[5:]),
		a: string(p[headSize : headSize+n]), b: string(p[headSize+n:])}, nil
}

// send sends one packet.
func send(fd int, p []byte, dirs ...int) error {
	var rights []byte
	if len(dirs) > 0 {
		rights = unix.UnixRights(dirs...)
	}
	for {
		if err := unix.Sendmsg(fd, p, rights, nil, unix.MSG_NOSIGNAL); err != unix.EINTR {
			return err
		}
	}
}

// receive waits for one packet; its end is io.EOF. The caller closes the descriptors, also those that come with an error.
func receive(fd int, p []byte) (n int, dirs []int, err error) {
	var oob [512]byte // room for maxOpen descriptors
	flags, got := 0, 0
	for {
		n, got, flags, _, err = unix.Recvmsg(fd, p, oob[:], unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(oob[:got])
	if err != nil {
		return 0, nil, err
	}
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			dirs = append(dirs, more...)
		}
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return 0, dirs, errMessage
	}
	return n, dirs, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
