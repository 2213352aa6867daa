package agent

import (
	"cmp"
	"errors"
	"math"
	"net/http"

	"nigh/agent/identity"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// isQuestion reports whether a stranger's request becomes a question to our user: an
// offer, when the policy does not take all.
func (a *Agent) isQuestion(r *http.Request) bool {
	return r.URL.Path == "/v1/offer" && a.now().Accept != AcceptAll
}

// decide answers an offer as far as the rules can.
func (a *Agent) decide(o transfer.Offer) transfer.Decision {
	r := a.record(o.Peer)
	if d, ok := a.decideAsked(o, r); ok {
		return d
	}
	if r.Standing == trust.Blocked {
		return transfer.Refuse("")
	}
	if why := a.forbidden(r, o.Bytes, false, a.reserved(o.Peer, nil)); why != nil {
		return transfer.Forbid(why)
	}
	ask := transfer.Decision{Answer: transfer.AnswerAsk, Stranger: r.Standing != trust.Trusted}
	if !a.now().autoAccept(r) {
		return ask
	}
	if r.Standing == trust.Trusted && r.Folder != "" && a.roomFor(r.Folder, 0) != nil {
		return ask // its folder is gone: a person has to find another one
	}
	return transfer.Decision{Answer: transfer.AnswerAccept, Into: cmp.Or(r.Folder, a.now().Inbox)}
}

// forbidden returns why the rules do not let a device send so many bytes, one of the
// errors that [transfer.Forbid] takes, or nil. What this device asked for counts for
// the rules of this machine, not for the device's own bounds. reserved are the bytes of
// its quota that are promised already.
func (a *Agent) forbidden(r trust.Record, bytes int64, asked bool, reserved int64) error {
	now := a.now()
	switch most := int64(now.MaxSize); {
	case !now.receives():
		return transfer.ErrOff
	case most > 0 && bytes > most:
		return transfer.ErrSize
	case asked || r.Standing != trust.Trusted:
		return nil
	case r.MaxSize > 0 && bytes > r.MaxSize:
		return transfer.ErrSize
	case r.Quota > 0 && (r.Used > r.Quota || bytes > r.Quota-r.Used || reserved > r.Quota-r.Used-bytes):
		return transfer.ErrQuota
	}
	return nil
}

// reserved returns how many bytes of its quota a device was promised: those of accepted
// transfers that have not ended; with until, only of those that were offered before it.
func (a *Agent) reserved(peer identity.DeviceID, until *transfer.Transfer) int64 {
	var sum int64
	for _, t := range a.transfers.Transfers() { // oldest first
		if until != nil && t.ID == until.ID {
			break
		}
		if t.Peer == peer && t.Direction == transfer.Receive && t.State != transfer.Waiting && !t.State.Ended() && !t.Asked {
			sum += min(t.BytesTotal, math.MaxInt64-sum)
		}
	}
	return sum
}

// permit is forbidden for a transfer that is to begin, or goes on.
func (a *Agent) permit(t transfer.Transfer) error {
	r := a.record(t.Peer)
	if r.Standing == trust.Blocked {
		return transfer.ErrCancelled
	}
	return a.forbidden(r, t.BytesTotal, t.Asked, a.reserved(t.Peer, &t))
}

// received counts what came from a device for its quota.
func (a *Agent) received(t transfer.Transfer) {
	a.hooks.arrives(t.ID)
	if t.Asked || a.trust.Standing(t.Peer) != trust.Trusted {
		return
	}
	if err := a.trust.Use(t.Peer, t.BytesDone); err != nil && !errors.Is(err, trust.ErrUnknown) {
		a.log.Error("What a device has used of its quota was not kept", "peer", t.Peer.Short(), "err", err)
	}
}

// deny ends every transfer that the rules do not let go on, and what is sent from
// shares that its device may not see any more.
func (a *Agent) deny() {
	for _, t := range a.transfers.Transfers() {
		var err error
		switch {
		case t.State.Ended():
		case t.Direction == transfer.Receive:
			if why := a.permit(t); why != nil {
				err = a.transfers.Deny(t.ID, why)
			}
		case t.Origin != "" && !a.shares.Sees(t.Peer, t.Origin):
			err = a.transfers.Cancel(t.ID)
		}
		if err != nil && !errors.Is(err, transfer.ErrState) {
			a.log.Warn("Ending a transfer failed", "transfer", t.ID, "err", err)
		}
	}
}
