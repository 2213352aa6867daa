package wpa

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"nigh/wpa/dbusapi"
)

const (
	endLimit     = 5 * time.Second        // Disconnect until the interface is gone
	removeLimit  = 2 * time.Second        // GroupFinished until the interface is gone
	degradeLimit = 15 * time.Second       // the supplicant gives a silent group owner 12.6 s
	readPause    = 400 * time.Millisecond // before a group that could not be read is read again
	readAgain    = 5                      // times at most
	killWindow   = 5 * time.Second        // NetworkManager removes a foreign group 60 ms after its start, later on a busy machine

	groupPrefix = "p2p-" // of the names that the supplicant gives the interfaces of groups
)

// groupState is the state of a group machine. What follows Linked for addresses is the business of package link.
type groupState int

const (
	groupLinked groupState = iota
	groupPopulated
	groupDegraded
	groupEnding
)

func (s groupState) String() string {
	return [...]string{"Linked", "Populated", "Degraded", "Ending"}[s]
}

// group is one group's machine.
type group struct {
	Group
	number   int
	path     dbusapi.Path // its interface object: the only one that Disconnect may be called on
	object   dbusapi.Path // its W.Group object
	state    groupState
	ours     bool // we end it when Run ends
	alone    bool // started by StartGroup: lives without clients
	up       bool // GroupUp was told
	entered  bool // a client has proved that it has the group's keys: the list of members has those that have only begun to
	started  time.Time
	finished bool   // GroupFinished was seen
	reason   Reason // why it ends, as far as known
	timer    *timer // deadline of Ending and Degraded
	idle     *timer // end of a group owner without clients
	waiting  []func(error)
}

// left tells everybody who waits for the end.
func (g *group) left(err error) {
	w := g.waiting
	g.waiting = nil
	for _, f := range w {
		f(err)
	}
}

// interfaceAdded ties a new interface to the formation that waits for one. GroupStarted names its interface, but a
// formation that fails before has nothing else by which to know what to clean up.
func (m *machine) interfaceAdded(path dbusapi.Path, ifname string) {
	if !strings.HasPrefix(ifname, groupPrefix) { // an adapter that was plugged in
		return
	}
	f := m.form
	invited := f == nil && len(m.profiles) > 0 // it may be a persistent group that a peer starts: GroupStarted tells
	if f != nil && f.stage == stageCancelling || m.haunted != nil && !invited && (f == nil || f.group != "" || !f.builds()) {
		m.layGhost(path)
		return
	}
	if f != nil && f.group == "" && f.builds() {
		f.group = path
		if f.stage == stageNegotiated || f.stage == stageInviting {
			f.enter(m, stageBuilding)
		} else {
			m.endScans()
		}
	}
}

// groupStarted makes the machine of a group that is up, and reads what the signal does not say.
func (m *machine) groupStarted(s dbusapi.GroupStarted) {
	if m.state != Ready || s.Interface == m.owner || m.groups[s.Interface] != nil {
		return
	}
	g := m.newGroup(s.Interface, s.Owner, s.Group)
	g.Persistent, g.ours = s.Persistent, true
	g.Local, g.Mask4, g.Owner4 = s.Local, s.Mask, s.Owner4
	m.readGroup(g, false)
}

// adopt takes over a group that runs already.
func (m *machine) adopt(i dbusapi.Interface, ours bool) {
	g := m.newGroup(i.Path, i.Role == "GO", "")
	// One that comes of a formation is ours, though its start was missed.
	g.ours = ours || m.form != nil && m.form.builds() && (m.form.group == i.Path || m.form.group == "")
	m.readGroup(g, true)
}

func (m *machine) newGroup(path dbusapi.Path, owner bool, object dbusapi.Path) *group {
	m.lastGroup++
	g := &group{number: m.lastGroup, path: path, object: object, started: time.Now()}
	g.ID = GroupID(strconv.Itoa(g.number))
	g.Ifname = m.ifaces[path]
	if owner {
		g.Role = Owner
	}
	m.groups[path] = g
	return g
}

// details are what is read of a group.
type details struct {
	object   dbusapi.Path
	ifname   string
	group    dbusapi.Group
	stations []net.HardwareAddr
	iface    *net.Interface
}

