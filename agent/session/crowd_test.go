package session

import (
	"errors"
	"testing"

	"nigh/agent/trust"
)

// A stranger gives way to a trusted device, a trusted one to nobody.
func TestDevicesAtOnce(t *testing.T) {
	most := 2
	b := newDevice(t, "127.0.0.1:0", func(c *Config) { c.Most = func() int { return most } })
	join := func(standing trust.Standing) *device {
		d := newDevice(t, "127.0.0.1:0")
		b.set(d.id, standing)
		d.at(b.id, b.lan())
		return d
	}
	ada, eve, cyd, dan := join(trust.Trusted), join(trust.New), join(trust.Trusted), join(trust.Trusted)
	for _, d := range []*device{ada, eve} {
		mustGet(t, d.Control(b.id), "/v1/any")
	}
	mustGet(t, ada.Bulk(b.id), "/v1/any") // a second connection is no second device
	if _, _, err := get(t, join(trust.New).Control(b.id), "/v1/any"); err == nil {
		t.Error("a third device was served, a stranger")
	}
	mustGet(t, cyd.Control(b.id), "/v1/any")
	if n := len(b.connsOf(eve.id)); n != 0 {
		t.Errorf("the stranger keeps %d connections", n)
	}
	if _, _, err := get(t, dan.Control(b.id), "/v1/any"); err == nil {
		t.Error("a third trusted device was served")
	}
	mustGet(t, ada.Control(b.id), "/v1/any") // whoever was there is not disturbed
	mustGet(t, cyd.Control(b.id), "/v1/any")
	// The bound is for whom we dial too.
	b.at(dan.id, dan.lan())
	if _, _, err := get(t, b.Control(dan.id), "/v1/any"); !errors.Is(err, ErrCrowded) {
		t.Errorf("dialling a third device: %v", err)
	}
	// Who was busy last stays when there may be fewer.
	most = 1
	b.Thin()
	if there := b.connected(); len(there) != 1 {
		t.Errorf("%d devices are connected, want 1", len(there))
	}
	most = 0
	mustGet(t, dan.Control(b.id), "/v1/any")
}
