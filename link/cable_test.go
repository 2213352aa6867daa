package link

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/lab"
)

// serveCables runs a monitor and Cables in h's namespace, as the agent does. It returns the monitor's changes, and a
// function that ends it all.
func serveCables(t *testing.T, h *lab.Host, b *Book, change func(*Cables)) (changes <-chan Change, stop func()) {
	t.Helper()
	c := NewCables(b, nil)
	c.run = t.TempDir()
	if change != nil {
		change(c)
	}
	m := NewMonitor(Config{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- h.Do(func() error { return c.Run(ctx) }) }()
	go func() { ended <- h.Do(func() error { return m.Run(ctx) }) }()
	out := make(chan Change, 256)
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		for change := range m.Changes() {
			c.Set(change.Links)
			select {
			case out <- change:
			default:
			}
		}
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
		<-passed
	}
	t.Cleanup(stop)
	return out, stop
}

// awaitIn is await on a plain channel.
func awaitIn(t *testing.T, changes <-chan Change, ok func(Change) bool) Change {
	t.Helper()
	deadline := time.After(eventWait)
	for {
		select {
		case c := <-changes:
			if ok(c) {
				return c
			}
		case <-deadline:
			t.Fatalf("no such change in %v", eventWait)
		}
	}
}

// bare makes a cable on which the kernel gives no addresses: IPv6 is on, and the administrator or a program turned address
// generation off.
func bare(t *testing.T) (a, b *lab.Host) {
	t.Helper()
	n := lab.NewNet(t)
	a, b = n.Host("a"), n.Host("b")
	for _, h := range []*lab.Host{a, b} {
		h.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1")
	}
	n.Cable(a, "eth0", b, "eth0")
	return a, b
}

func soon(c *Cables) { c.grace = 10 * time.Millisecond }

func hasAddress(name string, a netip.Addr) func(Change) bool {
	return func(c Change) bool {
		return has(c, name, func(l Link) bool { return l.Usable && len(l.Prefixes) == 1 && l.Prefixes[0].Addr() == a })
	}
}

func hardware(t *testing.T, h *lab.Host, ifname string) (ifi *net.Interface) {
	t.Helper()
	if err := h.Do(func() (err error) { ifi, err = net.InterfaceByName(ifname); return err }); err != nil {
		t.Fatal(err)
	}
	return ifi
}

