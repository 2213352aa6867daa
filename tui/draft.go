package tui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// draft is a text of several lines that is written from top to bottom: the last
// line is a text field, those above it are finished.
type draft struct {
	above   []string
	line    *field
	sending bool
}

// draftLines is how many lines of a draft are drawn.
const draftLines = 3

func newDraft() *draft { return &draft{line: newField("", control.MaxMessage)} }

func (d *draft) text() string {
	return strings.Join(append(d.above[:len(d.above):len(d.above)], d.line.value()), "\n")
}

func (d *draft) clear() {
	d.above = nil
	d.line.set("")
}

// newLine finishes the last line where the cursor is.
func (d *draft) newLine() {
	if len(d.text()) >= control.MaxMessage {
		return
	}
	before, after := d.line.split()
	d.above = append(d.above, before)
	d.line.set(after)
	d.line.put(0)
}

// key edits. Backspace at the start of a line takes the line above back.
func (d *draft) key(k tea.KeyMsg) {
	before, after := d.line.split()
	if k.Type == tea.KeyBackspace && before == "" && len(d.above) > 0 {
		last := d.above[len(d.above)-1]
		d.above = d.above[:len(d.above)-1]
		d.line.set(last + after)
		d.line.put(len([]rune(last)))
		return
	}
	d.line.key(k)
}

// paste takes what was pasted, as far as a message has room for it.
func (d *draft) paste(text string) {
	room := max(0, control.MaxMessage-len(d.text()))
	if len(text) > room {
		text = strings.ToValidUTF8(text[:room], "")
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			d.newLine()
		}
		if line != "" {
			d.line.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(line)})
		}
	}
}

// draw returns the last lines of the draft, w columns wide.
func (d *draft) draw(th *theme.Theme, w int, focused bool) []string {
	var lines []string
	above := d.above[max(0, len(d.above)-draftLines+1):]
	for _, l := range above {
		lines = append(lines, fit("  "+printable(l, th.ASCIIOnly), w))
	}
	if !focused {
		return append(lines, fit("> "+printable(d.line.value(), th.ASCIIOnly), w))
	}
	return append(lines, "> "+d.line.draw(th, w-2))
}
