package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"nigh/agent/control"
)

// backend is an agent at message level: it answers the local API from a script and
// records what it was asked.
type backend struct {
	script
	mu       sync.Mutex
	asked    []string
	released chan struct{} // closed by release
	release  func()
}

// script is the JSON that a test gives: testdata/backend.json, with its own fields
// over it.
type script struct {
	shared
	Status        control.Status            `json:"status"`
	Peers         []control.Peer            `json:"peers"`
	Inbox         []control.InboxItem       `json:"inbox"`
	Transfers     []control.Transfer        `json:"transfers"`
	Trust         []control.Trusted         `json:"trust"`
	Configuration control.Configuration     `json:"configuration"`
	Exported      control.TrustDocument     `json:"exported"`
	Imported      control.TrustImport       `json:"imported"`
	Changed       control.Trusted           `json:"changed"`
	Sent          []control.Transfer        `json:"sent"`
	Addresses     []control.Address         `json:"addresses"`
	Groups        []control.Group           `json:"groups"` // nil = those of Status
	Group         control.Group             `json:"group"`
	Pairing       control.Pairing           `json:"pairing"`
	Outcome       control.Pairing           `json:"outcome"`
	SetupCode     control.SetupCode         `json:"setup_code"`
	Checks        []control.Check           `json:"checks"`
	Log           []control.LogLine         `json:"log"`
	Messages      []control.Message         `json:"messages"`
	Unread        control.Unread            `json:"unread"`
	Message       control.Message           `json:"message"` // that was sent
	Fail          map[string]*control.Error `json:"fail"`    // by method, "*" is any
	Old           string                    `json:"old"`     // what this agent is too old for: "log"
	Slow          []string                  `json:"slow"`    // methods that wait for release
	Events        []control.Event           `json:"events"`  // for each watcher, after the state
	Late          []control.Event           `json:"late"`    // for each watcher, after release
}

