//go:build !amd64

package content

import "lukechampine.com/blake3/guts"

const (
	wide    = false
	wideMin = 0
)

// run is subtree for at most MinGroup bytes.
func run(p []byte, counter uint64) guts.Node { return narrow(p, counter) }
