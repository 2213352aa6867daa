package wpa

import (
	"context"
	"time"
)

const (
	scanPause   = 500 * time.Millisecond // between looks for a scan of others: they begin another one at once
	askSettle   = 5 * time.Second        // from asking a peer until its user is being asked, or roles are agreed
	groupSettle = 10 * time.Second       // the supplicant gives the first client of a new group as long to be in it
)

// endScans ends the scans that others have the radio make, such as NetworkManager for the user's own Wi-Fi, while a peer is
// being asked, and until the group is built and has settled. The radio does one thing at a time: a scan of all channels keeps
// it for up to ten seconds, in which frames are lost, a new group does not start, and its owner is not found. Where the bus
// does not let us, it is as it would be without.
func (m *machine) endScans() {
	m.quiet.stop()
	if m.state != Ready || m.stopping || !m.settles() {
		return
	}
	owner := m.owner
	m.order(func(ctx context.Context) error { return m.api.AbortScan(ctx, owner) }, nil)
	m.quiet = m.after(scanPause, m.endScans)
}

// settles reports whether a peer was just asked, or a group is being built or has just been. A search for the peer or for a
// group to join is our own scan.
func (m *machine) settles() bool {
	if f := m.form; f != nil {
		switch f.stage {
		case stageNegotiated, stageBuilding:
			return true
		case stageWaiting, stageInviting:
			return !f.looking && time.Since(f.asked) < askSettle
		case stageJoining:
			return f.group != ""
		}
	}
	for _, g := range m.groups {
		if g.ours && g.state != groupEnding && time.Since(g.started) < groupSettle {
			return true
		}
	}
	return false
}
