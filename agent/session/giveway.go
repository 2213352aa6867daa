package session

import (
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Data gives way to what people wait for. A sender fills every queue between it and us, and a message waits behind that. So while there
// are requests of another kind between the two, the receiver of data lets no more be under way than its rate carries within giveWayDelay:
// it makes its window small (RFC 9293 3.8.6). The rest of the time the window is the kernel's.

// A talk notes when a device was last spoken with of something else than data.
type talk struct{ at atomic.Int64 } // nanoseconds since start

// heard notes a request, unless it is of a transfer or of this package.
func (t *talk) heard(path string) {
	if !strings.HasPrefix(path, "/v1/x/") && path != "/v1/hello" && path != "/v1/dialback" && path != "/v1/inbound" {
		t.at.Store(int64(time.Since(start)))
	}
}

func (t *talk) lately() bool {
	at := t.at.Load()
	return at > 0 && time.Since(start)-time.Duration(at) < giveWayAfter
}

// A window is the receive window of a connection that brings data. It is the reader's own.
type window struct {
	since time.Time
	bytes int           // read since then
	last  int           // read before that ..
	took  time.Duration // .. in that time
	rate  float64       // the highest lately
	small bool
}

// read counts n bytes and sets the window from time to time.
func (w *window) read(c *conn, n int) {
	w.bytes += n
	now := time.Now()
	took := now.Sub(w.since)
	if took < giveWayEvery {
		return
	}
	if took < 10*giveWayEvery { // else it was idle
		// With the time before, in which the reader may have been late, or a lost segment have kept back what followed it: what had to
		// wait comes faster than the link.
		w.rate = max(float64(w.bytes+w.last)/(took+w.took).Seconds(), w.rate*giveWayForget)
	}
	w.last, w.took = w.bytes, took
	if took >= 10*giveWayEvery {
		w.last, w.took = 0, 0
	}
	w.since, w.bytes = now, 0
	if !c.talk.lately() {
		if w.small {
			w.small = false
			w.set(c, maxWindow)
		}
		return
	}
	delay := giveWayDelay
	if rtt := roundTrip(c); rtt > delay {
		delay = rtt
	}
	w.small = true
	w.set(c, min(max(int(w.rate*delay.Seconds()), minWindow), maxWindow))
}

func (w *window) set(c *conn, bytes int) {
	if raw, err := c.records.SyscallConn(); err == nil {
		// Without it data is in the way, as it would be of any program.
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, bytes) })
	}
}

// roundTrip is twice the shortest time to the other side and back that the kernel has seen on a connection.
func roundTrip(c *conn) (rtt time.Duration) {
	if info := tcpInfo(c); info != nil {
		rtt = 2 * time.Duration(info.Min_rtt) * time.Microsecond
	}
	return rtt
}

// segmentsIn is how many segments came on a connection, whatever they brought.
func segmentsIn(c *conn) uint32 {
	if info := tcpInfo(c); info != nil {
		return info.Segs_in
	}
	return 0
}

// tcpInfo is what the kernel knows of a connection, nil when it does not say.
func tcpInfo(c *conn) (info *unix.TCPInfo) {
	if raw, err := c.records.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				info = i
			}
		})
	}
	return info
}
