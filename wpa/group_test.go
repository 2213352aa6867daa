package wpa

import (
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"nigh/wpa/dbusapi"
	"nigh/wpa/wpatest"
)

// TestGroupIsReadAgain has a supplicant refuse at first to say what is in a group that it has just started, as 2.10 does for a
// moment after an old group was started again: the group comes up all the same, on both sides.
func TestGroupIsReadAgain(t *testing.T) {
	for _, times := range []int{1, readAgain} {
		p := newPair(t)
		for _, s := range []*wpatest.Supplicant{p.sa, p.sb} {
			refuse := wpatest.Fault{Method: "Properties.GetAll", Property: "fi.w1.wpa_supplicant1.Group", Times: times}
			s.Inject(refuse.Fail("org.freedesktop.DBus.Error.Failed", "no current network"))
		}
		p.works(t)
	}
}

// TestGroupThatCannotBeRead checks that a group of which nothing is ever told is ended, once it was asked for often enough, and
// that one that goes meanwhile is asked for no more.
func TestGroupThatCannotBeRead(t *testing.T) {
	refuses := func(f *fake) { f.fail["Group"] = dbusapi.ErrFailed }
	reads := func(w *world) int { return len(w.fake.called("Group " + string(fakeGroup))) }
	inWorld(t, Config{}, refuses, func(w *world) {
		w.negotiated(false)
		w.groupUp(false, "")
		w.pass(readAgain*readPause - 1)
		if n := reads(w); n != readAgain || len(w.fake.called("Disconnect")) != 0 {
			t.Errorf("read %d times, then: %q", n, w.fake.called("Disconnect"))
		}
		w.pass(1)
		if n := reads(w); n != 1+readAgain || len(w.fake.called("Disconnect")) != 1 {
			t.Errorf("read %d times, then: %q", n, w.fake.called("Disconnect"))
		}
		w.removed()
		if !errors.Is(w.last.err, ErrFormation) {
			t.Errorf("formation gave %+v", w.last)
		}
	})
	inWorld(t, Config{}, refuses, func(w *world) {
		w.client()
		w.removed()
		w.pass(2 * readAgain * readPause)
		if n := reads(w); n != 1 {
			t.Errorf("read %d times", n)
		}
	})
}

// TestGroupOfUnknownChannel checks that a client's group of which the supplicant does not know yet where it is is told of when it
// does, or after the last try.
func TestGroupOfUnknownChannel(t *testing.T) {
	unknown := func(f *fake) { f.group.Frequency, f.nowhere = 0, true }
	inWorld(t, Config{}, unknown, func(w *world) {
		w.client()
		w.pass(readPause / 2)
		if w.last.done {
			t.Errorf("formation gave %+v", w.last)
		}
		w.fake.mu.Lock()
		w.fake.nowhere = false
		w.fake.mu.Unlock()
		w.pass(readPause / 2)
		if g := w.last.group; !w.last.done || w.last.err != nil || g.Frequency != 2462 {
			t.Errorf("formation gave %+v", w.last)
		}
	})
	inWorld(t, Config{}, unknown, func(w *world) {
		w.client()
		w.pass(readAgain * readPause)
		if !w.last.done || w.last.err != nil || len(w.fake.called("Disconnect")) != 0 {
			t.Errorf("formation gave %+v", w.last)
		}
	})
}

// TestGroupStartsWhileReading has a group start after the supplicant has listed its interfaces and before the list is taken
// over: the group is there although the list does not have it.
func TestGroupStartsWhileReading(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		listing := make(chan struct{})
		w.fake.mu.Lock()
		w.fake.listing = listing
		w.fake.mu.Unlock()
		w.say(dbusapi.Overflow{})
		w.groupUp(true, "")
		close(listing)
		w.wait()
		if w.event(func(e Event) bool { _, ok := e.(GroupGone); return ok }) || len(w.Status().Groups) != 1 {
			t.Errorf("groups are %+v", w.Status().Groups)
		}
		w.fake.mu.Lock()
		delete(w.fake.ifaces, fakeGroup)
		w.fake.mu.Unlock()
		w.say(dbusapi.Overflow{})
		if len(w.Status().Groups) != 0 {
			t.Errorf("groups are %+v", w.Status().Groups)
		}
	})
}

