package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/transfer"
	"nigh/agent/trust"
	"nigh/wpa"
)

// step publishes one step of forming a group or connecting. Its time counts
// from the last command that began one.
func (a *Agent) step(name, state, text string) {
	a.publish(control.Event{Type: "step", Step: &control.Step{
		What: "group", Name: name, State: state, Text: text, After: time.Since(a.commanded()).Seconds(),
	}})
}

// commanded returns when the command that steps count from was given.
func (a *Agent) commanded() time.Time {
	if t, ok := a.command.Load().(time.Time); ok {
		return t
	}
	return a.started
}

// find looks for Wi-Fi Direct devices for d.
func (d *direct) find(ctx context.Context, for_ time.Duration) error {
	radio, err := d.current()
	if err != nil {
		return err
	}
	return radio.Find(ctx, for_)
}

// beginForming waits until no other group is being formed by us, and returns what ends
// that of the caller.
func (d *direct) beginForming(ctx context.Context) (end func(), err error) {
	select {
	case d.forming <- struct{}{}:
		return func() { <-d.forming }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect forms or joins a group with the device that has this P2P device
// address and returns it when it is up.
func (d *direct) connect(ctx context.Context, mac net.HardwareAddr, m wpa.Method, o wpa.ConnectOptions) (wpa.Group, error) {
	formed, err := d.beginForming(ctx)
	if err != nil {
		return wpa.Group{}, err
	}
	defer formed()
	return d.connectNow(ctx, mac, m, o)
}

// connectNow is connect for a caller that holds what beginForming gives.
func (d *direct) connectNow(ctx context.Context, mac net.HardwareAddr, m wpa.Method, o wpa.ConnectOptions) (wpa.Group, error) {
	radio, err := d.current()
	if err != nil {
		return wpa.Group{}, err
	}
	d.a.step("negotiate", "running", "")
	ctx, over := d.formation(ctx)
	g, err := radio.Connect(ctx, mac, m, o)
	if err = over(err); err != nil {
		d.a.step("negotiate", "failed", explain(err).Message)
		return wpa.Group{}, fmt.Errorf("agent: connect: %w", err)
	}
	return g, nil
}

// sight waits until the radio hears the device with this identity, looking for
// it if need be.
func (d *direct) sight(ctx context.Context, id identity.DeviceID) (radioSighting, error) {
	if s, ok := d.a.table.onRadio(id); ok {
		return s, nil
	}
	d.awaitSupplicant(ctx)
	if err := d.find(ctx, wantFind); err != nil {
		return radioSighting{}, err
	}
	d.a.step("find", "running", "")
	ctx, cancel := context.WithTimeoutCause(ctx, wantFind, wpa.ErrPeerGone)
	defer cancel()
	var found radioSighting
	err := d.a.change.wait(ctx, func() (ok bool) {
		found, ok = d.a.table.onRadio(id)
		return ok
	})
	if err == nil {
		d.a.step("find", "ok", found.name)
	}
	return found, err
}

// awaitSupplicant waits a moment for a supplicant that was there and is being
// started again.
func (d *direct) awaitSupplicant(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, restartLimit)
	defer cancel()
	_ = d.a.change.wait(ctx, func() bool { // what the radio is then, finding tells
		radio, err := d.current()
		if err != nil {
			return true
		}
		s := radio.Status()
		return s.State != wpa.Starting && !errors.Is(s.Err, wpa.ErrSupplicantGone)
	})
}

// want asks for a connection to a device that has no other path. It returns at
// once; connectWanted does the work.
func (d *direct) want(id identity.DeviceID) {
	d.mu.Lock()
	d.wants[id] = true
	d.mu.Unlock()
	d.wakeWants()
}

func (d *direct) wakeWants() {
	select {
	case d.wantWake <- struct{}{}:
	default:
	}
}

// markUnfinished marks every trusted device as wanted that a transfer or a message
// waits for and that no path leads to.
func (d *direct) markUnfinished() {
	for _, id := range d.a.messages.WaitingFor() {
		if !d.a.reachable(id) {
			d.mu.Lock()
			d.wants[id] = true
			d.mu.Unlock()
		}
	}
	for _, t := range d.a.transfers.Transfers() {
		waits := t.State == transfer.Running || t.State == transfer.Queued
		if waits && d.a.trust.Standing(t.Peer) == trust.Trusted && !d.a.reachable(t.Peer) {
			d.mu.Lock()
			d.wants[t.Peer] = true
			d.mu.Unlock()
		}
	}
}

// wantUnfinished asks for the connections that transfers and messages wait for: a group was
// lost, the radio came back, or this device was started again.
func (d *direct) wantUnfinished() {
	d.markUnfinished()
	d.wakeWants()
}

// unreached notices that a device does not answer where it was. It has gone from a
// group, or the link to it is down; when a transfer waits for it, the radio looks
// for it, though not at each of the many tries of the session layer.
func (d *direct) unreached() {
	d.mu.Lock()
	early := time.Since(d.unreachedAt) < wantFind
	if !early {
		d.unreachedAt = time.Now()
	}
	d.mu.Unlock()
	if !early && d.a.directOn() {
		d.wantUnfinished()
	}
}

// connectWanted connects to the wanted devices, one after the other. What did
// not work is tried again for as long as a transfer waits for it, ever more
// seldom, and at most wantTries times until something changes.
func (d *direct) connectWanted(ctx context.Context) error {
	tries := 0
	for {
		var again <-chan time.Time
		if tries > 0 && tries < wantTries {
			again = time.After(wantAgain << tries)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wantWake:
			tries = 0
		case <-again:
			d.markUnfinished()
		}
		failed := false
		for {
			id, ok := d.nextWanted()
			if !ok || ctx.Err() != nil {
				break
			}
			if d.a.reachable(id) {
				continue
			}
			if err := d.approach(ctx, id); err != nil && ctx.Err() == nil {
				d.log.Info("Connecting over Wi-Fi Direct failed", "peer", id.Short(), "err", err)
				failed = true
			}
		}
		if failed {
			tries++
		} else {
			tries = 0
		}
	}
}

func (d *direct) nextWanted() (identity.DeviceID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.wants {
		delete(d.wants, id)
		return id, true
	}
	return identity.DeviceID{}, false
}

// meet connects to a radio device of unknown identity and waits until a session
// proved who is behind it: the first device that is proved on the new group
// from its owner or, for an owner, the first client. When the radio device said
// a short ID, only a device that has it counts: the person may have gone by it.
func (d *direct) meet(ctx context.Context, mac net.HardwareAddr) (identity.DeviceID, error) {
	short := d.a.table.shortOnAir(mac)
	g, err := d.connect(ctx, mac, wpa.PBC(), wpa.ConnectOptions{Intent: d.intent()})
	if err != nil {
		return identity.DeviceID{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, identityWait, errNoIdentity)
	defer cancel()
	var id identity.DeviceID
	err = d.a.change.wait(ctx, func() (ok bool) {
		id, ok = d.a.table.onInterface(g.Ifname, short)
		return ok
	})
	return id, err
}

// errNoIdentity is returned when a group formed but nobody on it spoke nigh.
var errNoIdentity = errors.New("agent: the group is up but the device does not answer; does it run nigh?")

// group carries out a person's command about groups.
func (d *direct) group(ctx context.Context, r control.GroupRequest, mac func() (net.HardwareAddr, error)) (control.Group, error) {
	radio, err := d.current()
	if err != nil {
		return control.Group{}, err
	}
	frequency := r.Frequency
	if frequency == 0 {
		// The band as nl80211 knows it: hostap picks the channel within it.
		frequency = map[string]int{"2": 2, "5": 5}[r.Band]
	}
	intent := d.intent()
	if r.Intent != nil {
		intent = *r.Intent
	}
	method := wpa.PBC()
	switch r.Method {
	case "show_pin":
		method = wpa.ShowPIN(r.PIN, func(pin string) { d.a.step("pin", "running", pin) })
	case "enter_pin":
		method = wpa.EnterPIN(r.PIN)
	}
	var g wpa.Group
	switch r.Action {
	case "create":
		if err := d.mayOwn(); err != nil {
			return control.Group{}, err
		}
		d.a.step("group", "running", "")
		ctx, over := d.formation(ctx)
		g, err = radio.StartGroup(ctx, wpa.GroupOptions{Frequency: frequency, Persistent: r.Persistent})
		err = over(err)
	case "join":
		var peer net.HardwareAddr
		if peer, err = mac(); err != nil {
			return control.Group{}, err
		}
		o := wpa.ConnectOptions{Intent: intent, Frequency: frequency, Persistent: r.Persistent}
		if id, ok := d.a.table.behind(peer); ok && method.Kind == wpa.KindPBC && d.a.trust.Standing(id) == trust.Trusted {
			g, err = d.connectFriend(ctx, id, o)
		} else {
			g, err = d.connectByHand(ctx, peer, method, o)
		}
	case "invite":
		var peer net.HardwareAddr
		if peer, err = mac(); err != nil {
			return control.Group{}, err
		}
		var id wpa.GroupID
		if id, _, err = d.groupOn(r.Ifname); err != nil {
			return control.Group{}, err
		}
		if err = radio.Invite(ctx, id, peer); err != nil {
			return control.Group{}, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		life := d.groups[id]
		if life == nil {
			return control.Group{}, fmt.Errorf("%w: it ended meanwhile", errNoGroup)
		}
		return life.view(true), nil
	}
	if err != nil {
		return control.Group{}, err
	}
	view, err := d.settled(ctx, radio, g.ID)
	if errors.Is(err, errUnsettled) && r.Action == "create" && view.Ifname != "" {
		d.log.Warn("The new group has no address yet", "group", view.Ifname)
		return view, nil // it waits for clients, and lives on
	}
	return view, err
}

// errUnsettled is returned when a group is up and this device has no address in it.
var errUnsettled = errors.New("agent: the group is up but has no address yet")

// settled waits until a group that the radio says is up has addresses, and returns what is known of it.
func (d *direct) settled(ctx context.Context, radio *wpa.Radio, id wpa.GroupID) (view control.Group, err error) {
	gone, killed := false, false
	ctx, cancel := context.WithTimeoutCause(ctx, identityWait, errUnsettled)
	defer cancel()
	// The event that says that it is up may still be on its way to follow.
	err = d.a.change.wait(ctx, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		life := d.groups[id]
		if life != nil {
			view = life.view(true)
		}
		gone = d.ended.radio == radio && d.ended.id == id
		killed = d.ended.reason == wpa.ReasonKilledByNetworkManager
		return gone || life != nil && life.link.IsValid()
	})
	if gone && err == nil {
		err = fmt.Errorf("%w: it ended meanwhile", errNoGroup)
		if killed {
			err = wpa.ErrKilledByNetworkManager
		}
	}
	return view, err
}
