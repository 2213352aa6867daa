package wpa

import (
	"encoding/binary"
	"net"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// scanFresh is how old a sighting of a group may be to say on which channel it is.
const scanFresh = 10 * time.Second

// groupFrequency returns the frequency in MHz on which this radio has just seen the group of a P2P device, or 0 when it has not
// or this process cannot see the radio. The supplicant knows it of a group with clients only, and scans all channels for
// another one.
func groupFrequency(ifname string, device net.HardwareAddr) int {
	link, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0
	}
	found, seen := 0, scanFresh
	err = nl80211(unix.NL80211_CMD_GET_SCAN, netlink.Dump, func(ae *netlink.AttributeEncoder) {
		ae.Uint32(unix.NL80211_ATTR_IFINDEX, uint32(link.Index))
	}, func(ad *netlink.AttributeDecoder) {
		for ad.Next() {
			if ad.Type() != unix.NL80211_ATTR_BSS {
				continue
			}
			ad.Nested(func(bss *netlink.AttributeDecoder) error {
				frequency, age, theirs := 0, scanFresh, false
				for bss.Next() {
					switch bss.Type() {
					case unix.NL80211_BSS_FREQUENCY:
						frequency = int(bss.Uint32())
					case unix.NL80211_BSS_SEEN_MS_AGO:
						age = time.Duration(bss.Uint32()) * time.Millisecond
					case unix.NL80211_BSS_INFORMATION_ELEMENTS, unix.NL80211_BSS_BEACON_IES:
						theirs = theirs || slices.Equal(p2pDevice(bss.Bytes()), device)
					}
				}
				if theirs && age < seen {
					found, seen = frequency, age
				}
				return nil
			})
		}
	})
	if err != nil {
		return 0
	}
	return found
}

// Attributes of the P2P information element (Wi-Fi P2P specification 4.1.1, table 6).
const (
	p2pDeviceID   = 3  // of a beacon: the device address
	p2pDeviceInfo = 13 // of a probe response: it begins with the device address
)

// p2pDevice returns the P2P device address of the group owner that sent these information elements, or nil when they are not a
// group owner's. Several P2P elements are one, cut up (Wi-Fi P2P specification 4.1.1).
func p2pDevice(ies []byte) net.HardwareAddr {
	var attributes []byte
	for len(ies) >= 2 && len(ies) >= 2+int(ies[1]) {
		body := ies[2 : 2+int(ies[1])]
		if ies[0] == 221 && len(body) >= 4 && [4]byte(body) == [4]byte{0x50, 0x6f, 0x9a, 0x09} {
			attributes = append(attributes, body[4:]...)
		}
		ies = ies[2+len(body):]
	}
	for len(attributes) >= 3 {
		n := int(binary.LittleEndian.Uint16(attributes[1:]))
		if len(attributes) < 3+n {
			return nil
		}
		if id := attributes[0]; n >= 6 && (id == p2pDeviceID || id == p2pDeviceInfo) {
			return net.HardwareAddr(attributes[3:9])
		}
		attributes = attributes[3+n:]
	}
	return nil
}
