package session

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// from opens a TCP connection to d from an address of the loopback network.
func from(t testing.TB, d *device, ip net.IP) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}, Timeout: wait}
	c, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.9", itoa(int(d.Port()))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(wait))
	return c
}

// keyed makes a key, and the certificate and ID of it.
func keyed(t testing.TB) (tls.Certificate, identity.DeviceID) {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.FromKey(k.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, k, time.Time{}, time.Now(), 4), id
}

func secured(c net.Conn, cert tls.Certificate) *tls.Conn {
	return tls.Client(c, &tls.Config{NextProtos: []string{protoDirect}, InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
}

// A hundred addresses leave connections half open. A handshake that a stranger was in the middle of is given up for
// theirs; one from where a trusted device was is not, however slow it is.
func TestStrangersCannotPushOutHandshakesOfTrustedDevices(t *testing.T) {
	d := newDevice(t, ":0")
	friendly, friend := keyed(t)
	d.set(friend, trust.Trusted)
	home, elsewhere := net.IPv4(127, 0, 4, 1), net.IPv4(127, 0, 4, 2)
	if !served(secured(from(t, d, home), friendly)) {
		t.Fatal("the trusted device is not served")
	}
	slowFriend, slowStranger := from(t, d, home), from(t, d, elsewhere)
	for i := range 10 * maxHandshakes {
		c := from(t, d, net.IPv4(127, 0, 5, byte(1+i%100)))
		_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0})
	}
	if _, err := slowStranger.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the attack did not push out a stranger's handshake: %v", err)
	}
	if !served(secured(slowFriend, friendly)) {
		t.Error("the attack pushed out a trusted device's handshake")
	}
	// The lane is for devices that are trusted now.
	d.set(friend, trust.New)
	slowFriend = from(t, d, home)
	for i := range 10 * maxHandshakes {
		c := from(t, d, net.IPv4(127, 0, 7, byte(1+i%100)))
		_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0})
	}
	if _, err := slowFriend.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("who is not trusted any more keeps the lane: %v", err)
	}
}

func TestTheBudgetOfStrangers(t *testing.T) {
	synctest.Test(t, budget) // its clock stands still
}

func budget(t *testing.T) {
	g := newGate()
	address := func(i int) netip.Prefix {
		return origin(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	// One address: its burst, and no more of what all have.
	spent := 0
	for g.spend(address(0), 0) {
		spent++
	}
	if spent != addressRequestBurst {
		t.Errorf("one address made %d requests at once", spent)
	}
	// Many: what all have.
	for i := 1; spent < 2*strangersRequestBurst; i++ {
		if !g.spend(address(i), 0) {
			break
		}
		spent++
	}
	if spent != strangersRequestBurst {
		t.Errorf("all addresses made %d requests at once", spent)
	}
	g = newGate()
	var bytes int64
	for i := 0; bytes < 2*strangersByteBurst && g.spend(address(i), maxStrangerBody); i++ {
		bytes += maxStrangerBody
	}
	if bytes != strangersByteBurst {
		t.Errorf("all addresses sent %d bytes at once", bytes)
	}
	for i := range 2 * maxAddresses {
		g.spend(address(i), 0)
	}
	if n := len(g.rates); n > maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
	for i := range 2 * maxFriendAddresses {
		g.meet(address(i), identity.DeviceID{1})
	}
	if n := len(g.friends); n > maxFriendAddresses {
		t.Errorf("%d addresses of trusted devices are remembered", n)
	}
	if _, ok := g.friends[address(2*maxFriendAddresses-1)]; !ok {
		t.Error("the newest address of a trusted device is not remembered")
	}
}

// A stranger's connections begin with a burst each; together they do not get more than their address may have. A trusted
// device at the same address is not counted with them.
func TestRequestsOfManyConnectionsAreCountedTogether(t *testing.T) {
	d := newDevice(t, ":0")
	friendly, friend := keyed(t)
	d.set(friend, trust.Trusted)
	home := net.IPv4(127, 0, 6, 1)
	asks := func(cert tls.Certificate, times int) (refused int) {
		client := &http.Client{Timeout: wait, Transport: &http.Transport{MaxConnsPerHost: 1, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return secured(from(t, d, home), cert), nil
		}}}
		defer client.CloseIdleConnections()
		for range times {
			resp, err := client.Get("http://" + Host + "/v1/any")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusTooManyRequests {
				refused++
			}
		}
		return refused
	}
	d.gate.mu.Lock()
	d.gate.allowance(origin(netip.AddrFrom4([4]byte(home.To4())))).requests.SetLimit(0) // nothing is added meanwhile
	d.gate.mu.Unlock()
	refused := 0
	for range addressRequestBurst/strangerBurst + 2 {
		strange, _ := keyed(t)
		refused += asks(strange, strangerBurst)
	}
	if refused != 2*strangerBurst {
		t.Errorf("%d requests were refused, want %d", refused, 2*strangerBurst)
	}
	if n := asks(friendly, 3*strangerBurst); n > 0 {
		t.Errorf("%d requests of a trusted device were refused", n)
	}
}

// A thousand connections are left half open; what they cost does not grow with their number.
func TestAThousandHalfOpenHandshakes(t *testing.T) {
	d := newDevice(t, ":0")
	friendly, friend := keyed(t)
	d.set(friend, trust.Trusted)
	home := net.IPv4(127, 0, 8, 1)
	if !served(secured(from(t, d, home), friendly)) {
		t.Fatal("the trusted device is not served")
	}
	before, opened := runtime.NumGoroutine(), 0
	for i := range 1000 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, byte(1+i%200))}, Timeout: wait}
		c, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.9", itoa(int(d.Port()))))
		if err != nil {
			continue // reset before the kernel told of it
		}
		t.Cleanup(func() { _ = c.Close() })
		opened++
		_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0})
	}
	if !served(secured(from(t, d, home), friendly)) { // it was accepted after all of them
		t.Error("the trusted device is not served")
	}
	d.gate.mu.Lock()
	waiting := len(d.gate.waiting)
	d.gate.mu.Unlock()
	if opened < 500 || waiting > 2*maxHandshakes {
		t.Errorf("%d connections were opened, %d handshakes are open", opened, waiting)
	}
	// Each handshake has a goroutine and one that watches its time; some are just ending.
	if n := runtime.NumGoroutine() - before; n > 8*maxHandshakes {
		t.Errorf("%d goroutines for %d connections", n, opened)
	}
}
