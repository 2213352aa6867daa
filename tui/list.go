package tui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"
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
	drawn  []int    // by line of the body: the row there, as drawn last; -1 for none
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
	l.height, l.drawn = max(1, h), l.drawn[:0]
	if l.at < l.off {
		l.off = l.at
	}
	if l.at >= l.off+l.height {
		l.off = l.at - l.height + 1
	}
	l.off = max(0, min(l.off, len(l.keys)-l.height))
	return l.off, min(len(l.keys), l.off+l.height)
}

// drew notes that a row is drawn in a line of the body.
func (l *list) drew(line, row int) {
	for len(l.drawn) <= line {
		l.drawn = append(l.drawn, -1)
	}
	l.drawn[line] = row
}

// click selects the row that is drawn in a line of the body.
func (l *list) click(line int) {
	if line < 0 || line >= len(l.drawn) || l.drawn[line] < 0 || l.drawn[line] >= len(l.keys) {
		return
	}
	l.at = l.drawn[line]
	l.key, l.sought = l.keys[l.at], ""
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
