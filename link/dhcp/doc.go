// Package dhcp gives IPv4 addresses to the devices in our Wi-Fi Direct group, and asks the owner of somebody else's group
// for one (RFC 2131). Two nigh devices need neither: they use link-local IPv6 at once. It is for phones and others.
//
// The server hands out an address and its prefix, and never a router, a DNS server or a portal: a phone would send its traffic to
// us and lose the Internet. It answers only Ethernet clients on the link itself, no relays, at most 20 packets a second, keeps a
// client's address for as long as it can, and does not probe addresses before it offers them, which would cost a second.
//
// Leases are counted on the monotonic clock: a wrong date changes nothing.
package dhcp
