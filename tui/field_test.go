package tui

import (
	"math/rand/v2"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
)

// TestField: each key of a text field, from "one two  three" with the cursor before "two" (| stands for it).
func TestField(t *testing.T) {
	alt := func(k tea.KeyMsg) tea.KeyMsg { k.Alt = true; return k }
	of := func(kind tea.KeyType) tea.KeyMsg { return tea.KeyMsg{Type: kind} }
	text := func(s string) tea.KeyMsg { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(s)} }
	for _, tt := range []struct {
		key  tea.KeyMsg
		want string
	}{
		{of(tea.KeyLeft), "one| two  three"}, {of(tea.KeyCtrlB), "one| two  three"}, {of(tea.KeyRight), "one t|wo  three"}, {of(tea.KeyCtrlF), "one t|wo  three"},
		{of(tea.KeyHome), "|one two  three"}, {of(tea.KeyCtrlA), "|one two  three"}, {of(tea.KeyEnd), "one two  three|"}, {of(tea.KeyCtrlE), "one two  three|"},
		{alt(text("b")), "|one two  three"}, {of(tea.KeyCtrlLeft), "|one two  three"}, {alt(of(tea.KeyLeft)), "|one two  three"},
		{alt(text("f")), "one two|  three"}, {of(tea.KeyCtrlRight), "one two|  three"}, {alt(of(tea.KeyRight)), "one two|  three"},
		{of(tea.KeyBackspace), "one|two  three"}, {of(tea.KeyDelete), "one |wo  three"}, {of(tea.KeyCtrlD), "one |wo  three"},
		{of(tea.KeyCtrlW), "|two  three"}, {alt(of(tea.KeyBackspace)), "|two  three"}, {alt(text("d")), "one |  three"}, {alt(of(tea.KeyDelete)), "one |  three"},
		{of(tea.KeyCtrlU), "|two  three"}, {of(tea.KeyCtrlK), "one |"},
		{text("ü"), "one ü|two  three"}, {tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}, "one  |two  three"}, {of(tea.KeyF1), "one |two  three"},
		{tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("a\r\nb\tc\x1b\ufffd"), Paste: true}, "one a b c|two  three"},
		{text(strings.Repeat("x", 30)), "one xxxxxx|two  three"},
	} {
		f := newField("one two  three", 20)
		f.put(4)
		f.key(tt.key)
		before, after := f.split()
		if got := before + "|" + after; got != tt.want {
			t.Errorf("%q (alt %v) makes %q, want %q", tt.key.String(), tt.key.Alt, got, tt.want)
		}
	}
}

// TestFieldAtItsEnds: no key at random moves the cursor out of the text, or makes it longer than it may be.
func TestFieldAtItsEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := []tea.KeyType{tea.KeyLeft, tea.KeyRight, tea.KeyHome, tea.KeyEnd, tea.KeyBackspace, tea.KeyDelete, tea.KeyCtrlW, tea.KeyCtrlU, tea.KeyCtrlK, tea.KeyCtrlLeft, tea.KeyCtrlRight}
	f := newField("", 9)
	for range 20000 {
		k := tea.KeyMsg{Type: keys[r.IntN(len(keys))]}
		if r.IntN(2) == 0 {
			k = tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(" a猫")[r.IntN(3):]}
		}
		f.key(k)
		if f.at < 0 || f.at > len(f.text) || len(f.text) > 9 {
			t.Fatalf("after %q: %q, cursor at %d", k.String(), f.value(), f.at)
		}
	}
}
