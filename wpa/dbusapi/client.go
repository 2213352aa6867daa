package dbusapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names on the bus.
const (
	Name = "fi.w1.wpa_supplicant1"
	Root = Path("/fi/w1/wpa_supplicant1")

	busName         = "org.freedesktop.DBus"
	ifaceInterface  = Name + ".Interface"
	ifaceP2P        = Name + ".Interface.P2PDevice"
	ifaceWPS        = Name + ".Interface.WPS"
	ifaceGroup      = Name + ".Group"
	ifacePeer       = Name + ".Peer"
	ifaceBSS        = Name + ".BSS"
	ifacePersistent = Name + ".PersistentGroup"
)

// CallTimeout is how long one call may take; the supplicant answers in milliseconds.
const CallTimeout = 10 * time.Second

// maxQueue bounds the signals that wait to be taken. A supplicant that has seen its limit of 100 peers sends a few
// hundred at once.
const maxQueue = 4096

// Client is one connection to a bus and to the wpa_supplicant on it. Its methods block until the supplicant answers, at
// most CallTimeout unless SetTimeout says otherwise, and return a [CallError]. It is safe for concurrent use, but the supplicant is happiest with one
// call at a time.
type Client struct {
	conn   *dbus.Conn
	limit  atomic.Int64           // nanoseconds that one call may take
	owner  atomic.Pointer[string] // unique name of the supplicant; signals of others are not believed
	notify chan struct{}          // capacity 1: the queue has something

	mu       sync.Mutex
	queue    []Signal // guarded by mu
	overflow bool     // guarded by mu; the queue was full
	closed   bool     // guarded by mu
}

