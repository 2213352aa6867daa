package wpatest

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// steps are the recordings that an Air plays.
var steps = []string{"start", "find", "owner", "client", "reject", "pin", "pin-typed", "wrong-pin", "insist", "autonomous", "invite", "persistent",
	"reinvoke-owner", "reinvoke-client", "forgot", "lost"}

// Air is a number of scripted supplicants that hear each other. What they say to each other follows from the calls they get;
// in which words they tell it on D-Bus is taken from recordings of real ones.
type Air struct {
	Nodes []*Supplicant

	mu      sync.Mutex
	queue   []said            // guarded by mu; signals that follow from what is being done
	scripts map[string]Script // by step; read only
	groups  int               // guarded by mu
	runs    sync.WaitGroup
}

// said is a signal on its way.
type said struct {
	by   *Supplicant
	life int
	line Line
}

// pending is a Connect that has not ended.
type pending struct {
	peer       *Supplicant
	way        string // "pbc", "display" or "keypad"
	pin        string
	intent     int
	join       bool
	persistent bool
	quiet      bool // only be ready
	told       bool // the peer has been asked
}

// group is a group as it is in the air.
type group struct {
	owner      *Supplicant
	ssid       string
	passphrase string
	persistent bool
	again      bool // started from a profile
	members    []*Supplicant
	open       *window
}

// window is WPS being open at the owner: for a PIN, or for a button.
type window struct {
	pin  string
	from []byte // device address that may press the button; nil = any
}

// membership is one device's side of a group.
type membership struct {
	of     *group
	path   dbus.ObjectPath // its interface
	object dbus.ObjectPath // its W.Group object
	ifname string
	// partial is a client's group after re-invocation on 2.10: its object has a BSSID of zeros and no frequency, and cannot be
	// read as a whole.
	partial bool
}

// NewAir starts n scripted supplicants (at most three), each with a real bus of its own, until the test ends.
func NewAir(tb testing.TB, n int) *Air {
	tb.Helper()
	return newAir(tb, n, false)
}

// NewLaterAir is NewAir with supplicants that have what came in 2.11 and 2.12, as far as nigh meets it: the key auto_join, the
// property DeviceAddress, a reason in every GroupFormationFailure, whole group objects after a re-invocation; and more keys and
// arguments in all signals than any version has.
func NewLaterAir(tb testing.TB, n int) *Air {
	tb.Helper()
	return newAir(tb, n, true)
}

func newAir(tb testing.TB, n int, later bool) *Air {
	tb.Helper()
	a := &Air{scripts: map[string]Script{}}
	for _, name := range steps {
		s, err := Recording(name)
		if err != nil {
			tb.Fatal(err)
		}
		a.scripts[name] = s
	}
	tb.Cleanup(a.runs.Wait)
	for i := range n {
		name := string(rune('a' + i))
		a.Nodes = append(a.Nodes, &Supplicant{Name: name, Address: Address(name), later: later, air: a})
	}
	for _, s := range a.Nodes {
		s.start(tb)
	}
	return a
}

// recorded is the name of the node whose recording a supplicant begins with.
func (a *Air) recorded(s *Supplicant) string { return s.Name }

// flush sends what is queued.
func (a *Air) flush() {
	for len(a.queue) > 0 {
		q := a.queue
		a.queue = nil
		for _, m := range q {
			if m.by.life == m.life {
				m.by.say(m.line)
			}
		}
	}
}

// Expire has a supplicant forget all peers that it does not hear now, which takes a real one a minute.
func (a *Air) Expire(s *Supplicant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.Nodes {
		if o != s && !o.audible() {
			a.lose(s, o)
		}
	}
	a.flush()
}

func (a *Air) lose(s, o *Supplicant) {
	if s.objects[peerPath(o.Address)] != nil {
		delete(s.objects, peerPath(o.Address))
		s.emit(ownerPath, "P2PDevice.DeviceLost", peerPath(o.Address))
	}
}

// audible reports whether others can hear a device: it searches, listens, waits for a peer or owns a group.
func (s *Supplicant) audible() bool {
	return s.conn != nil && (s.finding || s.listening || s.extended || s.pending != nil || s.group != nil && s.group.of.owner == s)
}

func (a *Air) find(s *Supplicant) {
	s.finding = true
	for _, o := range a.Nodes {
		if o != s && o.audible() {
			a.found(s, o)
		}
	}
	a.visible(s)
}

// stopFind ends searching and listening; FindStopped is told only of a search.
func (a *Air) stopFind(s *Supplicant) {
	was := s.finding
	s.finding, s.listening = false, false
	if p := s.pending; p != nil && p.join {
		s.pending = nil
	}
	if was {
		s.emit(ownerPath, "P2PDevice.FindStopped")
	}
}

// visible tells those who search of a device that can be heard now, and asks it what others wait to ask.
func (a *Air) visible(s *Supplicant) {
	for _, o := range a.Nodes {
		if o == s || o.conn == nil {
			continue
		}
		if o.finding {
			a.found(o, s)
		}
		if o.pending != nil && o.pending.peer == s && !o.pending.told {
			a.ask(o)
		}
	}
}

