package wpa

import (
	"context"
	"slices"

	"nigh/wpa/dbusapi"
)

// finish makes the formation machine Idle. A failure cleans up what the supplicant may still be doing.
func (m *machine) finish(f *formation, g Group, err error) {
	if m.form != f || m.explain(f, err) {
		return
	}
	m.form = nil
	f.timer.stop()
	f.nudge.stop()
	f.patience.stop()
	if f.peer != nil {
		delete(m.requests, f.peer.String())
	}
	if err != nil {
		m.log.Info("Formation failed", "peer", f.peer.String(), "stage", f.stage.String(), "err", err)
		if f.stage != stageCancelling && m.state == Ready && !m.stopping {
			// It is told when nothing is left of it.
			f.err = err
			m.ending = append(m.ending, f)
			m.cleanUp(f, func() { m.ended(f) })
			m.resume()
			return
		}
	}
	f.reply(g, err)
	m.resume()
}

// ended tells of a failed formation that was cleaned up.
func (m *machine) ended(f *formation) {
	if i := slices.Index(m.ending, f); i >= 0 {
		m.ending = slices.Delete(m.ending, i, i+1)
		f.reply(Group{}, f.err)
	}
}

// cleanUp is the recipe that ends a formation in every stage: each of the three calls is for stages in which the others
// do nothing, and says so by an error.
func (m *machine) cleanUp(f *formation, then func()) {
	owner, group := m.owner, f.group
	if f.stage == stageJoining {
		m.haunt()
		m.provisionedBy(f.peer) // our own is remembered too, unless it led to a group
	}
	if g := m.groups[group]; g != nil {
		m.end(g, ReasonFormationFailed)
		group = ""
	}
	end := func(context.Context) error { return nil }
	if _, there := m.ifaces[group]; there {
		end = m.disconnect(group)
	}
	m.order(func(ctx context.Context) error {
		ignore(m.api.Cancel(ctx, owner))
		ignore(m.api.StopFind(ctx, owner))
		ignore(end(ctx))
		return nil
	}, func(error) { then() })
}

func (m *machine) canceller(f *formation) func(error) {
	return func(why error) { m.cancel(f, why) }
}

// cancel ends a formation because its caller does not want it any more.
func (m *machine) cancel(f *formation, why error) {
	if m.form != f || f.stage == stageCancelling {
		return
	}
	wait := f.stage == stageJoining || f.stage == stageInviting
	f.err = why
	m.cleanUp(f, func() {
		if m.form != f {
			return
		}
		switch _, there := m.ifaces[f.group]; {
		case f.group != "" && there: // InterfaceRemoved follows
		case wait:
			f.timer.stop()
			f.timer = m.after(lifeSigns, func() { m.finish(f, Group{}, why) })
		default:
			m.finish(f, Group{}, why)
		}
	})
	f.enter(m, stageCancelling)
}

// haunt watches for the group of a join that was given up. With a P2P device interface Cancel does not reach the scan for
// the group, and StopFind does not end one that goes on: the supplicant joins after it.
func (m *machine) haunt() {
	m.haunted.stop()
	m.haunted = m.after(hauntLimit, func() { m.haunted = nil })
}

// layGhost ends a group that nobody wants any more.
func (m *machine) layGhost(path dbusapi.Path) {
	if f := m.form; f != nil && f.stage == stageCancelling {
		f.group = path
	} else if f != nil && f.group == path {
		f.group = ""
	}
	m.log.Info("Ending the group of a join that was given up")
	m.unwanted[path] = true
	m.order(m.disconnect(path), nil)
}

// formationLost handles the removal of an interface on which no group was up.
func (m *machine) formationLost(path dbusapi.Path) {
	f := m.form
	if f == nil || f.group != path {
		return
	}
	if f.stage == stageCancelling {
		m.finish(f, Group{}, f.err)
		return
	}
	// On success the supplicant keeps the interface; a client of 2.10 keeps it between WPS and the connection too.
	if f.err == nil {
		f.err = ErrFormation
	}
	m.finish(f, Group{}, f.err)
}
