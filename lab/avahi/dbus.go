package avahi

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	anyInterface, anyProtocol = int32(-1), int32(-1)
	nighType                  = "_nigh._tcp"
)

// Client talks to a daemon over its D-Bus. What it made at the daemon ends with it.
type Client struct {
	tb      testing.TB
	conn    *dbus.Conn
	signals chan *dbus.Signal
	done    chan struct{}

	mu        sync.Mutex
	resolvers map[dbus.ObjectPath]*Resolver // guarded by mu
	groups    map[dbus.ObjectPath]*Group    // guarded by mu
}

// Client connects to the daemon. The connection ends with the test.
func (d *Daemon) Client() *Client {
	d.tb.Helper()
	conn, err := dbus.Connect(d.bus)
	if err != nil {
		d.tb.Fatal(err)
	}
	c := &Client{tb: d.tb, conn: conn, signals: make(chan *dbus.Signal, 4096), done: make(chan struct{}),
		resolvers: map[dbus.ObjectPath]*Resolver{}, groups: map[dbus.ObjectPath]*Group{}}
	for _, name := range []string{"ServiceResolver", "EntryGroup"} {
		if err := conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.Avahi." + name)); err != nil {
			d.tb.Fatal(err)
		}
	}
	conn.Signal(c.signals)
	go c.listen()
	d.tb.Cleanup(func() {
		_ = conn.Close()
		<-c.done
	})
	return c
}

func (c *Client) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return c.conn.Object("org.freedesktop.Avahi", path).Call("org.freedesktop.Avahi."+method, 0, args...)
}

// listen ends with the connection, which closes the channel.
func (c *Client) listen() {
	defer close(c.done)
	for s := range c.signals {
		c.mu.Lock()
		r := c.resolver(s.Path)
		g := c.group(s.Path)
		c.mu.Unlock()
		switch s.Name {
		case "org.freedesktop.Avahi.ServiceResolver.Found":
			r.found(s.Body)
		case "org.freedesktop.Avahi.ServiceResolver.Failure":
			r.events <- Resolved{Failure: fmt.Sprint(s.Body...), At: time.Now()}
		case "org.freedesktop.Avahi.EntryGroup.StateChanged":
			if len(s.Body) > 0 {
				if state, ok := s.Body[0].(int32); ok {
					g.states <- state
				}
			}
		}
	}
}

// resolver and group make what a signal may mention before the call that makes it has returned. The caller holds mu.
func (c *Client) resolver(path dbus.ObjectPath) *Resolver {
	r := c.resolvers[path]
	if r == nil {
		r = &Resolver{tb: c.tb, events: make(chan Resolved, 1024)}
		c.resolvers[path] = r
	}
	return r
}

func (c *Client) group(path dbus.ObjectPath) *Group {
	g := c.groups[path]
	if g == nil {
		g = &Group{client: c, path: path, states: make(chan int32, 1024)}
		c.groups[path] = g
	}
	return g
}

// Resolved is what a resolver says: where a service is, or that it lost it.
type Resolved struct {
	Host, Address string
	Port          uint16
	TXT           string // strings, joined by spaces
	Failure       string // empty unless it failed
	At            time.Time
}

// Resolver is a ServiceResolver that is held: it says whenever what it knows changes.
type Resolver struct {
	tb     testing.TB
	events chan Resolved
}

// Resolve makes a resolver for an instance of _nigh._tcp on all interfaces.
func (c *Client) Resolve(instance string) *Resolver {
	c.tb.Helper()
	var path dbus.ObjectPath
	err := c.call("/", "Server.ServiceResolverNew", anyInterface, anyProtocol, instance, nighType, "local", anyProtocol, uint32(0)).Store(&path)
	if err != nil {
		c.tb.Fatalf("avahi: resolver: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resolver(path)
}

// found reads interface, protocol, name, type, domain, host, protocol, address, port, txt, flags.
func (r *Resolver) found(body []any) {
	if len(body) < 10 {
		return
	}
	e := Resolved{At: time.Now()}
	e.Host, _ = body[5].(string)
	e.Address, _ = body[7].(string)
	e.Port, _ = body[8].(uint16)
	txt, _ := body[9].([][]byte)
	var all []string
	for _, s := range txt {
		all = append(all, string(s))
	}
	e.TXT = strings.Join(all, " ")
	r.events <- e
}

// Await returns the first word that ok accepts.
func (r *Resolver) Await(what string, ok func(Resolved) bool) Resolved {
	r.tb.Helper()
	deadline := time.After(Wait)
	var seen []Resolved
	for {
		select {
		case e := <-r.events:
			seen = append(seen, e)
			if ok(e) {
				return e
			}
		case <-deadline:
			r.tb.Fatalf("avahi: resolver: not in %v: %s; it said %+v", Wait, what, seen)
		}
	}
}

// Pending returns what is there.
func (r *Resolver) Pending() (out []Resolved) {
	for {
		select {
		case e := <-r.events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// Group is an EntryGroup: services that are published together.
type Group struct {
	client *Client
	path   dbus.ObjectPath
	states chan int32
}

// The states of a group, as Avahi counts them.
const (
	Established int32 = 2
	Collision   int32 = 3
)

// Publish makes a group with services of type _nigh._tcp, one a name, and publishes it.
func (c *Client) Publish(port uint16, txt []string, names ...string) *Group {
	c.tb.Helper()
	var path dbus.ObjectPath
	if err := c.call("/", "Server.EntryGroupNew").Store(&path); err != nil {
		c.tb.Fatalf("avahi: group: %v", err)
	}
	c.mu.Lock()
	g := c.group(path)
	c.mu.Unlock()
	for _, name := range names {
		err := c.call(path, "EntryGroup.AddService", anyInterface, anyProtocol, uint32(0), name, nighType, "", "", port, array(txt)).Err
		if err != nil {
			c.tb.Fatalf("avahi: service %s: %v", name, err)
		}
	}
	if err := c.call(path, "EntryGroup.Commit").Err; err != nil {
		c.tb.Fatalf("avahi: commit: %v", err)
	}
	return g
}

// UpdateTXT changes the TXT record of one service.
func (g *Group) UpdateTXT(name string, txt ...string) {
	g.client.tb.Helper()
	err := g.client.call(g.path, "EntryGroup.UpdateServiceTxt", anyInterface, anyProtocol, uint32(0), name, nighType, "", array(txt)).Err
	if err != nil {
		g.client.tb.Fatalf("avahi: TXT of %s: %v", name, err)
	}
}

// Free withdraws the services.
func (g *Group) Free() {
	g.client.tb.Helper()
	if err := g.client.call(g.path, "EntryGroup.Free").Err; err != nil {
		g.client.tb.Fatalf("avahi: free: %v", err)
	}
}

// Await returns when the group is in a state.
func (g *Group) Await(state int32) {
	g.client.tb.Helper()
	deadline := time.After(Wait)
	for {
		select {
		case s := <-g.states:
			if s == state {
				return
			}
		case <-deadline:
			g.client.tb.Fatalf("avahi: group not in state %d in %v", state, Wait)
		}
	}
}

func array(txt []string) [][]byte {
	out := [][]byte{}
	for _, s := range txt {
		out = append(out, []byte(s))
	}
	return out
}