// changed tells those who search that a device says something new of itself.
func (a *Air) changed(s *Supplicant) {
	for _, o := range a.Nodes {
		if o != s && o.conn != nil && s.conn != nil && s.audible() && (o.finding || o.objects[peerPath(s.Address)] != nil) {
			a.refresh(o, s)
			if o.finding {
				a.found(o, s)
			}
		}
	}
}

// refresh brings a peer's object up to date, in the form that it has in the recording.
func (a *Air) refresh(s, o *Supplicant) map[string]dbus.Variant {
	p := maps.Clone(a.sample("P2PDevice.DeviceFoundProperties").Args[1].(map[string]dbus.Variant))
	p["DeviceName"], p["VendorExtension"] = dbus.MakeVariant(""), dbus.MakeVariant([][]byte{})
	for _, k := range []string{"DeviceName", "PrimaryDeviceType", "VendorExtension"} {
		if v, ok := o.device.config[k]; ok {
			p[k] = v
		}
	}
	p["DeviceAddress"] = dbus.MakeVariant([]byte(o.Address))
	p["config_method"] = dbus.MakeVariant(methodBits(o.device.methods))
	capab := byte(0)
	if o.group != nil && o.group.of.owner == o {
		capab = 0x01
	}
	p["groupcapability"] = dbus.MakeVariant(capab)
	s.objects[peerPath(o.Address)] = object{"Peer": p}
	return p
}

// methodBits are the WPS configuration methods that words stand for.
func methodBits(words string) uint16 {
	bits := uint16(0)
	for word, bit := range map[string]uint16{"display": 0x08, "keypad": 0x100, "virtual_push_button": 0x80} {
		for w := range splitWords(words) {
			if w == word {
				bits |= bit
			}
		}
	}
	return bits
}

func (a *Air) found(s, o *Supplicant) {
	p := a.refresh(s, o)
	s.emit(ownerPath, "P2PDevice.DeviceFound", peerPath(o.Address))
	s.emit(ownerPath, "P2PDevice.DeviceFoundProperties", peerPath(o.Address), p)
}

// learn makes sure that a device has an object for one that it hears, without telling.
func (a *Air) learn(s, o *Supplicant) {
	if s.objects[peerPath(o.Address)] == nil {
		a.found(s, o)
	}
}

// provision carries out provision discovery before GO negotiation.
func (a *Air) provision(s, o *Supplicant, way string) {
	if !o.audible() {
		s.emit(ownerPath, "P2PDevice.ProvisionDiscoveryFailure", peerPath(o.Address), int32(1))
		return
	}
	a.learn(o, s)
	me, you := peerPath(o.Address), peerPath(s.Address)
	switch way {
	case "display":
		o.emit(ownerPath, "P2PDevice.ProvisionDiscoveryRequestDisplayPin", you, recordedPIN)
		s.emit(ownerPath, "P2PDevice.ProvisionDiscoveryResponseEnterPin", me)
	case "keypad":
		o.emit(ownerPath, "P2PDevice.ProvisionDiscoveryRequestEnterPin", you)
		s.emit(ownerPath, "P2PDevice.ProvisionDiscoveryResponseDisplayPin", me, recordedPIN)
	default:
		o.emit(ownerPath, "P2PDevice.ProvisionDiscoveryPBCRequest", you)
		s.emit(ownerPath, "P2PDevice.ProvisionDiscoveryPBCResponse", me)
	}
}

func (a *Air) connect(s *Supplicant, p *pending) {
	delete(s.rejected, p.peer)
	if s.finding && !p.join {
		s.finding = false
	}
	s.pending = p
	if p.quiet {
		return
	}
	a.ask(s)
}

// ask carries out what a pending Connect can do now.
func (a *Air) ask(s *Supplicant) {
	p := s.pending
	o := p.peer
	switch {
	case p.join && (o.conn == nil || o.group == nil || o.group.of.owner != o):
		return // it searches for the group
	case p.join:
		p.told = true
		a.askToJoin(s, p)
		return
	case !o.audible():
		return
	}
	p.told = true
	a.learn(o, s)
	switch q := o.pending; {
	case o.rejected[s]:
		s.pending = nil
		a.play("rejected", cast{"a": s, "b": o}, nil)
	case q != nil && q.peer == s && !q.join:
		a.negotiate(s, o, p, q)
	default:
		id := map[string]uint16{"pbc": 4, "display": 5, "keypad": 1}[p.way]
		o.emit(ownerPath, "P2PDevice.GONegotiationRequest", peerPath(s.Address), id, byte(p.intent))
	}
}

