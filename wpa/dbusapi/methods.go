package dbusapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// Capabilities returns what the supplicant was built with, such as "p2p" and "ap".
func (c *Client) Capabilities(ctx context.Context) ([]string, error) {
	v, err := c.get(ctx, Root, Name, "Capabilities")
	return textsOf(v), err
}

// Interfaces returns the paths of all interfaces of the supplicant.
func (c *Client) Interfaces(ctx context.Context) ([]Path, error) {
	v, err := c.get(ctx, Root, Name, "Interfaces")
	return pathsOf(v), err
}

// GetInterface returns the path of the interface with a name, or ErrUnknownInterface.
func (c *Client) GetInterface(ctx context.Context, ifname string) (Path, error) {
	var p dbus.ObjectPath
	err := c.call(ctx, Root, Name, "GetInterface", []any{ifname}, &p)
	return p, err
}

// CreateInterface makes the supplicant take an interface, or ErrInterfaceExists.
func (c *Client) CreateInterface(ctx context.Context, ifname string) (Path, error) {
	var p dbus.ObjectPath
	arg := map[string]dbus.Variant{"Ifname": dbus.MakeVariant(ifname)}
	err := c.call(ctx, Root, Name, "CreateInterface", []any{arg}, &p)
	return p, err
}

// RemoveInterface makes the supplicant let go of an interface. On a group it leaves the network device behind.
func (c *Client) RemoveInterface(ctx context.Context, p Path) error {
	return c.call(ctx, Root, Name, "RemoveInterface", []any{p})
}

// Interface reads one interface.
func (c *Client) Interface(ctx context.Context, p Path) (Interface, error) {
	i := Interface{Path: p}
	v, err := c.get(ctx, p, ifaceInterface, "Ifname")
	if err != nil {
		return i, err
	}
	i.Ifname = ifnameOf(v)
	if v, err = c.get(ctx, p, ifaceInterface, "Capabilities"); err != nil {
		return i, err
	}
	i.P2P = slices.Contains(dictOf(v).texts("Modes"), "p2p")
	if v, err := c.get(ctx, p, ifaceP2P, "Role"); err == nil {
		i.Role = roleOf(v)
	}
	return i, nil
}

// State reads the connection state of an interface, such as "completed".
func (c *Client) State(ctx context.Context, p Path) (string, error) {
	v, err := c.get(ctx, p, ifaceInterface, "State")
	s, _ := v.(string)
	return cut(s), err
}

// AbortScan ends the scan that an interface is making, for whomever; an error says no more than that there was none.
func (c *Client) AbortScan(ctx context.Context, p Path) error {
	return c.call(ctx, p, ifaceInterface, "AbortScan", nil)
}

// ConfigMethods reads the WPS configuration methods that peers see, as words.
func (c *Client) ConfigMethods(ctx context.Context, p Path) (string, error) {
	v, err := c.get(ctx, p, ifaceInterface, "ConfigMethods")
	s, _ := v.(string)
	return cut(s), err
}

// SetConfigMethods sets the WPS configuration methods; an empty text turns them all off.
func (c *Client) SetConfigMethods(ctx context.Context, p Path, methods string) error {
	return c.set(ctx, p, ifaceInterface, "ConfigMethods", methods)
}

// Config reads P2PDeviceConfig. It is also the test for whether P2P works on the interface at all: ErrFailed or
// ErrUnknownInterface when it does not.
func (c *Client) Config(ctx context.Context, owner Path) (Config, error) {
	v, err := c.get(ctx, owner, ifaceP2P, "P2PDeviceConfig")
	if err != nil {
		return Config{}, err
	}
	return configOf(dictOf(v)), nil
}

// Key is one key of P2PDeviceConfig. The supplicant applies keys in the order of the map and stops at the first bad one,
// and Go's maps have no order: so each call sets one.
type Key struct {
	name  string
	value any
}

// DeviceName is the name under which peers find us, at most 32 bytes.
func DeviceName(s string) Key { return Key{"DeviceName", s} }

// DeviceType is the primary device type of WPS: 8 bytes, by which peers choose an icon.
func DeviceType(t []byte) Key { return Key{"PrimaryDeviceType", t} }

