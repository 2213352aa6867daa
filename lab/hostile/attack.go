package hostile

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// As says who attacks.
type As int

const (
	// Stranger is a device that the target never met.
	Stranger As = iota
	// Traitor is a device that the target trusts, from which it takes offers without asking.
	Traitor
)

// Attack is one way to break the protocol.
type Attack struct {
	Name string // unique; the state that is attacked, a slash, and how
	As   As
	// Slow: it waits for a timeout of the target.
	Slow bool
	// Run attacks as p and returns what the target did, for people; an error says that the attack
	// did not reach it, or that it did not refuse.
	Run func(ctx context.Context, p *Peer) (did string, err error)
}

// ErrNeeds is returned by an attack that the [Target] lacks something for.
var ErrNeeds = errors.New("hostile: the target is not described well enough")

// Attacks returns all of them.
func Attacks() []Attack {
	return slices.Concat(handshakes(), requests(), strangersRequests(), offers(), friendsRequests(), hellos(), senders(), receivers(), slow(), million())
}

// refused checks that every status is one of an error of ours, none of success, of a redirect or of the target's.
func refused(status int) error {
	if status == 0 || status/100 == 4 {
		return nil
	}
	return fmt.Errorf("answered with status %d, want a refusal", status)
}
