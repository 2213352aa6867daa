package tui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// column is one column of a table. The one with width 0 takes what is left.
type column struct {
	title string
	w     int
	right bool
}

// cell is one value in a table.
type cell struct {
	text  string
	style func(string) string // nil = plain
}

// table lays out rows in w columns: three for the mark, then the cells.
type table struct {
	cols []column
	w    int
}

func newTable(w int, cols ...column) table {
	rest := w - 4
	for _, c := range cols {
		rest -= c.w
	}
	for i := range cols {
		if cols[i].w == 0 {
			cols[i].w = max(1, rest)
		}
	}
	return table{cols, w}
}

func (t table) head(a *app) string {
	line := "   "
	for _, c := range t.cols {
		line += t.pad(c, c.title)
	}
	if a.th.Linear {
		line = "" // each row has its labels
	}
	return a.th.Dim.Render(fit(line, t.w))
}

// pad fits text into a column with one column of air at its end.
func (t table) pad(c column, text string) string {
	if c.right {
		return fitRight(text, c.w-2) + "  "
	}
	return fit(text, c.w-1) + " "
}

// row draws one row. The selected one is marked and reversed as a whole.
func (t table) row(a *app, selected bool, cells ...cell) string {
	line := "   "
	if selected {
		line = " " + a.th.Mark + " "
	}
	for i, c := range cells {
		if i >= len(t.cols) {
			break
		}
		if a.th.Linear {
			line += t.labelled(i, c, len(line) > 3)
			continue
		}
		text := t.pad(t.cols[i], c.text)
		if c.style != nil && !selected {
			text = c.style(text)
		}
		line += text
	}
	line = fit(line, t.w)
	if selected {
		line = a.th.Selected.Render(line)
	}
	return line
}

// labelled writes a cell after the name of its column.
func (t table) labelled(i int, c cell, more bool) string {
	if c.text == "" || c.text == "-" {
		return ""
	}
	text := strings.ToLower(t.cols[i].title)
	if text != "" {
		text += " "
	}
	if text += c.text; more {
		text = ", " + text
	}
	return text
}

// wide reports whether details go beside the list, and how wide the list is then.
func (a *app) wide(w int) (bool, int) {
	if w < 110 || a.th.Linear {
		return false, w
	}
	return true, w - max(40, w/3)
}

// withDetail puts a list and the details of its selected row together. Below the list the details get a third of the lines, and
// more for a value that is longer: what the list does not use, and all but so many lines of the list where least is not 0.
func (a *app) withDetail(w, h, least int, title string, draw func(w, h int) []string, detail func(w, h int) []string) []string {
	side, lw := a.wide(w)
	if !side {
		dh := max(3, min(8, h/3))
		need := len(detail(w, h))
		if least > 0 {
			dh = max(dh, min(need, h-1-least))
		}
		lines := draw(w, h-dh-1)
		for len(lines) < h-dh-1 {
			lines = append(lines, "")
		}
		lines = lines[:h-dh-1]
		for dh < need && lines[len(lines)-1] == "" && len(lines) > 2 {
			lines = lines[:len(lines)-1]
			dh++
		}
		return append(append(lines, a.rule(title)), detail(w, dh)...)
	}
	left := draw(lw, h)
	right := append([]string{" " + a.th.Bold.Render(cut(title, w-lw-3)), ""}, detail(w-lw-2, h-2)...)
	lines := make([]string, h)
	for i := range lines {
		l, r := "", ""
		if i < len(left) {
			l = left[i]
		}
		if i < len(right) {
			r = right[i]
		}
		lines[i] = fit(l, lw) + a.th.Vertical + fit(r, w-lw-1)
	}
	return lines
}

// pair is one line of details: a label and what it says.
type pair struct {
	label, value string
	style        func(string) string
}

// labelWidth is the width of the labels of details. A whole DeviceID (69
// columns) fits beside it in 80 columns.
const labelWidth = 11

// pairs lays out details in w columns and at most h lines. A value that is not whole says so.
func pairs(w, h int, list ...pair) []string {
	const lw = labelWidth
	var lines []string
	for _, p := range list {
		if p.value == "" {
			continue
		}
		parts := wrap(p.value, w-lw)
		if room := h - len(lines); room < len(parts) {
			if parts = parts[:max(0, room)]; room > 0 {
				parts[room-1] = ansi.Truncate(parts[room-1], w-lw-3, "") + "..."
			}
		}
		for i, v := range parts {
			label := ""
			if i == 0 {
				label = p.label
			}
			if p.style != nil {
				v = p.style(v)
			}
			lines = append(lines, " "+fit(label, lw-1)+v)
		}
	}
	return lines
}
