package session

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"nigh/agent/identity"
)

// maxRecord is the most plain bytes in one TLS record (RFC 8446 5.1).
const maxRecord = 16 << 10

// conn is an authenticated connection. It is what net/http reads and writes.
type conn struct {
	*tls.Conn
	records *records
	id      identity.DeviceID
	path    Candidate // how we reach the peer; of an accepted one, where it came from
	local   netip.AddrPort
	reverse bool        // the side that dialled serves
	serving bool        // we serve on it
	dialled bool        // we dialled it
	bulk    atomic.Bool // we ask for data on it
	window  window      // the reader's own
	talk    *talk       // with its device
	made    time.Time

	requests  *rate.Limiter // counts while the peer is a stranger
	refused   atomic.Int32  // of those, over the budget
	protected atomic.Bool   // not closed for newer connections

	ahead []byte // read already; the reader's own

	segments  atomic.Uint32 // that had come at the last look
	segmentAt atomic.Int64  // when that was another number than before, in nanoseconds since start

	writing  sync.Mutex
	quiet    atomic.Int64 // when a byte last moved, in nanoseconds since start
	once     sync.Once
	done     chan struct{} // closed by Close
	onClosed func(*conn)   // called once, by Close
}

// start is the zero of conn.quiet, so that it is monotonic.
var start = time.Now()

func (c *conn) touch() { c.quiet.Store(int64(time.Since(start))) }

// Read reads decrypted bytes.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.touch()
		if c.bulk.Load() {
			c.window.read(c, n)
		}
	}
	return n, err
}

// Write encrypts p and sends it, with one system call for many records:
// crypto/tls makes one for each 16 KiB.
func (c *conn) Write(p []byte) (int, error) {
	c.touch()
	if len(p) <= maxRecord {
		return c.Conn.Write(p)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.records.gather()
	n, err := c.Conn.Write(p)
	if flushErr := c.records.flush(); err == nil {
		err = flushErr
	}
	return n, err
}

// ReadFrom sends all of r in large pieces. net/http calls it for answers of known
// length, so that a handler that copies a file needs no buffer of its own.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[flushBytes]byte)
	defer copyBuffers.Put(buf)
	var total int64
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			m, werr := c.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Close closes the socket at once. There is no close_notify: HTTP says where a
// body ends, and sending it to a dead peer would block.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		err = c.records.Close()
		close(c.done)
		if c.onClosed != nil {
			c.onClosed(c)
		}
	})
	return err
}

// alive reports whether the other side has neither closed the connection nor said
// something on it, which it must not before we ask.
func (c *conn) alive() bool {
	raw, err := c.records.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ok = err == unix.EAGAIN
	})
	return err == nil && ok && len(c.records.waiting()) == 0
}

var (
	copyBuffers  = sync.Pool{New: func() any { return new([flushBytes]byte) }}
	flushBuffers = sync.Pool{New: func() any { return new([flushBytes + 2*maxRecord]byte) }}
)

// records is the socket below TLS. It gathers the records of a long write and
// reads ahead.
type records struct {
	*net.TCPConn

	// The reader's own: TLS reads from one goroutine at a time.
	in          []byte
	first, last int // in[first:last] waits

	mu        sync.Mutex
	out       *[flushBytes + 2*maxRecord]byte // guarded by mu; nil: write through
	n         int                             // guarded by mu
	gathering bool                            // guarded by mu
}

func (r *records) waiting() []byte { return r.in[r.first:r.last] }

// Read reads ahead, with a buffer that grows while it is filled: a connection
// that only carries requests keeps a small one.
func (r *records) Read(p []byte) (int, error) {
	if r.first == r.last {
		if len(p) >= len(r.in) && r.in != nil {
			return r.TCPConn.Read(p)
		}
		if r.in == nil {
			r.in = make([]byte, 4<<10)
		} else if r.last == len(r.in) && len(r.in) < readBytes {
			r.in = make([]byte, min(4*len(r.in), readBytes))
		}
		n, err := r.TCPConn.Read(r.in)
		r.first, r.last = 0, n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, r.waiting())
	r.first += n
	return n, nil
}

// Write sends p, or keeps it until flush when records are gathered. Alerts and
// key updates may come between, from the goroutine that reads; they keep their
// place.
func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.gathering {
		return r.TCPConn.Write(p)
	}
	if r.out == nil {
		r.out = flushBuffers.Get().(*[flushBytes + 2*maxRecord]byte)
	}
	if r.n+len(p) > len(r.out) {
		if err := r.send(); err != nil {
			return 0, err
		}
		if len(p) > len(r.out) {
			return r.TCPConn.Write(p)
		}
	}
	r.n += copy(r.out[r.n:], p)
	return len(p), nil
}

func (r *records) gather() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gathering = true
}

// flush sends what was gathered and ends gathering.
func (r *records) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gathering = false
	err := r.send()
	if r.out != nil {
		flushBuffers.Put(r.out)
		r.out = nil
	}
	return err
}

func (r *records) send() error {
	if r.n == 0 {
		return nil
	}
	n := r.n
	r.n = 0
	_, err := r.TCPConn.Write(r.out[:n])
	return err
}

// prepare sets the options of every socket before it connects or listens. An
// option that a kernel lacks costs comfort, not truth, so errors are left out.
func prepare(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat)
	})
}

// tune sets what depends on the role: how long a silent peer is borne, and the
// precedence of control traffic (AF41, the video queue of Wi-Fi).
func tune(c *net.TCPConn, serving, urgent bool) {
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount})
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	timeout := userTimeout
	if serving {
		timeout = serveTimeout
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
		if urgent {
			const af41 = 34 << 2
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, af41)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, af41)
		}
	})
}
