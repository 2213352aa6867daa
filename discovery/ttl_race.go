//go:build race

package discovery

import "github.com/grandcat/zeroconf"

// serverTTL is the library's own lifetime, in seconds: setting another would be reported by the race detector.
const serverTTL = 3200

func setTTL(*zeroconf.Server) {}