// reading returns the calls that read a group.
func (m *machine) reading(g *group) func(context.Context) (details, error) {
	path, object, ifname, client := g.path, g.object, g.Ifname, g.Role == Client
	return func(ctx context.Context) (details, error) {
		d := details{ifname: ifname}
		if ifname == "" {
			i, err := m.api.Interface(ctx, path)
			if err != nil {
				return d, err
			}
			d.ifname = i.Ifname
		}
		// Another program may have taken the interface away, with the group's object left over: to read that one crashes 2.10.
		known, err := m.api.GroupObject(ctx, path)
		if err != nil {
			return d, err
		}
		if dbusapi.None(object) {
			object = known
		}
		d.object = object
		if d.group, err = m.api.Group(ctx, object); err != nil {
			return d, err
		}
		if client && (d.group.Frequency == 0 || isZero(d.group.BSSID)) { // 2.10 after re-invocation
			if bssid, freq, err := m.api.CurrentBSS(ctx, path); err == nil && freq != 0 {
				d.group.BSSID, d.group.Frequency = bssid, freq
			}
		}
		if !client {
			d.stations, _ = m.api.Stations(ctx, path) // what comes later is told by signals
		}
		d.iface, _ = net.InterfaceByName(d.ifname) // another namespace's, in tests
		return d, nil
	}
}

// readGroup reads a group; late when signals of it may have been missed.
func (m *machine) readGroup(g *group, late bool) { m.readFor(g, late, readAgain) }

// readFor is readGroup with a number of further tries: 2.10 refuses to read the group of a client that has just come back to a
// persistent one and does not know yet which network it is on, or leaves out where it is.
func (m *machine) readFor(g *group, late bool, again int) {
	do(m, m.reading(g), func(d details, err error) {
		switch {
		case m.groups[g.path] != g || err != nil && g.state == groupEnding:
			return
		case err == nil && again > 0 && g.state != groupEnding && g.Role == Client && d.group.Frequency == 0:
			g.timer.stop()
			g.timer = m.after(readPause, func() { m.readFor(g, late, again-1) })
			return
		case err != nil:
			// It may have been taken away before it was read, too: InterfaceRemoved follows then, and tells by whom.
			m.log.Warn("Reading the group failed", "err", err)
			if again == 0 {
				m.end(g, ReasonEnded)
				return
			}
			g.timer.stop()
			g.timer = m.after(readPause, func() { m.readFor(g, late, again-1) })
			return
		}
		if late {
			g.believes(d)
		}
		m.groupRead(g, d)
	})
}

func (m *machine) groupRead(g *group, d details) {
	g.object = d.object
	g.Ifname, g.SSID, g.Passphrase = d.ifname, d.group.SSID, d.group.Passphrase
	g.BSSID, g.Frequency = d.group.BSSID, d.group.Frequency
	if d.iface != nil {
		g.Index, g.InterfaceAddress = d.iface.Index, d.iface.HardwareAddr
	}
	if g.Role == Client {
		g.Passphrase = ""
		g.state = groupPopulated
	}
	g.has(d)
	if len(g.Members) > 0 && g.state == groupLinked {
		g.state = groupPopulated
	}
	f := m.form
	mine := f != nil && f.claims(m, g)
	if mine {
		g.Peer, g.alone = f.peer, f.kind == formStart
	} else if g.Peer == nil {
		g.Peer = m.peerOf(g.SSID, g.Role)
	}
	if g.Role == Client {
		m.displace(g.Peer)
	}
	g.up = true
	m.log.Info("Group is up", "group", g.Group)
	m.endScans()
	m.emit(GroupUp{g.clone()})
	m.watchIdle(g)
	if m.disc.stage != discIdle {
		m.pause() // a search would cost the new group its first seconds
	}
	m.beVisible()
	m.showOn(g)
	if g.Persistent {
		m.readProfiles()
	}
	if mine {
		m.formed(f, g)
	}
}

// linkChanged follows the connection of a client: a group owner that falls silent has some seconds to come back.
func (m *machine) linkChanged(g *group, s dbusapi.InterfaceChanged) {
	if g.finished { // a group that is taken down disconnects too, and says that it was us
		return
	}
	// Negative reasons are decided here: -4 is the loss of beacons, others are the doing of another program. A goodbye of
	// the group owner comes without any reason: GroupFinished is told before it.
	switch {
	case g.reason != "" || s.DisconnectReason == 0:
	case s.DisconnectReason == -4:
		g.reason = ReasonPeerVanished
	case s.DisconnectReason < 0:
		g.reason = ReasonEnded
	default:
		g.reason = ReasonPeerLeft
	}
	if s.DisconnectReason != 0 && g.state == groupPopulated {
		g.state, g.Degraded = groupDegraded, true
		g.timer.stop()
		g.timer = m.after(degradeLimit, func() { m.end(g, g.reason) })
		m.groupChanged(g)
	}
	if s.State == "completed" && g.state == groupDegraded {
		g.state, g.Degraded, g.reason = groupPopulated, false, ""
		g.timer.stop()
		m.groupChanged(g)
	}
}

