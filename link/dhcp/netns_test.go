package dhcp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"nigh/lab"
)

const late = 15 * time.Second

// group gives an owner that has 192.168.49.1/24 on grp0, and a client on the same cable.
func group(t *testing.T) (owner, client *lab.Host) {
	t.Helper()
	n := lab.NewNet(t)
	owner, client = n.Host("owner"), n.Host("client")
	n.Cable(owner, "grp0", client, "grp0")
	owner.IP("address", "add", "192.168.49.1/24", "dev", "grp0")
	return owner, client
}

// serve runs a server for the life of the test.
func serve(t *testing.T, h *lab.Host, c Config) *Server {
	t.Helper()
	s := server(t, c)
	start(t, h, s)
	return s
}

func acquireIn(h *lab.Host, ctx context.Context) (l Lease, err error) {
	err = h.Do(func() error { l, err = Acquire(ctx, ClientConfig{Ifname: "grp0"}); return err })
	return l, err
}

func TestAcquireFromServer(t *testing.T) {
	owner, client := group(t)
	stored := make(chan []Binding, 16)
	c := config()
	c.Store = func(b []Binding) { stored <- b }
	serve(t, owner, c)
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	began := time.Now()
	l, err := acquireIn(client, ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("lease %v after %v", l.Prefix, time.Since(began))
	if l.Server != netip.MustParseAddr("192.168.49.1") || l.Duration != time.Hour || l.Prefix.Bits() != 24 || !netip.MustParsePrefix("192.168.49.10/31").Contains(l.Prefix.Addr()) {
		t.Errorf("lease %+v", l)
	}
	if b := <-stored; len(b) != 1 || b[0].Addr != l.Prefix.Addr() {
		t.Errorf("stored %v", b)
	}
	again, err := acquireIn(client, ctx)
	if err != nil || again != l {
		t.Errorf("second time %+v, %v", again, err)
	}
	// The address works.
	client.IP("address", "add", l.Prefix.String(), "dev", "grp0")
	var ln net.Listener
	if err := owner.Do(func() (err error) { ln, err = net.Listen("tcp4", "192.168.49.1:0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = client.Do(func() error {
		conn, err := net.DialTimeout("tcp4", ln.Addr().String(), late)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Errorf("dial with the leased address: %v", err)
	}
}

// A client that is not ours and needs no raw sockets' luck: what a phone does.
func TestForeignClient(t *testing.T) {
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("needs busybox: apt-get install busybox-static")
	}
	owner, client := group(t)
	serve(t, owner, config())
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	out, err := client.Command(ctx, "busybox", "udhcpc", "-f", "-q", "-n", "-i", "grp0", "-s", "/bin/true", "-t", "20", "-T", "1", "-O", "router").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "obtained from 192.168.49.1, lease time 3600") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAcquireWithoutServer(t *testing.T) {
	_, client := group(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := acquireIn(client, ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	err := client.Do(func() error { _, err := Acquire(t.Context(), ClientConfig{Ifname: "absent0"}); return err })
	if err == nil {
		t.Error("an address for an interface that does not exist")
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	owner, client := group(t)
	serve(t, owner, config())
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	// An answer proves that the first one is up.
	if _, err := acquireIn(client, ctx); err != nil {
		t.Fatal(err)
	}
	err := owner.Do(func() error { return server(t, config()).Run(ctx) })
	if !errors.Is(err, ErrPortTaken) {
		t.Errorf("error %v", err)
	}
}

// Ten thousand requests with invented addresses, junk and releases in another's name: members are served meanwhile, and the
// server is as small as before.
func TestFlood(t *testing.T) {
	owner, client := group(t)
	var own net.HardwareAddr
	err := client.Do(func() error {
		ifi, err := net.InterfaceByName("grp0")
		if err == nil {
			own = ifi.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := config()
	c.Allowed = func(m net.HardwareAddr) bool { return bytes.Equal(m, own) }
	s := serve(t, owner, c)
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	first, err := acquireIn(client, ctx)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines, most := runtime.NumGoroutine(), 0
	client.IP("address", "add", "192.168.49.77/24", "dev", "grp0")
	served := 0
	err = client.Do(func() error {
		conn, err := net.Dial("udp4", "192.168.49.1:67")
		if err != nil {
			return err
		}
		defer conn.Close()
		junk := make([]byte, 4096)
		for i := range 10_000 {
			forged := net.HardwareAddr{2, 7, 0, 0, byte(i >> 8), byte(i)}
			m := message(t, discover, forged).ToBytes()
			switch i % 4 {
			case 0:
				m = junk
			case 1:
				m = message(t, request, forged, asking(first.Prefix.Addr().String())).ToBytes()
			case 2:
				m = message(t, dhcpv4.MessageTypeRelease, own, having(first.Prefix.Addr().String())).ToBytes()
			}
			if _, err := conn.Write(m); err != nil {
				return err
			}
			most = max(most, runtime.NumGoroutine())
			if i%2500 == 2499 {
				if l, err := Acquire(ctx, ClientConfig{Ifname: "grp0"}); err == nil && l.Prefix == first.Prefix {
					served++
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := s.Bindings(); len(b) != 1 || b[0].Addr != first.Prefix.Addr() {
		t.Errorf("bindings %v", b)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("served %d of 4 times, at most %d goroutines, before %d; heap %+d bytes", served, most, goroutines, grown)
	if served != 4 || most > goroutines+packetsPerSecond+strangersPerSec || grown > 2<<20 {
		t.Error("the flood had an effect")
	}
}

// A device that asks a moment before the supplicant says that it is a member is served, and one that never becomes one is not.
func TestFirstRequestOfANewMember(t *testing.T) {
	owner, client := group(t)
	var member atomic.Bool
	asked := make(chan struct{}, 64)
	c := config()
	c.Allowed = func(net.HardwareAddr) bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		return member.Load()
	}
	serve(t, owner, c)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if l, err := acquireIn(client, ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stranger got %v, %v", l, err)
	}
	for len(asked) > 0 {
		<-asked
	}
	ctx, cancel = context.WithTimeout(t.Context(), late)
	defer cancel()
	go func() {
		<-asked
		member.Store(true)
	}()
	if _, err := acquireIn(client, ctx); err != nil {
		t.Error(err)
	}
}

// A client gets the same address from the next run of the server, although it does not ask for it.
func TestBindingsSurviveARestart(t *testing.T) {
	owner, client := group(t)
	c := config()
	c.Last = netip.MustParseAddr("192.168.49.199")
	var mu sync.Mutex
	var stored []Binding
	c.Store = func(b []Binding) {
		mu.Lock()
		defer mu.Unlock()
		stored = b
	}
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	stop := start(t, owner, server(t, c))
	usual, err := acquireIn(client, ctx)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	// Another address than the one that follows from its hardware address, in a run that knows nothing yet.
	other := "192.168.49.150"
	if usual.Prefix.Addr().String() == other {
		other = "192.168.49.151"
	}
	stop = start(t, owner, server(t, c))
	out, err := client.Command(ctx, "busybox", "udhcpc", "-f", "-q", "-n", "-i", "grp0", "-s", "/bin/true", "-t", "20", "-T", "1", "-r", other).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "lease of "+other) {
		t.Fatalf("%v\n%s", err, out)
	}
	stop()
	mu.Lock()
	c.Bindings = stored
	mu.Unlock()
	start(t, owner, server(t, c))
	if l, err := acquireIn(client, ctx); err != nil || l.Prefix.Addr().String() != other {
		t.Errorf("after the restart %+v, %v; want %s", l, err, other)
	}
}

// start runs a server until stop is called or the test ends.
func start(t *testing.T, h *lab.Host, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Do(func() error { return s.Run(ctx) }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// records passes on what a server logs about its answers.
type records struct {
	slog.Handler
	said chan string
}

func (r records) Enabled(context.Context, slog.Level) bool { return true }

func (r records) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	select {
	case r.said <- line:
	default:
	}
	return nil
}

// A lease is extended by a unicast to its server, by a broadcast when that server is gone, and given up when the new one
// refuses.
func TestKeepOnARealLink(t *testing.T) {
	owner, client := group(t)
	said := make(chan string, 1024)
	c := config()
	c.Logger = slog.New(records{slog.DiscardHandler, said})
	run := func(c Config) (stop func()) {
		s := server(t, c)
		s.renew, s.rebind = time.Second, 3*time.Second
		return start(t, owner, s)
	}
	stop := run(c)
	leases := make(chan Lease, 16)
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() {
		kept <- client.Do(func() error {
			return Keep(ctx, ClientConfig{Ifname: "grp0"}, func(l Lease) {
				args := []string{"-n", client.Namespace, "address", "flush", "dev", "grp0", "scope", "global"}
				if l.Prefix.IsValid() {
					args = []string{"-n", client.Namespace, "address", "replace", l.Prefix.String(), "dev", "grp0"}
				}
				if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
					t.Errorf("ip %v: %v: %s", args, err, out)
				}
				leases <- l
			})
		})
	}()
	defer func() {
		cancel()
		if err := <-kept; err != nil {
			t.Errorf("Keep: %v", err)
		}
	}()
	next := func() Lease {
		t.Helper()
		select {
		case l := <-leases:
			return l
		case <-time.After(late):
			t.Fatal("no word of a lease")
		}
		return Lease{}
	}
	answered := func(what string) {
		t.Helper()
		for deadline := time.After(late); ; {
			select {
			case line := <-said:
				if strings.Contains(line, what) {
					return
				}
			case <-deadline:
				t.Fatalf("the server never said %q", what)
			}
		}
	}
	first := next()
	if !first.Prefix.IsValid() || first.Renew != time.Second || first.Rebind != 3*time.Second {
		t.Fatalf("lease %+v", first)
	}
	answered("request=REQUEST reply=ACK address=" + first.Prefix.Addr().String())
	// The server goes, and comes back as another one that knows the client: renewing or rebinding finds it.
	stop()
	c.Bindings = []Binding{{hardware(t, client), first.Prefix.Addr()}}
	for len(said) > 0 {
		<-said
	}
	stop = run(c)
	answered("request=REQUEST reply=ACK address=" + first.Prefix.Addr().String())
	stop()
	// The next one serves another network: the address is refused, and a new one is taken.
	owner.IP("address", "add", "192.168.50.1/24", "dev", "grp0")
	c.Bindings = nil
	c.Subnet, c.First, c.Last = netip.MustParsePrefix("192.168.50.1/24"), netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("192.168.50.20")
	run(c)
	if l := next(); l != (Lease{}) {
		t.Errorf("a refused lease: %+v", l)
	}
	if l := next(); !netip.MustParsePrefix("192.168.50.0/24").Contains(l.Prefix.Addr()) {
		t.Errorf("lease %+v", l)
	}
}

func hardware(t *testing.T, h *lab.Host) (m net.HardwareAddr) {
	t.Helper()
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName("grp0")
		if err == nil {
			m = ifi.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Another member of the group serves addresses too, and faster: only the owner is listened to. Without knowing the owner, what
// cannot be used is passed over for what can.
func TestOnlyTheOwnersOffersCount(t *testing.T) {
	n := lab.NewNet(t)
	segment := n.Bridge("group")
	owner, rogue, client := n.Host("owner"), n.Host("rogue"), n.Host("client")
	segment.Join(owner, "grp0", "192.168.49.1/24")
	segment.Join(rogue, "grp0", "10.66.0.1/24")
	segment.Join(client, "grp0")
	bad := config()
	bad.Subnet, bad.First, bad.Last = netip.MustParsePrefix("10.66.0.1/24"), netip.MustParseAddr("10.66.0.10"), netip.MustParseAddr("10.66.0.20")
	start(t, rogue, server(t, bad))
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	ask := func(c ClientConfig) (l Lease, err error) {
		c.Ifname = "grp0"
		err = client.Do(func() error { l, err = Acquire(ctx, c); return err })
		return l, err
	}
	if l, err := ask(ClientConfig{}); err != nil || l.Server != bad.Subnet.Addr() {
		t.Fatalf("the other server does not serve: %+v, %v", l, err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancelShort()
	err := client.Do(func() error {
		l, err := Acquire(short, ClientConfig{Ifname: "grp0", Owner: hardware(t, owner)})
		if err == nil {
			t.Errorf("took %+v", l)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, owner, server(t, config()))
	for range 10 {
		if l, err := ask(ClientConfig{Owner: hardware(t, owner)}); err != nil || l.Server.String() != "192.168.49.1" {
			t.Errorf("with the owner known: %+v, %v", l, err)
		}
		refuse := func(p netip.Prefix) error {
			if bad.Subnet.Overlaps(p) {
				return errors.New("eth0 has it")
			}
			return nil
		}
		if l, err := ask(ClientConfig{Refuse: refuse}); err != nil || l.Server.String() != "192.168.49.1" {
			t.Errorf("with the other refused: %+v, %v", l, err)
		}
	}
}
