package crowd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// thresholds of the neighbour tables, least first to raise them in the order 3, 2, 1.
var thresholds = [...]string{"gc_thresh3", "gc_thresh2", "gc_thresh1"}

// roomForNeighbours lets every host remember all others. The kernel has one table for each family, with one bound of
// usually 1024 entries, for all namespaces of a machine together: without this n devices that know each other lose one
// another from about n = 30, which no real segment does. What was set before is put back when the test ends. It skips
// the test when the bound cannot be raised.
func roomForNeighbours(tb testing.TB, n int) {
	tb.Helper()
	const spare = 1024
	want := n*n + spare
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, name := range thresholds {
			path := "/proc/sys/net/" + family + "/neigh/default/" + name
			old, err := raise(path, want)
			if err != nil {
				tb.Skipf("needs room for %d neighbours: %v", want, err)
			}
			tb.Cleanup(func() {
				if err := os.WriteFile(path, []byte(strconv.Itoa(old)), 0); err != nil {
					tb.Errorf("crowd: put back %s: %v", path, err)
				}
			})
		}
	}
}

// raise sets a number in a file to at least want and returns what it was.
func raise(path string, want int) (old int, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	if old, err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if old >= want {
		return old, nil
	}
	return old, os.WriteFile(path, []byte(strconv.Itoa(want)), 0)
}
