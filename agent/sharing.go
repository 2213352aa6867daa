package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nigh/agent/clean"
	"nigh/agent/content"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/share"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

const (
	searchWait = 3 * time.Second        // for the answer of one device
	holderWait = 300 * time.Millisecond // for further devices that have a content, once one has said so
	offerWait  = 30 * time.Second       // for the offer of what a device said it will offer
)

// Shares implements [control.Backend].
func (b backend) Shares(context.Context) ([]control.Share, error) {
	list := []control.Share{}
	for _, i := range b.a.shares.List() {
		list = append(list, b.a.shareView(i))
	}
	return list, nil
}

func (a *Agent) member(id identity.DeviceID) control.Member {
	return control.Member{ID: id.String(), Name: a.peerName(id)}
}

func (a *Agent) shareView(i share.Info) control.Share {
	v := control.Share{
		Name: clean.Text(i.Name), Folder: clean.Text(i.Folder), For: []control.Member{}, Hidden: i.Hidden, State: string(i.State),
		Files: i.Files, Dirs: i.Dirs, Bytes: i.Bytes, Hashed: i.Hashed, Skipped: i.Skipped, Unreadable: i.Unreadable, Watched: "inotify",
	}
	for _, id := range i.For {
		v.For = append(v.For, a.member(id))
	}
	if i.Polled != "" {
		v.Watched = "periodic"
		v.Notice = "Changes are seen within ten minutes: " + clean.Text(i.Polled) + "."
	}
	if i.Inbox {
		v.Notice = strings.TrimSpace(v.Notice + " Files that you receive are shared too: the inbox is in it.")
	}
	switch i.State {
	case share.Missing:
		v.Error, v.Hint = "the folder is not there: "+clean.Text(i.Why), "mount its disk, or end the share: nigh share remove "+v.Name
	case share.Full:
		v.Error, v.Hint = "it has more files and folders than a share can have; the rest is shared", "share folders of it instead"
	}
	if !a.now().mayShare(i.Folder) {
		v.Error, v.Hint = "nobody sees it: the policy of this machine does not let its folder be shared", "nigh config show has the folders that may be"
	}
	return v
}

// AddShare implements [control.Backend].
func (b backend) AddShare(_ context.Context, r control.ShareRequest) (control.Share, error) {
	devices, err := b.a.trustedDevices(r.For)
	if err != nil {
		return control.Share{}, err
	}
	req := share.AddRequest{Folder: r.Folder, Name: r.Name, For: devices, Hidden: r.Hidden}
	if real, err := filepath.EvalSymlinks(r.Folder); err == nil && filepath.IsAbs(real) && !b.a.now().mayShare(real) {
		return control.Share{}, &control.Error{Code: control.CodePermission, Message: "the policy of this machine does not let that folder be shared", Hint: "nigh config show has the folders that may be"}
	}
	b.a.grant(r.Folder, false)
	i, err := b.a.shares.Add(req)
	if err != nil {
		return control.Share{}, failed(err)
	}
	return b.a.shareView(i), nil
}

// ChangeShare implements [control.Backend].
func (b backend) ChangeShare(_ context.Context, name string, r control.ShareChange) (control.Share, error) {
	c := share.Change{Name: r.Name, Hidden: r.Hidden}
	if r.For != nil {
		devices, err := b.a.trustedDevices(*r.For)
		if err != nil {
			return control.Share{}, err
		}
		c.For = &devices
	}
	i, err := b.a.shares.Change(name, c)
	if err != nil {
		return control.Share{}, failed(err)
	}
	b.a.deny()
	return b.a.shareView(i), nil
}

// RemoveShare implements [control.Backend].
func (b backend) RemoveShare(_ context.Context, name string) error {
	i, err := b.a.shares.Remove(name)
	if err != nil {
		return failed(err)
	}
	// What is on its way was allowed by the share alone.
	for _, t := range b.a.transfers.Transfers() {
		if t.Origin != i.ID || t.State.Ended() {
			continue
		}
		if err := b.a.transfers.Cancel(t.ID); err != nil && !errors.Is(err, transfer.ErrState) {
			return failed(err)
		}
	}
	return nil
}

