package agent

import (
	"cmp"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/policy"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// sendFind bounds how long a send looks for a device that is not near.
const sendFind = 20 * time.Second

// backend serves the local API from the agent. Every error that leaves it is a
// [*control.Error].
type backend struct{ a *Agent }

var _ control.Backend = backend{}

// Status implements [control.Backend].
func (b backend) Status(context.Context) (control.Status, error) { return b.a.status(), nil }

// Peers implements [control.Backend].
func (b backend) Peers(context.Context) ([]control.Peer, error) { return b.a.table.views(), nil }

// Inbox implements [control.Backend].
func (b backend) Inbox(context.Context) ([]control.InboxItem, error) { return b.a.inbox(), nil }

// Transfers implements [control.Backend].
func (b backend) Transfers(context.Context) ([]control.Transfer, error) {
	return b.a.transferViews(), nil
}

// Groups implements [control.Backend].
func (b backend) Groups(context.Context) ([]control.Group, error) {
	return b.a.direct.views(true), nil
}

// Watch implements [control.Backend].
func (b backend) Watch(_ context.Context, log bool) (<-chan control.Event, func(), error) {
	return b.a.watchers.watch(log, b.a.state)
}

// Accept implements [control.Backend].
func (b backend) Accept(_ context.Context, id string, r control.AcceptRequest) error {
	if is, err := b.a.answerPairing(id, true); is {
		return err
	}
	if strings.HasPrefix(id, "group-") {
		if !b.a.direct.reply(id, &r) {
			return noQuestion(id)
		}
		return nil
	}
	t, err := b.a.findTransfer(id)
	if err != nil {
		return err
	}
	if r.Into != "" && !filepath.IsAbs(r.Into) {
		return &control.Error{Code: control.CodeUsage, Message: "the folder must be an absolute path", Hint: "give a path that begins with /"}
	}
	record := b.a.record(t.Peer)
	if t.State == transfer.Waiting {
		if err := b.a.notForbidden(record, t.BytesTotal, false); err != nil {
			return err
		}
	}
	if r.Into == "" && record.Standing == trust.Trusted {
		r.Into = record.Folder
	}
	r.Into = cmp.Or(r.Into, b.a.now().Inbox)
	if r.Always && b.a.trust.Standing(t.Peer) == trust.Trusted {
		if err := b.a.trust.SetAutoAccept(t.Peer, true); err != nil {
			return explain(err)
		}
	}
	b.a.grant(r.Into, true)
	return failed(b.a.transfers.Accept(t.ID, r.Into))
}

// Refuse implements [control.Backend].
func (b backend) Refuse(_ context.Context, id string) error {
	if is, err := b.a.answerPairing(id, false); is {
		return err
	}
	if strings.HasPrefix(id, "group-") {
		if !b.a.direct.reply(id, nil) {
			return noQuestion(id)
		}
		return nil
	}
	t, err := b.a.findTransfer(id)
	if err != nil {
		return err
	}
	return failed(b.a.transfers.Refuse(t.ID))
}

func noQuestion(id string) error {
	return &control.Error{Code: control.CodeNotFound, Message: "nothing waits under " + clean.Text(id), Hint: "nigh inbox lists what waits for an answer"}
}

// CancelTransfer implements [control.Backend].
func (b backend) CancelTransfer(_ context.Context, id string) error {
	return b.withTransfer(id, b.a.transfers.Cancel)
}

// PauseTransfer implements [control.Backend].
func (b backend) PauseTransfer(_ context.Context, id string) error {
	return b.withTransfer(id, b.a.transfers.Pause)
}

// ResumeTransfer implements [control.Backend].
func (b backend) ResumeTransfer(_ context.Context, id string) error {
	return b.withTransfer(id, b.a.transfers.Resume)
}

func (b backend) withTransfer(id string, do func(string) error) error {
	t, err := b.a.findTransfer(id)
	if err != nil {
		return err
	}
	return failed(do(t.ID))
}

// Find implements [control.Backend].
func (b backend) Find(ctx context.Context, r control.FindRequest) error {
	d := time.Duration(r.Seconds * float64(time.Second))
	if d <= 0 {
		d = defaultFind
	}
	b.a.begin()
	return failed(b.a.direct.find(ctx, min(d, maxFind)))
}

// Group implements [control.Backend].
func (b backend) Group(ctx context.Context, r control.GroupRequest) (control.Group, error) {
	if !slices.Contains([]string{"create", "join", "invite"}, r.Action) {
		return control.Group{}, &control.Error{Code: control.CodeUsage, Message: "unknown action " + clean.Text(r.Action)}
	}
	if r.Intent != nil && (*r.Intent < 0 || *r.Intent > 15) {
		return control.Group{}, &control.Error{Code: control.CodeUsage, Message: "the GO intent must be 0 to 15"}
	}
	b.a.begin()
	g, err := b.a.direct.group(ctx, r, func() (net.HardwareAddr, error) { return b.a.radioAddress(ctx, r.Device) })
	return g, failed(err)
}

// LeaveGroup implements [control.Backend].
func (b backend) LeaveGroup(ctx context.Context, ifname string) error {
	return failed(b.a.direct.leave(ctx, ifname))
}

// Send implements [control.Backend].
func (b backend) Send(ctx context.Context, r control.SendRequest) ([]control.Transfer, error) {
	switch {
	case len(r.Paths) == 0:
		return nil, &control.Error{Code: control.CodeUsage, Message: "nothing to send", Hint: "name at least one file or folder"}
	case len(r.To) == 0:
		return nil, &control.Error{Code: control.CodeUsage, Message: "nobody to send to", Hint: "name a device with --to; nigh peers lists them"}
	}
	for _, p := range r.Paths {
		if !filepath.IsAbs(p) {
			return nil, &control.Error{Code: control.CodeUsage, Message: clean.Text(p) + " is not an absolute path"}
		}
		if _, err := os.Stat(p); err != nil {
			return nil, unreadable(p, err)
		}
		b.a.grant(p, false)
	}
	b.a.begin()
	ids := []identity.DeviceID{}
	for _, to := range r.To {
		id, err := b.a.recipient(ctx, to, r.Later)
		if err != nil {
			return nil, failed(err)
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	made, err := b.a.transfers.Send(ctx, transfer.SendRequest{Paths: r.Paths, To: ids, Label: r.Name})
	if err != nil {
		return nil, failed(err)
	}
	views := []control.Transfer{}
	for _, t := range made {
		views = append(views, b.a.transferView(t))
	}
	return views, nil
}

// begin marks the start of a command that steps count from.
func (a *Agent) begin() { a.command.Store(time.Now()) }

// status is the agent's own state.
func (a *Agent) status() control.Status {
	free, total := space(a.now().Inbox)
	s := control.Status{
		ID: a.id.ID.String(), Short: a.id.ID.Short(), Name: clean.Name(a.now().Name, maxNameBytes), Version: a.cfg.Version,
		Agent: control.AgentInfo{
			PID: os.Getpid(), Uptime: int64(time.Since(a.started).Seconds()), Mode: a.cfg.Mode, Port: int(a.sessions.Port()),
			Inbox: a.now().Inbox, State: a.cfg.State, Accept: string(a.now().Accept), Visibility: string(a.now().Visibility), Free: free, Goroutines: runtime.NumGoroutine(),
			Sandbox: a.sandboxView(), Quiet: policy.Off(a.now().Notifications),
		},
		Radio: a.direct.radioView(), Groups: a.direct.views(false), Links: []control.Link{},
		Limits:   control.Limits{Transfers: cmp.Or(a.now().Transfers, transfer.MaxRunning), Peers: maxPeers, MinFree: a.now().minFree(total)},
		FirstRun: a.now().firstRun(), NameFixed: clean.Text(a.now().nameFixed()),
		Notices: slices.Concat(a.notices, a.ruling.notices(), a.clones.notices(), a.warnings()),
	}
	for _, l := range a.links.Links() {
		v := control.Link{Ifname: l.Name, Kind: l.Kind.String(), Up: l.Up, Usable: l.Usable, Why: l.Why, Addresses: []string{}, Inbound: string(a.inbound.of(l.Name))}
		for _, p := range l.Prefixes {
			v.Addresses = append(v.Addresses, p.String())
		}
		s.Links = append(s.Links, v)
	}
	return s
}

// space is what is left for this user on the disk of dir, and its size; zeros
// when that is not known.
func space(dir string) (free, total int64) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, 0
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)
}
