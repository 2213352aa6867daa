package tui

import (
	"strings"
	"unicode"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/tui/theme"
)

// field is a line of text that is typed. It knows the keys of shells and of readline.
type field struct {
	text  []rune
	at    int // the cursor is before this character
	limit int // most characters
}

// newField returns a field that takes at most limit characters.
func newField(value string, limit int) *field {
	f := &field{limit: limit}
	f.set(value)
	return f
}

func (f *field) value() string { return string(f.text) }

func (f *field) set(v string) {
	f.text = oneLine([]rune(v))
	f.text = f.text[:min(len(f.text), f.limit)]
	f.at = len(f.text)
}

// split returns the text before the cursor and after it.
func (f *field) split() (before, after string) { return string(f.text[:f.at]), string(f.text[f.at:]) }

// put moves the cursor behind so many characters.
func (f *field) put(at int) { f.at = max(0, min(at, len(f.text))) }

// key edits.
func (f *field) key(k tea.KeyMsg) {
	switch k.String() {
	case "left", "ctrl+b":
		f.put(f.at - 1)
	case "right", "ctrl+f":
		f.put(f.at + 1)
	case "home", "ctrl+a":
		f.at = 0
	case "end", "ctrl+e":
		f.at = len(f.text)
	case "alt+left", "ctrl+left", "alt+b":
		f.at = f.word(-1)
	case "alt+right", "ctrl+right", "alt+f":
		f.at = f.word(1)
	case "backspace":
		f.cut(f.at-1, f.at)
	case "delete", "ctrl+d":
		f.cut(f.at, f.at+1)
	case "alt+backspace", "ctrl+w":
		f.cut(f.word(-1), f.at)
	case "alt+delete", "alt+d":
		f.cut(f.at, f.word(1))
	case "ctrl+u":
		f.cut(0, f.at)
	case "ctrl+k":
		f.cut(f.at, len(f.text))
	default:
		typed := oneLine(k.Runes)
		typed = typed[:min(len(typed), f.limit-len(f.text))]
		tail := append(typed, f.text[f.at:]...)
		f.text = append(f.text[:f.at], tail...)
		f.at = len(f.text) - len(tail) + len(typed)
	}
}

// cut takes away the characters between two places.
func (f *field) cut(from, to int) {
	from, to = max(0, from), min(to, len(f.text))
	if from < to {
		f.text = append(f.text[:from], f.text[to:]...)
		f.at = from
	}
}

// word is where the next word ends (1), or the one before begins (-1).
func (f *field) word(step int) int {
	at := f.at
	look := func() rune {
		if i := at + min(step, 0); i >= 0 && i < len(f.text) {
			return f.text[i]
		}
		return utf8.RuneError
	}
	for unicode.IsSpace(look()) {
		at += step
	}
	for r := look(); r != utf8.RuneError && !unicode.IsSpace(r); r = look() {
		at += step
	}
	return at
}

// oneLine is a text without what a line cannot have: a line break or tab in it is a space.
func oneLine(text []rune) []rune {
	line := make([]rune, 0, len(text))
	for i, r := range text {
		switch {
		case r == '\n' && i > 0 && text[i-1] == '\r':
		case r == '\n', r == '\r', r == '\t':
			line = append(line, ' ')
		case r != utf8.RuneError && !unicode.IsControl(r):
			line = append(line, r)
		}
	}
	return line
}

// draw returns the text around the cursor, exactly w columns wide.
func (f *field) draw(th *theme.Theme, w int) string {
	var cells []string
	for _, r := range f.text {
		cells = append(cells, printable(string(r), th.ASCIIOnly))
	}
	cells = append(cells, " ")
	pos := f.at
	first, used := pos, width(cells[pos])
	for first > 0 && used+width(cells[first-1]) <= w {
		first--
		used += width(cells[first])
	}
	end := pos + 1
	for end < len(cells) && used+width(cells[end]) <= w {
		used += width(cells[end])
		end++
	}
	return strings.Join(cells[first:pos], "") + th.Selected.Render(cells[pos]) +
		strings.Join(cells[pos+1:end], "") + strings.Repeat(" ", max(0, w-used))
}
