package agent

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/trust"
)

// views returns every peer as the faces see it: ready ones first, then by name.
func (t *table) views() []control.Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	views := []control.Peer{}
	for _, p := range t.peers {
		if v, ok := t.view(p); ok {
			views = append(views, v)
		}
	}
	for _, s := range t.radio {
		if _, ok := t.behindLocked(s); !ok {
			views = append(views, t.radioView(s))
		}
	}
	order := []string{"ready", "connecting", "visible", "away"}
	sort.Slice(views, func(i, j int) bool {
		a, b := views[i], views[j]
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)),
			strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
			strings.Compare(a.Key(), b.Key())) < 0
	})
	return views
}

// one returns the view of the peer with this identity.
func (t *table) one(id identity.DeviceID) (control.Peer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		return control.Peer{}, false
	}
	return t.view(p)
}

// view renders p; t.mu is held. A stranger that left is not shown.
func (t *table) view(p *peer) (control.Peer, bool) {
	r := t.standing(p.id)
	v := control.Peer{
		ID:         p.id.String(),
		Short:      p.id.Short(),
		Name:       cmp.Or(r.Name, p.name, p.id.Short()),
		Trust:      r.Standing.String(),
		Paths:      []control.Path{},
		AutoAccept: r.AutoAccept,
		Age:        -1,
	}
	if t.warning != nil {
		v.Warning = t.warning(p.id)
	}
	if !p.seen.IsZero() {
		v.Age = t.now().Sub(p.seen).Seconds()
		v.LastSeen = p.seen.Format(time.RFC3339)
	}
	if p.link.Connected {
		v.Age = 0
		v.LastSeen = t.now().Format(time.RFC3339)
	}
	shown := map[string]bool{}
	for _, s := range p.sightings {
		// One line for each link: the address that connections would use.
		if len(s.addrs) == 0 || shown[s.kind+s.ifname] && s.kind != kindManual {
			continue
		}
		shown[s.kind+s.ifname] = true
		best := slices.MinFunc(s.addrs, func(a, b netip.AddrPort) int {
			return cmp.Compare(rank(session.Candidate{Addr: a, Kind: s.kind}), rank(session.Candidate{Addr: b, Kind: s.kind}))
		})
		path := control.Path{Kind: s.kind, Ifname: s.ifname, Address: best.String()}
		here := p.link.Path.Ifname == s.ifname
		if s.kind == kindManual { // its link is known once it is dialled
			here = slices.Contains(s.addrs, p.link.Path.Addr)
		}
		if p.link.Connected && p.link.Path.Kind == s.kind && here {
			path.Active, path.Ifname = true, p.link.Path.Ifname
			path.Address = cmp.Or(addrString(p.link.Path.Addr), path.Address)
			path.RTT = float64(p.link.RTT.Microseconds()) / 1000
		}
		v.Paths = append(v.Paths, path)
	}
	if p.link.Connected && !slices.ContainsFunc(v.Paths, func(p control.Path) bool { return p.Active }) {
		// It dialled us from somewhere we have no announcement of.
		v.Paths = append(v.Paths, control.Path{
			Kind: cmp.Or(p.link.Path.Kind, kindLAN), Ifname: p.link.Path.Ifname, Address: addrString(p.link.Path.Addr),
			RTT: float64(p.link.RTT.Microseconds()) / 1000, Active: true,
		})
	}
	for _, s := range t.radio {
		if s.is(p.id) {
			if i := slices.IndexFunc(v.Paths, func(p control.Path) bool { return p.Kind == kindDirect }); i >= 0 {
				v.Paths[i].Signal = s.signal
				continue
			}
			v.Paths = append(v.Paths, control.Path{Kind: kindDirect, Address: s.mac.String(), Signal: s.signal})
			if p.seen.Before(s.seen) {
				v.Age, v.LastSeen = t.now().Sub(s.seen).Seconds(), s.seen.Format(time.RFC3339)
			}
		}
	}
	sort.Slice(v.Paths, func(i, j int) bool {
		a, b := v.Paths[i], v.Paths[j]
		order := []string{kindDirect, kindLAN, kindManual}
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)),
			strings.Compare(a.Ifname, b.Ifname), strings.Compare(a.Address, b.Address)) < 0
	})
	switch {
	case r.Standing == trust.Blocked && len(v.Paths) > 0:
		v.State = "visible"
	case p.link.Connected:
		v.State = "ready"
	case len(p.sightings) > 0 && r.Standing == trust.Trusted && p.err == nil:
		v.State = "connecting"
	case len(v.Paths) > 0 && (r.Standing != trust.Trusted || len(p.sightings) == 0):
		v.State = "visible"
	default:
		v.State = "away"
		v.Paths = []control.Path{}
	}
	if p.err != nil && v.State == "away" && r.Standing == trust.Trusted && len(p.sightings) > 0 {
		e := explain(p.err)
		v.Error, v.Hint = e.Message, e.Hint
	}
	return v, v.State != "away" || r.Standing != trust.New
}

func addrString(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
