package agent

import (
	"context"
	"errors"
	"fmt"

	"nigh/agent/content"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/share"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// mayAskContent reports whether a device may ask for content that this one did not
// offer it: what is shared with it, and what a third one sent to both.
func (a *Agent) mayAskContent(id identity.DeviceID) bool {
	return a.trust.Standing(id) == trust.Trusted
}

// held finds, for the transfers of another device, what this one shares with it.
func (a *Agent) held(ctx context.Context, peer identity.DeviceID, of []content.Hash) ([]transfer.Held, error) {
	found, err := a.shares.Held(ctx, peer, of)
	if errors.Is(err, share.ErrBusy) {
		return nil, transfer.ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transfer.ErrInternal, err)
	}
	list := make([]transfer.Held, 0, len(found))
	for _, f := range found {
		list = append(list, transfer.Held{Hash: f.Hash, Still: f.Still, Tree: transfer.Tree{Root: f.Root, Path: f.Path, Hash: f.Known}})
	}
	return list, nil
}

// holderViews says what of a transfer came from which device.
func (a *Agent) holderViews(t transfer.Transfer) []control.TransferHolder {
	var list []control.TransferHolder
	for _, h := range t.Holders {
		list = append(list, control.TransferHolder{Device: a.member(h.Peer), Bytes: h.Bytes, Active: h.Active, Dropped: h.Dropped})
	}
	return list
}
