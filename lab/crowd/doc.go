// Package crowd makes a bed of many devices: real nigh agents, each in a network
// namespace of its own, all on one bridge. Tests of what a segment full of devices
// costs and how long it takes use it.
//
// It starts agents and measures them; what they are to show is for the tests to
// say.
package crowd
