package dbusapi

import (
	"context"
	"encoding/hex"
	"net"
	"strings"
)

// Stations returns the interface addresses of the stations that are connected to a group owner's interface, P2P clients and
// others. Before 2.10 there is no such property (ErrInvalidArgs).
func (c *Client) Stations(ctx context.Context, iface Path) ([]net.HardwareAddr, error) {
	v, err := c.get(ctx, iface, ifaceInterface, "Stations")
	if err != nil {
		return nil, err
	}
	var list []net.HardwareAddr
	for _, p := range pathsOf(v) {
		if mac := stationAddress(p); mac != nil {
			list = append(list, mac)
		}
	}
	return list, nil
}

// stationAddress returns the address that the path of a Station object ends with, or nil when it is not such a path.
func stationAddress(p Path) net.HardwareAddr {
	_, last, found := strings.Cut(string(p), "/Stations/")
	mac, err := hex.DecodeString(last)
	if !found || err != nil || len(mac) != 6 {
		return nil
	}
	return mac
}
