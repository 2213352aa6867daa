package wpa

import (
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The radios of real machines, as `iw list` shows them: a Raspberry Pi 4, a laptop of Intel's, and a driver that says nothing.
var (
	piRadio = wiphy{Name: "phy0", Channels: 2, Combinations: []combination{
		{Most: 3, Channels: 2, Limits: []ifaceLimit{
			{1, []uint32{unix.NL80211_IFTYPE_STATION}}, {1, []uint32{unix.NL80211_IFTYPE_P2P_DEVICE}},
			{1, []uint32{unix.NL80211_IFTYPE_P2P_CLIENT, unix.NL80211_IFTYPE_P2P_GO}},
		}},
		{Most: 4, Channels: 1, Limits: []ifaceLimit{
			{1, []uint32{unix.NL80211_IFTYPE_STATION}}, {1, []uint32{unix.NL80211_IFTYPE_AP}},
			{1, []uint32{unix.NL80211_IFTYPE_P2P_CLIENT}}, {1, []uint32{unix.NL80211_IFTYPE_P2P_DEVICE}},
		}},
	}}
	laptopRadio = wiphy{Name: "phy0", Channels: 1, Combinations: []combination{{Most: 3, Channels: 1, Limits: []ifaceLimit{
		{1, []uint32{unix.NL80211_IFTYPE_STATION}},
		{1, []uint32{unix.NL80211_IFTYPE_AP, unix.NL80211_IFTYPE_P2P_CLIENT, unix.NL80211_IFTYPE_P2P_GO}},
		{1, []uint32{unix.NL80211_IFTYPE_P2P_DEVICE}},
	}}}, Frequencies: []frequency{{MHz: 2437}, {MHz: 5180, NoIR: true}, {MHz: 5200, NoIR: true, Alongside: true}, {MHz: 5260, Radar: true}}}
	soleRadio = wiphy{Name: "phy1"}
)

func on(frequency int) wdev {
	return wdev{Ifname: "wlan0", Type: unix.NL80211_IFTYPE_STATION, Frequency: frequency}
}

func TestRoomForAGroup(t *testing.T) {
	device := wdev{Type: unix.NL80211_IFTYPE_P2P_DEVICE}
	hotspot := wdev{Ifname: "uap0", Type: unix.NL80211_IFTYPE_AP}
	for _, tt := range []struct {
		name    string
		radio   wiphy
		present []wdev
		country string
		id      string
		state   FindingState
		says    string
	}{
		{"a Pi at home", piRadio, []wdev{on(2437), device}, "FI", "combos", OK, "room"},
		{"a Pi with a hotspot", piRadio, []wdev{on(2437), device, hotspot}, "FI", "combos", Fail, "uap0"},
		{"a laptop with a hotspot", laptopRadio, []wdev{on(2437), hotspot}, "FI", "combos", Fail, "uap0"},
		{"one interface at a time", soleRadio, []wdev{on(2437)}, "FI", "combos", Warn, "beside its Wi-Fi connection"},
		{"a radio to itself", soleRadio, nil, "FI", "combos", OK, "room"},
		{"two channels", piRadio, []wdev{on(5180)}, "FI", "channel", OK, "any channel"},
		{"not connected", laptopRadio, []wdev{on(0)}, "FI", "channel", OK, "any channel"},
		{"one channel", laptopRadio, []wdev{on(2437)}, "FI", "channel", OK, "channel 6 (2437 MHz)"},
		{"no groups there", laptopRadio, []wdev{on(5180)}, "FI", "channel", Warn, "channel 36 (5180 MHz)"},
		{"beside a connection", laptopRadio, []wdev{on(5200)}, "FI", "channel", OK, "channel 40"},
		{"radar", laptopRadio, []wdev{on(5260)}, "FI", "channel", Warn, "channel 52"},
		{"a country", laptopRadio, nil, "FI", "country", OK, "FI"},
		{"no country", laptopRadio, nil, "00", "country", Warn, "2.4 GHz only"},
		{"made up by the driver", laptopRadio, nil, "99", "country", Warn, "2.4 GHz only"},
		{"no country and one band", soleRadio, nil, "00", "country", OK, "2.4 GHz band alone"},
		{"a driver that knows better", wiphy{Frequencies: []frequency{{MHz: 5180}}}, nil, "00", "country", OK, "all the same"},
		{"silent kernel", laptopRadio, nil, "", "country", OK, "does not say"},
	} {
		d := &diagnosis{}
		d.room(tt.radio, tt.present, tt.country)
		if len(d.findings) != 3 {
			t.Errorf("%s: %+v", tt.name, d.findings)
		}
		for _, f := range d.findings {
			if f.ID == tt.id && (f.State != tt.state || !strings.Contains(f.Cause, tt.says)) || (f.State == OK) != (f.Fix == "") {
				t.Errorf("%s: %+v, want %s with %q", tt.name, f, tt.state, tt.says)
			}
		}
	}
}

func TestChannelOf(t *testing.T) {
	for mhz, want := range map[int]int{2412: 1, 2437: 6, 2472: 13, 2484: 14, 5180: 36, 5825: 165, 60480: 0, 0: 0} {
		if got := channelOf(mhz); got != want {
			t.Errorf("%d MHz is channel %d, want %d", mhz, got, want)
		}
	}
}

// nested encodes attributes as the kernel does.
func nested(t interface{ Fatal(...any) }, build func(*netlink.AttributeEncoder)) []byte {
	ae := netlink.NewAttributeEncoder()
	build(ae)
	b, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func combinationBytes(t interface{ Fatal(...any) }) []byte {
	return nested(t, func(ae *netlink.AttributeEncoder) {
		ae.Nested(1, func(c *netlink.AttributeEncoder) error {
			c.Nested(unix.NL80211_IFACE_COMB_LIMITS, func(l *netlink.AttributeEncoder) error {
				l.Nested(1, func(l *netlink.AttributeEncoder) error {
					l.Uint32(unix.NL80211_IFACE_LIMIT_MAX, 2)
					l.Nested(unix.NL80211_IFACE_LIMIT_TYPES, func(ty *netlink.AttributeEncoder) error {
						ty.Flag(unix.NL80211_IFTYPE_STATION, true)
						ty.Flag(unix.NL80211_IFTYPE_P2P_GO, true)
						return nil
					})
					return nil
				})
				return nil
			})
			c.Uint32(unix.NL80211_IFACE_COMB_MAXNUM, 2)
			c.Uint32(unix.NL80211_IFACE_COMB_NUM_CHANNELS, 1)
			return nil
		})
	})
}

func bandBytes(t interface{ Fatal(...any) }) []byte {
	return nested(t, func(ae *netlink.AttributeEncoder) {
		ae.Nested(0, func(b *netlink.AttributeEncoder) error {
			b.Nested(unix.NL80211_BAND_ATTR_FREQS, func(f *netlink.AttributeEncoder) error {
				f.Nested(0, func(f *netlink.AttributeEncoder) error {
					f.Uint32(unix.NL80211_FREQUENCY_ATTR_FREQ, 5180)
					f.Flag(unix.NL80211_FREQUENCY_ATTR_NO_IR, true)
					return nil
				})
				return nil
			})
			return nil
		})
	})
}

func TestRadioIsRead(t *testing.T) {
	var w wiphy
	ad, err := netlink.NewAttributeDecoder(combinationBytes(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.combinations(ad); err != nil {
		t.Fatal(err)
	}
	if w.Channels != 1 || len(w.Combinations) != 1 || w.Combinations[0].Most != 2 || !w.fits([]uint32{unix.NL80211_IFTYPE_STATION, unix.NL80211_IFTYPE_P2P_GO}) ||
		w.fits([]uint32{unix.NL80211_IFTYPE_STATION, unix.NL80211_IFTYPE_AP}) {
		t.Errorf("%+v", w)
	}
	if ad, err = netlink.NewAttributeDecoder(bandBytes(t)); err != nil {
		t.Fatal(err)
	}
	if err := w.bands(ad); err != nil || len(w.Frequencies) != 1 || w.Frequencies[0] != (frequency{MHz: 5180, NoIR: true}) {
		t.Errorf("%+v, %v", w.Frequencies, err)
	}
}

// FuzzWiphy gives what the kernel never would: only that nothing breaks and nothing grows.
func FuzzWiphy(f *testing.F) {
	f.Add(combinationBytes(f))
	f.Add(bandBytes(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func(*wiphy, *netlink.AttributeDecoder) error{(*wiphy).combinations, (*wiphy).bands} {
			ad, err := netlink.NewAttributeDecoder(b)
			if err != nil {
				return
			}
			var w wiphy
			_ = read(&w, ad)
			if len(w.Combinations) > len(b) || len(w.Frequencies) > len(b) {
				t.Errorf("%d bytes made %d and %d", len(b), len(w.Combinations), len(w.Frequencies))
			}
		}
	})
}
