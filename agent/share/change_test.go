package share

import (
	"errors"
	"slices"
	"testing"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// TestAShareIsChanged: who may see it and its name change at once, and no file is read for it.
func TestAShareIsChanged(t *testing.T) {
	b := newBed(t)
	ada, bob, eve := b.device("ada", nil), b.device("bob", nil), b.device("eve", nil)
	dir, other := t.TempDir(), t.TempDir()
	files(t, dir, "film.mkv", "sub/plan.txt", ".diary", "sub/.git/config")
	files(t, other, "x")
	before := ada.share(AddRequest{Folder: dir, Name: "films"})
	ada.share(AddRequest{Folder: other, Name: "other"})
	sees := func(who *device) []string {
		t.Helper()
		list, err := who.Of(t.Context(), ada.id)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, r := range list {
			names = append(names, r.Name)
		}
		return names
	}

	name, only := "Cinema", []identity.DeviceID{bob.id}
	now, err := ada.Change("FILMS", Change{Name: &name, For: &only})
	if err != nil || now.ID != before.ID || now.Name != name || now.State != Ready || now.Files != 2 || now.Hashed != 2 || !slices.Equal(now.For, only) {
		t.Fatalf("%+v, %v", now, err)
	}
	if got := sees(bob); !slices.Equal(got, []string{"Cinema", "other"}) {
		t.Errorf("bob sees %q", got)
	}
	if got := sees(eve); !slices.Equal(got, []string{"other"}) || ada.Sees(eve.id, now.ID) {
		t.Errorf("eve sees %q", got)
	}
	page, err := bob.Browse(t.Context(), ada.id, "cinema", "film.mkv", "", 0)
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Hash != content.Sum([]byte("film.mkv")) {
		t.Errorf("%+v, %v", page, err)
	}

	// Hidden names come, and go at once, whatever the index still has.
	yes, no, all := true, false, []identity.DeviceID{}
	if _, err := ada.Change(name, Change{Hidden: &yes, For: &all}); err != nil {
		t.Fatal(err)
	}
	ada.await(name, func(i Info) bool { return i.Files == 4 && hashed(i) })
	if got, want := bob.names(ada, name, ""), []string{".diary", "film.mkv", "sub"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := ada.Change(name, Change{Hidden: &no}); err != nil {
		t.Fatal(err)
	}
	if got, want := eve.names(ada, name, ""), []string{"film.mkv", "sub"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, path := range []string{".diary", "sub/.git", "sub/.git/config"} {
		if _, err := bob.Browse(t.Context(), ada.id, name, path, "", 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("browse %s: %v", path, err)
		}
		if _, err := bob.Get(t.Context(), Want{Peer: ada.id, Share: name, Path: path, Into: "/x"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("get %s: %v", path, err)
		}
	}
	if _, err := bob.Get(t.Context(), Want{Peer: ada.id, Hash: content.Sum([]byte(".diary")), Into: "/x"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("get by hash: %v", err)
	}
	if f := bob.Search(t.Context(), []identity.DeviceID{ada.id}, "config", content.Hash{}, patience, nil); len(f.Results) != 0 {
		t.Errorf("found %+v", f.Results)
	}
	ada.await(name, func(i Info) bool { return i.Files == 2 && hashed(i) })

	for _, tt := range []struct {
		name string
		c    Change
		want error
	}{
		{"none", Change{Hidden: &yes}, ErrUnknown},
		{"other", Change{Name: &name}, ErrExists},
		{"other", Change{Name: new(string)}, ErrName},
	} {
		if _, err := ada.Change(tt.name, tt.c); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	many := make([]identity.DeviceID, MaxDevices+1)
	if _, err := ada.Change("other", Change{For: &many}); !errors.Is(err, ErrFull) {
		t.Errorf("more devices than a share may have: %v", err)
	}
	ada.stop()
	ada.start()
	if got := sees(eve); !slices.Equal(got, []string{"Cinema", "other"}) {
		t.Errorf("after a start eve sees %q", got)
	}
}
