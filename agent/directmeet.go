package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
	"nigh/wpa"
)

// Bounds of how groups come together.
const (
	arriveLimit = 25 * time.Second // for a device that was invited, or whose group we joined, to be reached
	movePause   = 2 * time.Minute  // after leaving a group for another one: nobody makes us go back and forth
)

// errElsewhere is returned when a device did not come to our group: it is in
// another one that stays, or does not trust our owner.
var errElsewhere = errors.New("agent: the device did not join the group of this one")

// meeting is a group as its owner tells of it.
type meeting struct {
	members int // devices in it, with its owner; 0 = not known
	owner   identity.DeviceID
}

// yields reports whether, of two groups that meet, ours is the one that ends: the
// one with more members stays, and of equal ones that of the smaller DeviceID.
// Both sides say the same, so that they do not pass each other.
func (m meeting) yields(other meeting) bool {
	if m.members != other.members && m.members != 0 && other.members != 0 {
		return m.members < other.members
	}
	return bytes.Compare(other.owner[:], m.owner[:]) < 0
}

// inGroup returns the group that this device is in, and what its owner tells of it.
func (d *direct) inGroup() (g wpa.Group, m meeting, ok bool) {
	d.mu.Lock()
	for _, life := range d.groups {
		g, ok = life.group, true
	}
	d.mu.Unlock()
	if !ok {
		return g, m, false
	}
	if g.Role == wpa.Owner {
		return g, meeting{len(g.Members) + 1, d.a.id.ID}, true
	}
	if ids := d.a.table.membersOn(g.Ifname, false); len(ids) == 1 {
		m.owner = ids[0]
	} else {
		m.owner, _ = d.known(g.Peer)
	}
	if s, ok := d.a.table.onRadio(m.owner); ok && !m.owner.IsZero() {
		m.members = s.members
	}
	return g, m, true
}

// groupSize is how many devices are in the group that this device owns, with it; 0
// when it owns none.
func (d *direct) groupSize() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.groups {
		if g.group.Role == wpa.Owner {
			return len(g.group.Members) + 1
		}
	}
	return 0
}

// owners returns the trusted devices near that own a group, the best to join first.
func (d *direct) owners() (list []meeting) {
	for _, m := range d.a.table.ownersOnAir() {
		if d.a.trust.Standing(m.owner) != trust.Trusted {
			continue // nobody else makes us join or leave a group
		}
		at := len(list)
		for i := range list {
			if list[i].yields(m) {
				at = i
				break
			}
		}
		list = append(list[:at], append([]meeting{m}, list[at:]...)...)
	}
	return list
}

// approach makes a path to a wanted device: a device that is in no group joins the
// one that is running, a device in a group is joined by the others, and when two
// groups meet the members of one move to the other.
func (d *direct) approach(ctx context.Context, id identity.DeviceID) error {
	trusted := d.a.trust.Standing(id) == trust.Trusted
	g, own, in := d.inGroup()
	if !in {
		for _, m := range d.owners() {
			if !trusted || m.owner == id {
				break // the device itself is the one to join
			}
			d.log.Info("Joining the running group of a trusted device", "peer", m.owner.Short(), "wanted", id.Short())
			if err := d.form(ctx, m.owner); err != nil {
				d.log.Info("Joining the running group failed", "peer", m.owner.Short(), "err", err)
				continue
			}
			if g, own, in = d.inGroup(); in && d.arrives(ctx, id) {
				return nil
			}
			break
		}
	}
	switch {
	case !in:
		return d.form(ctx, id)
	case id == own.owner:
		if !d.arrives(ctx, id) {
			return errElsewhere
		}
		return nil
	}
	if trusted && d.mayMove() {
		for _, m := range d.owners() {
			if m.owner == own.owner || !own.yields(m) {
				continue
			}
			if err := d.move(ctx, g, m); err != nil {
				return err
			}
			if d.a.reachable(id) || d.arrives(ctx, id) {
				return nil
			}
			return errElsewhere
		}
	}
	if g.Role == wpa.Owner {
		if err := d.form(ctx, id); err != nil { // which invites it
			return err
		}
		return nil
	}
	s, err := d.sight(ctx, id)
	if err != nil {
		return err
	}
	radio, err := d.current()
	if err != nil {
		return err
	}
	if err := radio.Invite(ctx, g.ID, s.mac); err != nil {
		return fmt.Errorf("agent: invite: %w", err)
	}
	if !d.arrives(ctx, id) {
		return errElsewhere
	}
	return nil
}

