package wpa

import (
	"context"
	"time"
)

const (
	firstNudge = 3 * time.Second // something was lost
	nudgePause = 8 * time.Second // the peer's user thinks
	lookLimit  = 3 * time.Second
)

// nudgeLater looks for the peer and asks again while nothing is heard. A peer that restarted listens on another channel than
// the one our frames go to, and 2.10 can lose a Connect altogether; neither is told. The peer asks its user only once.
func (m *machine) nudgeLater(f *formation) {
	if f.stage != stageWaiting {
		return
	}
	pause := firstNudge
	if f.nudges > 0 {
		pause = nudgePause
	}
	f.nudges++
	f.nudge.stop()
	f.nudge = m.after(pause, func() {
		if m.form != f || f.stage != stageWaiting {
			return
		}
		f.looking = true
		f.nudge = m.after(lookLimit, func() { m.nudge(f) })
		owner := m.owner
		m.order(func(ctx context.Context) error { return seek(ctx, m.api, owner) }, func(err error) {
			if err != nil {
				m.nudge(f)
			}
		})
	})
}

// nudge asks again, when the peer has been seen or was looked for long enough.
func (m *machine) nudge(f *formation) {
	if m.form != f || f.stage != stageWaiting || !f.looking {
		return
	}
	f.looking = false
	m.log.Debug("Asking again", "peer", f.peer.String())
	owner, args := m.owner, f.args()
	do(m, func(ctx context.Context) (string, error) { return m.api.Connect(ctx, owner, args) }, func(string, error) { m.nudgeLater(f) })
}
