// Package content names bytes by their BLAKE3 hash and checks them group by group.
//
// BLAKE3 is a binary tree over chunks of 1 KiB. A group is an aligned run of 2^k chunks, so it is a whole subtree (the last one
// may be shorter) and has one chaining value, its [Leaf]. A file's [Hash] is the root over its leaves in order and is, for every
// group size, the value that b3sum prints: the group size is a parameter of a transfer, not of a name.
//
//	size of the file      group              leaves
//	0 .. 256 KiB          the whole file     1: the leaf is the hash itself
//	.. 64 GiB             256 KiB            at most 2^18
//	above                 doubled until there are at most 2^18 groups
//
// A list of leaves whose [Root] is the hash of a file proves every one of its groups; that list is the file's outboard, 32 bytes a
// group. Nothing else of the tree is ever stored or sent.
//
// Two libraries do the work behind this one package, because each is the faster one at its half: zeebo/blake3 hashes whole small
// buffers, lukechampine.com/blake3/guts gives the chaining values of subtrees. Where the processor has AVX2 or AVX-512, 16 KiB and more
// are compressed by compress8 or compress16 of this package, in half of the time of the library for subtrees. The tests check each against the others.
//
// The package keeps no state, does no I/O, and all of it is safe for concurrent use. Packages transfer and share call it.
// Specification: "BLAKE3: one function, fast everywhere", sections 2.1 and 2.4.
package content
