package agent

import (
	"nigh/agent/control"
	"nigh/agent/identity"
)

// publish gives a finished event to the watchers.
func (a *Agent) publish(e control.Event) {
	a.watchers.publish(func() (control.Event, bool) { return e, true })
}

// publishPeer tells the watchers what a peer looks like now, or that it is
// gone, and wakes whoever waits for a change.
func (a *Agent) publishPeer(id identity.DeviceID) {
	a.watchers.publishAll(func() []control.Event {
		v, ok := a.table.one(id)
		if !ok {
			return append(a.table.regroup(id), control.Event{Type: "peer_gone", Key: id.String()})
		}
		return append(a.table.regroup(id), control.Event{Type: "peer", Peer: &v})
	})
	a.hooks.peer(id)
	a.change.changed()
}

// publishStatus tells the watchers the status.
func (a *Agent) publishStatus() {
	a.watchers.publish(func() (control.Event, bool) {
		s := a.status()
		return control.Event{Type: "status", Status: &s}, true
	})
}

// publishInbox tells the watchers about one inbox item, or that it is answered.
func (a *Agent) publishInbox(id string) {
	a.watchers.publish(func() (control.Event, bool) {
		for _, item := range a.inbox() {
			if item.ID == id {
				return control.Event{Type: "inbox", Inbox: &item}, true
			}
		}
		return control.Event{Type: "inbox_gone", Key: id}, true
	})
}

// state is everything a face shows.
func (a *Agent) state() control.State {
	return control.State{
		Status: a.status(), Peers: a.table.views(), Transfers: a.transferViews(), Inbox: a.inbox(),
		Messages: a.newestMessages(), Unread: control.Unread(a.messages.Unread()),
	}
}
