package content

import "lukechampine.com/blake3/guts"

// chain returns the chaining value of the subtree over p at a byte offset, for group sizes that no file of a test reaches.
func chain(p []byte, offset int) [8]uint32 {
	return guts.ChainingValue(subtree(p, uint64(offset)/guts.ChunkSize))
}
