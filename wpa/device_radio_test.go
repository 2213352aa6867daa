//go:build radio

package wpa

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab"
	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

// device is a wpa_supplicant driven call by call: another maker's device, polite or not, or a look at what a station's own
// supplicant says.
type device struct {
	*dbusapi.Client
	t     *testing.T
	node  *radio.Node
	name  string
	owner dbusapi.Path

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every signal; guarded by mu
	signals []heard       // guarded by mu
}

// heard is a signal and when it came.
type heard struct {
	dbusapi.Signal
	at time.Time
}

// watch follows the supplicant of a node until the end of the test, and changes nothing of it.
func watch(t *testing.T, node *radio.Node) *device {
	t.Helper()
	c, err := dbusapi.Dial(t.Context(), node.Bus)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{Client: c, t: t, node: node, name: "device " + node.Name, changed: make(chan struct{})}
	present, err := c.Present(t.Context()) // and whose signals to believe
	if err == nil && present {
		d.owner, err = c.GetInterface(t.Context(), node.Ifname)
	}
	if err != nil || !present {
		c.Close()
		t.Fatalf("supplicant of %s: %t, %v", node.Name, present, err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			<-c.Ready()
			for _, s := range c.Next() {
				d.mu.Lock()
				d.signals = append(d.signals, heard{s, time.Now()})
				close(d.changed)
				d.changed = make(chan struct{})
				d.mu.Unlock()
				if _, last := s.(dbusapi.Disconnected); last {
					return
				}
			}
		}
	}()
	return d
}

// newDevice is a node of another maker, with a name and all methods.
func newDevice(t *testing.T, node *radio.Node) *device {
	t.Helper()
	d := watch(t, node)
	if err := d.SetConfig(t.Context(), d.owner, dbusapi.DeviceName(d.name)); err != nil {
		t.Fatal(err)
	}
	if err := d.SetConfigMethods(t.Context(), d.owner, configMethods); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *device) mark() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.signals)
}

// since returns the signals since mark that match likes.
func (d *device) since(mark int, match func(dbusapi.Signal) bool) []heard {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []heard
	for _, s := range d.signals[mark:] {
		if match(s.Signal) {
			out = append(out, s)
		}
	}
	return out
}

// await returns the first signal since mark that match likes.
func (d *device) await(mark int, what string, match func(dbusapi.Signal) bool) heard {
	d.t.Helper()
	deadline := time.After(limit)
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		if found := d.since(mark, match); len(found) > 0 {
			return found[0]
		}
		select {
		case <-changed:
		case <-deadline:
			text := ""
			for _, s := range d.since(mark, func(dbusapi.Signal) bool { return true }) {
				text += fmt.Sprintf("\n  %T %+v", s.Signal, s.Signal)
			}
			d.t.Fatalf("%s: no %s; signals since: %s", d.name, what, text)
		}
	}
}

// kind matches the signals of one type.
func kind[T dbusapi.Signal](s dbusapi.Signal) bool { _, ok := s.(T); return ok }

func (d *device) must(what string, err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("%s: %s: %v", d.name, what, err)
	}
}

func (d *device) listen() {
	d.t.Helper()
	d.must("listen", d.Listen(d.t.Context(), d.owner, 600))
}

// find searches for a station that listens and returns its object.
func (d *device) find(s *station) dbusapi.Path {
	d.t.Helper()
	mark := d.mark()
	d.must("find", d.Find(d.t.Context(), d.owner, "social", 0))
	found := d.await(mark, s.name, func(x dbusapi.Signal) bool {
		f, ok := x.(dbusapi.DeviceFound)
		return ok && f.Peer.Name == s.name
	})
	return found.Signal.(dbusapi.DeviceFound).Path
}

// connect calls Connect.
func (d *device) connect(peer dbusapi.Path, method string, intent int) {
	d.t.Helper()
	_, err := d.Connect(d.t.Context(), d.owner, dbusapi.ConnectArgs{Peer: peer, WPS: method, Intent: intent})
	d.must("connect", err)
}

