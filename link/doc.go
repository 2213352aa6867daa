// Package link watches the machine's network links and addresses the interface of a Wi-Fi Direct group.
//
// A [Monitor] reads links and addresses over rtnetlink and hands out one debounced [Change] with a reason whenever
// something differs. It never trusts a single message: every event only causes a full re-read, because the kernel drops
// messages when a reader is slow (ENOBUFS), sends deletions for bridge ports that still exist, and sends name-only updates for
// wireless scans.
//
// A link is used when it leads to a network: Ethernet, Wi-Fi, a group, and a bridge, VLAN or the like that has such a link below
// it. Bridges of containers and virtual machines, VPNs and other point-to-point links, and links made for tests are not, unless
// the user names them; [Link.Why] says why.
//
// A [Book] records, in a file, every change this package makes to a link before it is made. [Book.EnsureGroup] gives a
// group interface a link-local address that can be used at once (no duplicate address detection: RFC 4862 5.4 lets it be
// off, and a WPA2 group has no stranger in it), so that two devices never wait for DHCP. [GroupLink.Close] puts everything
// back, and [Book.Cleanup] does the same after a crash. The IPv4 network of a group never competes with another link's: it has a
// routing table of its own. [Cables] gives a link-local address to an Ethernet link that nobody else gives one.
//
// Addresses for devices that are not nigh come from the package link/dhcp.
//
// The package touches no link but groups and such cables, never the default route and never the resolver's configuration. It
// works in the network namespace of the calling thread, and needs CAP_NET_ADMIN to change a link, nothing to watch.
package link
