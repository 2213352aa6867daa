package wpatest

import (
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Fault is what goes wrong with some calls. The zero Fault does nothing; set one of its ways, or several.
type Fault struct {
	// Method is which calls: a prefix of the short form, such as "P2PDevice.Connect", "P2PDevice." or "" for all.
	Method string
	// Property narrows Properties.Get and Set to one.
	Property string
	// Times is how many calls it hits; 0 = all.
	Times int

	silent bool
	fail   *failure
	mangle func([]any) []any
	before func(*Supplicant)
	after  func(*Supplicant)
	hits   int
}

// Lose carries the call out and never answers.
func (f Fault) Lose() *Fault { f.silent = true; return &f }

// Ignore neither carries the call out nor answers it.
func (f Fault) Ignore() *Fault { f.silent, f.fail = true, &failure{}; return &f }

// Fail does not carry the call out and answers with an error of that name.
func (f Fault) Fail(name, text string) *Fault { f.fail = &failure{name, text}; return &f }

// Mangle answers with what change makes of the right answer.
func (f Fault) Mangle(change func([]any) []any) *Fault { f.mangle = change; return &f }

// Before has do called before the call is carried out, with the supplicant's lock held: use the methods that end in Now.
func (f Fault) Before(do func(*Supplicant)) *Fault { f.before = do; return &f }

// After has do called after the call is answered.
func (f Fault) After(do func(*Supplicant)) *Fault { f.after = do; return &f }

// Inject adds a fault; the newest that fits counts.
func (s *Supplicant) Inject(f *Fault) {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.faults = append(s.faults, f)
}

// Mend takes all faults back, of calls and of signals.
func (s *Supplicant) Mend() {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.faults, s.change = nil, nil
}

// Signals has every signal replaced by what change makes of it: none, itself, several, or something else.
func (s *Supplicant) Signals(change func(Line) []Line) {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.change = change
}

// Hits is how many calls a fault has hit.
func (s *Supplicant) Hits(f *Fault) int {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	return f.hits
}

func (s *Supplicant) fault(r request) *Fault {
	for _, f := range slices.Backward(s.faults) {
		if !strings.HasPrefix(r.member, f.Method) || f.Times > 0 && f.hits >= f.Times {
			continue
		}
		if f.Property != "" && !slices.Contains(r.args, any(f.Property)) {
			continue
		}
		f.hits++
		return f
	}
	return nil
}

// Say sends a signal as it is, whatever the state is.
func (s *Supplicant) Say(path dbus.ObjectPath, member string, args ...any) {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.say(Line{Kind: Signal, Path: path, Member: member, Args: args})
}

// ReleaseNow gives the name up and takes it again at once on the same connection: the program under test sees the owner change
// twice, and a state that has not changed.
func (s *Supplicant) ReleaseNow() {
	if s.conn == nil {
		return
	}
	s.busCall("ReleaseName", busName)
	s.busCall("RequestName", busName, uint32(dbus.NameFlagDoNotQueue))
}

// busCall calls the bus without waiting: all that arrives goes to handle.
func (s *Supplicant) busCall(name string, args ...any) {
	s.send(&dbus.Message{Type: dbus.TypeMethodCall, Flags: dbus.FlagNoReplyExpected, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant("org.freedesktop.DBus"), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.DBus"), dbus.FieldMember: dbus.MakeVariant(name),
	}, Body: args})
}

// ForgetNow takes an object and all below it away without a word.
func (s *Supplicant) ForgetNow(path dbus.ObjectPath) {
	for p := range s.objects {
		if p == path || strings.HasPrefix(string(p), string(path)+"/") {
			delete(s.objects, p)
		}
	}
}

// PeerPath is the path of the object that this supplicant has, or would have, for another device.
func (s *Supplicant) PeerPath(other *Supplicant) dbus.ObjectPath { return peerPath(other.Address) }

// OwnerPath is the path of the interface that owns P2P.
func (s *Supplicant) OwnerPath() dbus.ObjectPath { return ownerPath }

// GroupPath is the path of the interface of the group that this supplicant is in; empty for none.
func (s *Supplicant) GroupPath() dbus.ObjectPath {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	if s.group == nil {
		return ""
	}
	return s.group.path
}
