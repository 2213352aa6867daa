package agent

import (
	"context"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/trust"
)

// hiddenFrom reports whether a device is not told where we are.
func (a *Agent) hiddenFrom(p session.Peer) bool {
	return p.Standing != trust.Trusted && a.now().Visibility == VisibleHidden
}

// greet greets whoever is at an address. Who became hidden meanwhile greets again: the greeting under way may have told where we are,
// and the one after it takes that back.
func (a *Agent) greet(ctx context.Context, at netip.AddrPort) (identity.DeviceID, session.Hello, error) {
	was := a.now().Visibility
	id, hello, err := a.sessions.Greet(ctx, at)
	if err == nil && was != VisibleHidden && a.hiddenFrom(session.Peer{ID: id, Standing: a.trust.Standing(id)}) {
		_, _, _ = a.sessions.Greet(ctx, at) // who does not answer any more is not near
	}
	return id, hello, err
}

// leaveStrangers greets every stranger that is near, as a device that became hidden: those that list us because we greeted them forget
// us. That mDNS and the radio say nothing of us any more they hear by themselves.
func (a *Agent) leaveStrangers(ctx context.Context) {
	var all errgroup.Group
	all.SetLimit(greetsAtOnce)
	for _, at := range a.table.strangers() {
		all.Go(func() error {
			if ctx.Err() == nil && a.now().Visibility == VisibleHidden {
				if _, _, err := a.sessions.Greet(ctx, at); err != nil {
					a.log.Debug("A stranger was not told that this device is hidden", "address", at, "err", err)
				}
			}
			return nil
		})
	}
	_ = all.Wait()
}

// strangers returns where each stranger was proved, once for every link.
func (t *table) strangers() (all []netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		if t.standing(id).Standing != trust.New {
			continue
		}
		links := map[string]bool{}
		for _, s := range p.sightings {
			if at := s.where(); at.IsValid() && !links[s.ifname] {
				links[s.ifname] = true
				all = append(all, at)
			}
		}
	}
	return all
}

// where is the address where s was proved, or may be.
func (s sighting) where() netip.AddrPort {
	if !s.at.IsValid() && len(s.addrs) > 0 {
		return s.addrs[0]
	}
	return s.at
}