// TestRadioSaidTwice has the kernel say what it has said before, as it does when a radio is plugged in while its list is read:
// no radio, nor what belongs to it, is there twice.
func TestRadioSaidTwice(t *testing.T) {
	message := func(build func(*netlink.AttributeEncoder)) *netlink.AttributeDecoder {
		ad, err := netlink.NewAttributeDecoder(nested(t, build))
		if err != nil {
			t.Fatal(err)
		}
		return ad
	}
	device := func(id uint64, index uint32, kind uint32) *netlink.AttributeDecoder {
		return message(func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NL80211_ATTR_WIPHY, uint32(id>>32))
			ae.Uint64(unix.NL80211_ATTR_WDEV, id)
			ae.Uint32(unix.NL80211_ATTR_IFTYPE, kind)
			if index != 0 {
				ae.Uint32(unix.NL80211_ATTR_IFINDEX, index)
			}
		})
	}
	const zero, one = 0, 1 << 32 // radios, in the IDs of their devices
	var devices []wdev
	for _, ad := range []*netlink.AttributeDecoder{
		device(zero|1, 3, unix.NL80211_IFTYPE_STATION), device(zero|2, 0, unix.NL80211_IFTYPE_P2P_DEVICE),
		device(zero|1, 3, unix.NL80211_IFTYPE_STATION), device(zero|2, 0, unix.NL80211_IFTYPE_P2P_DEVICE),
		device(one|1, 4, unix.NL80211_IFTYPE_STATION), device(one|2, 0, unix.NL80211_IFTYPE_P2P_DEVICE),
	} {
		devices = withWdev(devices, ad)
	}
	if len(devices) != 4 || devices[1].Type != unix.NL80211_IFTYPE_P2P_DEVICE || devices[3].Wiphy != 1 {
		t.Errorf("devices are %+v", devices)
	}

	part := func(number uint16, bytes []byte) *netlink.AttributeDecoder {
		return message(func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NL80211_ATTR_WIPHY, 7)
			ae.String(unix.NL80211_ATTR_WIPHY_NAME, "phy7")
			ae.Bytes(number, bytes)
		})
	}
	types := nested(t, func(ae *netlink.AttributeEncoder) {
		ae.Flag(unix.NL80211_IFTYPE_STATION, true)
		ae.Flag(unix.NL80211_IFTYPE_P2P_GO, true)
	})
	var once, twice []wiphy
	for i := range 2 {
		for number, bytes := range map[uint16][]byte{
			unix.NL80211_ATTR_SUPPORTED_IFTYPES: types, unix.NL80211_ATTR_INTERFACE_COMBINATIONS: combinationBytes(t), unix.NL80211_ATTR_WIPHY_BANDS: bandBytes(t),
		} {
			if i == 0 {
				once = withWiphy(once, part(number, bytes))
			}
			twice = withWiphy(twice, part(number, bytes))
		}
	}
	if len(once) != 1 || len(twice) != 1 {
		t.Fatalf("radios are %+v and %+v", once, twice)
	}
	a, b := once[0], twice[0]
	if a.Name != "phy7" || len(a.Types) != 2 || len(a.Combinations) == 0 || len(a.Frequencies) == 0 {
		t.Errorf("the radio is %+v", a)
	}
	if len(b.Types) != len(a.Types) || len(b.Combinations) != len(a.Combinations) || len(b.Frequencies) != len(a.Frequencies) {
		t.Errorf("said twice it is %+v, said once %+v", b, a)
	}
}
