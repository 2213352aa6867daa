package nmapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Active is a connection that NetworkManager makes or has made.
type Active dbus.ObjectPath

// settings are those of a connection, by section and key.
type settings map[string]map[string]dbus.Variant

// ActivateP2P has NetworkManager form a Wi-Fi Direct group with a peer, by push button, on a Wi-Fi Direct device. It returns
// when NetworkManager has begun. The connection is stored nowhere, and ends with Deactivate or with this client. Addresses are
// left to the caller: NetworkManager gives the group's interface a link-local one and no other.
func (c *Client) ActivateP2P(ctx context.Context, device dbus.ObjectPath, peer net.HardwareAddr) (Active, error) {
	connection := settings{
		"connection": {"id": dbus.MakeVariant("nigh"), "type": dbus.MakeVariant("wifi-p2p"), "autoconnect": dbus.MakeVariant(false)},
		"wifi-p2p":   {"peer": dbus.MakeVariant(strings.ToUpper(peer.String()))},
		"ipv4":       {"method": dbus.MakeVariant("disabled")},
		// With "ignore" or "disabled" the kernel's IPv6 stays switched off on the interface, for everybody.
		"ipv6": {"method": dbus.MakeVariant("link-local"), "addr-gen-mode": dbus.MakeVariant(int32(0))},
	}
	options := map[string]dbus.Variant{"persist": dbus.MakeVariant("volatile"), "bind-activation": dbus.MakeVariant("dbus-client")}
	var path, active dbus.ObjectPath
	var result map[string]dbus.Variant
	err := c.call(ctx, root, Name+".AddAndActivateConnection2", []any{&path, &active, &result}, connection, device, dbus.ObjectPath("/"), options)
	return Active(active), err
}

// Alive reports whether a connection is being made or stands (NMActiveConnectionState).
func (c *Client) Alive(ctx context.Context, a Active) (bool, error) {
	const activating, activated = 1, 2
	var state uint32
	err := c.call(ctx, dbus.ObjectPath(a), "org.freedesktop.DBus.Properties.Get", []any{&state}, activeIface, "State")
	if errors.Is(err, ErrFailed) {
		return false, nil // its object is gone with it
	}
	return state == activating || state == activated, err
}

// Deactivate ends a connection, also one that is still being made. One that is gone is no error.
func (c *Client) Deactivate(ctx context.Context, a Active) error {
	if alive, err := c.Alive(ctx, a); err != nil || !alive {
		return err
	}
	return c.call(ctx, root, Name+".DeactivateConnection", nil, dbus.ObjectPath(a))
}

// Lost returns a channel that is closed when NetworkManager leaves the bus, or the bus is lost. It may be called once.
func (c *Client) Lost(ctx context.Context) (<-chan struct{}, error) {
	lost := make(chan struct{})
	signals := make(chan *dbus.Signal, 16)
	c.conn.Signal(signals)
	err := c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, Name))
	if err != nil {
		return nil, fmt.Errorf("AddMatch: %w", classify(ctx, err))
	}
	go func() { // ends with the connection
		defer close(lost)
		for s := range signals {
			if s.Sender != busName || s.Name != busName+".NameOwnerChanged" || len(s.Body) != 3 {
				continue
			}
			if name, _ := s.Body[0].(string); name != Name {
				continue
			}
			if owner, _ := s.Body[2].(string); owner == "" {
				c.conn.RemoveSignal(signals)
				return
			}
		}
	}()
	return lost, nil
}
