package radio

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// plainConfig is the configuration of a wpa_supplicant that has no use of P2P.
const plainConfig = "ctrl_interface=" + controlSockets + "\np2p_disabled=1\n"

// Network is a WPA2 network that a node joins: of an access point, or of a P2P group.
type Network struct {
	SSID       string
	Passphrase string
	Frequency  int          // MHz, where to look for it; 0 = everywhere, which takes some seconds more
	Elsewhere  []int        // MHz, where to look beside Frequency
	Address    netip.Prefix // for the interface; zero = none
}

// Join connects a node's own interface, beside P2P, to a network, and gives it the address. It returns when the connection is
// complete.
func (n *Node) Join(ctx context.Context, c Network) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("not connected within %v", readyWait))
	defer cancel()
	err := n.onInterface(ctx, func(conn *dbus.Conn, object dbus.BusObject) error {
		network := map[string]dbus.Variant{
			"ssid": dbus.MakeVariant([]byte(c.SSID)), "psk": dbus.MakeVariant(c.Passphrase), "key_mgmt": dbus.MakeVariant("WPA-PSK"),
			// As network programs do for networks that hide, and quicker than the first full scan.
			"scan_ssid": dbus.MakeVariant(int32(1)),
		}
		if c.Frequency != 0 {
			network["scan_freq"] = dbus.MakeVariant(strings.Trim(fmt.Sprint(append([]int{c.Frequency}, c.Elsewhere...)), "[]"))
		}
		var path dbus.ObjectPath
		if err := object.CallWithContext(ctx, supplicantName+".Interface.AddNetwork", 0, network).Store(&path); err != nil {
			return err
		}
		if err := object.CallWithContext(ctx, supplicantName+".Interface.SelectNetwork", 0, path).Err; err != nil {
			return err
		}
		return awaitWiFi(ctx, conn, object, "completed")
	})
	if err == nil {
		err = n.address(ctx, c.Address)
	}
	if err != nil {
		return fmt.Errorf("radio: %s joins %q: %w", n.Name, c.SSID, err)
	}
	return nil
}

// Part ends what Join began and forgets the network. It returns when the interface is disconnected.
func (n *Node) Part(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("not disconnected within %v", readyWait))
	defer cancel()
	err := n.onInterface(ctx, func(conn *dbus.Conn, object dbus.BusObject) error {
		if err := object.CallWithContext(ctx, supplicantName+".Interface.RemoveAllNetworks", 0).Err; err != nil {
			return err
		}
		return awaitWiFi(ctx, conn, object, "disconnected", "inactive", "interface_disabled")
	})
	if err != nil {
		return fmt.Errorf("radio: %s leaves its network: %w", n.Name, err)
	}
	return nil
}

// AwaitWiFi returns when the node's own Wi-Fi connection is in a state, in wpa_supplicant's words.
func (n *Node) AwaitWiFi(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("not %s within %v", state, readyWait))
	defer cancel()
	err := n.onInterface(ctx, func(conn *dbus.Conn, object dbus.BusObject) error { return awaitWiFi(ctx, conn, object, state) })
	if err != nil {
		return fmt.Errorf("radio: Wi-Fi connection of %s: %w", n.Name, err)
	}
	return nil
}

// WiFi is the state of the node's own Wi-Fi connection in wpa_supplicant's words, such as "completed" or "disconnected", and the
// frequency in MHz of the network it is connected to, or 0.
func (n *Node) WiFi(ctx context.Context) (state string, frequency int, err error) {
	err = n.onInterface(ctx, func(conn *dbus.Conn, object dbus.BusObject) error {
		if state, err = wifiState(object); err != nil {
			return err
		}
		v, err := object.GetProperty(supplicantName + ".Interface.CurrentBSS")
		if err != nil {
			return err
		}
		bss, _ := v.Value().(dbus.ObjectPath)
		if bss == "" || bss == "/" {
			return nil
		}
		if v, err = conn.Object(supplicantName, bss).GetProperty(supplicantName + ".BSS.Frequency"); err != nil {
			return err
		}
		f, _ := v.Value().(uint16)
		frequency = int(f)
		return nil
	})
	if err != nil {
		return "", 0, fmt.Errorf("radio: Wi-Fi connection of %s: %w", n.Name, err)
	}
	return state, frequency, nil
}

// onInterface runs f with the supplicant's object of the node's own interface.
func (n *Node) onInterface(ctx context.Context, f func(*dbus.Conn, dbus.BusObject) error) error {
	conn, err := dbus.Connect(n.Bus, dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	var path dbus.ObjectPath
	root := conn.Object(supplicantName, supplicantPath)
	if err := root.CallWithContext(ctx, supplicantName+".GetInterface", 0, n.Ifname).Store(&path); err != nil {
		return err
	}
	return f(conn, conn.Object(supplicantName, path))
}

func wifiState(object dbus.BusObject) (string, error) {
	v, err := object.GetProperty(supplicantName + ".Interface.State")
	if err != nil {
		return "", err
	}
	s, _ := v.Value().(string)
	return s, nil
}

// awaitWiFi returns when the connection of an interface is in one of the states want.
func awaitWiFi(ctx context.Context, conn *dbus.Conn, object dbus.BusObject, want ...string) error {
	changes := make(chan *dbus.Signal, 64)
	conn.Signal(changes)
	rule := []dbus.MatchOption{dbus.WithMatchObjectPath(object.Path()), dbus.WithMatchInterface(supplicantName + ".Interface"), dbus.WithMatchMember("PropertiesChanged")}
	if err := conn.AddMatchSignalContext(ctx, rule...); err != nil {
		return err
	}
	for {
		state, err := wifiState(object)
		if err != nil || slices.Contains(want, state) {
			return err
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("%w: it is %s", context.Cause(ctx), state)
		}
	}
}

// address gives the node's own interface an address.
func (n *Node) address(ctx context.Context, p netip.Prefix) error {
	if !p.IsValid() {
		return nil
	}
	args := []string{"addr", "replace", p.String(), "dev", n.Ifname}
	if n.NetNS != "" {
		args = append([]string{"-n", n.NetNS}, args...)
	}
	return run(ctx, "ip", args...)
}

// HardwareAddr is the address of the node's own interface.
func (n *Node) HardwareAddr() (net.HardwareAddr, error) {
	var link *net.Interface
	err := n.Do(func() (err error) { link, err = net.InterfaceByName(n.Ifname); return err })
	if err != nil {
		return nil, fmt.Errorf("radio: %s: %w", n.Name, err)
	}
	return link.HardwareAddr, nil
}

// SwapAddress gives the node's own interface the other one of its radio's two addresses, while no wpa_supplicant runs. A P2P device that
// wpa_supplicant makes on that radio then has the first: so its P2P device address is another one than before, as on radios that
// make up a new one at every start.
func (n *Node) SwapAddress(ctx context.Context) error {
	own, err := n.HardwareAddr()
	if err != nil {
		return err
	}
	own[0] ^= 0x40
	for _, args := range [][]string{{"down"}, {"address", own.String()}} {
		args = append([]string{"link", "set", "dev", n.Ifname}, args...)
		if n.NetNS != "" {
			args = append([]string{"-n", n.NetNS}, args...)
		}
		if err := run(ctx, "ip", args...); err != nil {
			return fmt.Errorf("radio: address of %s: %w", n.Name, err)
		}
	}
	return nil
}
