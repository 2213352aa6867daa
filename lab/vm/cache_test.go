package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSet puts a set with one file into a cache.
func fakeSet(t *testing.T, cache, recipe, content string) *set {
	t.Helper()
	m := &manifest{Recipe: recipe, Packages: []string{"some-package=" + recipe}}
	s, err := install(t.Context(), cache, "guest", m, func(folder string) error {
		return os.WriteFile(filepath.Join(folder, "file"), []byte(content), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSetsBesideEachOther has several recipes use one cache, as checkouts of different age do: none takes away what another
// uses, and what nobody uses does not pile up.
func TestSetsBesideEachOther(t *testing.T) {
	cache := t.TempDir()
	debs := filepath.Join(cache, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	var sets []*set
	for _, recipe := range []string{"a", "b", "c", "d", "e"} {
		if err := os.WriteFile(filepath.Join(debs, "some-package_"+recipe+"_all.deb"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		sets = append(sets, fakeSet(t, cache, recipe, recipe))
		prune(cache, "guest", logger)
	}
	there := func(what string, want string) {
		t.Helper()
		var got string
		for i, s := range sets {
			data, err := os.ReadFile(filepath.Join(s.folder, "file"))
			_, deb := os.Stat(filepath.Join(debs, "some-package_"+string(data)+"_all.deb"))
			if err == nil && deb == nil {
				got += string(data)
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("set %d: %v, its package: %v", i, err, deb)
			}
		}
		if got != want {
			t.Errorf("%s: there are %q, want %q", what, got, want)
		}
	}
	there("all in use", "abcde")
	for _, s := range sets[:2] {
		if err := s.release(); err != nil {
			t.Fatal(err)
		}
	}
	prune(cache, "guest", logger)
	there("two released", "cde")
	if left, err := filepath.Glob(filepath.Join(debs, "*")); err != nil || len(left) != 3 {
		t.Errorf("packages left: %v, %v", left, err)
	}
	for _, s := range sets[2:] {
		if err := s.release(); err != nil {
			t.Fatal(err)
		}
	}
	prune(cache, "guest", logger)
	there("the last ones stay", "cde")

	// Built again in the same place: the content is what counts.
	again := fakeSet(t, cache, "c", "other")
	if again.folder != sets[2].folder || !again.built {
		t.Errorf("%+v", again)
	}
	if err := verify(t.Context(), again.folder, again.Files); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := again.release(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoSuchSuite asks for what the archive does not have, and for a version that is over.
func TestNoSuchSuite(t *testing.T) {
	needGuest(t)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	for name, tt := range map[string]struct {
		tree Tree
		says string
	}{
		"suite":   {Tree{Name: "t", Suites: []string{"no-such-suite"}, Packages: []string{"wpasupplicant"}}, "no-such-suite"},
		"package": {Tree{Name: "t", Suites: []string{"forky"}, Packages: []string{"no-such-package"}}, "no-such-package"},
		"version": {Tree{Name: "t", Suites: []string{"forky"}, Packages: []string{"wpasupplicant"}, Version: "2.9"}, "not 2.9"},
	} {
		cache := t.TempDir()
		_, err := PrepareTree(t.Context(), cache, tt.tree, logger)
		if !errors.Is(err, ErrNoArchive) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := filepath.Glob(filepath.Join(cache, "apt-*")); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// TestTree builds a tree, shows it to a guest, damages it, and has it whole again.
func TestTree(t *testing.T) {
	cache := needGuest(t)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	tree := Tree{Name: "small", Suites: []string{"no-such-suite", "forky", "sid"}, Packages: []string{"libpcsclite1"}}
	own := t.TempDir()
	first, err := PrepareTree(t.Context(), own, tree, logger)
	if err != nil || !first.Built {
		t.Fatalf("%+v, %v", first, err)
	}
	library, err := filepath.Glob(filepath.Join(first.Folder, "usr/lib/*/libpcsclite.so.1*"))
	if err != nil || len(library) == 0 {
		t.Fatal(library, err)
	}
	second, err := PrepareTree(t.Context(), own, tree, logger)
	if err != nil || second.Built || second.Folder != first.Folder {
		t.Fatalf("%+v, %v", second, err)
	}
	parts, err := Prepare(t.Context(), cache, logger)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Boot(t.Context(), Config{Parts: parts, Trees: []*PreparedTree{second}})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	inGuest := filepath.Join(TreesFolder, tree.Name, strings.TrimPrefix(library[0], second.Folder))
	status, err := m.Run(t.Context(), Command{Args: []string{"sh", "-c", `cat "$0" | wc -c; echo x >"$0"`, inGuest}, Output: &said})
	if err != nil || status == 0 {
		t.Errorf("a tree can be changed in the guest: %d, %v: %s", status, err, &said)
	}
	if info, err := os.Stat(library[0]); err != nil || !strings.HasPrefix(said.String(), fmt.Sprintln(info.Size())) {
		t.Errorf("%s in the guest: %s, on the host %v", inGuest, &said, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(library[0]); err != nil {
		t.Fatal(err)
	}
	if third, err := PrepareTree(t.Context(), own, tree, logger); err != nil || !third.Built {
		t.Fatalf("%+v, %v", third, err)
	}
	if _, err := os.Lstat(library[0]); err != nil {
		t.Error(err)
	}
	if err := errors.Join(first.Close(), second.Close(), second.Close()); err != nil {
		t.Error(err)
	}
}
