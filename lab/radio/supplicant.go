package radio

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

const (
	supplicantName = "fi.w1.wpa_supplicant1"
	supplicantPath = dbus.ObjectPath("/fi/w1/wpa_supplicant1")
)

// watch connects to the node's bus and calls look at once and again whenever the owner of wpa_supplicant's name or its set of
// interfaces changes, until look says that it has seen enough.
func (n *Node) watch(ctx context.Context, look func(*dbus.Conn) (bool, error)) error {
	conn, err := dbus.Connect(n.Bus, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	defer conn.Close()
	changes := make(chan *dbus.Signal, 64)
	conn.Signal(changes)
	for _, rule := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, supplicantName)},
		{dbus.WithMatchInterface(supplicantName), dbus.WithMatchMember("InterfaceAdded")},
	} {
		if err := conn.AddMatchSignalContext(ctx, rule...); err != nil {
			return fmt.Errorf("bus: %w", err)
		}
	}
	for {
		if enough, err := look(conn); enough || err != nil {
			return err
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("wait for wpa_supplicant on the bus: %w", context.Cause(ctx))
		}
	}
}

func owned(ctx context.Context, conn *dbus.Conn) (bool, error) {
	var has bool
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, supplicantName).Store(&has)
	if err != nil {
		return false, fmt.Errorf("bus: %w", err)
	}
	return has, nil
}

// awaitSupplicant returns when wpa_supplicant owns its name and, when ifname is not empty, has that interface.
func (n *Node) awaitSupplicant(ctx context.Context, ifname string) error {
	var last error
	err := n.watch(ctx, func(conn *dbus.Conn) (bool, error) {
		has, err := owned(ctx, conn)
		if !has || err != nil || ifname == "" {
			return has, err
		}
		var path dbus.ObjectPath
		object := conn.Object(supplicantName, supplicantPath)
		// Until the interface is added this is an error, and a signal follows.
		last = object.CallWithContext(ctx, supplicantName+".GetInterface", 0, ifname).Store(&path)
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}

// awaitEnd returns when the process pid does not own wpa_supplicant's name any more. On the system bus another may own it at
// once, since systemd starts the service again.
func (n *Node) awaitEnd(ctx context.Context, pid int) error {
	return n.watch(ctx, func(conn *dbus.Conn) (bool, error) { return owner(ctx, conn) != pid, nil })
}

// ownerPID asks the bus for the process that owns wpa_supplicant's name; 0 = none.
func (n *Node) ownerPID(ctx context.Context) int {
	conn, err := dbus.Connect(n.Bus, dbus.WithContext(ctx))
	if err != nil {
		return 0
	}
	defer conn.Close()
	return owner(ctx, conn)
}

func owner(ctx context.Context, conn *dbus.Conn) int {
	var pid uint32
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, supplicantName).Store(&pid)
	if err != nil {
		return 0 // nobody owns it
	}
	return int(pid)
}
