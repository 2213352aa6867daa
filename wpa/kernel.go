package wpa

import (
	"errors"
	"os"
	"slices"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernelWatch follows what only nl80211 tells: a group, or the Wi-Fi connection, that moved to another channel. It sees the radios
// of this network namespace.
type kernelWatch struct{ conn *genetlink.Conn }

// watchKernel subscribes; nil when the kernel has no nl80211. A group then keeps the frequency that it started with.
func watchKernel() *kernelWatch {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil
	}
	family, err := conn.GetFamily(unix.NL80211_GENL_NAME)
	if err == nil {
		i := slices.IndexFunc(family.Groups, func(g genetlink.MulticastGroup) bool { return g.Name == unix.NL80211_MULTICAST_GROUP_MLME })
		if i < 0 {
			err = os.ErrNotExist
		} else {
			err = conn.JoinGroup(family.Groups[i].ID)
		}
	}
	if err != nil {
		_ = conn.Close() // nothing was asked of it yet
		return nil
	}
	return &kernelWatch{conn}
}

// run calls moving with every interface whose access point says that it goes to another channel, and moved with every one that
// is on another channel, with the frequency in MHz, until close is called.
func (w *kernelWatch) run(moving, moved func(index, frequency int)) {
	for {
		list, _, err := w.conn.Receive()
		if errors.Is(err, unix.ENOBUFS) { // it told more than we took; what was lost is not asked for again
			continue
		}
		if err != nil {
			return
		}
		for _, m := range list {
			index, frequency := switchedTo(m.Data)
			switch {
			case index == 0 || frequency == 0:
			case m.Header.Command == unix.NL80211_CMD_CH_SWITCH_STARTED_NOTIFY:
				moving(index, frequency)
			case m.Header.Command == unix.NL80211_CMD_CH_SWITCH_NOTIFY:
				moved(index, frequency)
			}
		}
	}
}

func switchedTo(attributes []byte) (index, frequency int) {
	ad, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return 0, 0
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.NL80211_ATTR_IFINDEX:
			index = int(ad.Uint32())
		case unix.NL80211_ATTR_WIPHY_FREQ:
			frequency = int(ad.Uint32())
		}
	}
	if ad.Err() != nil {
		return 0, 0
	}
	return index, frequency
}

func (w *kernelWatch) close() { _ = w.conn.Close() }

// moving makes way for the Wi-Fi connection, whose access point goes to another channel. A radio that can be on one only would
// stay with the group and lose the connection, and the supplicant would not let it come back while the group is there.
func (m *machine) moving(index, frequency int) {
	if index != m.seat.index || m.seat.channels > 1 {
		return
	}
	for _, g := range m.groups {
		if g.ours && g.Frequency != frequency {
			m.log.Info("Group is in the way of the Wi-Fi connection", "group", g.Group, "to", frequency)
			m.end(g, ReasonChannel)
		}
	}
}

// moved follows a group to another channel: the supplicant does not tell, and goes on giving the old one.
func (m *machine) moved(index, frequency int) {
	for _, g := range m.groups {
		if g.Index == index && g.Frequency != frequency {
			m.log.Info("Group moved", "group", g.Group, "to", frequency)
			g.Frequency = frequency
			m.groupChanged(g)
		}
	}
}
