package agent

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"nigh/discovery"
	"nigh/link"
)

// Each link that discovery begins to use costs sockets, and a server that lives on for seconds after the link is gone.
const (
	linksBurst     = 8 // begun at once: more than people's machines have
	linksPerSecond = 4
)

// admission decides from when on a link is used, so that links that come and go by the hundred cost no more than some
// that stay. Its methods are for one goroutine.
type admission struct {
	limit *rate.Limiter
	used  map[int]bool // by ifindex
}

func newAdmission() *admission {
	return &admission{limit: rate.NewLimiter(linksPerSecond, linksBurst), used: map[int]bool{}}
}

// admit returns the links to use now, and after what time to ask again, 0 when none waits. A group waits never: somebody is
// just about to meet on it.
func (d *admission) admit(links []link.Link) (now []discovery.Interface, again time.Duration) {
	before := d.used
	d.used = map[int]bool{}
	now = []discovery.Interface{}
	for _, l := range links {
		switch {
		case !l.Usable:
			continue
		case before[l.Index], l.Kind == link.Direct, d.limit.Allow():
			d.used[l.Index] = true
			now = append(now, discovery.Interface{Index: l.Index, Name: l.Name, Prefixes: l.Prefixes})
		default:
			again = time.Second / linksPerSecond
		}
	}
	return now, again
}

// followLinks tells discovery which links to use and by what names, and the faces about all.
func (a *Agent) followLinks(ctx context.Context) error {
	door, names := newAdmission(), newRenaming()
	late := time.NewTimer(names.again())
	defer late.Stop()
	var links []link.Link
	var again <-chan time.Time
	admit := func() {
		now, wait := door.admit(links)
		a.finder.SetInterfaces(now)
		again = nil
		if wait > 0 {
			again = time.After(wait)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			admit()
		case <-late.C:
			a.announce()
			late.Reset(names.again())
		case c, ok := <-a.links.Changes():
			if !ok {
				return nil
			}
			links = c.Links
			a.table.onLinks(c.Links)
			a.inbound.onLinks(c.Links)
			if names.arrived(c.Links) {
				a.announce() // before the new links are used
				late.Reset(names.again())
			}
			admit()
			a.cables.Set(c.Links)
			a.sessions.Check()
			a.typed.kick()
			a.publishStatus()
			a.change.changed()
		}
	}
}
