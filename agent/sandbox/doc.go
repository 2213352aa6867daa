// Package sandbox keeps the running agent out of the files that it has no business with. What a device says over the network
// is handled by a process that cannot open them, whatever it is told: the kernel's Landlock (landlock(7)) lets it read the
// system's own files, and read and write the folders named in [Rules].
//
// Landlock rules can be tightened but never loosened, and the person names files and folders while the agent runs. So [Start],
// before the rules are in force, starts this program once more as the broker: a process without the rules and without
// capabilities, that opens and makes files for the agent, and runs the programs of the person's that it was told of before the rules
// were in force ([Run]), and does nothing else. It opens only below what it was granted
// ([Grant]), one name at a time in a directory that is open, following no link. Grants come from what the person said: from a
// request on the local socket, and after a restart from the journal of such requests. Nothing that a device says becomes one.
// They last until the agent ends, and so does the broker.
//
// [Openat] and its like first make the system call, and ask the broker when the rules refuse it. In a process that entered no
// sandbox they are the system calls alone. A sandbox is for the whole process, so the package has one.
//
// What it holds off is an agent that was talked into a wrong path, by a fault in how it handles names, links or races. A peer
// that could run code of its own in the agent could also ask the broker for grants; that Go code lets it is not supposed here.
// Looking is not opening: names, sizes and times of files outside stay visible to stat(2), as Landlock has it.
package sandbox
