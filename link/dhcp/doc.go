// Package dhcp gives IPv4 addresses to the devices in our Wi-Fi Direct group, and asks the owner of somebody else's group
// for one (RFC 2131). Two nigh devices need neither: they use link-local IPv6 at once. It is for phones and others.
//
// The server hands out an address and its prefix, and never a router, a DNS server or a portal: a phone would send its traffic to
// us and lose the Internet. It answers only Ethernet clients on the link itself that are members of the group, no relays, at most
// 20 packets a second and 5 of one client, keeps a client's address for as long as it can, and does not probe addresses
// before it offers them, which would cost a second. A hardware address in a request is a claim: a member of the group can ask
// for, and give back, in the name of another if it also forges its IPv4 address.
//
// The client listens to the group's owner only, takes only addresses that can be a group's ([CheckAddress]), and nothing but the
// address. [Keep] extends the lease, and gives it up when it ends. It does not probe for other users of the address either,
// and does not give it back at the end: the link goes with the group.
//
// Leases are counted on the monotonic clock: a wrong date changes nothing.
package dhcp
