package wpa

import (
	"context"
	"fmt"
	"slices"
	"time"

	"nigh/wpa/dbusapi"
)

// Advert is what other devices see of this one before they connect. It may change while Run runs.
type Advert struct {
	Name    string   // at most 32 bytes; empty = leave the supplicant's
	Vendor  [][]byte // WPS vendor extensions: vendor ID of three bytes and data, at most 10
	Visible bool     // be found by others while idle, without searching (extended listening)
}

// check refuses what the supplicant would refuse later and less clearly.
func (a Advert) check() error {
	switch {
	case len(a.Name) > maxNameBytes:
		return fmt.Errorf("%w: the device name has more than %d bytes", ErrConfig, maxNameBytes)
	case len(a.Vendor) > maxVendor:
		return fmt.Errorf("%w: more than %d vendor extensions", ErrConfig, maxVendor)
	}
	total := 0
	for _, v := range a.Vendor {
		if total += len(v) + 4; len(v) < 4 || total > maxVendorBytes {
			return fmt.Errorf("%w: a vendor extension has %d bytes", ErrConfig, len(v))
		}
	}
	return nil
}

func (a Advert) equal(b Advert) bool {
	return a.Name == b.Name && a.Visible == b.Visible && slices.EqualFunc(a.Vendor, b.Vendor, slices.Equal[[]byte])
}

// advert is what the configuration wants to be seen.
func (c *Config) advert() Advert { return Advert{c.DeviceName, c.Vendor, c.Visible} }

// Advertise changes what other devices see of this one, from now on and after a restart of the supplicant. What was there
// before Run began is put back when it ends. It returns when the supplicant has it; without a supplicant that is later,
// and no error.
func (r *Radio) Advertise(ctx context.Context, a Advert) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("wpa: advertise: %w", err)
	}
	return r.command(ctx, "advertise", func(m *machine, reply func(error)) { m.setAdvert(a, reply) })
}

func (m *machine) setAdvert(a Advert, reply func(error)) {
	if m.stopping {
		reply(ErrClosed)
		return
	}
	m.cfg.DeviceName, m.cfg.Vendor, m.cfg.Visible = a.Name, a.Vendor, a.Visible
	if m.before == nil { // prepare sets it
		reply(nil)
		return
	}
	m.showAdvert(reply)
}

// showAdvert brings the supplicant in line with what is wanted.
func (m *machine) showAdvert(reply func(error)) {
	m.beVisible()
	was, now := m.shown, m.cfg.advert()
	if was.equal(now) {
		reply(nil)
		return
	}
	m.shown = now
	owner := m.owner
	var objects []dbusapi.Path
	for _, g := range m.groups {
		if g.Role == Owner && !dbusapi.None(g.object) {
			objects = append(objects, g.object)
		}
	}
	m.before.named = m.before.named || now.Name != ""
	m.before.extended = m.before.extended || len(now.Vendor) > 0
	m.order(func(ctx context.Context) error {
		if now.Name != was.Name && now.Name != "" {
			if err := m.api.SetConfig(ctx, owner, dbusapi.DeviceName(now.Name)); err != nil {
				return err
			}
		}
		if slices.EqualFunc(now.Vendor, was.Vendor, slices.Equal[[]byte]) {
			return nil
		}
		if err := m.api.SetConfig(ctx, owner, dbusapi.VendorExtension(now.Vendor)); err != nil {
			return err
		}
		for _, o := range objects {
			if err := m.api.SetGroupVendor(ctx, o, now.Vendor); err != nil {
				m.log.Debug("Setting the group's vendor extensions failed", "err", err)
			}
		}
		return nil
	}, func(err error) {
		if err != nil && m.shown.equal(now) {
			m.shown = was // tried again with the next change
		}
		reply(callErr(err))
	})
}

// showOn has a group that we own say what the device says: its beacons and probe responses are not made of P2PDeviceConfig.
func (m *machine) showOn(g *group) {
	vendor, object := m.cfg.Vendor, g.object
	if g.Role != Owner || dbusapi.None(object) || len(vendor) == 0 {
		return
	}
	m.order(func(ctx context.Context) error { return m.api.SetGroupVendor(ctx, object, vendor) }, func(err error) {
		if err != nil {
			m.log.Debug("Setting the group's vendor extensions failed", "err", err)
		}
	})
}

// A visible device listens a third of the time on its listen channel when the radio has a Wi-Fi connection too, which keeps
// most of it, and else nearly always: frames of GO negotiation are sent only a few times, and a device that does not hear
// them makes the other one start again seconds later.
const (
	visiblePeriod   = 500 * time.Millisecond
	visibleInterval = 1500 * time.Millisecond
	visibleAlone    = 550 * time.Millisecond // interval without a connection
)

// beVisible turns extended listening on while nothing else needs the radio, and off while there is a group: a radio that
// leaves the group's channel a third of the time moves little.
func (m *machine) beVisible() {
	var interval time.Duration
	switch {
	case !m.cfg.Visible || m.state != Ready || len(m.groups) > 0 || m.stopping:
	case m.connected:
		interval = visibleInterval
	default:
		interval = visibleAlone
	}
	if interval == m.listening || m.before == nil {
		return
	}
	m.listening = interval
	m.before.listened = true
	period, owner := visiblePeriod, m.owner
	if interval == 0 {
		period = 0
	}
	m.order(func(ctx context.Context) error { return m.api.ExtendedListen(ctx, owner, period, interval) }, func(err error) {
		if err != nil {
			m.log.Warn("Setting extended listening failed", "err", err)
		}
	})
}

// ownerChanged follows the Wi-Fi connection of the interface that owns P2P.
func (m *machine) ownerChanged(state string) {
	switch state {
	case "completed":
		m.connected = true
	case "disconnected", "inactive", "interface_disabled":
		m.connected = false
	default: // on the way from one to the other
		return
	}
	m.beVisible()
}