// startGroup starts a group and returns its interface.
func (d *device) startGroup(frequency int) dbusapi.Path {
	d.t.Helper()
	mark := d.mark()
	d.must("start group", d.GroupAdd(d.t.Context(), d.owner, frequency, false, ""))
	return d.await(mark, "group", kind[dbusapi.GroupStarted]).Signal.(dbusapi.GroupStarted).Interface
}

// admitAll has a group let every client in that asks by push button, until the end of the test.
func (d *device) admitAll(group dbusapi.Path) {
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan struct{})
	d.t.Cleanup(func() { cancel(); <-done })
	mark := d.mark()
	go func() {
		defer close(done)
		for {
			d.mu.Lock()
			changed, fresh := d.changed, slices.Clone(d.signals[mark:])
			mark = len(d.signals)
			d.mu.Unlock()
			for _, s := range fresh {
				if p, ok := s.Signal.(dbusapi.Provision); ok && p.Kind == "pbc" {
					ignore(d.OpenWPS(ctx, group, dbusapi.PeerAddress(p.Peer), ""))
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// where says which state a machine of the station is in.
func (s *station) where(which string) string {
	s.t.Helper()
	state := make(chan string, 1)
	s.in.command(func(m *machine) { state <- m.where(which) })
	select {
	case w := <-state:
		return w
	case <-time.After(limit):
		s.t.Fatalf("%s: the machine does not answer", s.name)
		return ""
	}
}

// checkType checks the type of a group's interface, in the kernel, and that it is up.
func (s *station) checkType(g Group) {
	s.t.Helper()
	want := uint32(unix.NL80211_IFTYPE_P2P_CLIENT)
	if g.Role == Owner {
		want = unix.NL80211_IFTYPE_P2P_GO
	}
	err := s.node.Do(func() error {
		link, err := net.InterfaceByName(g.Ifname)
		if err != nil {
			return err
		}
		if link.Flags&net.FlagUp == 0 {
			return fmt.Errorf("flags are %s", link.Flags)
		}
		list, err := wdevs()
		if err != nil {
			return err
		}
		for _, w := range list {
			if w.Ifname == g.Ifname && w.Type != want {
				return fmt.Errorf("type is %d, not %d", w.Type, want)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("%s: interface %q: %v", s.name, g.Ifname, err)
	}
}

// groupLinks lists the interfaces of P2P groups that the kernel has on the station's radio.
func (s *station) groupLinks() (names []string) {
	s.t.Helper()
	err := s.node.Do(func() error {
		list, err := wdevs()
		for _, w := range list {
			if w.Type == unix.NL80211_IFTYPE_P2P_GO || w.Type == unix.NL80211_IFTYPE_P2P_CLIENT {
				names = append(names, w.Ifname)
			}
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

// lasted checks a time bound of a behaviour.
func lasted(t *testing.T, what string, took, bound time.Duration) {
	t.Helper()
	t.Logf("%s after %.2f s", what, took.Seconds())
	if took > bound && took > lab.Bound(t, bound) {
		t.Errorf("%s took %.2f s, more than %v", what, took.Seconds(), bound)
	}
}

// address is the device's P2P device address, in the kernel's words.
func (d *device) address() (a net.HardwareAddr) {
	d.t.Helper()
	err := d.node.Do(func() error { a = deviceAddress(d.node.Ifname); return nil })
	if err != nil || a == nil {
		d.t.Fatalf("%s: no device address: %v", d.name, err)
	}
	return a
}

// findOwner searches until a peer is known as a group owner.
func (s *station) findOwner(address net.HardwareAddr) {
	s.t.Helper()
	if err := s.Find(s.t.Context(), 2*time.Minute); err != nil {
		s.t.Fatal(err)
	}
	s.await(0, "group owner "+address.String(), func(Event) bool {
		return slices.ContainsFunc(s.Peers(), func(p Peer) bool { return slices.Equal(p.Address, address) && p.IsGO })
	})
}

// groupFrequency is what the kernel has seen of a group. A Radio asks it in its own network namespace, which is not that of the
// nodes in these tests.
func (s *station) groupFrequency(owner net.HardwareAddr) (frequency int) {
	s.t.Helper()
	err := s.node.Do(func() error { frequency = groupFrequency(s.node.Ifname, owner); return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return frequency
}
