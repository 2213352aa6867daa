package transfer

import (
	"bufio"
	"sync"

	"nigh/agent/content"
)

// groupBuffer is the usual unit of reading and writing.
const groupBuffer = content.MinGroup

// pools keeps buffers for groups and for small files, so that memory stays flat whatever moves. Larger groups, of files over 64 GiB,
// are not kept.
type pools struct{ group, small sync.Pool }

var buffers pools

// writers gather small files for one write; what takes one resets it.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, groupBuffer) }}

const (
	groupBufferSize = groupBuffer + content.HashSize
	smallBufferSize = frameRoom + batchFile + content.HashSize

	// frameRoom is what is left for a frame's header before its bytes: they begin where a buffer's cache line does, for to an odd
	// address the kernel copies what is read at less than half the rate.
	frameRoom = 64
)

// get returns a buffer of n bytes with unspecified content.
func (p *pools) get(n int) []byte {
	var pool *sync.Pool
	size := n
	switch {
	case n <= groupBufferSize:
		pool, size = &p.group, groupBufferSize
	case n <= smallBufferSize:
		pool, size = &p.small, smallBufferSize
	default:
		return make([]byte, n)
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, size)[:n]
}

// put gives a buffer back.
func (p *pools) put(b []byte) {
	switch cap(b) {
	case groupBufferSize:
		b = b[:cap(b)]
		p.group.Put(&b)
	case smallBufferSize:
		b = b[:cap(b)]
		p.small.Put(&b)
	}
}