// GOIntent is how much we want to be the group owner when a Connect does not say: 0 (not) to 15 (must).
func GOIntent(n int) Key { return Key{"GOIntent", uint32(n)} }

// PersistentReconnect makes the supplicant accept by itself an invitation to a persistent group that it knows: then only
// GroupStarted follows. When off, InvitationReceived comes.
func PersistentReconnect(on bool) Key { return Key{"PersistentReconnect", on} }

// SSIDPostfix is put after the DIRECT-xy of the SSID of groups that we own.
func SSIDPostfix(s string) Key { return Key{"SsidPostfix", s} }

// VendorExtension is the WPS vendor extensions that peers see before they connect, at most 10.
func VendorExtension(e [][]byte) Key { return Key{"VendorExtension", e} }

// AddressOwner is our own IPv4 address in groups that we own, which clients are told in the 4-way handshake. Like the mask,
// start and end below it counts for groups that start later, and the zero Addr takes it back.
func AddressOwner(a netip.Addr) Key { return Key{"IpAddrGo", octets(a)} }

// AddressMask is the network mask that clients are told with their address.
func AddressMask(a netip.Addr) Key { return Key{"IpAddrMask", octets(a)} }

// AddressStart is the first address that the supplicant gives to a client in the 4-way handshake.
func AddressStart(a netip.Addr) Key { return Key{"IpAddrStart", octets(a)} }

// AddressEnd is the last address that the supplicant gives; from AddressStart to it there may be at most 1000.
func AddressEnd(a netip.Addr) Key { return Key{"IpAddrEnd", octets(a)} }

// octets encodes an IPv4 address; the zero Addr becomes 0.0.0.0, which the supplicant takes for "not set".
func octets(a netip.Addr) []byte {
	if !a.Is4() {
		return make([]byte, 4)
	}
	return a.AsSlice()
}

// SetConfig sets one key of P2PDeviceConfig.
func (c *Client) SetConfig(ctx context.Context, owner Path, k Key) error {
	arg := map[string]dbus.Variant{k.name: dbus.MakeVariant(k.value)}
	if err := c.set(ctx, owner, ifaceP2P, "P2PDeviceConfig", arg); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	return nil
}

// Peers returns the paths of all peers. They hang off the owner of P2P, whichever interface is asked.
func (c *Client) Peers(ctx context.Context, owner Path) ([]Path, error) {
	v, err := c.get(ctx, owner, ifaceP2P, "Peers")
	return pathsOf(v), err
}

// Peer reads a peer; ErrUnknownObject when it expired.
func (c *Client) Peer(ctx context.Context, p Path) (Peer, error) {
	d, err := c.all(ctx, p, ifacePeer)
	return peerOf(d), err
}

// GroupObject returns the W.Group object of a group's interface, "/" when it has none.
func (c *Client) GroupObject(ctx context.Context, iface Path) (Path, error) {
	v, err := c.get(ctx, iface, ifaceP2P, "Group")
	return pathOf(v), err
}

// Group reads a running group from its W.Group object. What the supplicant does not know is zero: a client of 2.10 after
// re-invocation has no BSSID and frequency, and then refuses to give all properties at once.
func (c *Client) Group(ctx context.Context, p Path) (Group, error) {
	d, err := c.all(ctx, p, ifaceGroup)
	if !errors.Is(err, ErrInvalidArgs) {
		return groupOf(d), err
	}
	d = dict{}
	for _, property := range []string{"SSID", "BSSID", "Frequency", "Passphrase", "Members", "Role"} {
		v, err := c.read(ctx, p, ifaceGroup, property)
		switch {
		case err == nil:
			d[property] = v
		case property == "SSID":
			return Group{}, err
		}
	}
	return groupOf(d), nil
}

// CurrentBSS returns BSSID and frequency of what an interface is connected to; zero values when it is not.
func (c *Client) CurrentBSS(ctx context.Context, iface Path) (net.HardwareAddr, int, error) {
	v, err := c.get(ctx, iface, ifaceInterface, "CurrentBSS")
	if err != nil {
		return nil, 0, err
	}
	p := pathOf(v)
	if None(p) {
		return nil, 0, nil
	}
	if v, err = c.get(ctx, p, ifaceBSS, "Frequency"); err != nil {
		return nil, 0, err
	}
	freq := frequencyOf(v)
	v, err = c.get(ctx, p, ifaceBSS, "BSSID")
	return macOf(v), freq, err
}

