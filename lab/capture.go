package lab

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	maxCaptured = 64 << 20   // bounds what a capture keeps, in bytes of frames
	maxFrame    = 1<<16 + 64 // segmentation is done by nobody on a bridge of virtual links
)

// Capture keeps the frames that went over a segment, or through the air, whole, as an eavesdropper there has them.
type Capture struct {
	fd int

	mu     sync.Mutex
	frames [][]byte // guarded by mu
	size   int      // guarded by mu
}

// Capture begins to keep frames. Its goroutine ends with the test.
func (b *Bridge) Capture(tb testing.TB) *Capture {
	tb.Helper()
	c := &Capture{}
	c.fd = b.hear(tb, maxFrame, c.keep)
	return c
}

// CaptureOn begins to keep the frames that an interface of the present namespace hears. Its goroutine ends with the test.
func CaptureOn(tb testing.TB, ifname string) *Capture {
	tb.Helper()
	fd, err := packetSocket(ifname)
	if err != nil {
		tb.Fatalf("lab: listen on %s: %v", ifname, err)
	}
	c := &Capture{fd: fd}
	listen(tb, fd, maxFrame, c.keep)
	return c
}

func (c *Capture) keep(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += len(frame); c.size <= maxCaptured {
		c.frames = append(c.frames, slices.Clone(frame))
	}
}

// Frames returns the frames so far. The test fails when any was missed: what is not there proves nothing then.
func (c *Capture) Frames(tb testing.TB) [][]byte {
	tb.Helper()
	drops := dropped(tb, c.fd)
	c.mu.Lock()
	defer c.mu.Unlock()
	if drops > 0 || c.size > maxCaptured {
		tb.Fatalf("lab: the capture missed frames: %d, of %d bytes", drops, c.size)
	}
	return slices.Clone(c.frames)
}

// MDNS reports whether a frame is of UDP port 5353.
func MDNS(frame []byte) bool {
	var t Traffic
	t.add(frame)
	return t.MDNS > 0
}

// Stream puts together what the TCP segments among frames carry, in the order of the frames: a text that two segments share is
// found in it. Streams of different connections are apart.
func Stream(frames [][]byte) [][]byte {
	streams := map[string]*bytes.Buffer{}
	var order []string
	for _, f := range frames {
		key, payload := segment(f)
		if len(payload) == 0 {
			continue
		}
		if streams[key] == nil {
			streams[key] = &bytes.Buffer{}
			order = append(order, key)
		}
		streams[key].Write(payload)
	}
	var out [][]byte
	for _, key := range order {
		out = append(out, streams[key].Bytes())
	}
	return out
}

// segment returns whose TCP segment a frame is, and what it carries.
func segment(frame []byte) (key string, payload []byte) {
	if len(frame) < 14 {
		return "", nil
	}
	body := frame[14:]
	var tcp []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(body) < 20 || body[9] != unix.IPPROTO_TCP {
			return "", nil
		}
		head, total := int(body[0]&15)*4, int(binary.BigEndian.Uint16(body[2:]))
		if total > len(body) || head > total {
			return "", nil
		}
		key, tcp = string(body[12:20]), body[head:total]
	case unix.ETH_P_IPV6:
		if len(body) < 40 || body[6] != unix.IPPROTO_TCP {
			return "", nil
		}
		key, tcp = string(body[8:40]), body[40:min(len(body), 40+int(binary.BigEndian.Uint16(body[4:])))]
	}
	if len(tcp) < 20 || int(tcp[12]>>4)*4 > len(tcp) {
		return "", nil
	}
	return key + string(tcp[:4]), tcp[int(tcp[12]>>4)*4:]
}
