package agent

import (
	"context"
	"errors"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
)

// recipient finds whom files are to be sent to. A device that is not near is looked for;
// for a trusted one that is away they wait in the outbox. With later they do so for every
// trusted device, and nobody is looked for.
func (a *Agent) recipient(ctx context.Context, word string, later bool) (identity.DeviceID, error) {
	if later {
		return a.addressee(ctx, word)
	}
	id, err := a.reach(ctx, word)
	if errors.Is(err, &control.Error{Code: control.CodeAway}) && a.trust.Standing(id) == trust.Trusted {
		err = nil
	}
	return id, err
}
