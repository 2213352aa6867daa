package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"path/filepath"

	"nigh/agent/identity"
	"nigh/link"
	"nigh/wpa"
)

// errOtherEngine ends a radio's life so that the next one has another engine.
var errOtherEngine = errors.New("agent: another engine is taken")

// radioConfig is what a radio is opened with.
func (d *direct) radioConfig() wpa.Config {
	pool, err := link.FreeSubnet()
	if err != nil {
		d.log.Warn("No free subnet for a group", "err", err)
	}
	advert := d.advert()
	c := wpa.Config{
		Logger: d.log, Bus: d.a.cfg.Bus, DeviceName: advert.Name, Vendor: advert.Vendor, Visible: advert.Visible,
		Intent: d.intent(), Pool: pool, Groups: d.profiles(identity.DeviceID{}), Killed: d.killed.Load(),
	}
	if d.a.cfg.Engine != engineAuto {
		c.Engine = wpa.Engine(d.a.cfg.Engine)
	}
	c.Folder = filepath.Dir(d.a.cfg.Socket) // gone with a reboot
	c.Record = filepath.Join(d.a.cfg.State, "radio.json")
	if c.Address, err = d.radioAddress(); err != nil {
		d.log.Warn("Reading the own P2P device address failed", "err", err)
	}
	return c
}

// bucketRadio holds what has to last of the radio.
const bucketRadio = "radio"

// radioAddress is the P2P device address that a wpa_supplicant of our own has: random, made once, because devices know a
// persistent group by it.
func (d *direct) radioAddress() (net.HardwareAddr, error) {
	key := []byte("address")
	var text string
	bucket := d.a.store.Bucket(bucketRadio)
	if err := bucket.Get(key, &text); err == nil {
		if address, err := net.ParseMAC(text); err == nil && len(address) == 6 {
			return address, nil
		}
	}
	address := make(net.HardwareAddr, 6)
	_, _ = rand.Read(address)            // it never fails
	address[0] = address[0]&^0x01 | 0x02 // one device's, not a maker's (IEEE 802c)
	return address, bucket.Put(key, address.String())
}

// groupKilled takes note that NetworkManager removed a group, and returns errOtherEngine when another engine is better now
// that this is known.
func (d *direct) groupKilled(ctx context.Context, radio *wpa.Radio) error {
	if d.a.cfg.Engine != engineAuto {
		return nil
	}
	if wpa.Policy() != "" {
		d.killed.Store(true) // it does not do what it is for
	}
	choice, err := wpa.Choose(ctx, wpa.Config{Bus: d.a.cfg.Bus, Folder: filepath.Dir(d.a.cfg.Socket), Killed: d.killed.Load()})
	if err != nil || choice.Engine == radio.Status().Engine {
		return nil
	}
	d.log.Warn("Taking another engine", "engine", string(choice.Engine), "why", choice.Why)
	d.a.step("engine", "running", choice.Why)
	return errOtherEngine
}

// reconsider looks whether the engine is still the best one, when a person asks what is wrong or has just mended it.
func (d *direct) reconsider(ctx context.Context) {
	d.mu.Lock()
	radio := d.radio
	d.mu.Unlock()
	if radio == nil {
		return
	}
	choice, err := radio.Reconsider(ctx)
	if err != nil || choice.Engine == radio.Status().Engine {
		return
	}
	d.mu.Lock()
	idle := len(d.groups)+len(d.formings) == 0 && d.radio == radio
	d.mu.Unlock()
	if !idle {
		return // it is asked again
	}
	d.log.Info("Taking another engine", "engine", string(choice.Engine), "why", choice.Why)
	select {
	case d.better <- struct{}{}:
	default:
	}
}

// keepEngine ends the radio's life when another engine is better.
func (d *direct) keepEngine(ctx context.Context) error {
	select {
	case <-d.better: // that was about the radio before
	default:
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.better:
		return errOtherEngine
	}
}