// PersistentGroups returns the paths of all persistent group profiles.
func (c *Client) PersistentGroups(ctx context.Context, owner Path) ([]Path, error) {
	v, err := c.get(ctx, owner, ifaceP2P, "PersistentGroups")
	return pathsOf(v), err
}

// Persistent reads a persistent group profile.
func (c *Client) Persistent(ctx context.Context, p Path) (Persistent, error) {
	v, err := c.get(ctx, p, ifacePersistent, "Properties")
	return persistentOf(dictOf(v)), err
}

// AddPersistent adds a profile; peer is the device address of its client when we are the group owner.
func (c *Client) AddPersistent(ctx context.Context, owner Path, p Persistent, peer net.HardwareAddr) (Path, error) {
	var path dbus.ObjectPath
	err := c.call(ctx, owner, ifaceP2P, "AddPersistentGroup", []any{p.encode(peer)}, &path)
	return path, err
}

// RemovePersistent removes a profile.
func (c *Client) RemovePersistent(ctx context.Context, owner, p Path) error {
	return c.call(ctx, owner, ifaceP2P, "RemovePersistentGroup", []any{p})
}

// Find starts a search. Kind is "social" (channels 1, 6 and 11), "progressive" (those and one other channel a round) or
// "start_with_full"; seconds of 0 means until StopFind. A nil error says only that it was accepted.
func (c *Client) Find(ctx context.Context, owner Path, kind string, seconds int) error {
	arg := map[string]dbus.Variant{"DiscoveryType": dbus.MakeVariant(kind)}
	if seconds > 0 {
		arg["Timeout"] = dbus.MakeVariant(int32(seconds))
	}
	return c.call(ctx, owner, ifaceP2P, "Find", []any{arg})
}

// StopFind stops a search, a listen and the search of a join.
func (c *Client) StopFind(ctx context.Context, owner Path) error {
	return c.call(ctx, owner, ifaceP2P, "StopFind", nil)
}

// Listen makes this device visible to others without searching, for a number of seconds.
func (c *Client) Listen(ctx context.Context, owner Path, seconds int) error {
	return c.call(ctx, owner, ifaceP2P, "Listen", []any{int32(seconds)})
}

// ExtendedListen makes this device visible for one period in every interval, by itself, whenever the radio has nothing else
// to do (Wi-Fi P2P specification 3.1.2.1.1). Zeros turn it off.
func (c *Client) ExtendedListen(ctx context.Context, owner Path, period, interval time.Duration) error {
	arg := map[string]dbus.Variant{}
	if interval > 0 {
		arg["period"] = dbus.MakeVariant(int32(period.Milliseconds()))
		arg["interval"] = dbus.MakeVariant(int32(interval.Milliseconds()))
	}
	return c.call(ctx, owner, ifaceP2P, "ExtendedListen", []any{arg})
}

// ConnectArgs are the arguments of P2PDevice.Connect.
type ConnectArgs struct {
	Peer       Path
	WPS        string // "pbc", "display" or "keypad"
	PIN        string // needed for keypad; with display the supplicant makes one when it is empty
	Join       bool
	Persistent bool
	Intent     int // 0 to 15; negative = that of the configuration
	Frequency  int // MHz; 0 = any
}

// Connect starts, or answers, GO negotiation with a peer, or joins its group. It returns the PIN to show ("00000000" for
// push button). A nil error says only that it was accepted.
func (c *Client) Connect(ctx context.Context, owner Path, a ConnectArgs) (string, error) {
	arg := map[string]dbus.Variant{
		"peer":       dbus.MakeVariant(a.Peer),
		"wps_method": dbus.MakeVariant(a.WPS),
	}
	if a.PIN != "" {
		arg["pin"] = dbus.MakeVariant(a.PIN)
	}
	if a.Join {
		arg["join"] = dbus.MakeVariant(true)
	}
	if a.Persistent {
		arg["persistent"] = dbus.MakeVariant(true)
	}
	if a.Intent >= 0 && !a.Join {
		arg["go_intent"] = dbus.MakeVariant(int32(a.Intent))
	}
	if a.Frequency > 0 {
		arg["frequency"] = dbus.MakeVariant(int32(a.Frequency))
	}
	var pin string
	err := c.call(ctx, owner, ifaceP2P, "Connect", []any{arg}, &pin)
	return pin, err
}

