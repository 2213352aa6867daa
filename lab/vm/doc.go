// Package vm boots a small virtual machine whose kernel has simulated radios, and runs commands in it.
//
// The guest is Debian's own kernel under QEMU, with this machine's root folder seen read-only over 9p, a layer of guest
// parts over it, and a tmpfs over both: it has every program of the host, and can change nothing on it. It needs no KVM and no
// network.
//
// # Parts
//
// [Prepare] puts them in a cache folder: the kernel image, an initramfs, and the guest layer. The layer holds the kernel's
// modules for networks and radios, and those of the guest's programs (wpa_supplicant, iw, tcpdump...) that the host lacks,
// unpacked from their Debian packages and never installed: the host gets no wpa_supplicant service, no D-Bus policy and
// no D-Bus activation that could take a radio from its user. All comes from the host's own Debian archive through
// apt-get, which checks signatures. A manifest has the checksum of every file, so a damaged cache is found and built again.
//
// A cache serves many checkouts at once: what they make from different recipes lies side by side in it, and what a running
// guest was booted from is not removed.
//
// [PrepareTree] adds programs of a newer Debian suite, unpacked with all that they depend on into a folder of their own, which
// the guest sees below [TreesFolder]. They are fetched only when something asks for them.
//
// On the host itself only QEMU, busybox, kmod and iproute2 are needed; as root they are installed, otherwise
// [ErrMissingTools] names them.
//
// # Channels
//
// A guest has three virtio ports for commands and a serial console. The control port carries one line for each command; the output
// port carries what the command prints, nothing else, unchanged, and after it a marker with its exit status; the terminal
// (hvc0) does both for a command that has one. The serial console has only what the kernel and the boot have to say, and its
// last lines are in the error when the guest hangs or dies.
//
// A guest also has a display, which shows the kernel's virtual terminals, tty1 to begin with. Programs in the guest get
// pictures of it with [Picture], over a port of their own.
//
// # Limits
//
// Under emulation everything that computes is ten to twenty times slower, and to start a process costs 0.1 s or more.
// KVM is used only when the environment says NIGH_LAB_KVM=1, because a /dev/kvm that exists may still hang.
package vm
