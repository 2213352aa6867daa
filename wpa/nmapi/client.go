// Package nmapi asks NetworkManager, over D-Bus, what package wpa has to know of it: which radios it manages, whether
// this program may make connections, and to make a Wi-Fi Direct connection (NetworkManager's D-Bus API 1.42 to 1.58:
// org.freedesktop.NetworkManager, .Device, .Connection.Active).
//
// It knows nothing of wpa_supplicant. Every call is limited by [CallTimeout].
package nmapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Name is NetworkManager's name on the bus.
const Name = "org.freedesktop.NetworkManager"

const (
	root        = dbus.ObjectPath("/org/freedesktop/NetworkManager")
	deviceIface = Name + ".Device"
	activeIface = Name + ".Connection.Active"
	busName     = "org.freedesktop.DBus"
)

// CallTimeout is how long one call may take; NetworkManager answers in milliseconds.
const CallTimeout = 10 * time.Second

var (
	// ErrDenied means that the bus policy or polkit does not let this user do it.
	ErrDenied = errors.New("NetworkManager does not allow it to this user")
	// ErrAbsent means that NetworkManager is not on the bus, or left it.
	ErrAbsent = errors.New("NetworkManager is not running")
	// ErrFailed is every other error that NetworkManager answers with.
	ErrFailed = errors.New("NetworkManager refused")
)

// Client is a connection to the bus that NetworkManager is on. It is safe for concurrent use.
type Client struct {
	conn *dbus.Conn
}

// Dial connects to the bus at address (empty: the system bus). It does not need NetworkManager to be there and never starts
// it. The context bounds the connecting only; Close ends the client.
func Dial(ctx context.Context, address string) (*Client, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	timer := time.AfterFunc(CallTimeout, cancel)
	defer timer.Stop()
	var conn *dbus.Conn
	var err error
	if address == "" {
		conn, err = dbus.SystemBusPrivate(dbus.WithContext(life))
	} else {
		conn, err = dbus.Dial(address, dbus.WithContext(life))
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		cancel()
		_ = conn.Close() // it was never of use
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return &Client{conn: conn}, nil
}

// Close ends the connection. A connection made with ActivateP2P and bound to it is taken down by NetworkManager.
func (c *Client) Close() error { return c.conn.Close() }

// Running reports whether NetworkManager is on the bus.
func (c *Client) Running(ctx context.Context) (bool, error) {
	var has bool
	err := c.callTo(ctx, busName, "/org/freedesktop/DBus", busName+".NameHasOwner", []any{&has}, Name)
	return has, err
}

// Device types and states of NetworkManager (NMDeviceType, NMDeviceState).
const (
	typeWifi    = 2
	typeWifiP2P = 30

	// StateDisconnected is the first state of a device that NetworkManager manages and can use.
	StateDisconnected = 30
	// StateActivated is that of a device with a connection.
	StateActivated = 100
)

// Device is a Wi-Fi interface, or the Wi-Fi Direct side of one, as NetworkManager sees it.
type Device struct {
	Path    dbus.ObjectPath
	Ifname  string // interface; of a Wi-Fi Direct device p2p-dev- and the name of its interface
	P2P     bool   // the Wi-Fi Direct side of a radio
	Managed bool
	State   uint32
}

// Radios lists the Wi-Fi and Wi-Fi Direct devices.
func (c *Client) Radios(ctx context.Context) ([]Device, error) {
	var paths []dbus.ObjectPath
	if err := c.call(ctx, root, Name+".GetAllDevices", []any{&paths}); err != nil {
		return nil, err
	}
	var found []Device
	for _, p := range paths {
		var properties map[string]dbus.Variant
		err := c.call(ctx, p, "org.freedesktop.DBus.Properties.GetAll", []any{&properties}, deviceIface)
		if errors.Is(err, ErrFailed) {
			continue // it is gone
		}
		if err != nil {
			return nil, err
		}
		d := Device{Path: p}
		kind, _ := properties["DeviceType"].Value().(uint32)
		d.Ifname, _ = properties["Interface"].Value().(string)
		d.Managed, _ = properties["Managed"].Value().(bool)
		d.State, _ = properties["State"].Value().(uint32)
		d.P2P = kind == typeWifiP2P
		if kind == typeWifi || d.P2P {
			found = append(found, d)
		}
	}
	return found, nil
}

// MayConnect reports whether NetworkManager lets this program make connections without asking a person for a password.
func (c *Client) MayConnect(ctx context.Context) (bool, error) {
	var permissions map[string]string
	err := c.call(ctx, root, Name+".GetPermissions", []any{&permissions})
	return permissions[Name+".network-control"] == "yes", err
}

func (c *Client) call(ctx context.Context, path dbus.ObjectPath, method string, result []any, args ...any) error {
	return c.callTo(ctx, Name, path, method, result, args...)
}

func (c *Client) callTo(ctx context.Context, to string, path dbus.ObjectPath, method string, result []any, args ...any) error {
	limited, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	call := c.conn.Object(to, path).CallWithContext(limited, method, dbus.FlagNoAutoStart, args...)
	err := call.Err
	if err == nil && result != nil {
		err = call.Store(result...)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", method, classify(ctx, err))
}

// classify puts the error of a call into this package's terms.
func classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var name string
	if e, ok := errors.AsType[dbus.Error](err); ok {
		name = e.Name
	} else if e, ok := errors.AsType[*dbus.Error](err); ok {
		name = e.Name
	}
	switch name {
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		Name + ".PermissionDenied", Name + ".AgentManager.PermissionDenied", Name + ".Settings.PermissionDenied":
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.NoReply":
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}
