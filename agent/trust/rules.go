package trust

import (
	"errors"
	"maps"

	"nigh/agent/identity"
)

// ErrRules is returned for what the rules of the machine's admin do not let the user do.
var ErrRules = errors.New("trust: the policy of this machine does not allow it")

// Rules are what the machine's admin lets the user decide. The zero value lets
// everything.
type Rules struct {
	// Devices are the only devices that may be anything but blocked; nil for all.
	Devices map[identity.DeviceID]bool
	// Closed means that no device becomes trusted that is not yet.
	Closed bool
}

// Rule replaces the rules. What the user decided stays in the book: it counts again
// when the rules let it. Subscribers are told of every device whose standing it changes.
func (b *Book) Rule(rules Rules) {
	b.writing.Lock()
	defer b.writing.Unlock()
	rules.Devices = maps.Clone(rules.Devices)
	b.mu.Lock()
	before := b.rules
	b.rules = rules
	var changes []Change
	for _, r := range b.records {
		if old, now := before.over(r), rules.over(r); old.Standing != now.Standing {
			changes = append(changes, Change{Old: old, New: now})
		}
	}
	fns := b.tellees()
	b.mu.Unlock()
	for _, c := range changes {
		for _, fn := range fns {
			fn(c)
		}
	}
}

// over returns a record as it counts under the rules.
func (r Rules) over(rec Record) Record {
	if r.Devices != nil && !r.Devices[rec.ID] && rec.Standing != Blocked {
		rec.Standing, rec.Barred = Blocked, true
	}
	return rec
}

// allow returns an error unless the user may change a record so.
func (r Rules) allow(old, now Record) error {
	if now.Standing == Trusted && old.Standing != Trusted && r.Closed || now.Standing == Trusted && r.over(now).Barred {
		return ErrRules
	}
	return nil
}
