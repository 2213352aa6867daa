package lab

import (
	"os"
	"testing"
)

// Memory makes a folder in memory, for what must not wait for the disk of this machine: others write to it, and a sync waits for what
// they wrote. It goes when the test ends.
func Memory(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nigh-lab-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}