// Dial connects to the bus at address (empty: the system bus) and subscribes to the supplicant's signals. It does not
// need the supplicant to be there and never starts it. The context bounds the connecting only; Close ends the client.
func Dial(ctx context.Context, address string) (*Client, error) {
	c := &Client{notify: make(chan struct{}, 1)}
	c.SetTimeout(CallTimeout)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	timer := time.AfterFunc(CallTimeout, cancel)
	defer timer.Stop()

	opts := []dbus.ConnOption{dbus.WithSignalHandler((*sink)(c)), dbus.WithContext(life)}
	var err error
	if address == "" {
		c.conn, err = dbus.SystemBusPrivate(opts...)
	} else {
		c.conn, err = dbus.Dial(address, opts...)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if err := c.subscribe(ctx); err != nil {
		cancel()
		c.conn.Close()
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return c, nil
}

// EscapeAddress escapes a value of a bus address (D-Bus specification, "Server Addresses").
func EscapeAddress(value string) string { return dbus.EscapeBusAddressValue(value) }

// matchRules are all the signals that package wpa follows. They carry no path: GroupFormationFailure and WpsFailed come
// from the path of the group's interface. W.Interface is narrowed to members, or scan results would flood us.
var matchRules = [][]dbus.MatchOption{
	{dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, Name)},
	{dbus.WithMatchSender(Name), dbus.WithMatchInterface(Name)},
	{dbus.WithMatchSender(Name), dbus.WithMatchInterface(ifaceP2P)},
	{dbus.WithMatchSender(Name), dbus.WithMatchInterface(ifaceGroup)},
	{dbus.WithMatchSender(Name), dbus.WithMatchInterface(ifaceInterface), dbus.WithMatchMember("PropertiesChanged")},
	{dbus.WithMatchSender(Name), dbus.WithMatchInterface(ifaceInterface), dbus.WithMatchMember("StaAuthorized")},
	{dbus.WithMatchSender(Name), dbus.WithMatchInterface(ifaceInterface), dbus.WithMatchMember("StaDeauthorized")},
}

func (c *Client) subscribe(ctx context.Context) error {
	if err := c.conn.Auth(nil); err != nil {
		return err
	}
	if err := c.conn.Hello(); err != nil {
		return err
	}
	for _, rule := range matchRules {
		if err := c.conn.AddMatchSignalContext(ctx, rule...); err != nil {
			return callError("AddMatch", err)
		}
	}
	return nil
}

// SetTimeout sets how long calls that begin from now on may take, instead of CallTimeout.
func (c *Client) SetTimeout(d time.Duration) { c.limit.Store(int64(d)) }

// Close closes the connection. Signals that were not taken yet are kept, with Disconnected as the last.
func (c *Client) Close() error { return c.conn.Close() }

// Ready is signalled when Next may have something.
func (c *Client) Ready() <-chan struct{} { return c.notify }

// Next returns the signals that arrived since the last call, oldest first. It does not block.
func (c *Client) Next() []Signal {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queue
	c.queue = nil
	if c.overflow {
		c.overflow = false
		q = append(q, Overflow{})
	}
	return q
}

// sink takes signals on godbus's reading goroutine, so they can neither be reordered nor dropped by a full channel.
type sink Client

// DeliverSignal implements dbus.SignalHandler.
func (s *sink) DeliverSignal(_, _ string, sig *dbus.Signal) {
	c := (*Client)(s)
	if sig.Sender != busName {
		// Any program may send us a signal directly, past the match rules.
		if owner := c.owner.Load(); owner == nil || *owner != sig.Sender {
			return
		}
	}
	d := Decode(sig)
	switch d := d.(type) {
	case nil:
		return
	case OwnerChanged:
		if sig.Sender != busName {
			return
		}
		c.owner.Store(&d.Owner)
	default:
		if sig.Sender == busName {
			return
		}
	}
	c.push(d)
}

// Terminate implements dbus.Terminator: godbus calls it once when the connection ends.
func (s *sink) Terminate() { (*Client)(s).push(Disconnected{}) }

func (c *Client) push(s Signal) {
	c.mu.Lock()
	if _, last := s.(Disconnected); last {
		c.closed = true
		c.queue = append(c.queue, s)
	} else if _, always := s.(OwnerChanged); always || (!c.closed && len(c.queue) < maxQueue) {
		c.queue = append(c.queue, s)
	} else {
		c.overflow = true
	}
	c.mu.Unlock()
	select {
	case c.notify <- struct{}{}:
	default:
	}
}

// call calls a method of the supplicant and stores what it returns.
func (c *Client) call(ctx context.Context, path Path, iface, method string, args []any, ret ...any) error {
	return c.callTo(ctx, Name, path, iface, method, args, ret...)
}

func (c *Client) callTo(ctx context.Context, dest string, path Path, iface, method string, args []any, ret ...any) error {
	limited, cancel := context.WithTimeout(ctx, time.Duration(c.limit.Load()))
	defer cancel()
	// The flag keeps a call from starting a supplicant that is not there: that is for Activate alone.
	flags := dbus.Flags(dbus.FlagNoAutoStart)
	if method == "StartServiceByName" {
		flags = 0
	}
	err := c.conn.Object(dest, path).CallWithContext(limited, iface+"."+method, flags, args...).Store(ret...)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && limited.Err() != nil {
		err = context.DeadlineExceeded
	}
	short := method
	if len(iface) > len(Name)+1 && iface[:len(Name)] == Name {
		short = iface[len(Name)+1:] + "." + method
	}
	return callError(short, err)
}

func (c *Client) get(ctx context.Context, path Path, iface, property string) (any, error) {
	v, err := c.read(ctx, path, iface, property)
	return v.Value(), err
}

func (c *Client) read(ctx context.Context, path Path, iface, property string) (dbus.Variant, error) {
	var v dbus.Variant
	if err := c.call(ctx, path, "org.freedesktop.DBus.Properties", "Get", []any{iface, property}, &v); err != nil {
		return v, fmt.Errorf("read %s: %w", property, err)
	}
	return v, nil
}

func (c *Client) all(ctx context.Context, path Path, iface string) (dict, error) {
	var m map[string]dbus.Variant
	if err := c.call(ctx, path, "org.freedesktop.DBus.Properties", "GetAll", []any{iface}, &m); err != nil {
		return nil, fmt.Errorf("read properties: %w", err)
	}
	return m, nil
}

func (c *Client) set(ctx context.Context, path Path, iface, property string, value any) error {
	err := c.call(ctx, path, "org.freedesktop.DBus.Properties", "Set", []any{iface, property, dbus.MakeVariant(value)})
	if err != nil {
		return fmt.Errorf("set %s: %w", property, err)
	}
	return nil
}

// Present reports whether the supplicant is on the bus, and from then on believes signals of its owner.
func (c *Client) Present(ctx context.Context) (bool, error) {
	var owner string
	err := c.callTo(ctx, busName, "/org/freedesktop/DBus", busName, "GetNameOwner", []any{Name}, &owner)
	if e, ok := errors.AsType[*CallError](err); ok && errors.Is(e.Class, ErrNoSupplicant) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.owner.Store(&owner)
	return true, nil
}

// HasOwner reports whether any program owns a name on the bus.
func (c *Client) HasOwner(ctx context.Context, name string) (bool, error) {
	var has bool
	err := c.callTo(ctx, busName, "/org/freedesktop/DBus", busName, "NameHasOwner", []any{name}, &has)
	return has, err
}

// Instance names the supplicant that runs now, by its connection and its process: another one has another name, on this
// machine and until it is started again.
func (c *Client) Instance(ctx context.Context) (string, error) {
	var owner string
	if err := c.callTo(ctx, busName, "/org/freedesktop/DBus", busName, "GetNameOwner", []any{Name}, &owner); err != nil {
		return "", err
	}
	var pid uint32
	err := c.callTo(ctx, busName, "/org/freedesktop/DBus", busName, "GetConnectionUnixProcessID", []any{owner}, &pid)
	return fmt.Sprintf("%s %d", owner, pid), err
}

// Activate asks the bus to start the supplicant. ErrNoSupplicant means that the bus does not know how.
func (c *Client) Activate(ctx context.Context) error {
	var started uint32
	return c.callTo(ctx, busName, "/org/freedesktop/DBus", busName, "StartServiceByName", []any{Name, uint32(0)}, &started)
}
