package agent

import (
	"cmp"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/transfer"
)

// transferChanged takes the engine's word about a transfer to the watchers.
func (a *Agent) transferChanged(t transfer.Transfer) {
	a.watchers.publish(func() (control.Event, bool) {
		v := a.transferView(t)
		return control.Event{Type: "transfer", Transfer: &v}, true
	})
	a.hooks.transfer(t)
	if t.Direction == transfer.Receive && a.waiting.changed(t.ID, t.State == transfer.Waiting) {
		a.publishInbox(t.ID)
		a.shares.Arrived(t.Peer, t.X)
	}
	a.shares.Pause(a.asked.busy(t))
	a.change.changed()
}

// waiting holds the offers that wait for a person, as the faces were told.
type waiting struct {
	mu  sync.Mutex
	ids map[string]bool // guarded by mu
}

// changed notes whether an offer waits, and reports whether that is news, or is so.
func (w *waiting) changed(id string, waits bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.ids[id]
	if !waits {
		delete(w.ids, id)
		return was
	}
	if w.ids == nil {
		w.ids = map[string]bool{}
	}
	w.ids[id] = true
	return true
}

// transferViews returns all transfers, newest first.
func (a *Agent) transferViews() []control.Transfer {
	views := []control.Transfer{}
	for _, t := range a.transfers.Transfers() {
		views = append(views, a.transferView(t))
	}
	sort.SliceStable(views, func(i, j int) bool {
		x, y := views[i], views[j]
		return cmp.Compare(x.Age, y.Age) < 0
	})
	return views
}

// transferView renders a transfer for the faces; every name in it came from
// the peer and is escaped here.
func (a *Agent) transferView(t transfer.Transfer) control.Transfer {
	v := control.Transfer{
		ID: t.ID, Direction: string(t.Direction), Peer: t.Peer.String(), PeerName: a.peerName(t.Peer),
		Name: transferName(t), Files: t.Files, Dirs: t.Dirs,
		Skipped:    t.Skipped.Links + t.Skipped.Special + t.Skipped.Names + t.Skipped.Unreadable,
		BytesTotal: t.BytesTotal, BytesDone: t.BytesDone, BytesMoved: t.Sent,
		Rate: t.Rate, ETA: -1, State: string(t.State), Sources: t.Sources, Path: clean.Text(t.Path),
		Dotfiles: t.Dotfiles, Executables: t.Executables, Holders: a.holderViews(t),
		Age: time.Since(t.Started).Seconds(), Elapsed: time.Since(t.Started).Seconds(),
	}
	v.FilesFailed = t.FilesFailed
	v.Outbox = !t.Offered && !t.State.Ended() && !a.reachable(t.Peer)
	for _, n := range t.Names {
		v.Names = append(v.Names, clean.Text(n))
	}
	if t.Rate > 0 && t.State == transfer.Running {
		v.ETA = float64(t.BytesTotal-t.BytesDone) / t.Rate
	}
	if !t.Ended.IsZero() {
		v.Ended = t.Ended.Format(time.RFC3339)
		v.Elapsed = t.Ended.Sub(t.Started).Seconds()
	}
	if t.ErrorCode != "" {
		e := explainCode(t.ErrorCode, transferDetail(t), v.PeerName)
		if t.Direction == transfer.Receive {
			e = explainReceiving(t.ErrorCode, transferDetail(t), v.PeerName)
		}
		v.Error, v.ErrorCode, v.Hint = e.Message, t.ErrorCode, e.Hint
	}
	if peer, ok := a.table.one(t.Peer); ok {
		for _, p := range peer.Paths {
			if p.Active || v.PathKind == "" {
				v.PathKind = p.Kind
			}
			if p.Active {
				break
			}
		}
	}
	return v
}

// transferName is what people call a transfer: its one file or folder, or how
// many there are.
func transferName(t transfer.Transfer) string {
	name := clean.Text(t.Name)
	if t.Tops > 1 {
		return fmt.Sprintf("%s and %d more", name, t.Tops-1)
	}
	return name
}

// transferDetail is what there is to say about a transfer's trouble beside its
// code: the file, or the peer's own words.
func transferDetail(t transfer.Transfer) string {
	switch {
	case t.Reason != "":
		return clean.Name(t.Reason, 80)
	case len(t.Failures) == 0 && t.FilesFailed > 0: // at the sender
		return fmt.Sprintf("%d of %d files", t.FilesFailed, t.Files)
	case len(t.Failures) == 0:
		return ""
	case t.FilesFailed > 1:
		return fmt.Sprintf("%s and %d more", clean.Name(t.Failures[0].Path, 80), t.FilesFailed-1)
	default:
		return clean.Name(t.Failures[0].Path, 80)
	}
}

// findTransfer finds a transfer by its ID or an unambiguous prefix of it.
func (a *Agent) findTransfer(id string) (transfer.Transfer, error) {
	var found []transfer.Transfer
	for _, t := range a.transfers.Transfers() {
		if t.ID == id {
			return t, nil
		}
		if id != "" && strings.HasPrefix(t.ID, id) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return transfer.Transfer{}, &control.Error{Code: control.CodeNotFound, Message: "no transfer " + clean.Text(id), Hint: "nigh transfers lists them"}
	default:
		return transfer.Transfer{}, &control.Error{Code: control.CodeAmbiguous, Message: clean.Text(id) + " fits several transfers", Hint: "give more characters of the ID"}
	}
}

// inbox returns what waits for a person: offers and group questions.
func (a *Agent) inbox() []control.InboxItem {
	items := append(a.direct.inbox(), a.pairings()...)
	for _, t := range a.transfers.Transfers() {
		if t.Direction != transfer.Receive || t.State != transfer.Waiting {
			continue
		}
		items = append(items, *a.inboxItem(t))
	}
	return items
}

// inboxItem is an offer that waits for a person.
func (a *Agent) inboxItem(t transfer.Transfer) *control.InboxItem {
	v := a.transferView(t)
	return &control.InboxItem{
		ID: t.ID, Kind: "transfer", Peer: v.Peer, PeerName: v.PeerName,
		Trust: a.trust.Standing(t.Peer).String(), Expires: -1, Transfer: &v, Warning: a.warning(t.Peer),
	}
}
