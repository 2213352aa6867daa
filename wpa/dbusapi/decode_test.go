package dbusapi

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

type m = map[string]dbus.Variant

var v = dbus.MakeVariant

const (
	pathOwner = dbus.ObjectPath("/fi/w1/wpa_supplicant1/Interfaces/0")
	pathGroup = dbus.ObjectPath("/fi/w1/wpa_supplicant1/Interfaces/3")
	pathPeer  = pathOwner + "/Peers/42000000aa01"
)

var mac = net.HardwareAddr{0x42, 0, 0, 0, 0xaa, 1}

// TestDecode has the signals of a real supplicant, as they were seen on a bus.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name string
		body []any
		want Signal
	}{
		{"org.freedesktop.DBus.NameOwnerChanged", []any{Name, "", ":1.5"}, OwnerChanged{":1.5"}},
		{"org.freedesktop.DBus.NameOwnerChanged", []any{"other", "", ":1.5"}, nil},
		{Name + ".InterfaceAdded", []any{pathGroup, m{"Ifname": v("p2p-wlan0-0")}}, InterfaceAdded{pathGroup, "p2p-wlan0-0"}},
		{Name + ".InterfaceAdded", []any{}, nil},
		{Name + ".InterfaceRemoved", []any{pathGroup}, InterfaceRemoved{pathGroup}},
		{ifaceInterface + ".PropertiesChanged", []any{m{"DisconnectReason": v(int32(-4))}}, InterfaceChanged{pathGroup, "", -4}},
		{ifaceInterface + ".PropertiesChanged", []any{m{"BSSs": v([]dbus.ObjectPath{})}}, nil},
		{ifaceInterface + ".StaAuthorized", []any{"42:00:00:00:aa:01"}, StationAuthorized{pathGroup, mac, false}},
		{ifaceInterface + ".StaDeauthorized", []any{"42:00:00:00:aa:01"}, StationAuthorized{pathGroup, mac, true}},
		{ifaceInterface + ".StaAuthorized", []any{"42:00:00:00:aa:01:00:00"}, nil},
		{ifaceGroup + ".PeerJoined", []any{pathPeer}, MemberJoined{pathGroup, pathPeer, false}},
		{ifaceGroup + ".PeerDisconnected", []any{pathPeer}, MemberJoined{pathGroup, pathPeer, true}},
		{ifaceP2P + ".DeviceFoundProperties", []any{pathPeer, m{
			"DeviceName": v("x"), "level": v(int32(-30)), "config_method": v(uint16(0x188)), "groupcapability": v(byte(1)),
			"PrimaryDeviceType": v([]byte{0, 1, 0, 0x50, 0xf2, 4, 0, 1}), "VendorExtension": v([][]byte{{1, 2, 3, 4}}),
		}}, DeviceFound{pathPeer, Peer{Name: "x", SignalDBm: -30, ConfigMethods: 0x188, GroupCapab: 1,
			DeviceType: [8]byte{0, 1, 0, 0x50, 0xf2, 4, 0, 1}, VendorExtension: [][]byte{{1, 2, 3, 4}}}}},
		{ifaceP2P + ".DeviceLost", []any{pathPeer}, DeviceLost{pathPeer}},
		{ifaceP2P + ".FindStopped", nil, FindStopped{}},
		{ifaceP2P + ".GONegotiationRequest", []any{pathPeer, uint16(4), byte(7)}, GONegotiationRequest{pathPeer, 4, 7}},
		{ifaceP2P + ".GONegotiationSuccess", []any{m{"peer_object": v(pathPeer), "role_go": v("GO"), "ssid": v([]byte("DIRECT-ab")), "frequency": v(int32(2412)), "peer_interface_addr": v([]byte(mac))}},
			GONegotiationSuccess{pathPeer, true, "DIRECT-ab", 2412, mac}},
		{ifaceP2P + ".GONegotiationFailure", []any{m{"peer_object": v(pathPeer), "status": v(int32(-1))}}, GONegotiationFailure{pathPeer, -1}},
		{ifaceP2P + ".GroupStarted", []any{m{"interface_object": v(pathGroup), "role": v("client"), "persistent": v(true), "group_object": v(pathGroup + "/Groups/ab"),
			"IpAddr": v([]byte{192, 168, 49, 2}), "IpAddrMask": v([]byte{255, 255, 255, 0}), "IpAddrGo": v([]byte{192, 168, 49, 1})}},
			GroupStarted{pathGroup, pathGroup + "/Groups/ab", false, true, netip.MustParseAddr("192.168.49.2"), netip.MustParseAddr("255.255.255.0"), netip.MustParseAddr("192.168.49.1")}},
		{ifaceP2P + ".GroupStarted", []any{m{"role": v("GO")}}, nil},
		{ifaceP2P + ".GroupFinished", []any{m{"interface_object": v(pathGroup), "role": v("GO")}}, GroupFinished{pathGroup, true}},
		{ifaceP2P + ".GroupFormationFailure", []any{"FREQ_CONFLICT"}, GroupFormationFailure{pathGroup, "FREQ_CONFLICT"}},
		{ifaceP2P + ".WpsFailed", []any{"fail", m{"msg": v(int32(8)), "config_error": v(int16(18))}}, WPSFailed{pathGroup, 18}},
		{ifaceP2P + ".ProvisionDiscoveryPBCRequest", []any{pathPeer}, Provision{Peer: pathPeer, Kind: "pbc"}},
		{ifaceP2P + ".ProvisionDiscoveryRequestDisplayPin", []any{pathPeer, "00345670"}, Provision{Peer: pathPeer, Kind: "display", PIN: "00345670"}},
		{ifaceP2P + ".ProvisionDiscoveryResponseEnterPin", []any{pathPeer}, Provision{Peer: pathPeer, Kind: "keypad", Response: true}},
		{ifaceP2P + ".ProvisionDiscoveryFailure", []any{pathPeer, int32(1)}, ProvisionFailure{pathPeer, 1}},
		{ifaceP2P + ".InvitationResult", []any{m{"status": v(int32(8))}}, InvitationResult{Status: 8}},
		{ifaceP2P + ".InvitationReceived", []any{m{"sa": v([]byte(mac)), "go_dev_addr": v([]byte(mac)), "op_freq": v(int32(2412))}},
			InvitationReceived{Source: mac, OwnerAddress: mac, PersistentID: -1, Frequency: 2412}},
		{ifaceP2P + ".InvitationReceived", []any{m{}}, nil},
		{ifaceP2P + ".PersistentGroupRemoved", []any{pathOwner + "/PersistentGroups/2"}, PersistentRemoved{pathOwner + "/PersistentGroups/2"}},
		{ifaceP2P + ".SomethingNew", []any{pathPeer}, nil},
		// What 2.12 adds: reasons, arguments, keys.
		{ifaceP2P + ".GroupFormationFailure", []any{"Group formation timed out", int32(4)}, GroupFormationFailure{pathGroup, "Group formation timed out"}},
		{ifaceP2P + ".GONegotiationRequest", []any{pathPeer, uint16(4), byte(7), "more"}, GONegotiationRequest{pathPeer, 4, 7}},
		{ifaceP2P + ".GroupFinished", []any{m{"interface_object": v(pathGroup), "role": v("GO"), "reason": v(uint32(1))}, uint32(1)}, GroupFinished{pathGroup, true}},
		{ifaceP2P + ".BootstrappingRequest", []any{pathPeer, uint16(1)}, nil},
		// Arguments of a wrong type, or out of range.
		{ifaceP2P + ".GONegotiationRequest", []any{pathPeer, "4", byte(7)}, nil},
		{ifaceP2P + ".GONegotiationRequest", []any{string(pathPeer), uint16(4), byte(7)}, nil},
		{ifaceP2P + ".GONegotiationFailure", []any{m{"peer_object": v(pathPeer), "status": v("7")}}, GONegotiationFailure{pathPeer, StatusUnknown}},
		{ifaceP2P + ".GONegotiationFailure", []any{m{"peer_object": v(pathPeer), "status": v(int32(0))}}, GONegotiationFailure{pathPeer, StatusUnknown}},
		{ifaceP2P + ".GroupStarted", []any{m{"interface_object": v(pathGroup), "role": v(true)}}, nil},
		{ifaceP2P + ".InvitationResult", []any{m{"status": v(uint32(0))}}, nil},
		{ifaceP2P + ".ProvisionDiscoveryRequestDisplayPin", []any{pathPeer, "1234567x"}, Provision{Peer: pathPeer, Kind: "display"}},
		{Name + ".InterfaceAdded", []any{pathGroup, m{"Ifname": v("../../x")}}, InterfaceAdded{pathGroup, ""}},
		{Name + ".InterfaceRemoved", []any{"/" + pathGroup[1:] + dbus.ObjectPath(strings.Repeat("x", MaxText))}, nil},
		{ifaceP2P + ".", nil, nil},
	} {
		got := Decode(&dbus.Signal{Name: c.name, Path: pathGroup, Body: c.body})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestBounds checks that too much of something is cut or left out.
func TestBounds(t *testing.T) {
	long := slices.Repeat([]dbus.ObjectPath{"/x"}, 10000)
	d := dict{"s": v(strings.Repeat("x", 100000)), "b": v(make([]byte, 100000)), "p": v(long), "bb": v(make([][]byte, 10000)), "n": v("5")}
	if len(d.text("s")) != MaxText || d.blob("b") != nil || len(d.paths("p")) != MaxList || len(d.extensions("bb")) > MaxExtensions {
		t.Error("a value is not bounded")
	}
	names := peerOf(dict{"DeviceName": v(strings.Repeat("x", 33)), "groupcapability": v(uint16(0x101)), "VendorExtension": v([][]byte{make([]byte, 1025), {1}})})
	if len(names.Name) != MaxName || names.GroupCapab != 0 || len(names.VendorExtension) != 1 {
		t.Errorf("peer is %+v", names)
	}
	if g := groupOf(dict{"SSID": v(make([]byte, 33)), "Role": v("king"), "Frequency": v(int32(-1))}); g.SSID != "" || g.Role != "" || g.Frequency != 0 {
		t.Errorf("group is %+v", g)
	}
	for _, name := range []any{"../../etc", "0123456789abcdef", "a\x00", uint32(4), ".."} {
		if got := ifnameOf(name); got != "" {
			t.Errorf("%v became the interface %q", name, got)
		}
	}
	if d.number("n") != 0 || d.text("b") != "" || d.mac("s") != nil || d.ip4("b").IsValid() || d.flag("s") || d.path("s") != "" {
		t.Error("a value of another type is not zero")
	}
}

func TestPersistentForms(t *testing.T) {
	raw := strings.Repeat("a1", 32)
	for _, c := range []struct {
		in   m
		want Persistent
	}{
		{m{"ssid": v(`"DIRECT-a"b"`), "bssid": v("x"), "psk": v(raw), "mode": v("0")}, Persistent{SSID: `DIRECT-a"b`, PSK: raw}},
		{m{"ssid": v("4449524543542dc3a4"), "bssid": v(mac.String())}, Persistent{SSID: "DIRECT-ä", BSSID: mac}},
		{m{"psk": v("a1a1")}, Persistent{}},
	} {
		if got := persistentOf(dict(c.in)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
	enc := Persistent{SSID: "DIRECT-x", BSSID: mac, PSK: raw, Owner: true}.encode(mac)
	if _, ok := enc["psk"].Value().([]byte); !ok {
		t.Error("a raw PSK must go as bytes, or the supplicant takes it for a passphrase")
	}
	if _, ok := enc["mode"].Value().(int32); !ok || enc["p2p_client_list"].Value() != mac.String() {
		t.Errorf("encoded as %v", enc)
	}
}

func TestPeerPaths(t *testing.T) {
	if got := PeerAddress(PeerPath(pathOwner, mac)); got.String() != mac.String() {
		t.Errorf("got %s", got)
	}
	for _, p := range []Path{"", "/", pathOwner, pathOwner + "/Peers/", pathOwner + "/Peers/42", pathOwner + "/Peers/zz000000aa01", pathOwner + "/Peers/42000000aa0101"} {
		if got := PeerAddress(p); got != nil {
			t.Errorf("%s gave %s", p, got)
		}
	}
}

// FuzzDecode feeds whole D-Bus messages, as any program on the bus may send them, through godbus's decoder and ours.
func FuzzDecode(f *testing.F) {
	for _, s := range []struct {
		iface, member string
		body          []any
	}{
		{ifaceP2P, "DeviceFoundProperties", []any{pathPeer, m{"DeviceName": v("x"), "VendorExtension": v([][]byte{{1}})}}},
		{ifaceP2P, "GroupStarted", []any{m{"interface_object": v(pathGroup), "IpAddr": v([]byte{1, 2, 3, 4})}}},
		{ifaceP2P, "InvitationReceived", []any{m{"sa": v([]byte(mac)), "ssid": v(`"`), "psk": v("00")}}},
		{ifaceInterface, "StaAuthorized", []any{"42:00:00:00:aa:01"}},
		{Name, "InterfaceAdded", []any{pathGroup, m{}}},
	} {
		msg := &dbus.Message{Type: dbus.TypeSignal, Body: s.body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: v(pathOwner), dbus.FieldInterface: v(s.iface), dbus.FieldMember: v(s.member), dbus.FieldSignature: v(dbus.SignatureOf(s.body...)),
		}}
		var b bytes.Buffer
		if err := msg.EncodeTo(&b, binary.LittleEndian); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg, err := dbus.DecodeMessage(bytes.NewReader(data))
		if err != nil || msg.Type != dbus.TypeSignal || msg.IsValid() != nil {
			return
		}
		iface, _ := msg.Headers[dbus.FieldInterface].Value().(string)
		member, _ := msg.Headers[dbus.FieldMember].Value().(string)
		path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		for _, arg := range msg.Body {
			if p := persistentOf(dictOf(arg)); len(p.SSID) > MaxSSID || p.BSSID != nil && len(p.BSSID) != 6 {
				t.Errorf("decoded %+v", p)
			}
		}
		for _, name := range []string{iface + "." + member, ifaceP2P + ".DeviceFoundProperties", ifaceP2P + ".GroupStarted", ifaceP2P + ".InvitationReceived", ifaceP2P + ".WpsFailed"} {
			switch s := Decode(&dbus.Signal{Name: name, Path: path, Body: msg.Body}).(type) {
			case DeviceFound:
				if len(s.Peer.Name) > MaxName || len(s.Peer.VendorExtension) > MaxExtensions || s.Peer.Address != nil && len(s.Peer.Address) != 6 {
					t.Errorf("decoded %+v", s)
				}
			case GroupStarted:
				if None(s.Interface) || s.Local.IsValid() && !s.Local.Is4() {
					t.Errorf("decoded %+v", s)
				}
			}
		}
	})
}