// form forms or joins a group with a device.
func (d *direct) form(ctx context.Context, id identity.DeviceID) error {
	s, err := d.sight(ctx, id)
	if err != nil {
		return err
	}
	if d.a.trust.Standing(id) != trust.Trusted {
		_, err = d.connect(ctx, s.mac, wpa.PBC(), wpa.ConnectOptions{Intent: d.intent()})
		return err
	}
	d.offerProfiles(ctx, id)
	_, err = d.connectFriend(ctx, id, wpa.ConnectOptions{Intent: d.intent(), Persistent: true})
	return err
}

// arrives waits until a path leads to a device.
func (d *direct) arrives(ctx context.Context, id identity.DeviceID) bool {
	ctx, cancel := context.WithTimeout(ctx, arriveLimit)
	defer cancel()
	return d.a.change.wait(ctx, func() bool { return d.a.reachable(id) }) == nil
}

// mayMove reports whether it is long enough ago that this device left a group for
// another one.
func (d *direct) mayMove() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.movedAt.IsZero() || time.Since(d.movedAt) > movePause
}

// move leaves a group for that of another owner. Who is left behind comes after
// when a transfer waits for it: it finds this device, which then is a client there.
func (d *direct) move(ctx context.Context, g wpa.Group, to meeting) error {
	radio, err := d.current()
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.movedAt = time.Now()
	d.mu.Unlock()
	d.log.Info("Two groups met, moving to the other one", "group", g.Ifname, "owner", to.owner.Short(), "members", to.members)
	if err := radio.Leave(ctx, g.ID); err != nil && !errors.Is(err, wpa.ErrNoGroup) {
		return err
	}
	if err := d.a.change.wait(ctx, func() bool { _, _, in := d.inGroup(); return !in }); err != nil {
		return err
	}
	defer d.wantUnfinished() // what moved in the group that was left goes on
	return d.form(ctx, to.owner)
}

// invited answers the invitation of a trusted device to a group: it is joined by
// way of its owner, if that is trusted too, and if this device is in none or in one
// that yields. It reports whether the invitation needs nothing else.
func (d *direct) invited(ctx context.Context, r wpa.Request) bool {
	if r.Kind != wpa.Invitation || r.Owner == nil || d.a.cfg.Join != JoinTrusted {
		return false
	}
	owner, ok := d.known(r.Owner)
	if !ok && d.gate.looks.Allow() {
		if _, err := d.look(ctx, r.Owner, lookTime); err != nil {
			d.log.Debug("Looking at the owner of a group failed", "address", r.Owner.String(), "err", err)
		}
		owner, ok = d.known(r.Owner)
	}
	if _, friend := d.known(r.Peer.Address); !ok || !friend {
		return false
	}
	g, own, in := d.inGroup()
	if !in && slices.Equal(r.Owner, r.Peer.Address) {
		return false
	}
	if !in {
		if err := d.form(ctx, owner); err != nil && ctx.Err() == nil {
			d.log.Info("Joining a group after an invitation failed", "owner", owner.Short(), "err", err)
		}
		return true
	}
	other := meeting{owner: owner}
	if s, ok := d.a.table.onRadio(owner); ok {
		other.members = s.members
	}
	if own.owner == owner {
		return true // we are in it
	}
	if !own.yields(other) || !d.mayMove() {
		d.log.Debug("Staying in the own group", "inviter", r.Peer.Address.String(), "owner", owner.Short())
		return true
	}
	if err := d.move(ctx, g, other); err != nil && ctx.Err() == nil {
		d.log.Info("Moving to another group failed", "owner", owner.Short(), "err", err)
	}
	return true
}

// ownersOnAir returns the known devices that own a group.
func (t *table) ownersOnAir() (all []meeting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.radio {
		if id, ok := t.behindLocked(s); ok && s.owner {
			all = append(all, meeting{s.members, id})
		}
	}
	return all
}
