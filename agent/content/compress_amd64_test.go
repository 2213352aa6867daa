package content

import (
	"fmt"
	"testing"

	"golang.org/x/sys/cpu"
	luke "lukechampine.com/blake3"
)

// each runs a test with compress16 and with compress8, where the processor has them.
func each(t *testing.T, test func(*testing.T)) {
	was := widest
	t.Cleanup(func() { widest = was })
	for name, can := range map[string]bool{"compress16": cpu.X86.HasAVX512F, "compress8": cpu.X86.HasAVX2} {
		t.Run(name, func(t *testing.T) {
			if !can {
				t.Skip("this processor has not the instructions: it is never called")
			}
			widest = name == "compress16"
			test(t)
		})
	}
}

// What they make is what the library makes, for all that is left over at the end, and for counters of more than 32 bits.
func TestWideRunsEqualNarrowOnes(t *testing.T) {
	each(t, func(t *testing.T) {
		const k = 1024
		for n := wideMin; n <= MinGroup; n += 997 {
			for _, size := range []int{n, n &^ (k - 1)} {
				p := random(size)
				for _, counter := range []uint64{0, MinGroup / k, 1<<32 - MinGroup/k, 1 << 32, 1<<42 - MinGroup/k} {
					if wideSubtree(p, counter) != narrow(p, counter) {
						t.Fatalf("%d bytes at chunk %d: another node than the library's", size, counter)
					}
				}
			}
		}
		// Between a run that begins below 2^32 and one that ends above.
		p := random(MinGroup)
		if wideSubtree(p, 1<<32-8) != narrow(p, 1<<32-8) {
			t.Error("the counter's high word is not carried")
		}
	})
}

func TestSumOfEachLength(t *testing.T) {
	each(t, func(t *testing.T) {
		for _, n := range []int{wideMin - 1, wideMin, wideMin + 1, 3 * wideMin / 2, 100_000, MinGroup - 1, MinGroup, MinGroup + 1, MinGroup + wideMin, 1<<20 - 1, 1 << 20, 3<<20 + 17} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				p := random(n)
				if got, want := Sum(p), Hash(luke.Sum256(p)); got != want {
					t.Errorf("Sum = %s, want %s", got, want)
				}
			})
		}
	})
}
