package agent

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/recognise"
	"nigh/agent/session"
	"nigh/agent/trust"
)

// Bounds of the peer table. A segment with more devices than maxPeers shows the
// first ones; trusted devices always find a place.
const (
	maxPeers     = 512
	maxSightings = 1024
	maxRadio     = 256
	maxNameBytes = 40
)

// Kinds of path, best first.
const (
	kindDirect = "direct"
	kindLAN    = "lan"
	kindManual = "manual"
)

// sighting is one way on which somebody was heard: an mDNS instance on one
// link, the group owner's rendezvous address, or an address typed by a person.
// Only after a greeting proved a key does it belong to a peer.
type sighting struct {
	key     string // unique: where it came from
	kind    string
	ifindex int // 0 for a typed address
	ifname  string
	addrs   []netip.AddrPort
	later   time.Duration // before it is greeted
	known   bool          // it says that it is a trusted device, or we chose its link: only a hint, for the order of greetings
}

// radioSighting is a Wi-Fi Direct device as the radio hears it. All of it is hints.
type radioSighting struct {
	mac     net.HardwareAddr
	name    string // escaped
	short   string // as its P2P device name says, "" without
	signal  int
	seen    time.Time
	owner   bool              // of a running group
	members int               // of the group that it owns, 0 when it does not say
	id      identity.DeviceID // who it seems to be by its advert, zero without
	friend  bool              // its advert has a tag for us: it trusts us, and we trust it
	nigh    bool              // it sends an advert
	manual  bool              // its user does the PIN by hand
	nonce   recognise.Nonce   // of its advert
}

// is reports whether s seems to be of the device id.
func (s radioSighting) is(id identity.DeviceID) bool {
	return s.id == id || s.id.IsZero() && s.short != "" && s.short == id.Short()
}

// peer is a device with a proved or provisioned identity.
type peer struct {
	id        identity.DeviceID
	name      string // as it calls itself, escaped
	sightings map[string]sighting
	expected  map[string]sighting // addresses at which it may be; nothing is proved about them
	link      session.PeerState   // last word of the session layer
	seen      time.Time           // zero = never in this run
	err       error               // why there is no session, nil when there is or none is wanted
	greeted   bool                // it answered in this run
}

// table holds every peer. It does no I/O and calls nobody, so its mutex is
// never held for long.
type table struct {
	standing func(identity.DeviceID) trust.Record
	now      func() time.Time

	mu    sync.Mutex
	peers map[identity.DeviceID]*peer // guarded by mu
	radio map[string]radioSighting    // by P2P device address; guarded by mu
}

func newTable(standing func(identity.DeviceID) trust.Record) *table {
	return &table{
		standing: standing,
		now:      time.Now,
		peers:    map[identity.DeviceID]*peer{},
		radio:    map[string]radioSighting{},
	}
}

// know makes sure that id has a place in the table: trusted devices are listed
// even while they are away. It reports whether there was room.
func (t *table) know(id identity.DeviceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entry(id) != nil
}

// entry returns the peer with this id, making it if there is room, else nil;
// t.mu is held. A full table forgets the stranger that was silent longest; a
// device in the trust book, which has its own bound, needs no room.
func (t *table) entry(id identity.DeviceID) *peer {
	if p := t.peers[id]; p != nil {
		return p
	}
	if len(t.peers) >= maxPeers && !t.forgetOne() && t.standing(id).Standing == trust.New {
		return nil
	}
	p := &peer{id: id, sightings: map[string]sighting{}}
	t.peers[id] = p
	return p
}

// forgetOne drops the stranger without a path that was seen longest ago; t.mu
// is held.
func (t *table) forgetOne() bool {
	var oldest *peer
	for _, p := range t.peers {
		if len(p.sightings) > 0 || p.link.Connected || t.standing(p.id).Standing != trust.New {
			continue
		}
		if oldest == nil || p.seen.Before(oldest.seen) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.peers, oldest.id)
	return true
}

// attach records that the device with this proved identity is reached by s. It
// reports false when the table is full.
func (t *table) attach(id identity.DeviceID, name string, s sighting) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.entry(id)
	if p == nil {
		return false
	}
	// One sighting belongs to one device: the same announcement may be
	// answered by another machine after a card was moved.
	for other, q := range t.peers {
		if other != id {
			delete(q.sightings, s.key)
		}
		delete(q.expected, s.key)
	}
	p.sightings[s.key] = s
	p.seen = t.now()
	p.greeted = true
	if errors.Is(p.err, session.ErrNoAddress) {
		p.err = nil // it has one now; what comes of it the session layer tells
	}
	if n := clean.Name(name, maxNameBytes); n != "" {
		p.name = n
	}
	return true
}

