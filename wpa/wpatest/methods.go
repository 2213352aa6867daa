package wpatest

import (
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// method is one D-Bus method: the types that it takes, exactly, and what it does. Keys of a dictionary are given with their
// types; "later" ones only 2.12 knows, "*" may have any type.
type method struct {
	in   string
	keys map[string]string
	run  func(s *Supplicant, r request, a args) ([]any, *failure)
}

// args reads the dictionary that most methods take.
type args struct{ d map[string]dbus.Variant }

func (a args) text(k string) string { v, _ := a.d[k].Value().(string); return v }
func (a args) flag(k string) bool   { v, _ := a.d[k].Value().(bool); return v }
func (a args) blob(k string) []byte { v, _ := a.d[k].Value().([]byte); return v }
func (a args) path(k string) dbus.ObjectPath {
	v, _ := a.d[k].Value().(dbus.ObjectPath)
	return v
}
func (a args) number(k string, standard int) int {
	if v, ok := a.d[k].Value().(int32); ok {
		return int(v)
	}
	return standard
}

var methods map[string]method

func init() {
	methods = map[string]method{
		"Root.GetInterface": {in: "s", run: func(s *Supplicant, r request, _ args) ([]any, *failure) {
			for p := range s.objects {
				if s.objects[p]["Interface"]["Ifname"].Value() == r.args[0] {
					return []any{p}, nil
				}
			}
			return nil, &failure{errNoInterface, "wpa_supplicant knows nothing about this interface."}
		}},
		"Root.CreateInterface": {in: "a{sv}", keys: map[string]string{"Ifname": "s", "Driver": "s", "ConfigFile": "s", "BridgeIfname": "s", "Create": "later b", "Type": "later s", "Address": "later s"},
			run: func(s *Supplicant, _ request, a args) ([]any, *failure) {
				if s.objects[ownerPath]["Interface"]["Ifname"].Value() == a.text("Ifname") {
					return nil, &failure{busName + ".InterfaceExists", "wpa_supplicant already controls this interface."}
				}
				return nil, &failure{errUnknown, "wpa_supplicant couldn't grab this interface."}
			}},
		"Root.RemoveInterface": {in: "o", run: func(s *Supplicant, r request, _ args) ([]any, *failure) {
			if s.group == nil || s.group.path != r.args[0] {
				return nil, &failure{errNoInterface, "wpa_supplicant does not control this interface."}
			}
			s.air.taken(s)
			return nil, nil
		}},
		"P2PDevice.Find":     {in: "a{sv}", keys: map[string]string{"Timeout": "i", "RequestedDeviceTypes": "aay", "DiscoveryType": "s", "freq": "*"}, run: find},
		"P2PDevice.StopFind": {run: func(s *Supplicant, _ request, _ args) ([]any, *failure) { s.air.stopFind(s); return nil, nil }},
		"P2PDevice.Listen": {in: "i", run: func(s *Supplicant, _ request, _ args) ([]any, *failure) {
			s.listening = true
			s.air.visible(s)
			return nil, nil
		}},
		"P2PDevice.ExtendedListen": {in: "a{sv}", keys: map[string]string{"period": "i", "interval": "i"}, run: extendedListen},
		"P2PDevice.ProvisionDiscoveryRequest": {in: "os", run: func(s *Supplicant, r request, _ args) ([]any, *failure) {
			way, _ := r.args[1].(string)
			if !slices.Contains([]string{"display", "keypad", "pbc", "pushbutton"}, way) {
				return nil, invalid("no such method")
			}
			other := s.peer(r.args[0].(dbus.ObjectPath))
			if other == nil {
				return nil, &failure{errUnknown, "Failed to send provision discovery request"}
			}
			s.air.provision(s, other, way)
			return nil, nil
		}},
		"P2PDevice.Connect": {in: "a{sv}", run: connect, keys: map[string]string{"peer": "o", "wps_method": "s", "pin": "s", "join": "b", "persistent": "b",
			"authorize_only": "b", "frequency": "i", "go_intent": "i", "auto_join": "later b"}},
		"P2PDevice.GroupAdd": {in: "a{sv}", run: groupAdd, keys: map[string]string{"persistent": "b", "frequency": "i", "persistent_group_object": "o",
			"retry_limit": "later i", "go_bssid": "later s", "ht40": "later b", "vht": "later b", "he": "later b", "edmg": "later b", "allow_6ghz": "later b"}},
		"P2PDevice.Cancel":             {run: func(s *Supplicant, _ request, _ args) ([]any, *failure) { return nil, s.air.cancel(s) }},
		"P2PDevice.Invite":             {in: "a{sv}", keys: map[string]string{"peer": "o", "persistent_group_object": "o"}, run: invite},
		"P2PDevice.Disconnect":         {run: disconnect},
		"P2PDevice.RejectPeer":         {in: "o", run: rejectPeer},
		"P2PDevice.Flush":              {run: func(s *Supplicant, _ request, _ args) ([]any, *failure) { s.air.flushPeers(s); return nil, nil }},
		"P2PDevice.AddPersistentGroup": {in: "a{sv}", run: addPersistent, keys: networkKeys},
		"P2PDevice.RemovePersistentGroup": {in: "o", run: func(s *Supplicant, r request, _ args) ([]any, *failure) {
			p := r.args[0].(dbus.ObjectPath)
			if _, ok := s.profiles[p]; !ok {
				return nil, &failure{errNoNetwork, "There is no such persistent group in this interface."}
			}
			delete(s.profiles, p)
			delete(s.objects, p)
			s.emit(ownerPath, "P2PDevice.PersistentGroupRemoved", p)
			return nil, nil
		}},
		"WPS.Start": {in: "a{sv}", run: startWPS, keys: map[string]string{"Role": "s", "Type": "s", "Pin": "s", "Bssid": "ay", "P2PDeviceAddress": "ay"}},
	}
}

var networkKeys = map[string]string{"ssid": "*", "bssid": "s", "psk": "*", "mode": "i", "key_mgmt": "s", "proto": "s", "pairwise": "s", "group": "s",
	"auth_alg": "s", "p2p_client_list": "s"}

// peerPath is the object of another device.
func peerPath(addr net.HardwareAddr) dbus.ObjectPath {
	return ownerPath + "/Peers/" + dbus.ObjectPath(hex.EncodeToString(addr))
}

// peer is the device that an object stands for; nil when the object is gone.
func (s *Supplicant) peer(p dbus.ObjectPath) *Supplicant {
	if s.objects[p] == nil {
		return nil
	}
	for _, o := range s.air.Nodes {
		if peerPath(o.Address) == p {
			return o
		}
	}
	return nil
}

func find(s *Supplicant, _ request, a args) ([]any, *failure) {
	switch a.text("DiscoveryType") {
	case "", "start_with_full", "social", "progressive":
	default:
		return nil, invalid("no such discovery type")
	}
	s.air.find(s)
	return nil, nil
}

func extendedListen(s *Supplicant, _ request, a args) ([]any, *failure) {
	if period, interval := a.number("period", 0), a.number("interval", 0); (period == 0) != (interval == 0) || period > interval {
		return nil, &failure{errUnknown, "Failed to initiate a p2p_ext_listen."}
	}
	s.extended = len(a.d) > 0
	if s.extended {
		s.air.visible(s)
	}
	return nil, nil
}

func connect(s *Supplicant, _ request, a args) ([]any, *failure) {
	other := s.peer(a.path("peer"))
	way, pin, intent := a.text("wps_method"), a.text("pin"), a.number("go_intent", -1)
	if intent < 0 {
		n, _ := s.device.config["GOIntent"].Value().(uint32)
		intent = int(n)
	}
	switch {
	case other == nil:
		return nil, invalid("Did not receive correct message arguments: no such peer")
	case way != "pbc" && way != "display" && way != "pin" && way != "keypad", way == "keypad" && pin == "", intent > 15:
		return nil, invalid("Did not receive correct message arguments")
	}
	if f := a.number("frequency", 0); f != 0 && !possible(f) {
		return nil, &failure{errUnsupported, "ConnectChannelUnsupported"}
	}
	made := "00000000"
	if way == "display" || way == "pin" {
		way = "display"
		if pin == "" {
			pin = recordedPIN
			made = pin
		}
	}
	s.air.connect(s, &pending{peer: other, way: way, pin: pin, intent: intent, join: a.flag("join"), persistent: a.flag("persistent"), quiet: a.flag("authorize_only")})
	return []any{made}, nil
}

// possible reports whether a radio of the lab may use a frequency.
func possible(f int) bool { return f >= 2412 && f <= 2472 && (f-2412)%5 == 0 }

func groupAdd(s *Supplicant, _ request, a args) ([]any, *failure) {
	if f := a.number("frequency", 0); f < 0 || f != 0 && !possible(f) || s.group != nil {
		return nil, invalid("Did not receive correct message arguments")
	}
	var from *profile
	if p := a.path("persistent_group_object"); p != "" {
		known, ok := s.profiles[p]
		if !ok || !known.owner {
			return nil, invalid("no such persistent group")
		}
		from = &known
	}
	s.air.autonomous(s, from, a.flag("persistent"))
	return nil, nil
}

func invite(s *Supplicant, r request, a args) ([]any, *failure) {
	other := s.peer(a.path("peer"))
	if other == nil {
		return nil, invalid("Did not receive correct message arguments: no such peer")
	}
	if p := a.path("persistent_group_object"); p != "" {
		known, ok := s.profiles[p]
		if !ok || s.group != nil {
			return nil, &failure{errUnknown, "Failed to reinvoke a persistent group"}
		}
		s.air.reinvoke(s, other, known)
		return nil, nil
	}
	if s.group == nil || s.group.path != r.path {
		return nil, &failure{errUnknown, "Failed to join to an active group"}
	}
	s.air.inviteToGroup(s, other)
	return nil, nil
}

func disconnect(s *Supplicant, r request, _ args) ([]any, *failure) {
	if s.group == nil || s.group.path != r.path {
		return nil, &failure{errUnknown, "failed to disconnect"}
	}
	s.air.leave(s)
	return nil, nil
}

func rejectPeer(s *Supplicant, r request, _ args) ([]any, *failure) {
	other := s.peer(r.args[0].(dbus.ObjectPath))
	if other == nil {
		return nil, &failure{errUnknown, "Failed to call wpas_p2p_reject method."}
	}
	s.rejected[other] = true
	return nil, nil
}

func addPersistent(s *Supplicant, _ request, a args) ([]any, *failure) {
	p := profile{owner: a.number("mode", -1) == 3, ssid: string(a.blob("ssid"))}
	if p.ssid == "" {
		p.ssid = a.text("ssid")
	}
	var err error
	if p.bssid, err = net.ParseMAC(a.text("bssid")); err != nil {
		return nil, invalid("bssid")
	}
	switch psk := a.d["psk"].Value().(type) {
	case string:
		if len(psk) < 8 || len(psk) > 63 {
			return nil, invalid("psk")
		}
		p.psk = `"` + psk + `"`
	case []byte:
		if len(psk) != 32 {
			return nil, invalid("psk")
		}
		p.psk = hex.EncodeToString(psk)
	default:
		return nil, invalid("psk")
	}
	return []any{s.keep(p)}, nil
}

// keep makes the object of a persistent group; the same one is kept once.
func (s *Supplicant) keep(p profile) dbus.ObjectPath {
	for path, old := range s.profiles {
		if old.ssid == p.ssid && slices.Equal(old.bssid, p.bssid) {
			return path
		}
	}
	s.lastPGO++
	path := ownerPath + dbus.ObjectPath(fmt.Sprintf("/PersistentGroups/%d", s.lastPGO))
	mode := "0"
	if p.owner {
		mode = "3"
	}
	ssid := `"` + p.ssid + `"`
	if strings.ContainsFunc(p.ssid, func(r rune) bool { return r < ' ' || r > '~' || r == '"' }) {
		ssid = hex.EncodeToString([]byte(p.ssid))
	}
	s.profiles[path] = p
	s.objects[path] = object{"PersistentGroup": {"Properties": dbus.MakeVariant(map[string]dbus.Variant{
		"ssid": dbus.MakeVariant(ssid), "bssid": dbus.MakeVariant(p.bssid.String()), "psk": dbus.MakeVariant(p.psk),
		"mode": dbus.MakeVariant(mode), "disabled": dbus.MakeVariant("2"),
		"key_mgmt": dbus.MakeVariant("WPA-PSK"), "proto": dbus.MakeVariant("RSN"), "pairwise": dbus.MakeVariant("CCMP"), "auth_alg": dbus.MakeVariant("OPEN"),
	})}}
	return path
}

func startWPS(s *Supplicant, r request, a args) ([]any, *failure) {
	role, way, pin := a.text("Role"), a.text("Type"), a.text("Pin")
	if role != "registrar" && role != "enrollee" || way != "pbc" && way != "pin" {
		return nil, invalid("Did not receive correct message arguments")
	}
	if s.group == nil || s.group.path != r.path || s.group.of.owner != s {
		return nil, &failure{errUnknown, "WPS start failed"}
	}
	reply := map[string]dbus.Variant{}
	if way == "pin" && pin != "" {
		reply["Pin"] = dbus.MakeVariant(pin)
	}
	s.air.open(s, pin, a.blob("P2PDeviceAddress"))
	return []any{reply}, nil
}
