package agent

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/store"
	"nigh/agent/trust"
)

// A device moves to a machine that knew it, was another one, and has an agent running first.
func TestKeyMoves(t *testing.T) {
	phrase := []byte("correct horse battery staple")
	from := localConfig(t)
	a := runAgent(t, from)
	friend := newIdentity(t)
	if err := a.trust.Add(friend.ID, "friend"); err != nil {
		t.Fatal(err)
	}
	book, err := backend{a}.ExportTrust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, id, err := ExportKey(from, book.Text, phrase)
	if err != nil || id != a.id.ID {
		t.Fatalf("%v, %v", id, err)
	}
	if copied, _, err := ExportKey(from, "", phrase); err != nil || !strings.Contains(copied, friend.ID.String()) {
		t.Errorf("from the copy in the state folder: %v", err)
	}
	if strings.Contains(book.Text, "PRIVATE KEY") || !strings.Contains(text, "BEGIN ENCRYPTED PRIVATE KEY") {
		t.Error("the key is in the file without --key, or not in that with it")
	}

	to := localConfig(t)
	to.PolicyFile = policyFile(t, "")
	s, err := store.Open(to.State)
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.Load(to.State)
	if err != nil {
		t.Fatal(err)
	}
	known, err := trust.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := known.Add(id, "the old machine"); err != nil {
		t.Fatal(err)
	}
	refused := func(what, code string, text string, phrase []byte) {
		t.Helper()
		_, err := ImportKey(to, text, phrase, false)
		if e := Explain(err); err == nil || e.Code != code || e.Hint == "" {
			t.Errorf("%s: %+v", what, e)
		}
		if now, err := identity.Current(to.State); err != nil || now != other.ID {
			t.Errorf("%s: the machine is %v now, %v", what, now, err)
		}
	}
	refused("while an agent runs", control.CodeBusy, text, phrase)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	refused("without being told to replace the key", control.CodePermission, text, phrase)
	refused("with the wrong passphrase", control.CodeUsage, text, []byte("something else"))
	refused("a file without a key", control.CodeUsage, book.Text, phrase)
	refused("no file of ours", control.CodeUsage, "{}", phrase)
	m, err := ImportKey(to, text, phrase, true)
	if err != nil || m.ID != id || m.Was != other.ID || m.Old != filepath.Join(to.State, identity.Kept(other.ID)) || m.Trusted != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if again, err := ImportKey(to, text, phrase, false); err != nil || !again.Was.IsZero() || again.Kept != 1 {
		t.Errorf("once more: %+v, %v", again, err)
	}
	b := runAgent(t, to)
	if b.id.ID != id || b.trust.Standing(friend.ID) != trust.Trusted || b.trust.Standing(id) != trust.New {
		t.Errorf("the new machine is %v; the friend is %v, itself %v", b.id.ID, b.trust.Standing(friend.ID), b.trust.Standing(id))
	}
	empty := localConfig(t)
	if _, _, err := ExportKey(empty, "", phrase); !errors.Is(err, &control.Error{Code: control.CodeNotFound}) {
		t.Errorf("a machine without a key: %v", err)
	}
}
