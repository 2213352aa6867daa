// Package links lets tests of packages that know nothing of netlink follow the links of their namespace as the agent does: by
// the real monitor of package link.
package links

import (
	"context"
	"net/netip"

	"nigh/link"
)

// Link is a link that other devices can be looked for on, as [link.Link].
type Link struct {
	Index    int
	Name     string
	Prefixes []netip.Prefix
}

// Follow calls set with all usable links, at first and whenever something differs, until ctx ends.
func Follow(ctx context.Context, set func([]Link)) error {
	m := link.NewMonitor(link.Config{})
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	for c := range m.Changes() {
		usable := []Link{}
		for _, l := range c.Links {
			if l.Usable {
				usable = append(usable, Link{Index: l.Index, Name: l.Name, Prefixes: l.Prefixes})
			}
		}
		set(usable)
	}
	return <-ended
}
