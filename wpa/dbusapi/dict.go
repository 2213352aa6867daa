package dbusapi

import (
	"encoding/hex"
	"math"
	"net"
	"net/netip"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Bounds on what is taken over from a property map.
const (
	MaxText       = 256  // bytes of a string, and of an object path
	MaxBlob       = 2048 // bytes of a byte array
	MaxList       = 256  // elements of a list
	MaxName       = 32   // bytes of a device name (Wi-Fi Simple Configuration 2.0.8, table 28)
	MaxSSID       = 32   // bytes of an SSID
	MaxExtensions = 10   // vendor extensions of a device, and
	MaxExtension  = 1024 // bytes of one of them
	maxIfname     = 15   // bytes of the name of a network device
)

// Path is a D-Bus object path; the empty Path and "/" both mean none.
type Path = dbus.ObjectPath

// None reports whether p names no object.
func None(p Path) bool { return p == "" || p == "/" }

// dict is an a{sv} as godbus decodes it. Its methods return the zero value for what is absent, of another type, out of
// range or too long, so that a hostile or newer sender can only withhold, never break. Keys that nobody asks for do nothing.
type dict map[string]dbus.Variant

func (d dict) text(key string) string {
	s, _ := d[key].Value().(string)
	return cut(s)
}

func (d dict) flag(key string) bool {
	b, _ := d[key].Value().(bool)
	return b
}

// role is "GO", "client" or "device", or "" for what is none of them.
func (d dict) role(key string) string { return roleOf(d[key].Value()) }

func roleOf(v any) string {
	switch v {
	case "GO", "client", "device":
		return v.(string)
	}
	return ""
}

// ssid is the bytes of an SSID, which may be any.
func (d dict) ssid(key string) string {
	b := d.blob(key)
	if len(b) > MaxSSID {
		return ""
	}
	return string(b)
}

// within is a number of the given range, else zero.
func (d dict) within(key string, least, most int) int {
	n := d.number(key)
	if n < least || n > most {
		return 0
	}
	return n
}

// status is a number that the supplicant gives as i, and whether it was told.
func (d dict) status(key string) (int, bool) {
	n, told := d[key].Value().(int32)
	return int(n), told
}

// frequency is in MHz; 0 when not told.
func (d dict) frequency(key string) int { return frequencyOf(d[key].Value()) }

func frequencyOf(v any) int {
	if n := numberOf(v); n > 0 && n <= maxFrequency {
		return n
	}
	return 0
}

func (d dict) path(key string) Path { return pathOf(d[key].Value()) }

func (d dict) blob(key string) []byte { return blobOf(d[key].Value()) }

// extensions are WPS vendor extensions: the first ten, without those that are too long.
func (d dict) extensions(key string) [][]byte {
	list, _ := d[key].Value().([][]byte)
	var out [][]byte
	for _, b := range list[:min(len(list), MaxExtensions)] {
		if len(b) <= MaxExtension {
			out = append(out, b)
		}
	}
	return out
}

func (d dict) texts(key string) []string { return textsOf(d[key].Value()) }

func (d dict) paths(key string) []Path { return pathsOf(d[key].Value()) }

func (d dict) mac(key string) net.HardwareAddr { return macOf(d[key].Value()) }

func (d dict) ip4(key string) netip.Addr {
	b, _ := d[key].Value().([]byte)
	if len(b) != 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// number takes any integer kind: the supplicant uses i, u, q, n and y for what is a small number everywhere.
func (d dict) number(key string) int { return numberOf(d[key].Value()) }

const maxFrequency = 100000 // MHz: beyond every band

func numberOf(v any) int {
	switch n := v.(type) {
	case byte:
		return int(n)
	case int16:
		return int(n)
	case uint16:
		return int(n)
	case int32:
		return int(n)
	case uint32:
		return int(n)
	case int64:
		return int(n)
	case uint64:
		if n <= math.MaxInt64 {
			return int(n)
		}
	}
	return 0
}

// pathOf is an object path of a length that the supplicant's have.
func pathOf(v any) Path {
	p, _ := v.(dbus.ObjectPath)
	if len(p) > MaxText {
		return ""
	}
	return p
}

// ifnameOf is the name of a network device, as it may be put into the path of a file.
func ifnameOf(v any) string {
	s, _ := v.(string)
	if len(s) > maxIfname || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
		return ""
	}
	return s
}

func blobOf(v any) []byte {
	b, _ := v.([]byte)
	if len(b) > MaxBlob {
		return nil
	}
	return b
}

func macOf(v any) net.HardwareAddr {
	b, _ := v.([]byte)
	if len(b) != 6 {
		return nil
	}
	return net.HardwareAddr(b)
}

func textsOf(v any) []string {
	list, _ := v.([]string)
	if len(list) > MaxList {
		list = list[:MaxList]
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = cut(s)
	}
	return out
}

func pathsOf(v any) []Path {
	list, _ := v.([]dbus.ObjectPath)
	var out []Path
	for _, p := range list[:min(len(list), MaxList)] {
		if p = pathOf(p); !None(p) {
			out = append(out, p)
		}
	}
	return out
}

func dictOf(v any) dict {
	m, _ := v.(map[string]dbus.Variant)
	return m
}

// PeerAddress returns the P2P device address that the path of a Peer object ends with, or nil when it is not such a
// path. A legacy client of a group owner has the path .../Peers/000000000000.
func PeerAddress(p Path) net.HardwareAddr {
	i := strings.LastIndex(string(p), "/Peers/")
	if i < 0 {
		return nil
	}
	mac, err := hex.DecodeString(string(p[i+len("/Peers/"):]))
	if err != nil || len(mac) != 6 {
		return nil
	}
	return mac
}

// PeerPath returns the path of the Peer object that the supplicant has, or had, for a device address under owner.
func PeerPath(owner Path, addr net.HardwareAddr) Path {
	return owner + "/Peers/" + Path(hex.EncodeToString(addr))
}
