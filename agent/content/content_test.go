package content

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	zeebo "github.com/zeebo/blake3"
	luke "lukechampine.com/blake3"
	"lukechampine.com/blake3/bao"
)

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(p)
	return p
}

func leaves(p []byte) []Leaf {
	size := int64(len(p))
	var all []Leaf
	for i := range Groups(size) {
		off, n := GroupBounds(size, i)
		all = append(all, LeafOf(p[off:off+n], size, i))
	}
	return all
}

// The official test vectors of BLAKE3 use the bytes 0, 1 .. 250, 0, 1 ..; these are the first 32 bytes of "hash".
func TestVectors(t *testing.T) {
	for n, want := range map[int]string{
		0:      "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		1:      "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
		1024:   "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
		102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
	} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(i % 251)
		}
		if got := Sum(p).String(); got != want {
			t.Errorf("Sum of vector %d = %s, want %s", n, got, want)
		}
	}
}

func TestRootEqualsPlainHash(t *testing.T) {
	const k = 1024
	sizes := []int{0, 1, k, k + 1, 16*k - 1, 16 * k, 16*k + 1, 255 * k, 256*k - 1, 256 * k, 256*k + 1, 257 * k, 272*k + 1,
		512 * k, 512*k + 1, 768 * k, 1280*k + 77, 4096 * k, 4096*k + 16*k, 5*1024*k + 3, 64 * 1024 * k}
	for _, n := range sizes {
		p := random(n)
		want := Hash(luke.Sum256(p))
		if got := Hash(zeebo.Sum256(p)); got != want {
			t.Fatalf("the two libraries disagree on %d bytes", n)
		}
		if got := Root(leaves(p)); got != want {
			t.Errorf("root of %d bytes = %s, want %s", n, got, want)
		}
	}
}

// Above 64 GiB a group is larger than MinGroup; its leaf is the same subtree, so any power of two must give the same root.
func TestRootForEveryGroupSize(t *testing.T) {
	for _, n := range []int{1<<20 + 5, 3 << 20, 5<<20 + 1024, 7<<20 + 300<<10} {
		p := random(n)
		want := Hash(luke.Sum256(p))
		for shift := 10; shift <= 22; shift++ {
			g := 1 << shift
			if n <= g {
				continue
			}
			var all []Leaf
			for off := 0; off < n; off += g {
				all = append(all, bytesOf(chain(p[off:min(n, off+g)], off)))
			}
			if got := Root(all); got != want {
				t.Errorf("%d bytes in groups of %d: %s, want %s", n, g, got, want)
			}
		}
		_, baoRoot := bao.EncodeBuf(p, 8, true)
		if Hash(baoRoot) != want {
			t.Errorf("bao root of %d bytes differs", n)
		}
	}
}

func TestLeafFindsTheWrongGroup(t *testing.T) {
	p := random(5*MinGroup + 99)
	before := leaves(p)
	p[3*MinGroup+7] ^= 0x10
	for i, l := range leaves(p) {
		if (l != before[i]) != (i == 3) {
			t.Errorf("group %d: changed = %v", i, l != before[i])
		}
	}
}

func TestLeafDependsOnPosition(t *testing.T) {
	p := bytes.Repeat([]byte{7}, 3*MinGroup)
	all := leaves(p)
	if all[0] == all[1] || all[1] == all[2] {
		t.Error("equal groups at different offsets have equal leaves: they could be swapped")
	}
}

func TestGroups(t *testing.T) {
	const gib = int64(1) << 30
	for _, c := range []struct {
		size, group int64
		groups      int
	}{
		{0, MinGroup, 1}, {1, MinGroup, 1}, {MinGroup, MinGroup, 1}, {MinGroup + 1, MinGroup, 2},
		{64 * gib, MinGroup, MaxGroups}, {64*gib + 1, 2 * MinGroup, MaxGroups/2 + 1}, {4096 * gib, 64 * MinGroup, MaxGroups},
		{1<<63 - 1, (1 << 63) / MaxGroups, MaxGroups},
	} {
		if g, n := GroupSize(c.size), Groups(c.size); g != c.group || n != c.groups {
			t.Errorf("size %d: group %d x %d, want %d x %d", c.size, g, n, c.group, c.groups)
		}
		var sum int64
		if c.groups < 10 {
			for i := range c.groups {
				_, n := GroupBounds(c.size, i)
				sum += n
			}
			if sum != c.size {
				t.Errorf("size %d: groups sum to %d", c.size, sum)
			}
		}
	}
}

func TestHashText(t *testing.T) {
	h := Sum([]byte("nigh"))
	text, _ := h.MarshalText()
	back, err := ParseHash(string(text))
	if err != nil || back != h {
		t.Fatalf("%s read back as %v, %v", text, back, err)
	}
	for _, bad := range []string{"", "00", hex.EncodeToString(make([]byte, 33)), string(text[:63]) + "g", string(text[:63])} {
		if _, err := ParseHash(bad); err == nil {
			t.Errorf("ParseHash(%q) accepted", bad)
		}
	}
}

func FuzzRoot(f *testing.F) {
	f.Add(uint32(MinGroup+1), byte(3))
	f.Fuzz(func(t *testing.T, n uint32, seed byte) {
		p := bytes.Repeat([]byte{seed, 1, 2}, int(n%(3<<20))/3+1)
		if Root(leaves(p)) != Hash(luke.Sum256(p)) {
			t.Errorf("root of %d bytes differs from the plain hash", len(p))
		}
	})
}

func BenchmarkLeaf(b *testing.B) {
	p := random(MinGroup)
	b.SetBytes(MinGroup)
	for b.Loop() {
		LeafOf(p, 4*MinGroup, 1)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{4 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			p := random(n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum(p)
			}
		})
	}
}

func BenchmarkRoot1GiB(b *testing.B) {
	all := make([]Leaf, 4096)
	for b.Loop() {
		Root(all)
	}
}
