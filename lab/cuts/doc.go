// Package cuts cuts the power of a machine in the middle of transfers.
//
// Its test boots the lab's guest again and again on one disk, an ext4 file system with the state, the inboxes and the files of two
// agents, which send each other a batch over a cable between two namespaces. Each time the guest is ended when a random part of
// the batch has arrived, as by a power cut: what it had not written to its disk is lost. The next boot checks the file system
// and goes on.
//
// After each cut both agents start, are who they were, still trust each other, and go on with the transfer by themselves; and what has
// a final name in the inbox is whole. In the end the inbox has the batch and nothing beside it. Make powercuts runs it with twenty
// cuts; NIGH_CUTS and NIGH_LAB_VM=1 do it by hand.
//
// The guest's disk keeps whatever the guest has handed to it: that a disk loses what it was not told to flush is not shown here.
package cuts
