package agent

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/message"
	"nigh/agent/session"
	"nigh/agent/trust"
)

// The messages that a new watcher is given with the state.
const (
	watchedMessages     = 50
	watchedMessageBytes = 256 << 10 // of text, escaped
)

func (a *Agent) newMessages() (*message.Engine, error) {
	return message.New(message.Config{
		Logger: a.log, Store: a.store, Peers: a.sessions,
		Caller:  func(r *http.Request) (identity.DeviceID, bool) { return session.PeerFrom(r.Context()).ID, true },
		Trusted: func(id identity.DeviceID) bool { return a.trust.Standing(id) == trust.Trusted },
		Near: func(id identity.DeviceID) bool {
			v, ok := a.table.one(id)
			return ok && v.State == "ready"
		},
		Changed: a.messageChanged,
		Gone:    func(id string) { a.publish(control.Event{Type: "message_gone", Key: id}) },
		Read: func(u message.Unread) {
			a.publish(control.Event{Type: "unread", Unread: &control.Unread{Read: u.Read, Count: u.Count}})
		},
	})
}

// messageChanged takes the engine's word about a message to the watchers.
func (a *Agent) messageChanged(m message.Message) {
	a.watchers.publish(func() (control.Event, bool) {
		v := a.messageView(m)
		return control.Event{Type: "message", Message: &v}, true
	})
	a.hooks.message(m)
	a.change.changed()
}

// messageView renders a message for the faces; what came from the peer is escaped
// here.
func (a *Agent) messageView(m message.Message) control.Message {
	v := control.Message{
		Seq: m.Seq, ID: m.ID, Direction: string(m.Direction), Text: clean.Lines(m.Text), State: "received", Time: m.Time.Format(time.RFC3339),
	}
	if m.Direction == message.Receive {
		v.Peer, v.PeerName = m.Peer.String(), a.peerName(m.Peer)
		return v
	}
	v.State = string(message.Delivered)
	worse := []string{string(message.Delivered), string(message.Refused), string(message.Failed), string(message.Waiting)}
	for _, to := range m.To {
		r := control.Recipient{Peer: to.Peer.String(), PeerName: a.peerName(to.Peer), State: string(to.State)}
		r.Near = to.State == message.Waiting && a.reachable(to.Peer)
		if to.Code != "" {
			e := explainMessage(to.Code, r.PeerName)
			r.Error, r.ErrorCode, r.Hint = e.Message, to.Code, e.Hint
		}
		if slices.Index(worse, r.State) > slices.Index(worse, v.State) {
			v.State = r.State
		}
		v.To = append(v.To, r)
	}
	return v
}

// newestMessages are the messages that a face begins with.
func (a *Agent) newestMessages() []control.Message {
	list, _, err := a.messages.List(context.Background(), message.Query{Limit: watchedMessages})
	if err != nil {
		a.log.Error("Messages not read", "err", err)
	}
	var views []control.Message
	size := 0
	for _, m := range slices.Backward(list) {
		v := a.messageView(m)
		if size += len(v.Text); size > watchedMessageBytes && len(views) > 0 {
			break
		}
		views = append(views, v)
	}
	slices.Reverse(views)
	return views
}

// Messages implements [control.Backend].
func (b backend) Messages(ctx context.Context, q control.MessageQuery) (control.MessagePage, error) {
	query := message.Query{Since: q.Since, Before: q.Before, Oldest: q.Oldest, Limit: q.Limit, Search: q.Search, Waiting: q.Waiting}
	if q.From != "" {
		t, err := b.a.resolve(q.From)
		if err != nil {
			return control.MessagePage{}, explain(err)
		}
		if t.id.IsZero() {
			return control.MessagePage{}, unknownIdentity(t)
		}
		query.From = t.id
	}
	list, more, err := b.a.messages.List(ctx, query)
	if err != nil {
		return control.MessagePage{}, explain(err)
	}
	page := control.MessagePage{Messages: []control.Message{}, More: more, Unread: control.Unread(b.a.messages.Unread())}
	for _, m := range list {
		page.Messages = append(page.Messages, b.a.messageView(m))
	}
	return page, nil
}

// SendMessage implements [control.Backend].
func (b backend) SendMessage(ctx context.Context, r control.MessageRequest) (control.Message, error) {
	if err := message.Check(r.Text); err != nil {
		return control.Message{}, explain(err)
	}
	var ids []identity.DeviceID
	switch {
	case r.All && len(r.To) > 0:
		return control.Message{}, &control.Error{Code: control.CodeUsage, Message: "a message is for all devices or for some, not both"}
	case r.All:
		for _, rec := range b.a.trust.List() {
			if rec.Standing == trust.Trusted && b.a.reachable(rec.ID) {
				ids = append(ids, rec.ID)
			}
		}
		if len(ids) == 0 {
			return control.Message{}, &control.Error{Code: control.CodeAway, Message: "no trusted device is near", Hint: "name the devices with --to: then the message waits for them"}
		}
	default:
		for _, word := range r.To {
			id, err := b.a.addressee(ctx, word)
			if err != nil {
				return control.Message{}, explain(err)
			}
			ids = append(ids, id)
		}
	}
	m, err := b.a.messages.Send(ids, r.Text)
	if err != nil {
		return control.Message{}, explain(err)
	}
	return b.a.messageView(m), nil
}

