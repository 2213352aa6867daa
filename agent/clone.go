package agent

import (
	"maps"
	"slices"
	"sync"

	"nigh/discovery"
)

// clones keeps where another device was met that has this device's names or key: a copied card has both. Its zero value
// knows of none.
type clones struct {
	mu    sync.Mutex
	where map[string]string // interface by sighting; guarded by mu
}

// met takes note of a clone and says whether it is a new one.
func (c *clones) met(key, ifname string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.where == nil {
		c.where = map[string]string{}
	}
	_, known := c.where[key]
	if !known && len(c.where) < maxPeers {
		c.where[key] = ifname
	}
	return !known
}

// gone forgets a clone and says whether there was one.
func (c *clones) gone(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.where[key]
	delete(c.where, key)
	return known
}

// notices has one sentence for each interface that a clone is on.
func (c *clones) notices() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, ifname := range slices.Compact(slices.Sorted(maps.Values(c.where))) {
		out = append(out, "Another device announces itself with this device's ID on "+ifname+
			": was the card copied? Then delete key.pem in the state folder of one of the two and start it again.")
	}
	return out
}

// cloneAnnounced takes what discovery says of a device with our own names. It is a hint like all of mDNS.
func (a *Agent) cloneAnnounced(e discovery.Event) {
	if key := instanceKey(e); e.Op == discovery.Clone {
		if a.clones.met(key, e.Ifname) {
			a.log.Warn("Another device announces itself with this device's ID", "ifname", e.Ifname, "host", e.Host, "addrs", e.Addrs)
		}
	} else {
		a.clones.gone(key)
	}
	a.publishStatus()
}

// cloneProved takes note of a sighting whose device proved to have this device's own key.
func (a *Agent) cloneProved(s sighting) {
	if s.key == "" || s.ifname == "" {
		// An address that was typed may well be our own.
		return
	}
	if a.clones.met(s.key, s.ifname) {
		a.log.Warn("Another device has this device's key", "ifname", s.ifname, "addrs", s.addrs)
		a.publishStatus()
	}
}
