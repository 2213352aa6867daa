package wpa

import (
	"net"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// combinations reads NL80211_ATTR_INTERFACE_COMBINATIONS.
func (w *wiphy) combinations(list *netlink.AttributeDecoder) error {
	for list.Next() {
		var c combination
		list.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				switch ad.Type() {
				case unix.NL80211_IFACE_COMB_NUM_CHANNELS:
					c.Channels = int(ad.Uint32())
				case unix.NL80211_IFACE_COMB_MAXNUM:
					c.Most = int(ad.Uint32())
				case unix.NL80211_IFACE_COMB_LIMITS:
					ad.Nested(c.limits)
				}
			}
			return nil
		})
		w.Channels = max(w.Channels, c.Channels)
		w.Combinations = append(w.Combinations, c)
	}
	return nil
}

func (c *combination) limits(list *netlink.AttributeDecoder) error {
	for list.Next() {
		var l ifaceLimit
		list.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				switch ad.Type() {
				case unix.NL80211_IFACE_LIMIT_MAX:
					l.Most = int(ad.Uint32())
				case unix.NL80211_IFACE_LIMIT_TYPES:
					ad.Nested(func(types *netlink.AttributeDecoder) error {
						for types.Next() {
							l.Types = append(l.Types, uint32(types.Type())) // flags: the type is the attribute's
						}
						return nil
					})
				}
			}
			return nil
		})
		c.Limits = append(c.Limits, l)
	}
	return nil
}

// bands reads NL80211_ATTR_WIPHY_BANDS.
func (w *wiphy) bands(list *netlink.AttributeDecoder) error {
	for list.Next() {
		list.Nested(func(band *netlink.AttributeDecoder) error {
			for band.Next() {
				if band.Type() != unix.NL80211_BAND_ATTR_FREQS {
					continue
				}
				band.Nested(func(list *netlink.AttributeDecoder) error {
					for list.Next() {
						list.Nested(w.frequency)
					}
					return nil
				})
			}
			return nil
		})
	}
	return nil
}

func (w *wiphy) frequency(ad *netlink.AttributeDecoder) error {
	var f frequency
	for ad.Next() {
		switch ad.Type() {
		case unix.NL80211_FREQUENCY_ATTR_FREQ:
			f.MHz = int(ad.Uint32())
		case unix.NL80211_FREQUENCY_ATTR_DISABLED:
			f.Disabled = true
		case unix.NL80211_FREQUENCY_ATTR_NO_IR:
			f.NoIR = true
		case unix.NL80211_FREQUENCY_ATTR_RADAR:
			f.Radar = true
		case unix.NL80211_FREQUENCY_ATTR_IR_CONCURRENT:
			f.Alongside = true
		}
	}
	w.Frequencies = append(w.Frequencies, f)
	return nil
}

// fits reports whether interfaces of these types may exist at once, as cfg80211_iter_combinations of the kernel does.
func (w wiphy) fits(types []uint32) bool {
	if len(types) <= 1 {
		return true
	}
	return slices.ContainsFunc(w.Combinations, func(c combination) bool {
		if len(types) > c.Most {
			return false
		}
		used := make([]int, len(c.Limits))
		for _, t := range types {
			i := slices.IndexFunc(c.Limits, func(l ifaceLimit) bool { return slices.Contains(l.Types, t) })
			if i < 0 {
				return false
			}
			used[i]++
			if used[i] > c.Limits[i].Most {
				return false
			}
		}
		return true
	})
}

// present lists the interfaces that a group has to share the radio with: those that are up, without groups. Monitors and
// VLANs of access points do not count for the kernel.
func (w wiphy) present(list []wdev) []wdev {
	var out []wdev
	for _, dev := range list {
		if dev.Wiphy != w.ID {
			continue
		}
		switch dev.Type {
		case unix.NL80211_IFTYPE_P2P_CLIENT, unix.NL80211_IFTYPE_P2P_GO, unix.NL80211_IFTYPE_MONITOR, unix.NL80211_IFTYPE_AP_VLAN:
			continue
		}
		if dev.Index != 0 {
			if i, err := net.InterfaceByIndex(dev.Index); err != nil || i.Flags&net.FlagUp == 0 {
				continue
			}
		}
		out = append(out, dev)
	}
	return out
}

// country returns the regulatory domain of a radio, else that of the machine: two letters, "00" when none is set, "" when the
// kernel does not say.
func country(id uint32) string {
	global, own := "", ""
	_ = nl80211(unix.NL80211_CMD_GET_REG, netlink.Dump, nil, func(ad *netlink.AttributeDecoder) {
		alpha, wiphy, ofOne := "", uint32(0), false
		for ad.Next() {
			switch ad.Type() {
			case unix.NL80211_ATTR_REG_ALPHA2:
				alpha = ad.String()
			case unix.NL80211_ATTR_WIPHY:
				wiphy, ofOne = ad.Uint32(), true
			}
		}
		switch {
		case !ofOne:
			global = alpha
		case wiphy == id:
			own = alpha
		}
	})
	if own != "" {
		return own
	}
	return global
}

// channelOf names the channel of a frequency in MHz (IEEE 802.11 annex E), 0 when it is none of the usual ones.
func channelOf(mhz int) int {
	switch {
	case mhz == 2484:
		return 14
	case mhz >= 2412 && mhz < 2484:
		return (mhz - 2407) / 5
	case mhz >= 5160 && mhz <= 5885:
		return (mhz - 5000) / 5
	}
	return 0
}