// newBackend reads the common script and the one in file, unless that is "".
func newBackend(common, file string) (*backend, error) {
	released := make(chan struct{})
	b := &backend{released: released, release: sync.OnceFunc(func() { close(released) })}
	for _, name := range []string{common, file} {
		if name == "" {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&b.script); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	return b, nil
}

// ask records a call and returns what the script says about it.
func (b *backend) ask(ctx context.Context, method string, args ...any) error {
	line := method
	for _, arg := range args {
		raw, err := json.Marshal(arg)
		if err != nil {
			return err
		}
		line += " " + string(raw)
	}
	b.mu.Lock()
	b.asked = append(b.asked, line)
	b.mu.Unlock()
	for _, slow := range b.Slow {
		if slow == method {
			select {
			case <-b.released:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	for _, name := range []string{method, "*"} {
		if e := b.Fail[name]; e != nil {
			return e
		}
	}
	return nil
}

func (b *backend) calls() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.asked, "\n") + "\n"
}

// served is backend with the methods that control.Backend asks for; their names
// are also those of the script's fields.
type served struct{ b *backend }

func (s served) Status(ctx context.Context) (control.Status, error) {
	return s.b.Status, s.b.ask(ctx, "Status")
}
func (s served) Peers(ctx context.Context) ([]control.Peer, error) {
	return s.b.Peers, s.b.ask(ctx, "Peers")
}
func (s served) Inbox(ctx context.Context) ([]control.InboxItem, error) {
	return s.b.Inbox, s.b.ask(ctx, "Inbox")
}
func (s served) Accept(ctx context.Context, id string, r control.AcceptRequest) error {
	return s.b.ask(ctx, "Accept", id, r)
}
func (s served) Refuse(ctx context.Context, id string) error { return s.b.ask(ctx, "Refuse", id) }
func (s served) Transfers(ctx context.Context) ([]control.Transfer, error) {
	return s.b.Transfers, s.b.ask(ctx, "Transfers")
}
func (s served) Send(ctx context.Context, r control.SendRequest) ([]control.Transfer, error) {
	return s.b.Sent, s.b.ask(ctx, "Send", r)
}
func (s served) CancelTransfer(ctx context.Context, id string) error {
	return s.b.ask(ctx, "CancelTransfer", id)
}
func (s served) PauseTransfer(ctx context.Context, id string) error {
	return s.b.ask(ctx, "PauseTransfer", id)
}
func (s served) ResumeTransfer(ctx context.Context, id string) error {
	return s.b.ask(ctx, "ResumeTransfer", id)
}
func (s served) SendMessage(ctx context.Context, r control.MessageRequest) (control.Message, error) {
	return s.b.Message, s.b.ask(ctx, "SendMessage", r)
}
func (s served) CancelMessage(ctx context.Context, id string) error {
	return s.b.ask(ctx, "CancelMessage", id)
}
func (s served) ReadMessages(ctx context.Context, r control.ReadRequest) (control.Unread, error) {
	return control.Unread{Read: r.Seq}, s.b.ask(ctx, "ReadMessages", r)
}

// Messages serves pages as the agent does, but leaves searching to it.
func (s served) Messages(ctx context.Context, q control.MessageQuery) (control.MessagePage, error) {
	page := control.MessagePage{Unread: s.b.Unread}
	all := s.b.Messages
	if s.b.Message.ID != "" {
		all = append(slices.Clone(all), s.b.Message)
	}
	for _, m := range all {
		if m.Seq > q.Since && (q.Before == 0 || m.Seq < q.Before) {
			page.Messages = append(page.Messages, m)
		}
	}
	if n := len(page.Messages); q.Limit > 0 && n > q.Limit {
		page.More = true
		if q.Oldest {
			page.Messages = page.Messages[:q.Limit]
		} else {
			page.Messages = page.Messages[n-q.Limit:]
		}
	}
	return page, s.b.ask(ctx, "Messages", q)
}
func (s served) Trust(ctx context.Context) ([]control.Trusted, error) {
	return s.b.Trust, s.b.ask(ctx, "Trust")
}
func (s served) ChangeTrust(ctx context.Context, r control.TrustRequest) (control.Trusted, error) {
	return s.b.Changed, s.b.ask(ctx, "ChangeTrust", r)
}
func (s served) ExportTrust(ctx context.Context) (control.TrustDocument, error) {
	return s.b.Exported, s.b.ask(ctx, "ExportTrust")
}
func (s served) ImportTrust(ctx context.Context, d control.TrustDocument) (control.TrustImport, error) {
	return s.b.Imported, s.b.ask(ctx, "ImportTrust", d)
}
func (s served) Configuration(ctx context.Context) (control.Configuration, error) {
	return s.b.Configuration, s.b.ask(ctx, "Configuration")
}
func (s served) ChangeConfiguration(ctx context.Context, r control.SettingsRequest) (control.Configuration, error) {
	return s.b.Configuration, s.b.ask(ctx, "ChangeConfiguration", r)
}
func (s served) ReloadConfiguration(ctx context.Context) (control.Configuration, error) {
	return s.b.Configuration, s.b.ask(ctx, "ReloadConfiguration")
}
func (s served) Pair(ctx context.Context, r control.PairRequest) (control.Pairing, error) {
	return s.b.Pairing, s.b.ask(ctx, "Pair", r)
}
func (s served) WaitPairing(ctx context.Context, id string) (control.Pairing, error) {
	return s.b.Outcome, s.b.ask(ctx, "WaitPairing", id)
}
func (s served) SetupCode(ctx context.Context, r control.SetupCodeRequest) (control.SetupCode, error) {
	return s.b.SetupCode, s.b.ask(ctx, "SetupCode", r)
}
func (s served) Addresses(ctx context.Context) ([]control.Address, error) {
	return s.b.Addresses, s.b.ask(ctx, "Addresses")
}
func (s served) ChangeAddress(ctx context.Context, r control.AddressRequest) ([]control.Address, error) {
	return s.b.Addresses, s.b.ask(ctx, "ChangeAddress", r)
}
func (s served) Find(ctx context.Context, r control.FindRequest) error {
	return s.b.ask(ctx, "Find", r)
}
func (s served) Groups(ctx context.Context) ([]control.Group, error) {
	groups := s.b.Groups
	if groups == nil {
		groups = s.b.Status.Groups
	}
	return groups, s.b.ask(ctx, "Groups")
}
func (s served) Group(ctx context.Context, r control.GroupRequest) (control.Group, error) {
	return s.b.Group, s.b.ask(ctx, "Group", r)
}
func (s served) LeaveGroup(ctx context.Context, ifname string) error {
	return s.b.ask(ctx, "LeaveGroup", ifname)
}
func (s served) Log(ctx context.Context) ([]control.LogLine, error) {
	return s.b.Log, s.b.ask(ctx, "Log")
}

func (s served) Doctor(ctx context.Context) ([]control.Check, error) {
	return s.b.Checks, s.b.ask(ctx, "Doctor")
}

// Watch sends the state, the events and, after release, the late ones; an "end"
// among them closes the stream, else it stays open.
func (s served) Watch(ctx context.Context, log bool) (<-chan control.Event, func(), error) {
	if err := s.b.ask(ctx, "Watch", log); err != nil {
		return nil, nil, err
	}
	b := s.b
	first := control.Event{Type: "state", State: &control.State{
		Status: b.Status, Peers: b.Peers, Transfers: append(append([]control.Transfer{}, b.Transfers...), b.Sent...), Inbox: b.Inbox,
		Messages: b.Messages, Unread: b.Unread}}
	if log && b.Old == "" {
		first.State.Log = append([]control.LogLine{}, b.Log...)
	}
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan control.Event)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		seq := uint64(0)
		send := func(all []control.Event) bool {
			for _, e := range all {
				seq++
				e.Seq = seq
				select {
				case events <- e:
				case <-ctx.Done():
					return false
				}
				if e.Type == "end" {
					return false
				}
			}
			return true
		}
		if !send([]control.Event{first}) || !send(b.Events) {
			return
		}
		select {
		case <-b.released:
		case <-ctx.Done():
			return
		}
		if send(b.Late) {
			<-ctx.Done()
		}
	}()
	return events, func() { cancel(); <-done }, nil
}