// addressee finds the trusted device that a message is for, or what is sent later. One
// that no path leads to is looked for on the air in the background: it waits meanwhile.
func (a *Agent) addressee(ctx context.Context, word string) (identity.DeviceID, error) {
	var t target
	// First the address: a device may call itself by somebody's.
	place, typed, err := a.typedPlace(word)
	switch {
	case err != nil:
	case typed:
		if t.id, err = a.typed.add(ctx, place); err == nil {
			t.name = a.peerName(t.id)
		}
	default:
		t, err = a.resolve(word)
	}
	switch {
	case err != nil:
		return t.id, err
	case t.id == a.id.ID:
		return t.id, &control.Error{Code: control.CodeUsage, Message: "that is this device itself", Hint: "nigh peers lists the others"}
	case t.id.IsZero():
		return t.id, unknownIdentity(t)
	}
	switch a.trust.Standing(t.id) {
	case trust.Trusted:
	case trust.Blocked:
		return t.id, &control.Error{Code: control.CodePermission, Message: t.name + " is blocked here", Hint: "nigh trust add with its ID takes the block away"}
	default:
		return t.id, &control.Error{Code: control.CodePermission, Message: t.name + " is not trusted here: messages, and files that are sent later, are for trusted devices", Hint: "pair with it first: nigh pair <device>"}
	}
	if _, err := a.direct.current(); err == nil && !a.reachable(t.id) {
		a.direct.want(t.id)
	}
	return t.id, nil
}

// unknownIdentity is the error for a radio device that nobody has spoken to.
func unknownIdentity(t target) *control.Error {
	return &control.Error{Code: control.CodeAway, Message: "the identity of " + cmp.Or(t.name, t.mac.String()) + " is not known yet", Hint: "connect first: nigh group join " + cmp.Or(t.name, t.mac.String())}
}

// CancelMessage implements [control.Backend].
func (b backend) CancelMessage(_ context.Context, id string) error {
	all := b.a.messages.IDs(id)
	switch {
	case id == "" || len(all) == 0:
		return &control.Error{Code: control.CodeNotFound, Message: "no message " + clean.Text(id), Hint: "nigh messages lists them"}
	case len(all) > 1 && !slices.Contains(all, id):
		return &control.Error{Code: control.CodeAmbiguous, Message: clean.Text(id) + " fits several messages", Hint: "give more characters of the ID"}
	case len(all) == 1:
		id = all[0]
	}
	return failed(b.a.messages.Cancel(id))
}

// ReadMessages implements [control.Backend].
func (b backend) ReadMessages(_ context.Context, r control.ReadRequest) (control.Unread, error) {
	u, err := b.a.messages.MarkRead(r.Seq)
	if err != nil {
		return control.Unread{}, explain(err)
	}
	return control.Unread(u), nil
}

// messageWords are the sentences for the codes of package message.
var messageWords = map[string]control.Error{
	"empty":       {Code: control.CodeUsage, Message: "the message is empty", Hint: "write something"},
	"too_long":    {Code: control.CodeUsage, Message: "the message is longer than 32 KiB", Hint: "send it as a file: nigh send"},
	"not_text":    {Code: control.CodeUsage, Message: "the message is not UTF-8 text", Hint: "send it as a file: nigh send"},
	"nobody":      {Code: control.CodeUsage, Message: "nobody to send to", Hint: "name a device with --to, or give --all; nigh peers lists them"},
	"too_many":    {Code: control.CodeUsage, Message: "the message is for too many devices", Hint: "send it to fewer at once"},
	"full":        {Code: control.CodeBusy, Message: "too much waits for PEER already", Hint: "nigh messages --waiting shows it; nigh cancel takes it back"},
	"refused":     {Code: control.CodeRefused, Message: "PEER does not trust this device", Hint: "pair with it again: nigh pair <device>"},
	"cancelled":   {Code: control.CodeFailed, Message: "it was cancelled"},
	"untrusted":   {Code: control.CodePermission, Message: "PEER is not trusted here any more", Hint: "pair with it again: nigh pair <device>"},
	"unsupported": {Code: control.CodeFailed, Message: "nigh on PEER knows no messages", Hint: "update nigh there"},
	"protocol":    {Code: control.CodeFailed, Message: "PEER does not take the message", Hint: "update nigh on both sides"},
	"busy":        {Code: control.CodeBusy, Message: "PEER takes no more messages for now", Hint: "it is tried again by itself"},
	"peer_gone":   {Code: control.CodeAway, Message: "PEER does not answer", Hint: "it goes out by itself when PEER is near again"},
	"not_found":   {Code: control.CodeNotFound, Message: "no such message", Hint: "nigh messages lists them"},
	"state":       {Code: control.CodeUsage, Message: "the message waits for nobody", Hint: "nigh messages shows what became of it"},
}

// explainMessage says what a code of package message means.
func explainMessage(code, peer string) *control.Error {
	e, ok := messageWords[code]
	if !ok {
		e = control.Error{Code: control.CodeFailed, Message: "the message could not be kept", Hint: "check the disk; nigh doctor looks for the cause"}
	}
	e.Message, e.Hint = strings.ReplaceAll(e.Message, "PEER", peer), strings.ReplaceAll(e.Hint, "PEER", peer)
	return &e
}
