package wpa

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

const (
	defaultLook = 5 * time.Second
	maxLook     = seekLimit // that one look for a device takes
	maxLooks    = 8         // callers that wait at once
)

// lookout is a caller that waits to hear a peer.
type lookout struct {
	peer  net.HardwareAddr
	timer *timer
	reply func(error)
}

// Look looks for one peer on the social channels for d (at most 20 s; zero or less means 5 s) and returns what it says now,
// not what was heard of it before. A search that is wanted goes on afterwards. It returns ErrPeerGone when the peer was not
// heard, and ErrBusy while a group is being formed or there is one.
func (r *Radio) Look(ctx context.Context, peer net.HardwareAddr, d time.Duration) (Peer, error) {
	if len(peer) != 6 {
		return Peer{}, fmt.Errorf("wpa: look: %w: not a device address", ErrConfig)
	}
	err := r.command(ctx, "look for "+peer.String(), func(m *machine, reply func(error)) {
		m.look(&lookout{peer: peer, reply: reply}, min(bounded(d, defaultLook), maxLook))
	})
	if err != nil {
		return Peer{}, err
	}
	for _, p := range r.Peers() { // the snapshot is shown before the reply
		if slices.Equal(p.Address, peer) {
			return p, nil
		}
	}
	return Peer{}, fmt.Errorf("wpa: look for %s: %w", peer, ErrPeerGone)
}

func (m *machine) look(l *lookout, d time.Duration) {
	err := m.usable()
	if err == nil && (m.form != nil || len(m.groups) > 0 || len(m.looks) >= maxLooks) {
		err = ErrBusy
	}
	if err != nil {
		l.reply(err)
		return
	}
	l.timer = m.after(d, func() { m.looked(l, ErrPeerGone) })
	m.looks = append(m.looks, l)
	m.searched = true
	owner := m.owner
	m.order(func(ctx context.Context) error { return seek(ctx, m.api, owner) }, func(err error) {
		if err != nil {
			m.looked(l, callErr(err))
		}
	})
}

// looked ends a look. The last one puts the radio back to what it did before, unless a formation has it now.
func (m *machine) looked(l *lookout, err error) {
	i := slices.Index(m.looks, l)
	if i < 0 {
		return
	}
	m.looks = slices.Delete(m.looks, i, i+1)
	l.timer.stop()
	l.reply(err)
	if len(m.looks) > 0 || m.form != nil || m.state != Ready || m.stopping || len(m.groups) > 0 {
		return
	}
	if m.disc.stage != discIdle && m.disc.stage != discPaused {
		m.disc.halt()
		m.search(nil)
		return
	}
	owner := m.owner
	m.order(func(ctx context.Context) error { return m.api.StopFind(ctx, owner) }, nil)
}

// heard ends the looks for a peer.
func (m *machine) heard(peer net.HardwareAddr) {
	for _, l := range slices.Clone(m.looks) {
		if slices.Equal(l.peer, peer) {
			m.looked(l, nil)
		}
	}
}