// trustedDevices resolves words for devices that are in the trust book.
func (a *Agent) trustedDevices(words []string) ([]identity.DeviceID, error) {
	var ids []identity.DeviceID
	for _, word := range words {
		id, err := a.trustedDevice(word)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// trustedDevice resolves a word for a device that is in the trust book.
func (a *Agent) trustedDevice(word string) (identity.DeviceID, error) {
	t, err := a.resolve(word)
	if err != nil {
		return identity.DeviceID{}, err
	}
	return t.id, a.checkTrusted(t.id, t.name)
}

func (a *Agent) checkTrusted(id identity.DeviceID, name string) error {
	if a.trust.Standing(id) == trust.Trusted {
		return nil
	}
	return &control.Error{Code: control.CodePermission, Message: name + " is not trusted, and only trusted devices share", Hint: "pair with it first: nigh pair <device>"}
}

// reachTrusted is reach for a device that must be trusted.
func (a *Agent) reachTrusted(ctx context.Context, word string) (identity.DeviceID, error) {
	a.begin()
	if _, typed, err := a.typedPlace(word); err == nil && !typed {
		// Nothing is dialled for one that is not.
		if _, err := a.trustedDevice(word); err != nil {
			return identity.DeviceID{}, err
		}
	}
	id, err := a.reach(ctx, word)
	if err != nil {
		return id, err
	}
	return id, a.checkTrusted(id, a.peerName(id))
}

// sharingFailed explains an error of asking a device.
func (a *Agent) sharingFailed(err error, id identity.DeviceID, what string) error {
	name := a.peerName(id)
	for _, c := range []struct {
		is   error
		as   string
		says string
		hint string
	}{
		{share.ErrNotFound, control.CodeNotFound, name + " has no " + what + " that this device may see", "nigh browse " + name + " lists what it shares with this device"},
		{share.ErrBusy, control.CodeBusy, name + " is busy with other requests", "try again in a moment"},
		{share.ErrUnavailable, control.CodeAway, "the folder of that share is not there now on " + name, "its disk may not be mounted there; try again later"},
		{share.ErrAway, control.CodeAway, name + " does not answer", "check that nigh runs there, and that it is near"},
		{share.ErrProtocol, control.CodeFailed, name + " does not keep to the protocol", "update nigh on both sides"},
		{share.ErrTooLarge, control.CodeFailed, "it is larger than nigh can send at once", "get folders of it instead"},
		{share.ErrUnreadable, control.CodeFailed, name + " cannot read it", "ask its user"},
	} {
		if errors.Is(err, c.is) {
			return &control.Error{Code: c.as, Message: c.says, Hint: c.hint}
		}
	}
	return failed(err)
}

// Browse implements [control.Backend].
func (b backend) Browse(ctx context.Context, r control.BrowseRequest) (control.Listing, error) {
	if r.Share == "" && r.Path != "" {
		return control.Listing{}, &control.Error{Code: control.CodeUsage, Message: "a path needs a share"}
	}
	id, err := b.a.reachTrusted(ctx, r.Device)
	if err != nil {
		return control.Listing{}, failed(err)
	}
	l := control.Listing{Device: b.a.member(id), Share: r.Share, Path: r.Path}
	if r.Share == "" {
		list, err := b.a.shares.Of(ctx, id)
		if err != nil {
			return control.Listing{}, b.a.sharingFailed(err, id, "share")
		}
		for _, s := range list {
			l.Shares = append(l.Shares, control.RemoteShare{Name: s.Name, Files: s.Files, Dirs: s.Dirs, Bytes: s.Bytes, State: string(s.State)})
		}
		return l, nil
	}
	page, err := b.a.shares.Browse(ctx, id, r.Share, r.Path, r.After, 0)
	if err != nil {
		return control.Listing{}, b.a.sharingFailed(err, id, "such share or folder")
	}
	l.More = page.More
	for _, e := range page.Entries {
		l.Entries = append(l.Entries, entryView(e))
	}
	return l, nil
}

func entryView(e share.Entry) control.ShareEntry {
	v := control.ShareEntry{Name: e.Name, Kind: "file", Executable: e.Executable, Size: e.Size}
	if t := time.Unix(e.Mtime, 0).UTC(); t.Year() >= 1 && t.Year() <= 9999 { // else RFC 3339 has no text for it
		v.Modified = t.Format(time.RFC3339)
	}
	if e.Dir {
		v.Kind = "folder"
	}
	if !e.Hash.IsZero() {
		v.Hash = e.Hash.String()
	}
	return v
}

// near returns the trusted devices that have a session.
func (a *Agent) near() []identity.DeviceID {
	var ids []identity.DeviceID
	for _, p := range a.table.views() {
		if p.Trust != trust.Trusted.String() || p.State != "ready" {
			continue
		}
		if id, err := identity.ParseDeviceID(p.ID); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

var errNobodyNear = &control.Error{Code: control.CodeAway, Message: "no trusted device is connected", Hint: "nigh peers lists the devices near and known"}

// Search implements [control.Backend].
func (b backend) Search(ctx context.Context, r control.SearchRequest, each func(control.SearchAnswer)) (control.SearchAnswer, error) {
	if share.CheckQuery(r.Query) != nil {
		return control.SearchAnswer{}, &control.Error{Code: control.CodeUsage, Message: "a search needs words, at most 16 and 256 bytes in all"}
	}
	peers := b.a.near()
	if len(peers) == 0 {
		return control.SearchAnswer{}, errNobodyNear
	}
	var news func(share.Found)
	if each != nil {
		news = func(f share.Found) { each(b.a.foundView(f, len(peers))) }
	}
	found := b.a.shares.Search(ctx, peers, r.Query, content.Hash{}, searchWait, news)
	if err := ctx.Err(); err != nil {
		return control.SearchAnswer{}, failed(err)
	}
	return b.a.foundView(found, len(peers)), nil
}

func (a *Agent) foundView(found share.Found, asked int) control.SearchAnswer {
	answer := control.SearchAnswer{Results: []control.ShareEntry{}, Asked: asked, More: found.More}
	for _, id := range found.Failed {
		answer.Silent = append(answer.Silent, a.member(id))
	}
	for _, f := range found.Results {
		v := entryView(f.Entry)
		for _, h := range f.Holders {
			v.Holders = append(v.Holders, control.ShareHolder{Device: a.member(h.Peer), Share: h.Share, Path: h.Path})
		}
		answer.Results = append(answer.Results, v)
	}
	return answer
}

// Get implements [control.Backend].
func (b backend) Get(ctx context.Context, r control.GetRequest) (control.Transfer, error) {
	if !b.a.now().receives() {
		return control.Transfer{}, explainReceiving(transfer.Code(transfer.ErrOff), "", "")
	}
	into, err := b.a.into(r.Into)
	if err != nil {
		return control.Transfer{}, failed(err)
	}
	var wants []share.Want
	switch {
	case r.Hash != "" && (r.Device != "" || r.Share != "" || r.Path != ""), r.Hash == "" && (r.Device == "" || r.Share == "" || len(r.From) > 0):
		return control.Transfer{}, &control.Error{Code: control.CodeUsage, Message: "get needs either a hash, or a device and a share"}
	case r.Hash != "":
		wants, err = b.a.holdersOf(ctx, r.Hash, r.From)
	default:
		var id identity.DeviceID
		id, err = b.a.reachTrusted(ctx, r.Device)
		wants = []share.Want{{Peer: id, Share: r.Share, Path: r.Path}}
	}
	if err != nil {
		return control.Transfer{}, failed(err)
	}
	// Any holder will do; one that went away meanwhile is passed over.
	for _, w := range wants {
		w.Into = into
		var t transfer.Transfer
		if t, err = b.a.get(ctx, w); err == nil {
			return b.a.transferView(t), nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return control.Transfer{}, failed(err)
}

// holdersOf returns what to ask for a content, of whom: of the devices named, or
// of all trusted ones that are connected, those that have it.
func (a *Agent) holdersOf(ctx context.Context, text string, from []string) ([]share.Want, error) {
	hash, err := content.ParseHash(strings.ToLower(text))
	if err != nil || hash.IsZero() {
		return nil, &control.Error{Code: control.CodeUsage, Message: clean.Text(text) + " is not a hash", Hint: "a hash is 64 hexadecimal digits, as b3sum prints them"}
	}
	var peers []identity.DeviceID
	for _, word := range from {
		id, err := a.reachTrusted(ctx, word)
		if err != nil {
			return nil, err
		}
		peers = append(peers, id)
	}
	if len(from) == 0 {
		if peers = a.near(); len(peers) == 0 {
			return nil, errNobodyNear
		}
	}
	// One holder is enough to begin with; others are looked for while it comes.
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var late *time.Timer
	found := a.shares.Search(asking, peers, "", hash, searchWait, func(share.Found) {
		if late == nil {
			late = time.AfterFunc(holderWait, enough)
		}
	})
	if late != nil {
		late.Stop()
	}
	var wants []share.Want
	for _, r := range found.Results {
		for _, h := range r.Holders {
			if !slices.ContainsFunc(wants, func(w share.Want) bool { return w.Peer == h.Peer }) {
				wants = append(wants, share.Want{Peer: h.Peer, Hash: hash})
			}
		}
	}
	if len(wants) > 0 {
		return wants, nil
	}
	if len(found.Failed) == len(peers) {
		return nil, a.sharingFailed(share.ErrAway, found.Failed[0], "")
	}
	return nil, &control.Error{Code: control.CodeNotFound, Message: "no connected device has a file with that hash in a share that this device may see", Hint: "a file is found by its hash once its device has read it; nigh search finds it by its name"}
}

// get asks for what is wanted and waits until its offer is here.
func (a *Agent) get(ctx context.Context, w share.Want) (transfer.Transfer, error) {
	x, err := a.shares.Get(ctx, w)
	if err != nil {
		return transfer.Transfer{}, a.sharingFailed(err, w.Peer, "such share, file or folder")
	}
	waiting, cancel := context.WithTimeoutCause(ctx, offerWait, errNoOffer)
	defer cancel()
	var t transfer.Transfer
	var refused error
	err = a.change.wait(waiting, func() bool {
		if refused = a.asked.failure(x); refused != nil {
			return true
		}
		for _, t = range a.transfers.Transfers() {
			if t.X == x && t.Peer == w.Peer && t.Direction == transfer.Receive {
				return true
			}
		}
		return false
	})
	switch {
	case refused != nil:
		return transfer.Transfer{}, refused
	case ctx.Err() != nil:
		a.shares.Arrived(w.Peer, x) // given up
		return transfer.Transfer{}, ctx.Err()
	case err != nil:
		return transfer.Transfer{}, &control.Error{Code: control.CodeTimeout, Message: a.peerName(w.Peer) + " has not offered it yet", Hint: "it comes by itself when that device can reach this one; see: nigh transfers"}
	}
	return t, nil
}

var errNoOffer = errors.New("agent: the offer did not come")
