package session

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"nigh/agent/identity"
)

// bindings is a handler that tells of the binding of each request.
func bindings(told chan<- Binding) option {
	return func(c *Config) {
		c.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			b, err := BindingFrom(r.Context())
			if err == nil {
				told <- b
			}
		})
	}
}

// Both ends of a connection have the same binding, every connection has another one,
// and requests of a channel stay on its connection.
func TestBinding(t *testing.T) {
	told := make(chan Binding, 8)
	b := newDevice(t, "127.0.0.1:0", bindings(told))
	a := newDevice(t, "127.0.0.1:0")
	a.at(b.id, b.lan())
	var seen [][32]byte
	for range 2 {
		ch, err := a.Open(t.Context(), b.id)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			mustGet(t, ch.Client, "/v1/any")
			if other := <-told; other.Value != ch.Value || other.Key.ID() != a.id || ch.Key.ID() != b.id {
				t.Errorf("the ends of a connection have %x (%s) and %x (%s)", ch.Value, ch.Key.ID().Short(), other.Value, other.Key.ID().Short())
			}
		}
		seen = append(seen, ch.Value)
		ch.Close()
		<-ch.Done
		if _, _, err := get(t, ch.Client, "/v1/any"); !errors.Is(err, ErrLost) && err == nil {
			t.Errorf("a request after Close: %v", err)
		}
	}
	if seen[0] == seen[1] || seen[0] == ([32]byte{}) {
		t.Errorf("bindings %x", seen)
	}
	if _, err := a.Open(t.Context(), identity.DeviceID{1}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("a device without an address: %v", err)
	}
	if _, err := BindingFrom(t.Context()); err == nil {
		t.Error("a context of no connection has a binding")
	}
}

// A protected connection of a stranger outlives a flood of newer ones.
func TestProtectedConnectionStays(t *testing.T) {
	told := make(chan Binding, 1)
	d := newDevice(t, ":0", bindings(told))
	a := newDevice(t, "127.0.0.1:0")
	a.at(d.id, Candidate{Addr: d.loopback(), Kind: "lan"})
	ch, err := a.Open(t.Context(), d.id)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	mustGet(t, ch.Client, "/v1/any")
	(<-told).Protect(true)
	for i := range 3 * maxStrangerConns {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 4, byte(1+i%8))}, Timeout: wait}
		c, err := tls.DialWithDialer(dialer, "tcp", d.loopback().String(), &tls.Config{NextProtos: []string{protoDirect}, InsecureSkipVerify: true,
			Certificates: []tls.Certificate{certificate(t, key, time.Time{}, time.Now(), 4)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if !served(c) {
			t.Errorf("stranger %d was not served", i)
		}
	}
	mustGet(t, ch.Client, "/v1/any")
	(<-told).Protect(false)
}