// negotiate carries out GO negotiation between two devices that both called Connect: o was ready, s completes it.
func (a *Air) negotiate(s, o *Supplicant, p, q *pending) {
	s.pending, o.pending = nil, nil
	fail := func(status int32) {
		for _, l := range a.lines("insisted")[:1] {
			for _, v := range []cast{{"a": s, "b": o}, {"a": o, "b": s}} {
				d := a.rewriting(v, nil).value("", l.Args[0]).(map[string]dbus.Variant)
				d["status"] = dbus.MakeVariant(status)
				v["b"].emit(ownerPath, l.Member, d)
			}
		}
	}
	switch {
	case p.intent == 15 && q.intent == 15:
		fail(9)
		return
	case (p.way == "pbc") != (q.way == "pbc"), p.way != "pbc" && p.way == q.way:
		fail(10)
		return
	}
	// The one that was ready is the one that asked first.
	owner, client := o, s
	if p.intent > q.intent {
		owner, client = s, o
	}
	if p.way != "pbc" && p.pin != q.pin {
		g, as := a.newGroup(owner, "", false), cast{"a": owner, "b": client}
		a.play("wrong PIN at owner", as, g)
		a.play("wrong PIN at client", as, g)
		a.removeGroup(owner)
		a.removeGroup(client)
		return
	}
	persistent := p.persistent && q.persistent
	g := a.newGroup(owner, "", persistent)
	as := cast{"a": owner, "b": client}
	switch {
	case persistent:
		a.together(as, g, "persistent owner", "persistent client")
	case p.way != "pbc":
		a.together(as, g, "PIN owner", "PIN client")
	case owner == o:
		a.together(as, g, "asked owner", "asking client")
	default:
		a.together(cast{"a": client, "b": owner}, g, "asking owner", "asked client")
	}
}

// removeGroup takes the interface of a group away that did not come up.
func (a *Air) removeGroup(s *Supplicant) {
	if s.group != nil {
		path := s.group.path
		s.ForgetNow(path)
		s.group = nil
		s.emit(rootPath, "Root.InterfaceRemoved", path)
	}
}

// newGroup is a group with an SSID and a passphrase of its own.
func (a *Air) newGroup(owner *Supplicant, ssid string, persistent bool) *group {
	a.groups++
	again := ssid != ""
	if !again {
		const letters = "abcdefghijklmnopqrstuvwxyz"
		postfix, _ := owner.device.config["SsidPostfix"].Value().(string)
		ssid = "DIRECT-" + string(letters[a.groups/26%26]) + string(letters[a.groups%26]) + postfix
	}
	return &group{owner: owner, ssid: ssid, passphrase: fmt.Sprintf("scripted%d", a.groups), persistent: persistent, again: again}
}

// together plays how a group comes up on both sides.
func (a *Air) together(as cast, g *group, owner, client string) {
	for _, s := range as {
		s.finding, s.listening, s.pending = false, false, nil
	}
	a.play(owner, as, g)
	a.play(client, as, g)
}

// vanished is what the others notice when a device is gone from one moment to the next.
func (a *Air) vanished(s *Supplicant) {
	m := s.group
	s.group, s.pending = nil, nil
	if m == nil {
		return
	}
	if m.of.owner != s {
		m.of.members = slices.DeleteFunc(m.of.members, func(o *Supplicant) bool { return o == s })
		return // the owner notices after minutes
	}
	for _, o := range slices.Clone(m.of.members) {
		o.emit(o.group.path, "Interface.PropertiesChanged", map[string]dbus.Variant{"DisconnectReason": dbus.MakeVariant(int32(-4)), "State": dbus.MakeVariant("disconnected")})
		a.play("owner left", cast{"a": s, "b": o}, m.of)
	}
}

// taken is the end of a group whose interface another program removed: nothing but the removal is told.
func (a *Air) taken(s *Supplicant) {
	m := s.group
	s.ForgetNow(m.path)
	s.emit(rootPath, "Root.InterfaceRemoved", m.path)
	s.group = nil
	for _, o := range m.of.members {
		if m.of.owner == s {
			a.play("owner left", cast{"a": s, "b": o}, m.of)
		}
	}
}

// leave is P2PDevice.Disconnect on a group.
func (a *Air) leave(s *Supplicant) {
	g := s.group.of
	if g.owner != s {
		as := cast{"a": s, "b": g.owner}
		a.play("client left", as, g)
		a.play("client leaves", as, g)
		return
	}
	members := slices.Clone(g.members)
	if len(members) == 0 {
		a.play("empty owner leaves", cast{"b": s}, g)
		return
	}
	a.play("owner leaves", cast{"a": s, "b": members[0]}, g)
	for _, o := range members {
		a.play("owner left", cast{"a": s, "b": o}, g)
	}
}

func (a *Air) cancel(s *Supplicant) *failure {
	if s.pending == nil {
		return &failure{errUnknown, "P2P cancel failed"}
	}
	join := s.pending.join
	s.pending = nil
	if join {
		return &failure{errUnknown, "P2P cancel failed"}
	}
	return nil
}

func (a *Air) flushPeers(s *Supplicant) {
	for _, o := range a.Nodes {
		if o != s && (s.group == nil || s.group.of.owner != o && !slices.Contains(s.group.of.members, o)) {
			a.lose(s, o)
		}
	}
	s.finding, s.rejected = false, map[*Supplicant]bool{}
}

// groupAddress is the address of a device's group interfaces.
func (s *Supplicant) groupAddress() net.HardwareAddr { return groupAddress(s.Name) }
