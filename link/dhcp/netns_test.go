package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Do(func() error { return s.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func acquireIn(h *lab.Host, ctx context.Context) (l Lease, err error) {
	err = h.Do(func() error { l, err = Acquire(ctx, "grp0"); return err })
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
	err := client.Do(func() error { _, err := Acquire(t.Context(), "absent0"); return err })
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

// Thousands of requests a second: answered are those within the limit, and the server lives.
func TestFlood(t *testing.T) {
	owner, client := group(t)
	s := serve(t, owner, config())
	ctx, cancel := context.WithTimeout(t.Context(), late)
	defer cancel()
	if _, err := acquireIn(client, ctx); err != nil {
		t.Fatal(err)
	}
	client.IP("address", "add", "192.168.49.77/24", "dev", "grp0")
	err := client.Do(func() error {
		conn, err := net.Dial("udp4", "192.168.49.1:67")
		if err != nil {
			return err
		}
		defer conn.Close()
		junk := make([]byte, 4096)
		for i := range 5000 {
			m := message(t, discover, net.HardwareAddr{2, 7, 0, 0, byte(i >> 8), byte(i)}).ToBytes()
			if i%3 == 0 {
				m = junk
			}
			if _, err := conn.Write(m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquireIn(client, ctx); err != nil {
		t.Errorf("after the flood: %v", err)
	}
	if b := s.Bindings(); len(b) != 1 {
		t.Errorf("bindings %v", b)
	}
}
