package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/receive"
	"nigh/agent/session"
	"nigh/agent/share"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// Bounds of what devices make us offer at once.
const (
	maxSharedEach = 16
	maxShared     = 128
)

// newShares opens the shares and mounts what trusted devices may ask for.
func (a *Agent) newShares(mux *http.ServeMux) (*share.Shares, error) {
	s, err := share.New(share.Config{
		Logger: a.log, Store: a.store, State: a.cfg.State, Inbox: func() string { return a.now().Inbox }, Peers: a.sessions,
		Caller: func(r *http.Request) (identity.DeviceID, bool) {
			p := session.PeerFrom(r.Context())
			return p.ID, p.Standing == trust.Trusted
		},
		Send: a.offerShared, May: a.maySee,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/v1/shares", s.Handler())
	mux.Handle("/v1/shares/", s.Handler())
	return s, nil
}

// offerShared offers what a trusted device asked for and may have: the share is the
// person's consent.
func (a *Agent) offerShared(ctx context.Context, o share.Offer) error {
	each, all := 0, 0
	for _, t := range a.transfers.Transfers() {
		if t.Direction == transfer.Send && t.Origin != "" && !t.State.Ended() {
			all++
			if t.Peer == o.Peer {
				each++
			}
		}
	}
	if each >= maxSharedEach || all >= maxShared {
		return share.ErrBusy
	}
	_, err := a.transfers.Send(ctx, transfer.SendRequest{
		To: []identity.DeviceID{o.Peer}, X: o.X, Origin: o.Share,
		Tree: &transfer.Tree{Root: o.Root, Path: o.Path, As: o.Name, Skip: o.Skip, Hash: o.Hash},
	})
	for _, c := range []struct{ is, as error }{
		{transfer.ErrNotFound, share.ErrNotFound}, {transfer.ErrName, share.ErrNotFound}, {transfer.ErrBusy, share.ErrBusy},
		{transfer.ErrTooLarge, share.ErrTooLarge}, {transfer.ErrUnreadable, share.ErrUnreadable},
	} {
		if errors.Is(err, c.is) {
			return fmt.Errorf("%w: %w", c.as, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", share.ErrInternal, err)
	}
	a.log.Info("Shared entry is offered", "peer", o.Peer.Short(), "share", o.Share)
	return nil
}

// asked holds what commands wait for, and which transfers move. Its zero value is
// ready.
type asked struct {
	mu     sync.Mutex
	failed map[string]error // by transfer name of what a command waits for: why its offer was not taken
	moving map[string]bool  // IDs of transfers that move bytes
}

// busy takes the news of a transfer and reports whether any moves bytes.
func (k *asked) busy(t transfer.Transfer) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.moving == nil {
		k.moving = map[string]bool{}
	}
	if t.State == transfer.Running || t.State == transfer.Verifying {
		k.moving[t.ID] = true
	} else {
		delete(k.moving, t.ID)
	}
	return len(k.moving) > 0
}

// fail tells the command that waits for x why it will not come.
func (k *asked) fail(x string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed == nil || len(k.failed) >= maxShared { // nobody waits for so many
		k.failed = map[string]error{}
	}
	k.failed[x] = err
}

// failure takes what fail left for x.
func (k *asked) failure(x string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.failed[x]
	delete(k.failed, x)
	return err
}

// decideAsked accepts the offer that this device asked for, and no other: the
// transfer's name is a random one that we chose.
func (a *Agent) decideAsked(o transfer.Offer, r trust.Record) (transfer.Decision, bool) {
	want, ok := a.shares.Expected(o.Peer, o.X)
	if !ok || r.Standing != trust.Trusted {
		return transfer.Decision{}, false
	}
	err := a.notForbidden(r, o.Bytes, true)
	if err == nil {
		// The engine looks at the folder too, but tells only the other side.
		err = a.roomFor(want.Into, o.Bytes)
	}
	if err != nil {
		a.shares.Arrived(o.Peer, o.X)
		a.asked.fail(o.X, err)
		a.change.changed()
		return transfer.Refuse(""), true
	}
	return transfer.Decision{Answer: transfer.AnswerAccept, Into: want.Into, Want: want.Hash, Asked: true}, true
}

// notForbidden is forbidden as an error for a person here.
func (a *Agent) notForbidden(r trust.Record, bytes int64, asked bool) error {
	if why := a.forbidden(r, bytes, asked, a.reserved(r.ID, nil)); why != nil {
		return explainReceiving(transfer.Code(why), "", a.peerName(r.ID))
	}
	return nil
}

// maySee reports whether a device may see a share of this one, beside what the share
// itself says.
func (a *Agent) maySee(peer identity.DeviceID, name, folder string) bool {
	return a.now().mayShare(folder) && a.record(peer).MaySee(name, receive.Fold)
}

// roomFor returns the error for a person unless bytes can be received into the
// folder at path.
func (a *Agent) roomFor(path string, bytes int64) error {
	folder, err := receive.OpenFolder(path)
	if err != nil {
		return &control.Error{Code: control.CodePermission, Message: "the folder " + clean.Text(path) + " cannot be used: " + clean.Text(last(err)), Hint: "check that it is yours, or take another one with --into"}
	}
	defer func() { _ = folder.Close() }() // only looked at: nothing can be lost
	folder.KeepFree(int64(a.now().MinFree))
	if err := folder.CheckSpace(bytes); err != nil {
		return explainCode(transfer.Code(transfer.ErrNoSpace), "", "")
	}
	return nil
}

// into returns the folder to receive into.
func (a *Agent) into(path string) (string, error) {
	if path == "" {
		path = a.now().Inbox
	}
	if !filepath.IsAbs(path) {
		return "", &control.Error{Code: control.CodeUsage, Message: "the folder must be an absolute path", Hint: "give a path that begins with /"}
	}
	a.grant(path, true)
	return path, a.roomFor(path, 0)
}
