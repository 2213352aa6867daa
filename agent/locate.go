package agent

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
	"nigh/wpa"
)

// target is what a person's word for a device stands for.
type target struct {
	id   identity.DeviceID // zero for a radio device of unknown identity
	mac  net.HardwareAddr  // its P2P device address, nil when the radio does not hear it
	name string
}

// resolve finds the device that a name, a DeviceID, a short ID or a unique
// prefix of name or short ID stands for. A whole DeviceID need not be known.
func (a *Agent) resolve(word string) (target, error) {
	if id, err := identity.ParseDeviceID(word); err == nil {
		t := target{id: id, name: a.peerName(id)}
		if s, ok := a.table.onRadio(id); ok {
			t.mac = s.mac
		}
		return t, nil
	}
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	trusted := func(p control.Peer) bool { return p.Trust == trust.Trusted.String() }
	// A device may call itself what it likes, also another's short ID or address.
	_, noAddress := net.ParseMAC(word)
	byName := noAddress != nil && !shortID.MatchString(word)
	var exact, prefix []control.Peer
	for _, p := range a.table.views() {
		switch {
		case byName && strings.EqualFold(p.Name, word), p.Short != "" && plain(p.Short) == plain(word), p.ID == "" && strings.EqualFold(p.Paths[0].Address, word):
			exact = append(exact, p)
		case word != "" && (byName && strings.HasPrefix(strings.ToLower(p.Name), strings.ToLower(word)) || strings.HasPrefix(plain(p.Short), plain(word)) && plain(word) != ""):
			prefix = append(prefix, p)
		}
	}
	// The trusted device wins over a stranger that took its name: a name alone
	// can never redirect a send. Nor can a stranger that takes just the part of
	// the name that the person is used to type: that is ambiguous.
	found := exact
	if mine := slices.DeleteFunc(slices.Clone(exact), func(p control.Peer) bool { return !trusted(p) }); len(mine) == 1 {
		found = mine
	} else if len(mine) == 0 {
		for _, p := range prefix {
			if len(exact) == 0 || trusted(p) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 0:
		return target{}, &control.Error{Code: control.CodeNotFound, Message: "no device called " + clean.Text(word) + " is known", Hint: "nigh peers lists the devices near; nigh find looks for Wi-Fi Direct ones"}
	case 1:
	default:
		names := make([]string, 0, len(found))
		for _, p := range found {
			names = append(names, p.Name+" ("+cmp.Or(p.Short, p.Key())+")")
		}
		return target{}, &control.Error{Code: control.CodeAmbiguous, Message: clean.Text(word) + " fits several devices: " + strings.Join(names, ", "), Hint: "use the short ID"}
	}
	t := target{name: found[0].Name}
	if found[0].ID != "" {
		id, err := identity.ParseDeviceID(found[0].ID)
		if err != nil {
			return target{}, explain(err)
		}
		t.id = id
		if s, ok := a.table.onRadio(id); ok {
			t.mac = s.mac
		}
		return t, nil
	}
	mac, err := net.ParseMAC(found[0].Paths[0].Address)
	if err != nil {
		return target{}, explain(err)
	}
	t.mac = mac
	return t, nil
}

// reach is locate for something to be sent: it makes sure that there is, or soon will
// be, a path to the device.
func (a *Agent) reach(ctx context.Context, word string) (identity.DeviceID, error) {
	id, err := a.locate(ctx, word)
	if err == nil && !a.reachable(id) {
		a.direct.want(id)
	}
	return id, err
}

// locate finds the identity of a device that something is to be done with: a typed
// address is greeted, a Wi-Fi Direct device of unknown identity is connected to, one
// that is not near is looked for on the air.
func (a *Agent) locate(ctx context.Context, word string) (identity.DeviceID, error) {
	// First the address: a device may call itself by somebody's.
	if place, ok, err := a.typedPlace(word); err != nil {
		return identity.DeviceID{}, err
	} else if ok {
		return a.typed.add(ctx, place)
	}
	t, err := a.resolve(word)
	if err != nil {
		return identity.DeviceID{}, err
	}
	if t.id == a.id.ID {
		return t.id, &control.Error{Code: control.CodeUsage, Message: "that is this device itself", Hint: "nigh peers lists the others"}
	}
	if t.id.IsZero() {
		return a.direct.meet(ctx, t.mac)
	}
	if a.trust.Standing(t.id) == trust.Blocked {
		return t.id, &control.Error{Code: control.CodePermission, Message: t.name + " is blocked here", Hint: "nigh trust add with its ID takes the block away"}
	}
	if a.reachable(t.id) {
		return t.id, nil
	}
	if t.mac == nil {
		// Not on any link: perhaps on the air.
		ctx, cancel := context.WithTimeoutCause(ctx, sendFind, errAway)
		defer cancel()
		if _, err := a.direct.sight(ctx, t.id); err != nil && !a.reachable(t.id) {
			return t.id, &control.Error{Code: control.CodeAway, Message: t.name + " is not near", Hint: "start nigh there and bring it closer, or connect a cable; then send again"}
		}
	}
	return t.id, nil
}

// typedPlace is parsePlace but for host names that are the names of trusted devices.
func (a *Agent) typedPlace(word string) (place, bool, error) {
	p, ok, err := parsePlace(word)
	return p, ok && !a.namesFriend(p, word), err
}

// namesFriend reports whether what could be a host name is the name of a trusted
// device.
func (a *Agent) namesFriend(p place, word string) bool {
	return p.host != "" && slices.ContainsFunc(a.trust.List(), func(r trust.Record) bool {
		return r.Standing == trust.Trusted && strings.EqualFold(a.peerName(r.ID), word)
	})
}

var errAway = errors.New("agent: the device is not near")

// reachable reports whether a device has a session, or an address at which it has
// not failed to answer.
func (a *Agent) reachable(id identity.DeviceID) bool {
	v, ok := a.table.one(id)
	return ok && (v.State == "ready" || len(a.table.candidates(id)) > 0 && !a.table.silent(id))
}

// radioAddress finds the P2P device address for a person's word, looking for
// the device if it is known but not heard.
func (a *Agent) radioAddress(ctx context.Context, word string) (net.HardwareAddr, error) {
	t, err := a.resolve(word)
	if err != nil {
		// It may only have to be looked for.
		if ferr := a.direct.find(ctx, wantFind); ferr != nil {
			return nil, ferr
		}
		ctx, cancel := context.WithTimeoutCause(ctx, wantFind, wpa.ErrPeerGone)
		defer cancel()
		if a.change.wait(ctx, func() bool { t, err = a.resolve(word); return err == nil && t.mac != nil }) != nil {
			return nil, cmp.Or(err, error(errNoRadio))
		}
	}
	if t.mac == nil {
		s, err := a.direct.sight(ctx, t.id)
		if err != nil {
			return nil, err
		}
		t.mac = s.mac
	}
	return t.mac, nil
}
