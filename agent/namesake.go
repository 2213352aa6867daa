package agent

import (
	"cmp"
	"strings"
	"sync"

	"nigh/agent/identity"
	"nigh/agent/receive"
	"nigh/agent/trust"
)

// namesakes keeps the strangers that call themselves as a device in the trust book does,
// under another key. A device that was set up anew is one, and so is an impostor: only a
// person can tell, so it is said loudly, and nothing follows from a name. Its zero value
// knows of none.
type namesakes struct {
	mu  sync.Mutex
	who map[identity.DeviceID]identity.DeviceID // the stranger, and the device it is called like; guarded by mu
}

// set notes of whom id is a namesake, nobody for the zero ID, and says whether that is new.
func (n *namesakes) set(id, of identity.DeviceID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.who[id] == of {
		return false
	}
	if of.IsZero() {
		delete(n.who, id)
		return true
	}
	if n.who == nil {
		n.who = map[identity.DeviceID]identity.DeviceID{}
	}
	if len(n.who) < maxPeers {
		n.who[id] = of
	}
	return true
}

// of returns the device that id is called like, zero for none.
func (n *namesakes) of(id identity.DeviceID) identity.DeviceID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.who[id]
}

// lookAtName takes note of what a device calls itself.
func (a *Agent) lookAtName(id identity.DeviceID, name string) {
	var of identity.DeviceID
	if a.trust.Standing(id) == trust.New {
		of = a.called(id, name)
	}
	if !a.namesakes.set(id, of) {
		return
	}
	if !of.IsZero() {
		a.log.Warn("Device has the name of a known one and another key", "peer", id.Short(), "known", of.Short(), "name", name)
	}
	a.publishPeer(id)
	a.publishStatus()
}

// called returns a device of the trust book, other than id, that has this name.
func (a *Agent) called(id identity.DeviceID, name string) identity.DeviceID {
	key := nameKey(name)
	if key == "" {
		return identity.DeviceID{}
	}
	for _, r := range a.trust.List() {
		if r.ID != id && (nameKey(r.Name) == key || nameKey(a.table.ownName(r.ID)) == key) {
			return r.ID
		}
	}
	return identity.DeviceID{}
}

// nameKey is what is the same of names that a person takes for one.
func nameKey(name string) string {
	return receive.Fold(strings.Join(strings.Fields(name), " "))
}

// warning says, of a device that has the name of a known one, what a person should know
// before anything is done with it; "" for every other.
func (a *Agent) warning(id identity.DeviceID) string {
	of := a.namesakes.of(id)
	r := a.record(of)
	if of.IsZero() || a.trust.Standing(id) != trust.New || r.Standing == trust.New {
		return ""
	}
	return "This is not the " + cmp.Or(r.Name, of.Short()) + " that is " + r.Standing.String() + " here (" + of.Short() + "): it has the same name and another key (" + id.Short() +
		"). Was it set up anew? If not, somebody imitates it."
}

// lookAtNames looks again at every device, for the trust book changed.
func (a *Agent) lookAtNames() {
	for _, p := range a.table.views() {
		if id, err := identity.ParseDeviceID(p.ID); err == nil {
			a.lookAtName(id, a.table.ownName(id))
		}
	}
}

// warnings are those of the devices that are near.
func (a *Agent) warnings() []string {
	var list []string
	for _, p := range a.table.views() {
		if id, err := identity.ParseDeviceID(p.ID); err == nil {
			if w := a.warning(id); w != "" {
				list = append(list, w)
			}
		}
	}
	return list
}