// disconnect returns the call that ends the group on an interface. P2PDevice.Disconnect is called by nothing else: on an interface
// that does not carry a group it would drop the user's Wi-Fi, so for any other this refuses.
func (m *machine) disconnect(path dbusapi.Path) func(context.Context) error {
	if path == m.owner || m.groups[path] == nil && !strings.HasPrefix(m.ifaces[path], groupPrefix) {
		m.log.Error("Disconnecting an interface that carries no group was refused", "path", path, "ifname", m.ifaces[path])
		return func(context.Context) error { return ErrNoGroup }
	}
	return func(ctx context.Context) error { return m.api.Disconnect(ctx, path) }
}

// end ends a group of ours.
func (m *machine) end(g *group, why Reason) {
	if m.groups[g.path] != g || g.path == m.owner {
		return
	}
	if g.reason == "" || why == ReasonLeft {
		g.reason = why
	}
	if g.state == groupEnding {
		return
	}
	g.state = groupEnding
	g.timer.stop()
	g.timer = m.after(endLimit, func() { m.groupGone(g, g.reason) })
	path := g.path
	m.order(m.disconnect(path), func(err error) {
		if err != nil && m.groups[path] == g && errors.Is(err, dbusapi.ErrUnknownObject) {
			m.groupGone(g, g.reason)
		}
	})
}

// interfaceRemoved is the end of a group, of whatever kind.
func (m *machine) interfaceRemoved(path dbusapi.Path) {
	delete(m.unwanted, path)
	g := m.groups[path]
	if g == nil {
		m.formationLost(path)
		return
	}
	if g.finished || g.state == groupEnding {
		// The signal comes before the network device goes. The supplicant does one thing after the other, so when it
		// answers a call, the device is gone.
		m.order(func(ctx context.Context) error { _, err := m.api.Capabilities(ctx); return err }, func(error) {
			m.groupGone(g, g.reason)
		})
		return
	}
	// Nobody told us: the interface was taken away under the group.
	reason := ReasonKilled
	early := time.Since(g.started) < killWindow
	g.state = groupEnding
	g.timer.stop()
	index, ifname := g.Index, g.Ifname
	do(m, func(ctx context.Context) (bool, error) {
		nm, err := m.api.HasOwner(ctx, nameNM)
		return nm, errors.Join(err, removeOrphan(index, ifname))
	}, func(nm bool, err error) {
		if err != nil {
			m.log.Warn("Removing what is left of the group failed", "ifname", ifname, "err", err)
		}
		if nm && early {
			reason = ReasonKilledByNetworkManager
			m.emit(GroupKilled{ifname})
		}
		m.groupGone(g, reason)
	})
}

// groupGone is the last of a group.
func (m *machine) groupGone(g *group, why Reason) {
	if m.groups[g.path] != g {
		return
	}
	delete(m.groups, g.path)
	g.timer.stop()
	g.idle.stop()
	switch {
	case why != "":
	case g.finished && g.Role == Client:
		why = ReasonPeerLeft
	default:
		why = ReasonEnded
	}
	g.reason = why
	if why == ReasonPeerLeft && g.Peer != nil {
		m.hasQuit(g.Peer)
	}
	if f := m.form; f != nil && f.group == g.path {
		switch {
		case why == ReasonKilledByNetworkManager:
			f.err = ErrKilledByNetworkManager
		case f.err == nil:
			f.err = ErrFormation
		}
		m.finish(f, Group{}, f.err)
	}
	for _, a := range m.admissions {
		if a.group == g.path {
			m.admitted(a, Group{}, ErrNoGroup)
		}
	}
	if g.up {
		m.log.Info("Group is gone", "group", g.Group, "reason", string(why))
		m.emit(GroupGone{g.clone(), why})
	}
	g.left(nil)
	m.beVisible()
	m.resume()
}

func (m *machine) leave(id GroupID, reply func(error)) {
	g := m.groupByID(id)
	if g == nil {
		reply(ErrNoGroup)
		return
	}
	g.waiting = append(g.waiting, reply)
	m.end(g, ReasonLeft)
}

func (m *machine) groupByID(id GroupID) *group {
	for _, g := range m.groups {
		if g.ID == id && g.up {
			return g
		}
	}
	return nil
}
