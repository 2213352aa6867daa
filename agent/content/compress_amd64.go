package content

import (
	"unsafe"

	"golang.org/x/sys/cpu"
	"lukechampine.com/blake3/guts"
)

// wide says that compress can be called, widest that compress16 can.
var (
	widest = cpu.X86.HasAVX512F
	wide   = widest || cpu.X86.HasAVX2
)

// compress16 compresses 16 inputs of as many blocks of 64 bytes, which begin stride bytes from one another, beginning with the IV, and
// writes their chaining values. counters are the low and the high words of each, flags those of every block, first and last those beside
// them of the first and the last (specification, section 2.1). It reads all of a block before it writes.
//
//go:noescape
func compress16(out *[16][8]uint32, in *byte, stride, blocks int, counters *[2][16]uint32, flags, first, last uint32)

// compress8 is compress16 for 8 inputs. The high words of the counters begin 64 bytes after the low ones.
//
//go:noescape
func compress8(out *[8][8]uint32, in *byte, stride, blocks int, counters *[16 + 8]uint32, flags, first, last uint32)

// compress is compress16 with what the processor has, for as many inputs; it may read and write what would be more of them.
func compress(inputs int, out *[16][8]uint32, in *byte, stride, blocks int, counters *[2][16]uint32, flags, first, last uint32) {
	if widest {
		compress16(out, in, stride, blocks, counters, flags, first, last)
		return
	}
	for i := 0; i < min(inputs, 16); i += 8 {
		compress8((*[8][8]uint32)(out[i:]), (*byte)(unsafe.Add(unsafe.Pointer(in), i*stride)), stride, blocks,
			(*[16 + 8]uint32)(unsafe.Pointer(&counters[0][i])), flags, first, last)
	}
}

// run is subtree for at most MinGroup bytes.
func run(p []byte, counter uint64) guts.Node {
	if wide && len(p) >= wideMin {
		return wideSubtree(p, counter)
	}
	return narrow(p, counter)
}

// wideMin is the least that wideSubtree takes, in bytes.
const wideMin = 16 * guts.ChunkSize

// wideSubtree is run for at least wideMin bytes. The libraries fetch each word of each lane by itself, which takes
// most of their time; here whole blocks are loaded and transposed.
func wideSubtree(p []byte, counter uint64) guts.Node {
	var cvs [MinGroup / guts.ChunkSize][8]uint32
	full := len(p) / guts.ChunkSize
	for i := 0; i < full; i += 16 {
		i = min(i, full-16) // the last ones may be made twice
		var counters [2][16]uint32
		for lane := range counters[0] {
			c := counter + uint64(i+lane)
			counters[0][lane], counters[1][lane] = uint32(c), uint32(c>>32)
		}
		compress(16, (*[16][8]uint32)(cvs[i:]), &p[i*guts.ChunkSize], guts.ChunkSize, guts.ChunkSize/guts.BlockSize, &counters,
			0, guts.FlagChunkStart, guts.FlagChunkEnd)
	}
	n := full
	if rest := p[full*guts.ChunkSize:]; len(rest) > 0 {
		cvs[n] = guts.ChainingValue(guts.CompressChunk(rest, &guts.IV, counter+uint64(n), 0))
		n++
	}
	// Level by level; who has no sibling goes up as it is.
	var zero [2][16]uint32
	for n > 2 {
		last := cvs[n-1]
		for i := 0; i < n/2; i += 16 {
			compress(n/2-i, (*[16][8]uint32)(cvs[i:]), (*byte)(unsafe.Pointer(&cvs[2*i])), guts.BlockSize, 1, &zero, guts.FlagParent, 0, 0)
		}
		if n%2 == 1 {
			cvs[n/2] = last
		}
		n = (n + 1) / 2
	}
	return guts.ParentNode(cvs[0], cvs[1], &guts.IV, 0)
}
