package tui

import (
	"os"
	"strings"
	"testing"
)

// TestKeysFile holds KEYS.md to the key map.
func TestKeysFile(t *testing.T) {
	want := "# Keys of the terminal UI\n\nMade from `keys.go` by `go test ./tui -update`.\n\n" + KeyTable()
	if *update {
		if err := os.WriteFile("KEYS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("KEYS.md is not as keys.go says: go test ./tui -run TestKeysFile -update writes it")
	}
}

// TestKeymap: no key has two meanings in one place, none is one that old
// terminals cannot send, and what has a hint has a help text.
func TestKeymap(t *testing.T) {
	for _, s := range keymap {
		seen := map[string]action{}
		for _, b := range s.bindings {
			for _, k := range b.keys {
				if old, ok := seen[k]; ok && old != b.act {
					t.Errorf("%s: %q has two meanings", s.title, k)
				}
				seen[k] = b.act
				if strings.HasPrefix(k, "alt+") || k == "ctrl+i" || k == "ctrl+m" || k == "ctrl+h" || len(k) > 1 && k[0] == 'f' {
					t.Errorf("%s: %q cannot be told apart on every terminal", s.title, k)
				}
			}
			if b.hint != "" && b.help == "" {
				t.Errorf("%s: %q has a hint and no help", s.title, b.show)
			}
		}
	}
	// A screen must not hide a key that works everywhere.
	for _, in := range []scope{onPeers, onTransfers, onNetwork} {
		for _, b := range sectionOf(in).bindings {
			for _, k := range b.keys {
				if find(k, everywhere) != none {
					t.Errorf("%s hides %q", sectionOf(in).title, k)
				}
			}
		}
	}
}
