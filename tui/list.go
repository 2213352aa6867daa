package tui

import (
	"strings"

	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"nigh/tui/theme"
)

// list is the selection, scroll position and filter of one screen. The selection
// is a key and not a number, so that it stays on its row when rows come and go.
type list struct {
	keys   []string // of the rows, as drawn last or set last
	key    string   // of the selected row, "" when there is none
	at     int      // where it was
	sought string   // key of the row to select as soon as it is there
	off    int      // first row that is drawn
	height int      // rows that are drawn
	filter string
	input  *field // while the filter is typed
}

// set takes the rows there are now.
func (l *list) set(keys []string) {
	l.keys = keys
	if len(keys) == 0 {
		l.key, l.at = "", 0
		return
	}
	// No row has the key "".
	for i, k := range keys {
		if k == l.sought {
			l.key, l.at, l.sought = k, i, ""
			return
		}
	}
	for i, k := range keys {
		if k == l.key {
			l.at = i
			return
		}
	}
	l.at = min(l.at, len(keys)-1)
	l.key = keys[l.at]
}

// seek selects a row as soon as it is there, unless the person selects another one before.
func (l *list) seek(key string) { l.sought = key }

// window returns the rows to draw in h lines.
func (l *list) window(h int) (first, end int) {
	l.height = max(1, h)
	if l.at < l.off {
		l.off = l.at
	}
	if l.at >= l.off+l.height {
		l.off = l.at - l.height + 1
	}
	l.off = max(0, min(l.off, len(l.keys)-l.height))
	return l.off, min(len(l.keys), l.off+l.height)
}

// move takes the keys that change the selection.
func (l *list) move(act action) {
	switch act {
	case actUp:
		l.at--
	case actDown:
		l.at++
	case actPageUp:
		l.at -= max(1, l.height-1)
	case actPageDown:
		l.at += max(1, l.height-1)
	case actFirst:
		l.at = 0
	case actLast:
		l.at = len(l.keys) - 1
	}
	l.at = max(0, min(l.at, len(l.keys)-1))
	if len(l.keys) > 0 && l.keys[l.at] != l.key {
		l.key, l.sought = l.keys[l.at], ""
	}
}

func (l *list) editing() bool { return l.input != nil }

func (l *list) startFilter() { l.input = newField(l.filter, 64) }

func (l *list) clearFilter() { l.filter, l.input = "", nil }

// edit takes a key while the filter is typed.
func (l *list) edit(k tea.KeyMsg) {
	switch find(k.String(), inText) {
	case actStart:
		l.input = nil
	case actBack:
		l.clearFilter()
	case actNext:
	default:
		l.input.key(k)
		l.filter = l.input.value()
	}
}

// matches reports whether a row with these texts passes the filter.
func (l *list) matches(texts ...string) bool {
	if l.filter == "" {
		return true
	}
	f := strings.ToLower(l.filter)
	for _, t := range texts {
		if strings.Contains(strings.ToLower(t), f) {
			return true
		}
	}
	return false
}

// field is a line of text that is typed.
type field struct{ in textinput.Model }

// newField returns a field that takes at most limit characters.
func newField(value string, limit int) *field {
	in := textinput.New()
	in.CharLimit = limit
	in.KeyMap.Paste.SetEnabled(false) // it would run a program to read the clipboard
	in.SetValue(value)
	in.CursorEnd()
	in.Focus()
	return &field{in}
}

func (f *field) value() string { return f.in.Value() }

func (f *field) set(v string) {
	f.in.SetValue(v)
	f.in.CursorEnd()
}

// split returns the text before the cursor and after it.
func (f *field) split() (before, after string) {
	r := []rune(f.in.Value())
	at := min(f.in.Position(), len(r))
	return string(r[:at]), string(r[at:])
}

// put moves the cursor behind so many characters.
func (f *field) put(at int) { f.in.SetCursor(at) }

// key edits. The command of the text field only blinks its cursor, which is
// drawn still here.
func (f *field) key(k tea.KeyMsg) { f.in, _ = f.in.Update(k) }

// draw returns the text around the cursor, exactly w columns wide.
func (f *field) draw(th *theme.Theme, w int) string {
	var cells []string
	for _, r := range f.in.Value() {
		cells = append(cells, printable(string(r), th.ASCIIOnly))
	}
	cells = append(cells, " ")
	pos := min(f.in.Position(), len(cells)-1)
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
