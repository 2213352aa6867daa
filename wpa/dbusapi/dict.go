package dbusapi

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Bounds on what is taken over from a property map.
const (
	MaxText = 256  // bytes of a string
	MaxBlob = 2048 // bytes of a byte array
	MaxList = 256  // elements of a list
)

// Path is a D-Bus object path; the empty Path and "/" both mean none.
type Path = dbus.ObjectPath

// None reports whether p names no object.
func None(p Path) bool { return p == "" || p == "/" }

// dict is an a{sv} as godbus decodes it. Its methods return the zero value for what is absent, of another type or too
// long, so that a hostile or newer sender can only withhold, never break.
type dict map[string]dbus.Variant

func (d dict) text(key string) string {
	s, _ := d[key].Value().(string)
	return cut(s)
}

func (d dict) flag(key string) bool {
	b, _ := d[key].Value().(bool)
	return b
}

func (d dict) path(key string) Path {
	p, _ := d[key].Value().(dbus.ObjectPath)
	return p
}

func (d dict) blob(key string) []byte { return blobOf(d[key].Value()) }

func (d dict) blobs(key string) [][]byte {
	list, _ := d[key].Value().([][]byte)
	if len(list) > MaxList {
		list = list[:MaxList]
	}
	var out [][]byte
	for _, b := range list {
		if len(b) <= MaxBlob {
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
		return int(n)
	}
	return 0
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
	if len(list) > MaxList {
		list = list[:MaxList]
	}
	return list
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
