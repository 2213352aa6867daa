package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/agent/message"
)

// awaitMessage waits until a message of an agent is in a state, and returns it.
func awaitMessage(t *testing.T, a *Agent, id, state string) control.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var v control.Message
	err := a.change.wait(ctx, func() bool {
		m, err := a.messages.Message(id)
		v = a.messageView(m)
		return err == nil && v.State == state
	})
	if err != nil {
		t.Fatalf("message %s is %s, want %s: %+v", id, v.State, state, v)
	}
	return v
}

// Two agents on this machine, which know of each other by a typed address.
func TestMessageOverATypedAddress(t *testing.T) {
	ada, bob := runAgent(t, localConfig(t)), runAgent(t, localConfig(t))
	if err := errors.Join(ada.trust.Add(bob.ID(), "bob"), bob.trust.Add(ada.ID(), "ada")); err != nil {
		t.Fatal(err)
	}
	text := "line\n\x1b[2J\u202eline"
	sent, err := backend{ada}.SendMessage(t.Context(), control.MessageRequest{Text: text, To: []string{fmt.Sprintf("127.0.0.1:%d", bob.sessions.Port())}})
	if err != nil {
		t.Fatal(err)
	}
	got := awaitMessage(t, ada, sent.ID, "delivered")
	if len(got.To) != 1 || got.To[0].PeerName != "bob" || got.To[0].Peer != bob.ID().String() || got.To[0].Near || got.To[0].Error != "" {
		t.Errorf("the sender shows %+v", got)
	}
	page, err := backend{bob}.Messages(t.Context(), control.MessageQuery{From: "ada"})
	if err != nil || len(page.Messages) != 1 || page.Unread != (control.Unread{Count: 1}) {
		t.Fatalf("the receiver has %+v, %v", page, err)
	}
	if m := page.Messages[0]; m.Text != "line\n\\x1b[2J\\u202eline" || m.PeerName != "ada" || m.State != "received" || m.Direction != "receive" {
		t.Errorf("the receiver shows %+v", m)
	}
	if u, err := (backend{bob}).ReadMessages(t.Context(), control.ReadRequest{Seq: page.Messages[0].Seq}); err != nil || u.Count != 0 {
		t.Errorf("read: %+v, %v", u, err)
	}
}

func TestMessageRequests(t *testing.T) {
	a := runAgent(t, localConfig(t))
	friend, foe, stranger := someID(1), someID(2), someID(3<<24)
	if err := errors.Join(a.trust.Add(friend, "friend"), a.trust.Block(foe), a.trust.Rename(foe, "foe")); err != nil {
		t.Fatal(err)
	}
	a.stranger(stranger, "127.0.0.1:1")
	for _, tt := range []struct {
		name string
		r    control.MessageRequest
		code string
	}{
		{"nobody", control.MessageRequest{Text: "x"}, control.CodeUsage},
		{"nobody near", control.MessageRequest{Text: "x", All: true}, control.CodeAway},
		{"all and some", control.MessageRequest{Text: "x", All: true, To: []string{"friend"}}, control.CodeUsage},
		{"unknown", control.MessageRequest{Text: "x", To: []string{"nobody"}}, control.CodeNotFound},
		{"one of two unknown", control.MessageRequest{Text: "x", To: []string{friend.String(), "nobody"}}, control.CodeNotFound},
		{"stranger", control.MessageRequest{Text: "x", To: []string{stranger.String()}}, control.CodePermission},
		{"blocked", control.MessageRequest{Text: "x", To: []string{foe.String()}}, control.CodePermission},
		{"itself", control.MessageRequest{Text: "x", To: []string{a.ID().String()}}, control.CodeUsage},
		{"empty", control.MessageRequest{To: []string{"friend"}}, control.CodeUsage},
		{"too long", control.MessageRequest{Text: strings.Repeat("x", control.MaxMessage+1), To: []string{"friend"}}, control.CodeUsage},
		{"NUL", control.MessageRequest{Text: "\x00", To: []string{"friend"}}, control.CodeUsage},
	} {
		_, err := backend{a}.SendMessage(t.Context(), tt.r)
		if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != tt.code || e.Message == "" || e.Hint == "" && tt.name != "all and some" {
			t.Errorf("%s: %#v, want %s with a hint", tt.name, err, tt.code)
		}
	}
	if ids := a.messages.IDs(""); len(ids) != 0 {
		t.Errorf("something was kept: %v", ids)
	}
	if control.MaxMessage != message.MaxText {
		t.Error("the faces and the agent have different bounds")
	}

	// A device that is away: the message waits, until it is taken back or the trust ends.
	send := func() control.Message {
		t.Helper()
		m, err := backend{a}.SendMessage(t.Context(), control.MessageRequest{Text: "x", To: []string{friend.String(), friend.String()}})
		if err != nil || m.State != "waiting" || len(m.To) != 1 || m.To[0].Near {
			t.Fatalf("%+v, %v", m, err)
		}
		return m
	}
	first, second := send(), send()
	for _, id := range []string{"", "m", "mzz", "x"} {
		if err := (backend{a}).CancelMessage(t.Context(), id); !errors.Is(err, &control.Error{Code: control.CodeNotFound}) && !errors.Is(err, &control.Error{Code: control.CodeAmbiguous}) {
			t.Errorf("cancel %q: %v", id, err)
		}
	}
	if err := (backend{a}).CancelMessage(t.Context(), first.ID[:9]); err != nil {
		t.Fatal(err)
	}
	if m := awaitMessage(t, a, first.ID, "failed"); m.To[0].ErrorCode != "cancelled" || m.To[0].Error != "it was cancelled" {
		t.Errorf("%+v", m)
	}
	if err := (backend{a}).CancelMessage(t.Context(), first.ID); !errors.Is(err, &control.Error{Code: control.CodeUsage}) {
		t.Errorf("cancel again: %v", err)
	}
	if err := a.trust.Remove(friend); err != nil {
		t.Fatal(err)
	}
	if m := awaitMessage(t, a, second.ID, "failed"); m.To[0].ErrorCode != "untrusted" {
		t.Errorf("%+v", m)
	}
}

// What a watcher is given first has a bound, and so have the answers.
func TestFirstMessagesAreBounded(t *testing.T) {
	a := runAgent(t, localConfig(t))
	if err := a.trust.Add(someID(1), "friend"); err != nil {
		t.Fatal(err)
	}
	send := func(text string) {
		t.Helper()
		if _, err := (backend{a}).SendMessage(t.Context(), control.MessageRequest{Text: text, To: []string{someID(1).String()}}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range watchedMessages + 10 {
		send(fmt.Sprint(n))
	}
	events, cancel, err := backend{a}.Watch(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	first := <-events
	if got := first.State.Messages; len(got) != watchedMessages || got[0].Text != "10" || got[len(got)-1].Text != fmt.Sprint(watchedMessages+9) {
		t.Errorf("the state has %d messages, from %q to %q", len(got), got[0].Text, got[len(got)-1].Text)
	}
	for range 20 {
		send(strings.Repeat("\x01", message.MaxText/2)) // 64 KiB when it is shown
	}
	size := 0
	for _, m := range a.newestMessages() {
		size += len(m.Text)
	}
	if size > watchedMessageBytes || size < watchedMessageBytes/2 {
		t.Errorf("the state has %d bytes of text", size)
	}
}
