package trust

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"nigh/agent/identity"
)

func export(t *testing.T, b *Book) []byte {
	t.Helper()
	raw, err := b.Export()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestImportMergesAndLoosensNothing(t *testing.T) {
	from, _ := open(t, t.TempDir())
	to, _ := open(t, t.TempDir())
	self := someID("self")
	key := identity.PublicKey{1, 2, 3}
	both, blockedHere, blockedThere, onlyBlocked := someID("both"), someID("here"), someID("there"), someID("only")
	for _, err := range []error{
		from.Pair(key, "new one"), from.SetPermissions(key.ID(), func(p *Permissions) { p.Quota, p.Shares = 7, []string{} }),
		from.Add(both, "their label"), from.SetAutoAccept(both, true), from.Add(blockedHere, "x"), from.Block(blockedThere), from.Block(onlyBlocked), from.Add(self, "me"),
		to.Add(both, "our label"), to.Block(blockedHere), to.Add(blockedThere, "was trusted"), to.SetAutoAccept(blockedThere, true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	told := map[identity.DeviceID]Standing{}
	to.Changes(func(c Change) { told[c.New.ID] = c.New.Standing })
	raw := export(t, from)
	done, err := to.Import(raw, self)
	if err != nil || done != (Imported{Trusted: 1, Blocked: 2, Kept: 2}) {
		t.Fatalf("Import = %+v, %v", done, err)
	}
	if r, _ := to.Record(key.ID()); r.Standing != Trusted || r.Key != key || r.Name != "new one" || r.Quota != 7 || r.Shares == nil {
		t.Errorf("the new one: %+v", r)
	}
	if r, _ := to.Record(both); r.Name != "our label" || r.AutoAccept {
		t.Errorf("known on both sides: %+v", r)
	}
	if r, _ := to.Record(blockedThere); r.Standing != Blocked || r.AutoAccept || r.Name != "was trusted" {
		t.Errorf("blocked there: %+v", r)
	}
	for id, want := range map[identity.DeviceID]Standing{blockedHere: Blocked, onlyBlocked: Blocked, self: New} {
		if to.Standing(id) != want {
			t.Errorf("%s is %v, want %v", id.Short(), to.Standing(id), want)
		}
	}
	if want := map[identity.DeviceID]Standing{key.ID(): Trusted, blockedThere: Blocked, onlyBlocked: Blocked}; !reflect.DeepEqual(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if done, err := to.Import(raw, self); err != nil || done.Trusted+done.Blocked != 0 {
		t.Errorf("a second time: %+v, %v", done, err)
	}
	// The rules are over what is imported, too.
	ruled, _ := open(t, t.TempDir())
	ruled.Rule(Rules{Closed: true})
	if done, err := ruled.Import(raw, self); err != nil || done.Trusted != 0 || done.Refused != 3 || done.Blocked != 2 {
		t.Errorf("while no device may become trusted: %+v, %v", done, err)
	}
}

func TestDamagedDocuments(t *testing.T) {
	from, _ := open(t, t.TempDir())
	a := someID("a")
	if err := from.Add(a, "ada"); err != nil {
		t.Fatal(err)
	}
	raw := export(t, from)
	to, _ := open(t, t.TempDir())
	for name, bad := range map[string][]byte{
		"empty": nil, "cut short": raw[:len(raw)/2], "garbage": bytes.Repeat([]byte{0xff}, 100), "something else": []byte(`{"a":1}`),
		"changed": bytes.Replace(raw, []byte(`"ada"`), []byte(`"eve"`), 1), "of the future": bytes.Replace(raw, []byte(`"nigh_trust":1`), []byte(`"nigh_trust":2`), 1),
		"huge": make([]byte, MaxDocument+1),
	} {
		if _, err := to.Import(bad, identity.DeviceID{}); !errors.Is(err, ErrDocument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(to.List()) != 0 {
		t.Errorf("a damaged document left %+v", to.List())
	}
}

func TestACopyIsKept(t *testing.T) {
	dir := t.TempDir()
	b, _ := open(t, filepath.Join(dir, "state"))
	path := filepath.Join(dir, "trust.json")
	if _, err := ReadCopy(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no copy: %v", err)
	}
	var failed error
	b.KeepCopy(path, func(err error) { failed = err })
	if err := errors.Join(b.Add(someID("a"), "ada"), b.Block(someID("b")), b.Use(someID("a"), 5)); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the copy has mode %v, %v", info.Mode(), err)
	}
	raw, err := ReadCopy(path)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := open(t, t.TempDir())
	if done, err := again.Import(raw, identity.DeviceID{}); err != nil || done != (Imported{Trusted: 1, Blocked: 1}) {
		t.Errorf("from the copy: %+v, %v", done, err)
	}
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCopy(path); err == nil {
		t.Error("a link was read")
	}
	// Without a place for it the book goes on, and says so.
	b.KeepCopy(filepath.Join(dir, "none", "trust.json"), func(err error) { failed = err })
	if err := b.Add(someID("c"), "c"); err != nil || failed == nil {
		t.Errorf("Add: %v, told %v", err, failed)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"nigh_trust":1,"sha256":"","devices":[]}`))
	f.Add([]byte(`{"nigh_trust":1,"sha256":"37517e5f3dc66819f61f5a7bb8ace1921282415f10551d2defa5c3eb0985b570","devices":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseDocument(raw)
		if err != nil && !errors.Is(err, ErrDocument) {
			t.Errorf("another error: %v", err)
		}
		for _, r := range list {
			if r.ID.IsZero() || r.Standing == New || r.check() != nil {
				t.Errorf("a device that cannot be: %+v", r)
			}
		}
	})
}
