package wpatest

import (
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// cast says which supplicant plays which recorded node.
type cast map[string]*Supplicant

// scene is a stretch of a recording: the signals of one node in a step, from the last of a name up to the first of another
// after it (to the end of the step when that is empty), without what is told of searches.
type scene struct{ step, node, from, until string }

// scenes are what the supplicants say in the situations that an Air knows.
var scenes = map[string]scene{
	"asked owner":         {"owner", "a", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"asking client":       {"owner", "b", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"asking owner":        {"client", "b", "P2PDevice.GONegotiationSuccess", "Group.PeerDisconnected"},
	"asked client":        {"client", "a", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"PIN owner":           {"pin", "a", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"PIN client":          {"pin", "b", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"persistent owner":    {"persistent", "a", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"persistent client":   {"persistent", "b", "P2PDevice.GONegotiationSuccess", "P2PDevice.GroupFinished"},
	"wrong PIN at owner":  {"wrong-pin", "a", "P2PDevice.GONegotiationSuccess", "Root.InterfaceRemoved"},
	"wrong PIN at client": {"wrong-pin", "b", "P2PDevice.GONegotiationSuccess", "Root.InterfaceRemoved"},
	"insisted":            {"insist", "b", "P2PDevice.GONegotiationFailure", "P2PDevice.GONegotiationSuccess"},
	"owner leaves":        {"owner", "a", "P2PDevice.GroupFinished", ""},
	"owner left":          {"owner", "b", "P2PDevice.GroupFinished", ""},
	"client leaves":       {"client", "a", "P2PDevice.GroupFinished", ""},
	"client left":         {"client", "b", "Group.PeerDisconnected", "P2PDevice.GroupFinished"},
	"empty owner leaves":  {"client", "b", "P2PDevice.GroupFinished", ""},
	"alone":               {"autonomous", "a", "Root.InterfaceAdded", "P2PDevice.ProvisionDiscoveryPBCRequest"},
	"let in":              {"autonomous", "a", "Group.PeerJoined", "P2PDevice.ProvisionDiscoveryRequestEnterPin"},
	"joins":               {"autonomous", "b", "Root.InterfaceAdded", "P2PDevice.GroupFinished"},
	"let in by PIN":       {"autonomous", "a", "P2PDevice.ProvisionDiscoveryRequestEnterPin", "Group.PeerDisconnected"},
	"joins by PIN":        {"autonomous", "c", "Root.InterfaceAdded", "P2PDevice.GroupFinished"},
	"invites":             {"invite", "a", "P2PDevice.InvitationResult", "P2PDevice.ProvisionDiscoveryPBCRequest"},
	"is invited":          {"invite", "b", "P2PDevice.InvitationReceived", "Root.InterfaceAdded"},
	"owner invites back":  {"reinvoke-owner", "a", "P2PDevice.InvitationResult", "P2PDevice.GroupFinished"},
	"client comes back":   {"reinvoke-owner", "b", "Root.InterfaceAdded", "P2PDevice.GroupFinished"},
	"client invites back": {"reinvoke-client", "b", "P2PDevice.InvitationResult", "P2PDevice.GroupFinished"},
	"owner comes back":    {"reinvoke-client", "a", "Root.InterfaceAdded", "P2PDevice.GroupFinished"},
	"forgotten":           {"forgot", "a", "P2PDevice.InvitationResult", "P2PDevice.PersistentGroupRemoved"},
	"rejected":            {"reject", "a", "P2PDevice.GONegotiationFailure", ""},
}

// ofSearches are signals that scenes leave out: what a search finds follows from the situation.
var ofSearches = []string{"P2PDevice.DeviceFound", "P2PDevice.DeviceFoundProperties", "P2PDevice.DeviceLost", "P2PDevice.FindStopped"}

// lines are the signals of a scene. It panics when the recording has none: the recordings belong to this package, and its test
// looks at every scene.
func (a *Air) lines(name string) Script {
	c := scenes[name]
	var out Script
	for _, l := range a.scripts[c.step] {
		switch {
		case l.Kind != Signal || l.Node != c.node || slices.Contains(ofSearches, l.Member):
		case len(out) == 0 && l.Member != c.from:
		case len(out) > 0 && l.Member == c.until:
			return out
		case l.Member == c.from:
			out = Script{l} // the last attempt is the one that came to something
		default:
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		panic("wpatest: the recording has nothing for: " + name)
	}
	return out
}

// sample is the first signal of a name in all recordings, with the node that said it.
func (a *Air) sample(member string) Line {
	for _, step := range steps {
		for _, l := range a.scripts[step] {
			if l.Kind == Signal && l.Member == member {
				return l
			}
		}
	}
	panic("wpatest: the recordings have no " + member)
}

// play has the supplicant that stands for the recorded node of a scene say what that said, about the devices and the group that
// are in the place of the recorded ones, and brings its objects in line with it.
func (a *Air) play(name string, as cast, g *group) {
	for _, l := range a.lines(name) {
		a.perform(l, as, g)
	}
}

// playOnly plays the signals of the given names only, each once.
func (a *Air) playOnly(name string, as cast, g *group, members ...string) {
	for _, m := range members {
		for _, l := range a.lines(name) {
			if l.Member == m {
				a.perform(l, as, g)
				break
			}
		}
	}
}

// playBut plays a scene without the signals of one name.
func (a *Air) playBut(name string, as cast, g *group, member string) {
	for _, l := range a.lines(name) {
		if l.Member != member {
			a.perform(l, as, g)
		}
	}
}

func (a *Air) perform(l Line, as cast, g *group) {
	s := as[l.Node]
	if s == nil || s.conn == nil {
		return
	}
	if l.Member == "Root.InterfaceAdded" && s.group == nil && g != nil {
		a.enter(s, g)
		s.group.partial = g.again && g.owner != s && !s.later
	}
	r := a.rewriting(as, g)
	r.text = s.own(r.text)
	l.Path = dbus.ObjectPath(r.text("", string(l.Path)))
	l.Args = r.values(l.Args)
	s.effect(l, g)
	s.emit(l.Path, l.Member, l.Args...)
}

// enter gives a device an interface for a group.
func (a *Air) enter(s *Supplicant, g *group) {
	m := &membership{of: g, path: rootPath + dbus.ObjectPath(fmt.Sprintf("/Interfaces/%d", s.nextPath)), ifname: fmt.Sprintf("p2p-test-%d", s.nextLink)}
	s.nextPath++
	s.nextLink++
	m.object = m.path + "/Groups/" + dbus.ObjectPath(g.ssid[len("DIRECT-"):][:2])
	s.group = m
}

// rewriting turns what is recorded into what is here.
func (a *Air) rewriting(as cast, g *group) rewrite {
	addresses := map[string]net.HardwareAddr{}
	for name, s := range as {
		addresses[Address(name).String()] = s.Address
		addresses[groupAddress(name).String()] = s.groupAddress()
	}
	text := func(key, s string) string {
		switch {
		case s == "":
			return s
		case g != nil && (key == "passphrase" || key == "Passphrase"):
			return g.passphrase
		case g != nil && strings.HasPrefix(s, recordedSSID):
			return g.ssid
		case g != nil && strings.HasPrefix(s, `"`+recordedSSID):
			return `"` + g.ssid + `"`
		}
		if i := strings.LastIndex(s, "/Peers/"); i >= 0 {
			for from, to := range addresses {
				if s[i+len("/Peers/"):] == strings.ReplaceAll(from, ":", "") {
					return string(peerPath(to))
				}
			}
		}
		if i := strings.LastIndex(s, "/Stations/"); i >= 0 {
			for from, to := range addresses {
				if s[i+len("/Stations/"):] == strings.ReplaceAll(from, ":", "") {
					return s[:i] + "/Stations/" + strings.ReplaceAll(to.String(), ":", "")
				}
			}
		}
		if mac, err := net.ParseMAC(s); err == nil {
			if to, ok := addresses[mac.String()]; ok {
				return to.String()
			}
		}
		return s
	}
	blob := func(key string, b []byte) []byte {
		if to, ok := addresses[net.HardwareAddr(b).String()]; ok && len(b) == 6 {
			return slices.Clone(to)
		}
		if g != nil && strings.HasPrefix(string(b), recordedSSID) {
			return []byte(g.ssid)
		}
		return b
	}
	return rewrite{text, blob}
}

// own adds what only one device has: the path and the name of its group's interface.
func (s *Supplicant) own(text func(string, string) string) func(string, string) string {
	return func(key, v string) string {
		v = text(key, v)
		rest, ok := strings.CutPrefix(v, string(rootPath)+"/Interfaces/")
		if s.group == nil || !ok {
			if key == "Ifname" && s.group != nil && strings.HasPrefix(v, "p2p-") {
				return s.group.ifname
			}
			return v
		}
		number, below, deeper := strings.Cut(rest, "/")
		switch {
		case number == "0":
			return v
		case deeper && strings.HasPrefix(below, "Groups/"):
			return string(s.group.object)
		case deeper && strings.HasPrefix(below, "BSSs/"):
			return string(s.group.path) + "/BSSs/0"
		case deeper:
			return string(s.group.path) + "/" + below
		}
		return string(s.group.path)
	}
}

// effect changes the objects as a signal says.
func (s *Supplicant) effect(l Line, g *group) {
	m := s.group
	dict := map[string]dbus.Variant{}
	if len(l.Args) > 0 {
		dict, _ = l.Args[0].(map[string]dbus.Variant)
	}
	switch l.Member {
	case "Root.InterfaceAdded":
		props, _ := l.Args[1].(map[string]dbus.Variant)
		own := object{"Interface": {}, "P2PDevice": {"Role": dbus.MakeVariant("device"), "Group": dbus.MakeVariant(dbus.ObjectPath("/"))}}
		for k, v := range s.objects[ownerPath]["Interface"] {
			own["Interface"][k] = v
		}
		for k, v := range props {
			own["Interface"][k] = v
		}
		s.objects[l.Args[0].(dbus.ObjectPath)] = own
	case "P2PDevice.GroupStarted":
		if m == nil || s.objects[m.path] == nil {
			return
		}
		role, _ := dict["role"].Value().(string)
		s.objects[m.path]["P2PDevice"]["Role"] = dbus.MakeVariant(role)
		s.objects[m.path]["P2PDevice"]["Group"] = dbus.MakeVariant(m.object)
		s.objects[m.object] = object{"Group": s.groupProperties(role)}
		if role == "client" {
			g.members = append(g.members, s)
			bss := m.path + "/BSSs/0"
			group := s.objects[m.object]["Group"]
			s.objects[bss] = object{"BSS": {"BSSID": group["BSSID"], "Frequency": group["Frequency"]}}
			s.objects[m.path]["Interface"]["CurrentBSS"] = dbus.MakeVariant(bss)
			if m.partial {
				group["BSSID"] = dbus.MakeVariant(make([]byte, 6))
				delete(group, "Frequency")
			}
		}
	case "Interface.StationAdded":
		props, _ := l.Args[1].(map[string]dbus.Variant)
		s.objects[l.Args[0].(dbus.ObjectPath)] = object{"Station": props}
	case "Interface.StationRemoved":
		s.ForgetNow(l.Args[0].(dbus.ObjectPath))
	case "Group.PeerJoined", "Group.PeerDisconnected":
		if m == nil || s.objects[m.object] == nil {
			return
		}
		members, _ := s.objects[m.object]["Group"]["Members"].Value().([]dbus.ObjectPath)
		peer := l.Args[0].(dbus.ObjectPath)
		members = slices.DeleteFunc(slices.Clone(members), func(p dbus.ObjectPath) bool { return p == peer })
		if l.Member == "Group.PeerJoined" {
			members = append(members, peer)
		}
		s.objects[m.object]["Group"]["Members"] = dbus.MakeVariant(members)
	case "P2PDevice.PersistentGroupAdded":
		p := profile{ssid: g.ssid, bssid: g.owner.Address, owner: g.owner == s, psk: strings.Repeat("5", 64)}
		if p.owner {
			p.psk = `"` + g.passphrase + `"`
		}
		l.Args[0] = s.keep(p)
	case "Root.InterfaceRemoved":
		s.ForgetNow(l.Args[0].(dbus.ObjectPath))
		if m != nil && m.path == l.Args[0] {
			m.of.members = slices.DeleteFunc(m.of.members, func(o *Supplicant) bool { return o == s })
			s.group = nil
		}
	}
}

// groupProperties are those of a W.Group object, as they were read from a real one in that role.
func (s *Supplicant) groupProperties(role string) map[string]dbus.Variant {
	node := map[string]string{"GO": "a", "client": "b"}[role]
	g := s.group.of
	for path, o := range s.air.scripts["owner"].objects(node) {
		if !strings.Contains(string(path), "/Groups/") || o["Group"] == nil {
			continue
		}
		r := s.air.rewriting(cast{"a": g.owner}, g)
		r.text = s.own(r.text)
		props := r.value("", map[string]dbus.Variant(o["Group"])).(map[string]dbus.Variant)
		if role == "GO" {
			props["Members"] = dbus.MakeVariant([]dbus.ObjectPath{})
			props["Passphrase"] = dbus.MakeVariant(g.passphrase)
		}
		return props
	}
	panic("wpatest: the recording has no group object of a " + role)
}

func splitWords(s string) iter.Seq[string] { return strings.FieldsSeq(s) }
