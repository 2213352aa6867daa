package radio

import (
	"errors"
	"testing"
)

// failureLog is how many lines of each supplicant's log a failed test shows.
const failureLog = 60

// Nodes makes a bed of n nodes for one test and removes it when the test ends. Outside of the lab's guest it skips the
// test, with the reason. A test that fails shows the end of every wpa_supplicant's log. Tests with nodes cannot be parallel.
func Nodes(tb testing.TB, n int) []*Node {
	tb.Helper()
	return NodesOf(tb, Config{Nodes: n})
}

// NodesOf is Nodes with everything that Config has.
func NodesOf(tb testing.TB, c Config) []*Node {
	tb.Helper()
	bed, err := Open(tb.Context(), c)
	if errors.Is(err, ErrNotInLab) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	nodes := bed.Nodes
	for _, n := range nodes {
		n.tb = tb
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			for _, n := range nodes {
				tb.Logf("wpa_supplicant of %s:\n%s", n.Name, n.logTail(failureLog))
			}
		}
		if err := bed.Close(); err != nil {
			tb.Error(err)
		}
	})
	return nodes
}
