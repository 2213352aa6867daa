//go:build !race

package discovery

import "github.com/grandcat/zeroconf"

// serverTTL is the lifetime, in seconds, of the records that the Server publishes. With 120 s Avahi asks for the SRV record
// again before the addresses run out, which the Server sends only along with it, and forgets a killed device in two minutes.
const serverTTL = 120

// setTTL races with the first announcement: a word is written while it may be read, and either value will do.
func setTTL(s *zeroconf.Server) { s.TTL(serverTTL) }
