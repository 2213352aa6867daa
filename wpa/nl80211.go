package wpa

import (
	"cmp"
	"net"
	"slices"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernelLimit bounds a talk with nl80211, which answers at once.
const kernelLimit = 2 * time.Second

// wdev is one wireless device of nl80211. A P2P device has no network interface: Index is 0.
type wdev struct {
	ID      uint64
	Wiphy   uint32
	Index   int
	Ifname  string
	Type    uint32
	Address net.HardwareAddr

	Frequency int // MHz that it is on; 0 when it is on none
}

// wiphy is one radio.
type wiphy struct {
	ID    uint32
	Name  string
	Types []uint32 // interface types it supports

	Channels int // that it can be on at once; 0 = it does not say

	Combinations []combination // of interfaces that it can have at once; none = one interface
	Frequencies  []frequency
}

// combination is a set of interfaces that a radio can have at once.
type combination struct {
	Limits   []ifaceLimit
	Most     int // interfaces in all
	Channels int // that they can be on at once
}

// ifaceLimit bounds how many interfaces of some types a combination has.
type ifaceLimit struct {
	Most  int
	Types []uint32
}

func (c combination) equal(o combination) bool {
	return c.Most == o.Most && c.Channels == o.Channels && slices.EqualFunc(c.Limits, o.Limits, func(a, b ifaceLimit) bool {
		return a.Most == b.Most && slices.Equal(a.Types, b.Types)
	})
}

// frequency is a channel of a radio, as the regulatory domain allows it.
type frequency struct {
	MHz       int
	Disabled  bool
	NoIR      bool // nobody may transmit first, as a group owner does
	Radar     bool // only after listening for radar, which wpa_supplicant does not do for groups
	Alongside bool // NoIR does not count next to a connection on the same channel
}

// can reports whether the radio supports both roles of a P2P group.
func (w wiphy) can() bool {
	return slices.Contains(w.Types, unix.NL80211_IFTYPE_P2P_CLIENT) && slices.Contains(w.Types, unix.NL80211_IFTYPE_P2P_GO)
}

// nl80211 runs one command and gives each answer's attributes to each.
func nl80211(command uint8, flags netlink.HeaderFlags, build func(*netlink.AttributeEncoder), each func(*netlink.AttributeDecoder)) error {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // every answer was read before
	if err := conn.SetDeadline(time.Now().Add(kernelLimit)); err != nil {
		return err
	}
	family, err := conn.GetFamily(unix.NL80211_GENL_NAME)
	if err != nil {
		return err
	}
	ae := netlink.NewAttributeEncoder()
	if build != nil {
		build(ae)
	}
	data, err := ae.Encode()
	if err != nil {
		return err
	}
	request := genetlink.Message{Header: genetlink.Header{Command: command}, Data: data}
	answers, err := conn.Execute(request, family.ID, netlink.Request|flags)
	if err != nil {
		return err
	}
	for _, a := range answers {
		ad, err := netlink.NewAttributeDecoder(a.Data)
		if err != nil {
			return err
		}
		if each != nil {
			each(ad)
		}
		if ad.Err() != nil {
			return ad.Err()
		}
	}
	return nil
}

// wdevs lists the wireless devices of this network namespace.
func wdevs() ([]wdev, error) {
	var list []wdev
	err := nl80211(unix.NL80211_CMD_GET_INTERFACE, netlink.Dump, nil, func(ad *netlink.AttributeDecoder) { list = withWdev(list, ad) })
	return list, err
}

// withWdev adds what one message of the kernel says. The kernel counts its way through the list, and begins it with the newest
// radio: when one is plugged in while the list is read, it says again what it has said. A wireless device that comes twice
// would count twice for what a radio has room for.
func withWdev(list []wdev, ad *netlink.AttributeDecoder) []wdev {
	var w wdev
	for ad.Next() {
		switch ad.Type() {
		case unix.NL80211_ATTR_WDEV:
			w.ID = ad.Uint64()
		case unix.NL80211_ATTR_WIPHY:
			w.Wiphy = ad.Uint32()
		case unix.NL80211_ATTR_IFINDEX:
			w.Index = int(ad.Uint32())
		case unix.NL80211_ATTR_IFNAME:
			w.Ifname = ad.String()
		case unix.NL80211_ATTR_IFTYPE:
			w.Type = ad.Uint32()
		case unix.NL80211_ATTR_WIPHY_FREQ:
			w.Frequency = int(ad.Uint32())
		case unix.NL80211_ATTR_MAC:
			w.Address = slices.Clone(ad.Bytes())
		}
	}
	if i := slices.IndexFunc(list, func(o wdev) bool { return o.ID == w.ID }); i >= 0 {
		list[i] = w
		return list
	}
	return append(list, w)
}

// wiphys lists the radios of this network namespace. A radio comes in many parts.
func wiphys() ([]wiphy, error) {
	var list []wiphy
	split := func(ae *netlink.AttributeEncoder) { ae.Flag(unix.NL80211_ATTR_SPLIT_WIPHY_DUMP, true) }
	err := nl80211(unix.NL80211_CMD_GET_WIPHY, netlink.Dump, split, func(ad *netlink.AttributeDecoder) { list = withWiphy(list, ad) })
	return list, err
}

// withWiphy adds what one message of the kernel says: a part of a radio, which may come again as a wireless device may.
func withWiphy(list []wiphy, ad *netlink.AttributeDecoder) []wiphy {
	var w wiphy
	for ad.Next() {
		switch ad.Type() {
		case unix.NL80211_ATTR_WIPHY:
			w.ID = ad.Uint32()
		case unix.NL80211_ATTR_WIPHY_NAME:
			w.Name = ad.String()
		case unix.NL80211_ATTR_SUPPORTED_IFTYPES:
			ad.Nested(func(types *netlink.AttributeDecoder) error {
				for types.Next() {
					w.Types = append(w.Types, uint32(types.Type())) // flags: the type is the attribute's
				}
				return nil
			})
		case unix.NL80211_ATTR_INTERFACE_COMBINATIONS:
			ad.Nested(w.combinations)
		case unix.NL80211_ATTR_WIPHY_BANDS:
			ad.Nested(w.bands)
		}
	}
	i := slices.IndexFunc(list, func(o wiphy) bool { return o.ID == w.ID })
	if i < 0 {
		return append(list, w)
	}
	have := &list[i]
	have.Name = cmp.Or(w.Name, have.Name)
	have.Channels = max(have.Channels, w.Channels)
	for _, t := range w.Types {
		if !slices.Contains(have.Types, t) {
			have.Types = append(have.Types, t)
		}
	}
	for _, c := range w.Combinations {
		if !slices.ContainsFunc(have.Combinations, c.equal) {
			have.Combinations = append(have.Combinations, c)
		}
	}
	for _, f := range w.Frequencies {
		if !slices.ContainsFunc(have.Frequencies, func(o frequency) bool { return o.MHz == f.MHz }) {
			have.Frequencies = append(have.Frequencies, f)
		}
	}
	return list
}

// seat is the place of an interface among the radios.
type seat struct {
	index    int // of the interface; 0 when this network namespace does not have it
	channels int // that its radio can be on at once; 0 when it does not say
}

// seatOf finds an interface.
func seatOf(ifname string) seat {
	list, err := wdevs()
	i := slices.IndexFunc(list, func(w wdev) bool { return w.Ifname == ifname })
	if err != nil || i < 0 {
		return seat{}
	}
	s := seat{index: list[i].Index}
	if radios, err := wiphys(); err == nil {
		for _, w := range radios {
			if w.ID == list[i].Wiphy {
				s.channels = w.Channels
			}
		}
	}
	return s
}

// deviceAddress returns the P2P device address of the radio that an interface belongs to, which D-Bus has only from 2.12
// on: that of the radio's P2P device, else the interface's own. It is nil when the kernel does not show the interface to
// this network namespace.
func deviceAddress(ifname string) net.HardwareAddr {
	list, err := wdevs()
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(list, func(w wdev) bool { return w.Ifname == ifname })
	if i < 0 {
		return nil
	}
	for _, w := range list {
		if w.Wiphy == list[i].Wiphy && w.Type == unix.NL80211_IFTYPE_P2P_DEVICE {
			return w.Address
		}
	}
	return list[i].Address
}

// p2pHolder gives which of the interfaces is on a radio that has a P2P device, which wpa_supplicant makes for the radio that
// owns P2P. It is -1 when none is: on radios without support for it, or where the kernel does not show them to this network
// namespace.
func p2pHolder(ifnames []string) int {
	list, err := wdevs()
	if err != nil {
		return -1
	}
	return slices.IndexFunc(ifnames, func(ifname string) bool {
		i := slices.IndexFunc(list, func(w wdev) bool { return w.Ifname == ifname })
		return i >= 0 && slices.ContainsFunc(list, func(w wdev) bool {
			return w.Wiphy == list[i].Wiphy && w.Type == unix.NL80211_IFTYPE_P2P_DEVICE
		})
	})
}

// removeOrphan removes the network device that stays behind when another program removes a group's interface from the
// supplicant. It does nothing when the device is gone or is not that of a group, and fails without CAP_NET_ADMIN. An index
// of 0 is not known: a group may be removed before its interface was looked at.
func removeOrphan(index int, ifname string) error {
	list, err := wdevs()
	if err != nil {
		return err
	}
	for _, w := range list {
		group := w.Type == unix.NL80211_IFTYPE_P2P_GO || w.Type == unix.NL80211_IFTYPE_P2P_CLIENT
		if w.Ifname == ifname && group && (index == 0 || w.Index == index) {
			return nl80211(unix.NL80211_CMD_DEL_INTERFACE, netlink.Acknowledge, func(ae *netlink.AttributeEncoder) {
				ae.Uint32(unix.NL80211_ATTR_IFINDEX, uint32(w.Index))
			}, nil)
		}
	}
	return nil
}
