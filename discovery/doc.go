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
// # What the library cannot do
//
// Found by measuring, and not to be mended from outside; replacing the Server would be the remedy:
//
//   - It does not probe and defends no name (RFC 6762 8, 9). Names are unique because they contain the short ID.
//   - It answers no A or AAAA questions. Our own sockets do.
//   - It answers every question at once, on both families, without rate limit, to legacy unicast questions by multicast, and
//     every Server answers questions of every link of the process.
//   - It prints to the standard logger. A program calls [RedirectLog] once.
//   - Setting its TTL is a data race with its first announcement: a 32-bit write, left out in race builds, whose records live 3200 s.
//   - Its announcing goroutine outlives Shutdown by up to four seconds.
//
// Never call its Register, Resolver or SetText: they mix links, hide departures, and race.
package discovery