// detach removes a sighting and returns the peer it belonged to, if any.
func (t *table) detach(key string) (identity.DeviceID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		if _, ok := p.sightings[key]; ok {
			delete(p.sightings, key)
			p.seen = t.now()
			return id, true
		}
	}
	return identity.DeviceID{}, false
}

// session takes over what the session layer says about a peer. It reports
// whether the peer became connected by it. Only trusted devices are held: a word
// about any other was on its way when its trust ended.
func (t *table) session(s session.PeerState) (up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.standing(s.ID).Standing != trust.Trusted {
		t.releaseLocked(s.ID)
		return false
	}
	p := t.entry(s.ID)
	if p == nil {
		return false
	}
	if s.Hello.Name != "" {
		p.name = clean.Name(s.Hello.Name, maxNameBytes)
	}
	up = s.Connected && !p.link.Connected
	if s.Connected || p.link.Connected {
		p.seen = t.now()
	}
	p.link, p.err = s, s.Err
	return up
}

// release forgets what the session layer said about a peer: it says nothing more
// about a device whose session it was told to let go.
func (t *table) release(id identity.DeviceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked(id)
}

func (t *table) releaseLocked(id identity.DeviceID) {
	if p := t.peers[id]; p != nil {
		p.link, p.err = session.PeerState{}, nil
	}
}

// ownName is what a device called itself in this run, "" when it did not.
func (t *table) ownName(id identity.DeviceID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		return p.name
	}
	return ""
}

// expects reports whether a short ID is that of a trusted device.
func (t *table) expects(short string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.peers {
		if id.Short() == short && t.standing(id).Standing == trust.Trusted {
			return true
		}
	}
	return false
}

// forget removes a peer that is neither trusted nor reachable.
func (t *table) forget(id identity.DeviceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil || len(p.sightings) > 0 || p.link.Connected || t.standing(id).Standing != trust.New {
		return false
	}
	delete(t.peers, id)
	return true
}

// candidates returns the addresses of a peer, best path first, for the session
// layer. It never contains an address of a Wi-Fi Direct device without a group.
func (t *table) candidates(id identity.DeviceID) []session.Candidate {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		return nil
	}
	var all []session.Candidate
	for _, known := range []map[string]sighting{p.sightings, p.expected} {
		for _, s := range known {
			for _, a := range s.addrs {
				c := session.Candidate{Addr: a, Kind: s.kind, Ifname: s.ifname}
				if !slices.Contains(all, c) {
					all = append(all, c)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b session.Candidate) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Addr.Compare(b.Addr), cmp.Compare(a.Ifname, b.Ifname))
	})
	return all
}

// rank orders candidates: Direct before LAN before typed addresses; on a group
// the link-local address first, because it needs no lease, elsewhere IPv4
// first, because some access points spoil IPv6 multicast.
func rank(c session.Candidate) int {
	r := map[string]int{kindDirect: 0, kindLAN: 10, kindManual: 20}[c.Kind]
	if linkLocal := c.Addr.Addr().IsLinkLocalUnicast(); linkLocal != (c.Kind == kindDirect) {
		r += 2
	}
	if c.Addr.Addr().Is6() {
		r++
	}
	return r
}

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
	slices.SortFunc(views, func(a, b control.Peer) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)),
			strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
			strings.Compare(a.Key(), b.Key()))
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
		if p.link.Connected && p.link.Path.Kind == s.kind && p.link.Path.Ifname == s.ifname {
			path.Active = true
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
	slices.SortFunc(v.Paths, func(a, b control.Path) int {
		order := []string{kindDirect, kindLAN, kindManual}
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)),
			strings.Compare(a.Ifname, b.Ifname), strings.Compare(a.Address, b.Address))
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

// onInterface returns the device that was proved on an interface and has this
// short ID, "" being any, if there is exactly one.
func (t *table) onInterface(ifname, short string) (found identity.DeviceID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		if short != "" && id.Short() != short {
			continue
		}
		here := p.link.Connected && p.link.Path.Ifname == ifname
		for _, s := range p.sightings {
			here = here || s.ifname == ifname
		}
		if here && ok {
			return identity.DeviceID{}, false
		}
		if here {
			found, ok = id, true
		}
	}
	return found, ok
}
