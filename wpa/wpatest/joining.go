package wpatest

import (
	"slices"

	"github.com/godbus/dbus/v5"
)

// autonomous starts a group with one device, or starts a persistent one of its own again.
func (a *Air) autonomous(s *Supplicant, from *profile, persistent bool) {
	ssid := ""
	if from != nil {
		ssid, persistent = from.ssid, true
	}
	g := a.newGroup(s, ssid, persistent)
	s.finding, s.listening, s.pending = false, false, nil
	a.play("alone", cast{"a": s}, g)
	if persistent && from == nil {
		a.playOnly("persistent owner", cast{"a": s}, g, "P2PDevice.PersistentGroupAdded")
	}
	a.visible(s)
}

// askToJoin has an owner asked by provision discovery, or lets the device in at once when WPS is open for it.
func (a *Air) askToJoin(s *Supplicant, p *pending) {
	o := p.peer
	a.learn(o, s)
	if a.enters(s, o) {
		return
	}
	switch p.way {
	case "display":
		o.emit(ownerPath, "P2PDevice.ProvisionDiscoveryRequestEnterPin", peerPath(s.Address))
	case "keypad":
		o.emit(ownerPath, "P2PDevice.ProvisionDiscoveryRequestDisplayPin", peerPath(s.Address), recordedPIN)
	default:
		o.emit(ownerPath, "P2PDevice.ProvisionDiscoveryPBCRequest", peerPath(s.Address))
	}
}

// open opens WPS at the owner of a group.
func (a *Air) open(s *Supplicant, pin string, from []byte) {
	s.group.of.open = &window{pin, from}
	for _, o := range a.Nodes {
		if p := o.pending; p != nil && p.join && p.peer == s && p.told && a.enters(o, s) {
			return
		}
	}
}

// enters lets a device that wants to join in, if the owner's WPS is open for it.
func (a *Air) enters(s, owner *Supplicant) bool {
	p, g := s.pending, owner.group.of
	w := g.open
	if w == nil || len(w.from) == 6 && !slices.Equal(w.from, s.Address) {
		return false
	}
	if (p.way == "pbc") != (w.pin == "") {
		return false
	}
	as := cast{"a": owner, "b": s}
	if p.way != "pbc" && p.pin != w.pin {
		g.open, s.pending = nil, nil
		a.playOnly("wrong PIN at client", as, g, "Root.InterfaceAdded", "P2PDevice.WpsFailed", "P2PDevice.GroupFormationFailure")
		a.removeGroup(s)
		return true
	}
	g.open, s.pending, s.finding, s.listening = nil, nil, false, false
	if p.way == "pbc" {
		a.play("let in", as, g)
		a.play("joins", as, g)
		return true
	}
	as = cast{"a": owner, "c": s}
	a.playBut("let in by PIN", as, g, "P2PDevice.ProvisionDiscoveryRequestEnterPin")
	a.play("joins by PIN", as, g)
	return true
}

// inviteToGroup invites a device to the group that s is in.
func (a *Air) inviteToGroup(s, o *Supplicant) {
	g := s.group.of
	as := cast{"a": g.owner, "b": o}
	if !o.audible() {
		s.emit(ownerPath, "P2PDevice.InvitationResult", map[string]dbus.Variant{"status": dbus.MakeVariant(int32(-1))})
		return
	}
	a.learn(o, s)
	a.play("is invited", as, g)
	a.play("invites", cast{"a": s, "b": o}, g)
}

// reinvoke starts a persistent group again, if the other side knows it too.
func (a *Air) reinvoke(s, o *Supplicant, p profile) {
	status := func(n int32) {
		s.emit(ownerPath, "P2PDevice.InvitationResult", map[string]dbus.Variant{"status": dbus.MakeVariant(n)})
	}
	if !o.audible() || o.group != nil {
		status(-1)
		return
	}
	a.learn(o, s)
	if s.finding {
		s.finding = false
	}
	known := false
	for _, q := range o.profiles {
		known = known || q.ssid == p.ssid && slices.Equal(q.bssid, p.bssid) && q.owner != p.owner
	}
	if !known {
		a.playOnly("forgotten", cast{"a": s, "b": o}, nil, "P2PDevice.InvitationResult")
		return
	}
	if on, _ := o.device.config["PersistentReconnect"].Value().(bool); !on {
		o.emit(ownerPath, "P2PDevice.InvitationReceived", map[string]dbus.Variant{
			"sa": dbus.MakeVariant([]byte(s.Address)), "go_dev_addr": dbus.MakeVariant([]byte(p.bssid)), "op_freq": dbus.MakeVariant(int32(0)),
		})
		status(1)
		return
	}
	if p.owner {
		a.together(cast{"a": s, "b": o}, a.newGroup(s, p.ssid, true), "owner invites back", "client comes back")
	} else {
		a.together(cast{"a": o, "b": s}, a.newGroup(o, p.ssid, true), "owner comes back", "client invites back")
	}
}
