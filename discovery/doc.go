// Package discovery tells the other devices on the local links that this device is there, and finds them: DNS-based
// service discovery (RFC 6763) over multicast DNS (RFC 6762), service type _nigh._tcp.
//
// What it finds is a hint. Anybody on a link can announce anything; who a device is, its session proves. Events carry the
// link they were heard on, and link-local addresses carry its name as their zone.
//
// # What is announced
//
//	SRV  LABEL [SHORT-ID]._nigh._tcp.local.  ->  nigh-SHORT-ID.local. PORT
//	TXT  as given in Config.TXT: v=1, n= name, id= short ID; never anything secret
//	A, AAAA of the link itself, all with a TTL of 120 s
//
// # How
//
// Publishing is done by github.com/grandcat/zeroconf, one Server per link, made by RegisterProxy without addresses: only
// then does it look up the addresses of the link a question came from. Browsing is our own, on github.com/miekg/dns: one socket per
// link and address family, bound to the link before it is bound to port 5353, which keeps links apart and lies beside
// avahi-daemon and systemd-resolved without disturbing them. Only responses from port 5353 with a TTL of 255, from an
// address of the link itself and sent to the mDNS group count (RFC 6762 11). The cache follows RFC 6762 10: goodbyes and
// cache-flush take effect after one second, which is also what hides the restart of a peer's Server. Records count for 120 s at
// most, whatever their TTL says. Questions carry known answers (7.1) and are not asked when somebody else just asked
// them (7.3).
//
// What cannot be trusted is bounded: 512 instances and their hosts on a link, 16 addresses of a host, 1 KiB of TXT record,
// 200 packets a second of one source and 2000 of all. Where the table is full, who was heard once makes room for who comes, and
// after a flood the questions are asked anew.
//
// An address that is not ours any more is withdrawn at once, by a record with a TTL of 0: a cache-flush bit spares what is
// younger than a second and says nothing of a family without addresses. Another device with our names (a card that was
// copied, or Avahi with a service of our name) is reported as a [Clone]; what it flushes of ours we say again.
//
// # What the library cannot do
//
// Found by measuring, and not to be mended from outside; replacing the Server would be the remedy:
//
//   - It does not probe and defends no name (RFC 6762 8, 9). Names are unique because they contain the short ID.
//   - It answers no A or AAAA questions. Our own sockets do.
//   - It answers every question at once and on both families, without a limit and without putting answers together: 1000
//     questions are up to 2000 packets. Questions from another port than 5353, of simple resolvers, it answers by multicast.
//   - Every Server of the process answers the questions of every link that anybody in the namespace listens on; with the
//     addresses of that link, so that it costs packets and misleads nobody.
//   - It reads the addresses anew for each packet and so announces some that cannot be used yet, or that were there for a
//     moment. We withdraw what we are not told of soon.
//   - It sends one goodbye. We send two more.
//   - It knows the known answers of one packet only (7.2), and only of PTR records.
//   - It prints to the standard logger. A program calls [RedirectLog] once.
//   - Setting its TTL is a data race with its first announcement: a 32-bit write, left out in race builds, whose records live 3200 s.
//   - Its announcing goroutine outlives Shutdown by up to four seconds.
//
// Never call its Register, Resolver or SetText: they mix links, hide departures, and race.
package discovery
