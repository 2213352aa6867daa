package dbusapi

import (
	"encoding/hex"
	"math"
	"net"
	"net/netip"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Bits of a peer's group capability bitmap (Wi-Fi P2P specification 3.1.4, P2P Capability attribute).
const (
	GroupOwner      = 0x01
	GroupPersistent = 0x02
	GroupLimit      = 0x04
)

// Peer is what the supplicant knows of another P2P device. Names are that device's own words.
type Peer struct {
	Name            string
	Address         net.HardwareAddr // P2P device address
	DeviceType      [8]byte
	ConfigMethods   uint16 // WPS configuration methods: 0x08 display, 0x80 push button, 0x100 keypad
	SignalDBm       int
	DeviceCapab     byte
	GroupCapab      byte
	VendorExtension [][]byte
}

func peerOf(d dict) Peer {
	p := Peer{
		Name:            d.text("DeviceName"),
		Address:         d.mac("DeviceAddress"),
		ConfigMethods:   uint16(d.within("config_method", 0, math.MaxUint16)),
		SignalDBm:       d.within("level", -200, 100),
		DeviceCapab:     byte(d.within("devicecapability", 0, math.MaxUint8)),
		GroupCapab:      byte(d.within("groupcapability", 0, math.MaxUint8)),
		VendorExtension: d.extensions("VendorExtension"),
	}
	p.Name = p.Name[:min(len(p.Name), MaxName)]
	if t := d.blob("PrimaryDeviceType"); len(t) == 8 {
		p.DeviceType = [8]byte(t)
	}
	return p
}

// Group is a running P2P group as its W.Group object shows it.
type Group struct {
	SSID       string
	BSSID      net.HardwareAddr
	Frequency  int    // MHz; 0 when the supplicant does not know it (a client on 2.10 after re-invocation)
	Passphrase string // on the group owner only
	Members    []Path // on the group owner only
	Role       string // "GO", "client" or "device"
}

func groupOf(d dict) Group {
	return Group{
		SSID:       d.ssid("SSID"),
		BSSID:      d.mac("BSSID"),
		Frequency:  d.frequency("Frequency"),
		Passphrase: d.text("Passphrase"),
		Members:    d.paths("Members"),
		Role:       d.role("Role"),
	}
}

// Persistent is a persistent group profile. PSK is what the supplicant calls psk: a passphrase of 8 to 63 characters, or
// 64 hexadecimal digits.
type Persistent struct {
	SSID  string
	BSSID net.HardwareAddr // device address of the group owner
	PSK   string
	Owner bool // this device is the group owner
}

// persistentOf decodes the configuration-file form in which the supplicant shows a profile: every value is a string,
// texts are in quotes and an SSID with odd bytes is in hexadecimal.
func persistentOf(d dict) Persistent {
	p := Persistent{SSID: unquote(d.text("ssid")), Owner: d.text("mode") == "3"}
	if len(p.SSID) > MaxSSID {
		p.SSID = ""
	}
	if mac, err := net.ParseMAC(d.text("bssid")); err == nil && len(mac) == 6 {
		p.BSSID = mac
	}
	psk := d.text("psk")
	if s, ok := quoted(psk); ok {
		if len(s) >= 8 && len(s) <= 63 {
			p.PSK = s
		}
	} else if raw, err := hex.DecodeString(psk); err == nil && len(raw) == 32 {
		p.PSK = psk
	}
	return p
}

func quoted(s string) (string, bool) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1], true
	}
	return s, false
}

func unquote(s string) string {
	if t, ok := quoted(s); ok {
		return t
	}
	if raw, err := hex.DecodeString(s); err == nil && len(raw) <= 32 {
		return string(raw)
	}
	return s
}

// encode returns the profile as AddPersistentGroup takes it. The byte array form makes the supplicant read hexadecimal,
// which is the only way in for a raw PSK and for an SSID with odd bytes: it puts quotes around every string of these keys.
func (p Persistent) encode(peer net.HardwareAddr) map[string]dbus.Variant {
	mode := int32(0)
	if p.Owner {
		mode = 3
	}
	m := map[string]dbus.Variant{
		"ssid":     dbus.MakeVariant([]byte(p.SSID)),
		"bssid":    dbus.MakeVariant(p.BSSID.String()),
		"mode":     dbus.MakeVariant(mode),
		"key_mgmt": dbus.MakeVariant("WPA-PSK"),
		"proto":    dbus.MakeVariant("RSN"),
		"pairwise": dbus.MakeVariant("CCMP"),
		"group":    dbus.MakeVariant("CCMP"),
		"auth_alg": dbus.MakeVariant("OPEN"),
	}
	if raw, err := hex.DecodeString(p.PSK); err == nil && len(raw) == 32 {
		m["psk"] = dbus.MakeVariant(raw)
	} else {
		m["psk"] = dbus.MakeVariant(p.PSK)
	}
	if p.Owner && len(peer) == 6 {
		m["p2p_client_list"] = dbus.MakeVariant(peer.String())
	}
	return m
}

// Interface is what we read of one interface of the supplicant.
type Interface struct {
	Path   Path
	Ifname string
	P2P    bool // the driver offers both group roles and P2P is not turned off: "p2p" in Capabilities["Modes"]
	Role   string
}

// Config is the part of P2PDeviceConfig that we set, as it can be put back with [Client.SetDeviceConfig].
type Config struct {
	DeviceName          string
	DeviceType          []byte
	GOIntent            uint32
	PersistentReconnect bool
	SSIDPostfix         string
	VendorExtension     [][]byte
	Owner, Mask         netip.Addr // IpAddrGo, IpAddrMask; zero when not set
	Start, End          netip.Addr // IpAddrStart, IpAddrEnd
}

func configOf(d dict) Config {
	return Config{
		DeviceName:          d.text("DeviceName"),
		DeviceType:          d.blob("PrimaryDeviceType"),
		GOIntent:            uint32(d.within("GOIntent", 0, 15)),
		PersistentReconnect: d.flag("PersistentReconnect"),
		SSIDPostfix:         d.text("SsidPostfix"),
		VendorExtension:     d.extensions("VendorExtension"),
		Owner:               d.ip4("IpAddrGo"),
		Mask:                d.ip4("IpAddrMask"),
		Start:               d.ip4("IpAddrStart"),
		End:                 d.ip4("IpAddrEnd"),
	}
}

// IsGroup reports whether the interface carries a P2P group.
func (i Interface) IsGroup() bool {
	return i.Role == "GO" || i.Role == "client" || strings.HasPrefix(i.Ifname, "p2p-")
}
