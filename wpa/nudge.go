package wpa

import (
	"context"
	"math/rand/v2"
	"time"

	"nigh/wpa/dbusapi"
)

// Waits before asking again, at least and at most. They are drawn by lot, because two devices that ask each other at the same
// moment would otherwise go on doing so: a Connect during the exchange of frames ends it on this side only.
var (
	lostNudge  = span{time.Second, 3 * time.Second}      // our negotiation failed at once
	firstNudge = span{3 * time.Second, 6 * time.Second}  // something was lost
	nextNudge  = span{7 * time.Second, 12 * time.Second} // the peer's user thinks
)

const (
	lookLimit = 3 * time.Second        // to look for the peer before it is asked again
	maxLost   = 3                      // negotiations that ended without a reason and are begun again
	settle    = 200 * time.Millisecond // a round of a social search
)

// connectCall calls Connect when the supplicant does not scan, for us or for others: it would put the request off to the end
// of the scan, and when the peer's own request comes meanwhile, it fails the negotiation that this one began, with the peer
// sure of a group.
//
// Shown, which may be nil, gets the PIN, which the reply has only when the supplicant made it.
func (m *machine) connectCall(args dbusapi.ConnectArgs, shown func(string), then func(string, error)) {
	owner, ifname, searched := m.owner, m.ifname, m.searched
	do(m, func(ctx context.Context) (string, error) {
		if args.Join && args.Frequency == 0 {
			args.Frequency = groupFrequency(ifname, dbusapi.PeerAddress(args.Peer))
		}
		if searched && !args.Join {
			ignore(m.api.StopFind(ctx, owner))
			rest := time.NewTimer(settle)
			defer rest.Stop()
			select {
			case <-rest.C:
			case <-ctx.Done():
			}
		}
		if !args.Join {
			ignore(m.api.AbortScan(ctx, owner))
		}
		pin, err := m.api.Connect(ctx, owner, args)
		if args.PIN != "" {
			pin = args.PIN
		}
		if err == nil && shown != nil {
			shown(pin)
		}
		return pin, err
	}, then)
}

// hearPeer listens for the peer's own request while we do not ask.
func (m *machine) hearPeer(f *formation, pause span) {
	f.gaveUp, f.looking = true, false
	owner := m.owner
	m.order(func(ctx context.Context) error { return m.api.Listen(ctx, owner, seconds(pause.most)) }, nil)
	m.nudgeIn(f, pause)
}

// span is a range of durations.
type span struct{ least, most time.Duration }

func (s span) draw() time.Duration { return s.least + rand.N(s.most-s.least) }

// asks reports whether the peer has been asked for a group and has not answered.
func (f *formation) asks() bool { return f.stage == stageWaiting || f.stage == stageInviting }

// nudgeLater looks for the peer and asks again while nothing is heard. A peer that restarted listens on another channel than
// the one our frames go to, and 2.10 can lose a Connect altogether; neither is told. The peer asks its user only once.
func (m *machine) nudgeLater(f *formation) {
	pause := firstNudge
	if f.nudges > 0 {
		pause = nextNudge
	}
	f.nudges++
	f.asked = time.Now()
	m.endScans()
	m.nudgeIn(f, pause)
}

func (m *machine) nudgeIn(f *formation, pause span) {
	if !f.asks() {
		return
	}
	f.nudge.stop()
	f.nudge = m.after(pause.draw(), func() {
		if m.form != f || !f.asks() {
			return
		}
		f.looking = true
		f.nudge = m.after(lookLimit, func() { m.nudge(f) })
		owner := m.owner
		m.searched = true
		m.order(func(ctx context.Context) error { return seek(ctx, m.api, owner) }, func(err error) {
			if err != nil {
				m.nudge(f)
			}
		})
	})
}

// nudge asks again, when the peer has been seen or was looked for long enough.
func (m *machine) nudge(f *formation) {
	if m.form != f || !f.asks() || !f.looking {
		return
	}
	f.looking, f.gaveUp = false, false
	if f.stage == stageInviting {
		m.callInviteBack(f)
		return
	}
	if !f.joinTried && m.joinable(f) {
		m.join(f) // it started a group without us having heard of it, most likely that which we asked for
		return
	}
	m.log.Debug("Asking again", "peer", f.peer.String())
	m.connectCall(f.args(), nil, func(string, error) { m.nudgeLater(f) })
}
