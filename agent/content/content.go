package content

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	zeebo "github.com/zeebo/blake3"
	"lukechampine.com/blake3/guts"
)

const (
	// HashSize is the length of a [Hash] and of a [Leaf] in bytes.
	HashSize = 32
	// MinGroup is the smallest group and the unit that [LeafOf] hashes at once, in bytes.
	MinGroup = 256 << 10
	// MaxGroups is the largest number of groups of one file.
	MaxGroups = 1 << 18
)

// ErrHash means that a text is not a hash: 64 hexadecimal digits.
var ErrHash = errors.New("content: not a BLAKE3 hash of 64 hexadecimal digits")

// A Hash is the BLAKE3 hash of a file's bytes. The zero value means "not known".
type Hash [HashSize]byte

// A Leaf is the chaining value of one group, or the hash itself when the file has only one group.
type Leaf [HashSize]byte

// String returns 64 lower-case hexadecimal digits, as b3sum prints them.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether the hash is not known.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText returns the digits of String, or nothing when the hash is not known.
func (h Hash) MarshalText() ([]byte, error) {
	if h.IsZero() {
		return nil, nil
	}
	return hex.AppendEncode(nil, h[:]), nil
}

// UnmarshalText reads what MarshalText wrote. It returns [ErrHash].
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = Hash{}
		return nil
	}
	if len(text) != 2*HashSize {
		return ErrHash
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return ErrHash
	}
	return nil
}

// ParseHash reads 64 hexadecimal digits. It returns [ErrHash].
func ParseHash(s string) (Hash, error) {
	var h Hash
	if s == "" {
		return h, ErrHash
	}
	return h, h.UnmarshalText([]byte(s))
}

// Sum returns the hash of p.
func Sum(p []byte) Hash {
	if !wide || len(p) < wideMin {
		return zeebo.Sum256(p)
	}
	n := subtree(p, 0)
	n.Flags |= guts.FlagRoot
	return Hash(bytesOf(guts.ChainingValue(n)))
}

// GroupSize returns the size in bytes of the groups of a file of size bytes: [MinGroup], doubled until there are at most
// [MaxGroups] of them. It panics when size is negative.
func GroupSize(size int64) int64 {
	if size < 0 {
		panic("content: negative size")
	}
	g := int64(MinGroup)
	for (size-1)/g >= MaxGroups {
		g *= 2
	}
	return g
}

// Groups returns how many groups a file of size bytes has; an empty file has one.
func Groups(size int64) int {
	return max(1, int((size-1)/GroupSize(size))+1)
}

// GroupBounds returns the offset and the length in bytes of group i of a file of size bytes.
func GroupBounds(size int64, i int) (offset, length int64) {
	g := GroupSize(size)
	offset = int64(i) * g
	return offset, max(0, min(g, size-offset))
}

// LeafOf returns the leaf of group i of a file of size bytes, where p is the group's content. It panics when p has not the length
// that [GroupBounds] gives.
func LeafOf(p []byte, size int64, i int) Leaf {
	offset, length := GroupBounds(size, i)
	if int64(len(p)) != length {
		panic(fmt.Sprintf("content: group %d of %d bytes given %d bytes", i, size, len(p)))
	}
	if size <= MinGroup {
		return Leaf(Sum(p))
	}
	return bytesOf(guts.ChainingValue(subtree(p, uint64(offset)/guts.ChunkSize)))
}

// Root combines all leaves of a file in order to its hash. One leaf is the hash itself. It panics when there is none.
func Root(leaves []Leaf) Hash {
	if len(leaves) == 1 {
		return Hash(leaves[0])
	}
	var s stack
	for _, l := range leaves[:len(leaves)-1] {
		s.push(wordsOf(l))
	}
	last := wordsOf(leaves[len(leaves)-1])
	n := s.fold(guts.Node{}, &last)
	n.Flags |= guts.FlagRoot
	return Hash(bytesOf(guts.ChainingValue(n)))
}

// subtree returns the node over the chunks of p, which begin at chunk counter and are an aligned run of the tree. p is not empty.
func subtree(p []byte, counter uint64) guts.Node {
	var s stack
	for len(p) > MinGroup {
		s.push(guts.ChainingValue(run(p[:MinGroup], counter)))
		p, counter = p[MinGroup:], counter+MinGroup/guts.ChunkSize
	}
	return s.fold(run(p, counter), nil)
}

// narrow is subtree for at most MinGroup bytes, with what the library has for every processor.
func narrow(p []byte, counter uint64) guts.Node {
	const step = guts.MaxSIMD * guts.ChunkSize
	var s stack
	for len(p) > step {
		s.push(guts.ChainingValue(guts.CompressBuffer((*[step]byte)(p), step, &guts.IV, counter, 0)))
		p, counter = p[step:], counter+guts.MaxSIMD
	}
	if len(p) == step {
		return s.fold(guts.CompressBuffer((*[step]byte)(p), step, &guts.IV, counter, 0), nil)
	}
	// The library reads whole vectors, also past the end of the data.
	var tail [step]byte
	n := copy(tail[:], p)
	return s.fold(guts.CompressBuffer(&tail, n, &guts.IV, counter, 0), nil)
}

// A stack holds the chaining values of finished subtrees of equal smallest size, merged as binary counting does: bit i of n is set
// when a subtree of 2^i of them waits for its right sibling (specification, section 5.1.2).
type stack struct {
	values [64][8]uint32
	n      uint64
}

func (s *stack) push(cv [8]uint32) {
	i := 0
	for ; s.n&(1<<i) != 0; i++ {
		cv = guts.ChainingValue(guts.ParentNode(s.values[i], cv, &guts.IV, 0))
	}
	s.values[i] = cv
	s.n++
}

// fold joins the waiting subtrees, smallest first, with the last one on the right, which is given as a node or as a value.
func (s *stack) fold(last guts.Node, value *[8]uint32) guts.Node {
	for i := bits.TrailingZeros64(s.n); i < bits.Len64(s.n); i++ {
		if s.n&(1<<i) == 0 {
			continue
		}
		right := [8]uint32{}
		if value != nil {
			right, value = *value, nil
		} else {
			right = guts.ChainingValue(last)
		}
		last = guts.ParentNode(s.values[i], right, &guts.IV, 0)
	}
	return last
}

func wordsOf(l Leaf) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(l[4*i:])
	}
	return w
}

func bytesOf(w [8]uint32) (l Leaf) {
	for i, v := range w {
		binary.LittleEndian.PutUint32(l[4*i:], v)
	}
	return l
}
