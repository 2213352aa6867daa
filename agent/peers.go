package agent

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/recognise"
	"nigh/agent/session"
	"nigh/agent/trust"
	"nigh/link"
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
	later   time.Duration  // before it is greeted
	known   bool           // it says that it is a trusted device, or we chose its link: only a hint, for the order of greetings
	short   string         // the short ID that it says to have, "" when it does not say
	source  netip.Addr     // who announced it
	order   uint64         // of strangers that came together, who is greeted first
	at      netip.AddrPort // of addrs, where its key was proved
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
	whole   bool              // the advert was heard with all that is in it
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
	way       session.Candidate   // that the last session took, also after it ended
	seen      time.Time           // zero = never in this run
	err       error               // why there is no session, nil when there is or none is wanted
	greeted   bool                // it answered in this run
}

// table holds every peer. It does no I/O and calls nobody, so its mutex is
// never held for long.
type table struct {
	standing func(identity.DeviceID) trust.Record
	warning  func(identity.DeviceID) string // may not call the table; nil for none
	now      func() time.Time

	mu    sync.Mutex
	peers map[identity.DeviceID]*peer // guarded by mu
	radio map[string]radioSighting    // by P2P device address; guarded by mu
	alone map[string]bool             // of radio: those that were shown as nobody known; guarded by mu
	kinds map[string]link.Kind        // of our links by name; guarded by mu
	gone  []identity.DeviceID         // that gave way although they are near; guarded by mu
}

func newTable(standing func(identity.DeviceID) trust.Record) *table {
	return &table{
		standing: standing,
		now:      time.Now,
		peers:    map[identity.DeviceID]*peer{},
		radio:    map[string]radioSighting{},
		alone:    map[string]bool{},
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
// t.mu is held. A device in the trust book, which has its own bound, needs no room.
func (t *table) entry(id identity.DeviceID) *peer { return t.entryFrom(id, netip.Addr{}) }

// entryFrom is entry for a device that was met at an address.
func (t *table) entryFrom(id identity.DeviceID, from netip.Addr) *peer {
	if p := t.peers[id]; p != nil {
		return p
	}
	if len(t.peers) >= maxPeers && !t.makeRoom(from) && t.standing(id).Standing == trust.New {
		return nil
	}
	p := &peer{id: id, sightings: map[string]sighting{}}
	t.peers[id] = p
	return p
}

// attach records that the device with this proved identity is reached by s. It
// reports false when the table is full.
func (t *table) attach(id identity.DeviceID, name string, s sighting) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.entryFrom(id, s.host())
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
// whether the peer became connected by it, and the better way that it left, which
// therefore does not lead to the peer any more. Only trusted devices are held: a
// word about any other was on its way when its trust ended.
func (t *table) session(s session.PeerState) (up bool, left session.Candidate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.standing(s.ID).Standing != trust.Trusted {
		t.releaseLocked(s.ID)
		return false, left
	}
	p := t.entry(s.ID)
	if p == nil {
		return false, left
	}
	if s.Connected {
		if p.way.Ifname != "" && p.way.Ifname != s.Path.Ifname && t.cost(p.way) < t.cost(s.Path) {
			left = p.way
		}
		p.way = s.Path
	}
	if s.Hello.Name != "" {
		p.name = clean.Name(s.Hello.Name, maxNameBytes)
	}
	up = s.Connected && !p.link.Connected
	if s.Connected || p.link.Connected {
		p.seen = t.now()
	}
	p.link, p.err = s, s.Err
	return up, left
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
	for i := range all {
		all[i].Cost = t.cost(all[i])
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(rank(a), rank(b)), a.Addr.Compare(b.Addr), cmp.Compare(a.Ifname, b.Ifname)) < 0
	})
	return all
}

// What paths cost, by which the better one is taken. Direct is best: nothing is
// between the two devices, and nobody else is on the channel that they chose. A
// wire is better than a Wi-Fi network, where every byte goes through the air
// twice. The time of a round trip decides nothing: it changes with the load, and
// paths of the same cost must not be changed for each other back and forth.
const (
	costDirect  = 0
	costWire    = 10
	costUnknown = 15
	costWiFi    = 20
	costManual  = 30
)

// cost is what a path costs; t.mu is held.
func (t *table) cost(c session.Candidate) int {
	switch c.Kind {
	case kindDirect:
		return costDirect
	case kindManual:
		return costManual
	}
	switch t.kinds[c.Ifname] {
	case link.Ethernet, link.Bridge:
		return costWire
	case link.WiFi:
		return costWiFi
	}
	return costUnknown
}

// onLinks takes over which links there are.
func (t *table) onLinks(links []link.Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds = make(map[string]link.Kind, len(links))
	for _, l := range links {
		t.kinds[l.Name] = l.Kind
	}
}

// unproved takes back what was announced by a peer on one link, and returns it: it
// has to be proved again that it leads there.
func (t *table) unproved(id identity.DeviceID, ifname string) (all []sighting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		return nil
	}
	for key, s := range p.sightings {
		if s.ifname == ifname && strings.HasPrefix(key, announcedKey) {
			delete(p.sightings, key)
			all = append(all, s)
		}
	}
	return all
}

// rank orders the addresses of one path: on a group the link-local address first,
// because it needs no lease, elsewhere IPv4 first, because some access points
// spoil IPv6 multicast.
func rank(c session.Candidate) (r int) {
	if linkLocal := c.Addr.Addr().IsLinkLocalUnicast(); linkLocal != (c.Kind == kindDirect) {
		r = 2
	}
	if c.Addr.Addr().Is6() {
		r++
	}
	return r
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
