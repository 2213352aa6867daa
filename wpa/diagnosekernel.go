package wpa

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// room checks whether a radio can take a group beside what it does now, and where. The kernel's facts come in, so that radios
// can be tried that the lab does not have.
func (d *diagnosis) room(w wiphy, present []wdev, country string) {
	d.country(w, country)
	d.combination(w, present)
	d.channel(w, present)
}

func (d *diagnosis) country(w wiphy, country string) {
	const id = "country"
	five := slices.ContainsFunc(w.Frequencies, func(f frequency) bool { return f.MHz > 5000 && !f.Disabled })
	switch {
	case country == "":
		d.add(id, OK, "The kernel does not say which country's rules hold.", "")
	case country != "00" && country != "99":
		d.add(id, OK, "The radio follows the rules of "+country+".", "")
	case !five:
		d.add(id, OK, "No country is set; "+w.Name+" has the 2.4 GHz band alone, which is allowed everywhere.", "")
	case slices.ContainsFunc(w.Frequencies, func(f frequency) bool { return f.MHz > 5000 && !f.Disabled && !f.NoIR && !f.Radar }):
		d.add(id, OK, "No country is set, and the driver allows groups at 5 GHz all the same.", "")
	default:
		d.add(id, Warn, "No country is set, so groups may use 2.4 GHz only.", "sudo iw reg set DE, with the two letters of your country; on a Raspberry Pi set it in raspi-config.")
	}
}

// combination looks whether the interfaces that are there leave room for one of a group.
func (d *diagnosis) combination(w wiphy, present []wdev) {
	const id = "combos"
	var types []uint32
	for _, dev := range present {
		types = append(types, dev.Type)
	}
	for _, group := range []uint32{unix.NL80211_IFTYPE_P2P_GO, unix.NL80211_IFTYPE_P2P_CLIENT} {
		if w.fits(append(slices.Clone(types), group)) {
			continue
		}
		for _, dev := range present {
			if dev.Type == unix.NL80211_IFTYPE_AP {
				d.add(id, Fail, fmt.Sprintf("The access point on %s leaves no room for a Wi-Fi Direct group on %s.", dev.Ifname, w.Name),
					"Switch the hotspot on "+dev.Ifname+" off first: it is one of hotspot and group.")
				return
			}
		}
		d.add(id, Warn, w.Name+" cannot have a Wi-Fi Direct group beside its Wi-Fi connection.", "Disconnect Wi-Fi before you make a group, or use a second Wi-Fi adapter.")
		return
	}
	d.add(id, OK, w.Name+" has room for a Wi-Fi Direct group.", "")
}

// channel says on which channel a group has to be where the radio can be on one only.
func (d *diagnosis) channel(w wiphy, present []wdev) {
	const id = "channel"
	i := slices.IndexFunc(present, func(dev wdev) bool { return dev.Type == unix.NL80211_IFTYPE_STATION && dev.Frequency > 0 })
	if i < 0 || w.Channels > 1 {
		d.add(id, OK, "A group may use any channel that is allowed.", "")
		return
	}
	mhz := present[i].Frequency
	where := fmt.Sprintf("channel %d (%d MHz)", channelOf(mhz), mhz)
	f := slices.IndexFunc(w.Frequencies, func(f frequency) bool { return f.MHz == mhz })
	if f >= 0 && (w.Frequencies[f].Radar || w.Frequencies[f].NoIR && !w.Frequencies[f].Alongside) {
		d.add(id, Warn, w.Name+" can be on one channel only, and your Wi-Fi is on "+where+", where groups are not allowed.",
			"Disconnect Wi-Fi before you make a group, or join a network on another channel.")
		return
	}
	d.add(id, OK, w.Name+" can be on one channel only: a group uses "+where+", that of your Wi-Fi.", "")
}
