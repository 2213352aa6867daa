//go:build netns

package crowd

import (
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
)

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func usage(t *testing.T, c *Crowd, i int) node.Usage {
	t.Helper()
	u, err := c.Agents[i].Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// pause lets time pass in which something is measured.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// lists reports whether a device lists exactly these members of the crowd.
func lists(members []string) func(control.State) bool {
	return func(s control.State) bool {
		var there []string
		for _, p := range s.Peers {
			if p.State != "away" {
				there = append(there, p.Name)
			}
		}
		slices.Sort(there)
		return slices.Equal(there, members)
	}
}

func names(indexes ...int) []string {
	all := make([]string, len(indexes))
	for i, n := range indexes {
		all[i] = Name(n)
	}
	slices.Sort(all)
	return all
}

// span are the indexes from to below to, without one.
func span(from, below, without int) (all []int) {
	for i := from; i < below; i++ {
		if i != without {
			all = append(all, i)
		}
	}
	return all
}

// await waits until the agent of a host lists exactly these.
func await(t *testing.T, c *Crowd, i int, limit time.Duration, members []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.Agents[i].Await(ctx, lists(members)); err != nil {
		peers, _ := c.Agents[i].Client().Peers(t.Context())
		t.Fatalf("%s lists %d, want %d: %v", Name(i), len(peers), len(members), err)
	}
}

// size is how many devices a test has: as many as asked for by the environment variable NIGH_CROWD, else what it needs by
// itself.
func size(t *testing.T, n int) int {
	t.Helper()
	text, ok := os.LookupEnv("NIGH_CROWD")
	if !ok {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 || n > 1000 {
		t.Fatalf("NIGH_CROWD=%q is no number of devices", text)
	}
	return n
}
