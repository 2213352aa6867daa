package radio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/mdlayher/genetlink"
	"golang.org/x/sys/unix"
)

// audible is the group of the air that all radios are in.
const audible = 1

// SetAudible takes a node's radio out of the air, so that no other hears it and it hears no other while everything on it goes
// on, as when somebody carries it away; or puts it back.
func (n *Node) SetAudible(on bool) error {
	const debugfs = "/sys/kernel/debug"
	path := filepath.Join(debugfs, "ieee80211", n.Phy, "hwsim/group")
	if _, err := os.Stat(path); err != nil {
		if err := run(context.Background(), "mount", "-t", "debugfs", "debugfs", debugfs); err != nil {
			return fmt.Errorf("radio: air of %s: %w", n.Name, err)
		}
	}
	group := audible
	if !on {
		group = audible << 1
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(group)), 0o600); err != nil {
		return fmt.Errorf("radio: air of %s: %w", n.Name, err)
	}
	return nil
}

// SetCountry puts all radios into a country, by its two letters, or into none with "00", and returns when its regulations are in
// force. It must be another one than before.
func SetCountry(ctx context.Context, country string) error {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("radio: country: %w", err)
	}
	defer func() { _ = conn.Close() }() // it was only listened to
	family, err := conn.GetFamily(unix.NL80211_GENL_NAME)
	if err != nil {
		return fmt.Errorf("radio: country: %w", err)
	}
	i := slices.IndexFunc(family.Groups, func(g genetlink.MulticastGroup) bool { return g.Name == unix.NL80211_MULTICAST_GROUP_REG })
	if i < 0 {
		return fmt.Errorf("radio: country: %w", errors.ErrUnsupported)
	}
	if err := errors.Join(conn.JoinGroup(family.Groups[i].ID), conn.SetReadDeadline(time.Now().Add(readyWait))); err != nil {
		return fmt.Errorf("radio: country: %w", err)
	}
	if err := run(ctx, "iw", "reg", "set", country); err != nil {
		return fmt.Errorf("radio: country: %w", err)
	}
	for {
		list, _, err := conn.Receive()
		if err != nil {
			return fmt.Errorf("radio: country %s is not in force: %w", country, err)
		}
		if slices.ContainsFunc(list, func(m genetlink.Message) bool { return m.Header.Command == unix.NL80211_CMD_REG_CHANGE }) {
			return nil
		}
	}
}