// GroupAdd starts a group with this device as its owner, or (with profile) restarts a persistent group in its role. A nil
// error says only that it was accepted; every failure is ErrInvalidArgs.
func (c *Client) GroupAdd(ctx context.Context, owner Path, frequency int, persistent bool, profile Path) error {
	arg := map[string]dbus.Variant{}
	if frequency > 0 {
		arg["frequency"] = dbus.MakeVariant(int32(frequency))
	}
	if !None(profile) {
		arg["persistent_group_object"] = dbus.MakeVariant(profile)
	} else if persistent {
		arg["persistent"] = dbus.MakeVariant(true)
	}
	return c.call(ctx, owner, ifaceP2P, "GroupAdd", []any{arg})
}

// Cancel cancels group formation; ErrFailed when there is nothing to cancel.
func (c *Client) Cancel(ctx context.Context, owner Path) error {
	return c.call(ctx, owner, ifaceP2P, "Cancel", nil)
}

// Invite invites a peer: with a profile, to start that persistent group again (on the owner of P2P); without, to the
// running group whose interface on is.
func (c *Client) Invite(ctx context.Context, on, peer, profile Path) error {
	arg := map[string]dbus.Variant{"peer": dbus.MakeVariant(peer)}
	if !None(profile) {
		arg["persistent_group_object"] = dbus.MakeVariant(profile)
	}
	return c.call(ctx, on, ifaceP2P, "Invite", []any{arg})
}

// Disconnect ends the group of a group's interface. On any other interface it would drop the user's own Wi-Fi.
func (c *Client) Disconnect(ctx context.Context, group Path) error {
	return c.call(ctx, group, ifaceP2P, "Disconnect", nil)
}

// RejectPeer makes the supplicant answer the peer's next GO negotiation with "rejected by user".
func (c *Client) RejectPeer(ctx context.Context, owner, peer Path) error {
	return c.call(ctx, owner, ifaceP2P, "RejectPeer", []any{peer})
}

// Flush forgets all peers, and the memory of provisioning and invitations with them.
func (c *Client) Flush(ctx context.Context, owner Path) error {
	return c.call(ctx, owner, ifaceP2P, "Flush", nil)
}

// ProvisionDiscovery asks the peer to get ready for a method; method is what the peer shall do: "display", "keypad" or
// "pbc".
func (c *Client) ProvisionDiscovery(ctx context.Context, owner, peer Path, method string) error {
	return c.call(ctx, owner, ifaceP2P, "ProvisionDiscoveryRequest", []any{peer, method})
}

// CloseWPS ends what OpenWPS began; ErrFailed when there is nothing to end.
func (c *Client) CloseWPS(ctx context.Context, group Path) error {
	return c.call(ctx, group, ifaceWPS, "Cancel", nil)
}

// SetGroupVendor sets the WPS vendor extensions in the beacons and probe responses of a group that we own. Group is its
// W.Group object.
func (c *Client) SetGroupVendor(ctx context.Context, group Path, vendor [][]byte) error {
	return c.set(ctx, group, ifaceGroup, "WPSVendorExtensions", vendor)
}

// OpenWPS lets a client into the group of a group owner's interface: the push-button client peer, or, with a PIN, whoever
// proves it.
func (c *Client) OpenWPS(ctx context.Context, group Path, peer net.HardwareAddr, pin string) error {
	arg := map[string]dbus.Variant{"Role": dbus.MakeVariant("registrar")}
	if pin == "" {
		arg["Type"] = dbus.MakeVariant("pbc")
		arg["P2PDeviceAddress"] = dbus.MakeVariant([]byte(peer))
	} else {
		arg["Type"] = dbus.MakeVariant("pin")
		arg["Pin"] = dbus.MakeVariant(pin)
	}
	var reply map[string]dbus.Variant
	return c.call(ctx, group, ifaceWPS, "Start", []any{arg}, &reply)
}