// Both ends of a cable get an address, reach each other by it, and have none at the end.
func TestCableGetsAnAddress(t *testing.T) {
	a, b := bare(t)
	before := a.IP("address", "show", "dev", "eth0")
	dir := t.TempDir()
	_, stop := serveCables(t, a, book(t, dir), soon)
	changes, _ := serveCables(t, b, book(t, t.TempDir()), soon)
	local := cableAddress(hardware(t, b, "eth0").HardwareAddr)
	awaitIn(t, changes, hasAddress("eth0", local))
	var ln net.Listener
	if err := b.Do(func() (err error) { ln, err = net.Listen("tcp6", "[::]:0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	err := a.Do(func() (err error) {
		for deadline := time.Now().Add(eventWait); time.Now().Before(deadline); {
			var c net.Conn
			if c, err = net.DialTimeout("tcp6", net.JoinHostPort(local.String()+"%eth0", port), 250*time.Millisecond); err == nil {
				return c.Close()
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	stop()
	if after := a.IP("address", "show", "dev", "eth0"); after != before {
		t.Errorf("not put back:\nbefore\n%s\nafter\n%s", before, after)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the book is not empty: %v, %v", entries, err)
	}
}

// What a run that was killed has given, the next one takes away.
func TestCableAddressAfterACrash(t *testing.T) {
	a, _ := bare(t)
	dir := t.TempDir()
	changes, stop := serveCables(t, a, book(t, dir), soon)
	awaitIn(t, changes, hasAddress("eth0", cableAddress(hardware(t, a, "eth0").HardwareAddr)))
	record, err := os.ReadFile(filepath.Join(dir, bookName))
	if err != nil {
		t.Fatal(err)
	}
	shown := a.IP("address", "show", "dev", "eth0")
	stop()
	// As a crash would have left it.
	a.IP("address", "add", cableAddress(hardware(t, a, "eth0").HardwareAddr).String()+"/64", "dev", "eth0", "nodad")
	if now := a.IP("address", "show", "dev", "eth0"); now != shown {
		t.Fatalf("the address is not as it was given:\n%s\n%s", now, shown)
	}
	if err := os.WriteFile(filepath.Join(dir, bookName), record, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Do(book(t, dir).Cleanup); err != nil {
		t.Fatal(err)
	}
	if left := a.IP("address", "show", "dev", "eth0"); strings.Contains(left, "inet6") {
		t.Errorf("left:\n%s", left)
	}
}

// Links that are somebody else's business stay as they are.
func TestCableIsLeftAlone(t *testing.T) {
	state := func(path, content string) func(*testing.T, *lab.Host, string) {
		return func(t *testing.T, h *lab.Host, run string) {
			path := filepath.Join(run, strings.ReplaceAll(path, "INDEX", strconv.Itoa(hardware(t, h, "eth0").Index)))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, h *lab.Host, run string)
		touched bool
	}{
		"nothing special":                         {func(*testing.T, *lab.Host, string) {}, true},
		"NetworkManager manages it":               {state("NetworkManager/devices/INDEX", "# This is private data. Do not parse.\n[device]\nmanaged=true\n"), false},
		"NetworkManager says what we cannot read": {state("NetworkManager/devices/INDEX", "[device]\nstate=4\n"), false},
		"NetworkManager knows other links only":   {state("NetworkManager/devices/99", "[device]\nmanaged=false\n"), false},
		"NetworkManager leaves it alone":          {state("NetworkManager/devices/INDEX", "[device]\nmanaged=false\n"), true},
		"networkd configures it":                  {state("systemd/netif/links/INDEX", "ADMIN_STATE=configuring\nOPER_STATE=carrier\n"), false},
		"networkd leaves it alone":                {state("systemd/netif/links/INDEX", "ADMIN_STATE=unmanaged\nOPER_STATE=carrier\n"), true},
		"dhcpcd runs":                             {state("dhcpcd/pid", "4711\n"), false},
		"ConnMan runs":                            {state("connman/resolv.conf", ""), false},
		"ifupdown has it":                         {state("network/ifstate", "lo=lo\neth0=eth0\n"), false},
		"ifupdown has another":                    {state("network/ifstate", "lo=lo\neth00=eth00\n"), true},
		"IPv6 is off on it":                       {func(_ *testing.T, h *lab.Host, _ string) { h.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "1") }, false},
		"a macvlan lies on it": {func(_ *testing.T, h *lab.Host, _ string) {
			h.IP("link", "add", "link", "eth0", "name", "mac0", "type", "macvlan")
		}, false},
		"it is a bridge's": {func(_ *testing.T, h *lab.Host, _ string) {
			h.IP("link", "add", "br0", "type", "bridge")
			h.IP("link", "set", "eth0", "master", "br0")
		}, false},
		"it has an address": {func(_ *testing.T, h *lab.Host, _ string) { h.IP("address", "add", "10.0.0.1/24", "dev", "eth0") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := bare(t)
			run := t.TempDir()
			c.prepare(t, a, run)
			before := a.IP("address", "show", "dev", "eth0")
			cables := NewCables(book(t, t.TempDir()), nil)
			cables.run, cables.grace = run, 0
			// One round, as Run would do it.
			err := a.Do(func() error {
				links, err := read(nil)
				if err != nil {
					return err
				}
				cables.follow(links)
				cables.serve(t.Context())
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if touched := a.IP("address", "show", "dev", "eth0") != before; touched != c.touched {
				t.Errorf("touched %v:\n%s", touched, a.IP("address", "show", "dev", "eth0"))
			}
		})
	}
}

// A manager that starts later gets the link as it was, and so does one whose cable is pulled.
func TestCableIsGivenUp(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, a, b *lab.Host, run string){
		"managed": func(t *testing.T, a, _ *lab.Host, run string) {
			if err := os.Mkdir(filepath.Join(run, "connman"), 0o755); err != nil {
				t.Fatal(err)
			}
			a.IP("address", "add", "10.0.0.1/24", "dev", "eth0")
		},
		"pulled": func(_ *testing.T, _, b *lab.Host, _ string) { b.IP("link", "set", "eth0", "down") },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := bare(t)
			var run string
			changes, _ := serveCables(t, a, book(t, t.TempDir()), func(c *Cables) { soon(c); run = c.run })
			ours := cableAddress(hardware(t, a, "eth0").HardwareAddr)
			awaitIn(t, changes, hasAddress("eth0", ours))
			change(t, a, b, run)
			awaitIn(t, changes, func(c Change) bool {
				return has(c, "eth0", func(l Link) bool { return !containsAddr(l.Prefixes, ours) })
			})
		})
	}
}

func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// FuzzManager reads what other programs leave: whatever it is, no panic.
func FuzzManager(f *testing.F) {
	f.Add("[device]\nmanaged=true\n")
	f.Add("=\x00\n==")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = parseValues(strings.NewReader(text))
	})
}
