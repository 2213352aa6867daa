package lab

import "strconv"

// Slow bounds what a link of h takes in and gives out to mbit Mbit/s each, as a slower kind of network does, with a queue of 50 ms.
func (b *Bridge) Slow(h *Host, ifname string, mbit int) {
	h.net.tb.Helper()
	rate := strconv.Itoa(mbit) + "mbit"
	for _, end := range []struct {
		host *Host
		dev  string
	}{{h, ifname}, {b.host, b.port(h, ifname)}} {
		end.host.Run("tc", "qdisc", "replace", "dev", end.dev, "root", "tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
	}
}
