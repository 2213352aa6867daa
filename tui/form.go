package tui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"
)

// form is a dialog with a text field, or without one, and choices below it.
type form struct {
	quiet
	title, intro string
	label        string
	text         *field // nil = none
	lines        []*choice
	at           int
	wrong        string
	// take gets the text. It returns what to do, or a sentence saying why the text
	// does not do and nothing happens.
	take    func(a *app, text string) (tea.Cmd, string)
	subject func(a *app) bool // false when it is gone
}

// count is the number of lines.
func (d *form) count() int {
	if d.text != nil {
		return len(d.lines) + 1
	}
	return len(d.lines)
}

// chosen is the choice of the selected line, nil on the text field.
func (d *form) chosen() *choice {
	at := d.at
	if d.text != nil {
		at--
	}
	if at < 0 {
		return nil
	}
	return d.lines[at]
}

func (d *form) draw(a *app, w, _ int) panel {
	p := panel{title: d.title}
	line := func(label, text string) {
		mark := "   "
		if label = fit(label, 14); len(p.content)-1 == d.at {
			mark, label = " "+a.th.Mark+" ", a.th.Bold.Render(label)
		}
		p.content = append(p.content, mark+label+text)
	}
	p.content = append(p.content, "")
	if d.text != nil {
		line(d.label, d.text.draw(a.th, w-18))
	}
	for _, c := range d.lines {
		line(c.label, "< "+fit(c.values[c.at], min(30, w-22))+" >")
	}
	p.content = append(append(p.content, ""), wrap(d.intro, w)...)
	for _, l := range wrap(printable(d.wrong, a.th.ASCIIOnly), w) {
		p.content = append(p.content, a.th.Bad.Render(l))
	}
	p.answers = []string{"", strings.Join(d.hints(a), "   ")}
	return p
}

func (d *form) capturing() bool { return d.chosen() == nil }

func (d *form) alive(a *app) bool { return d.subject(a) }

func (d *form) hints(*app) []string {
	hints := hintsOf(inForm, func(act action) bool { return act == actNext && d.count() == 1 })
	hints[0] = "enter ok" // nothing begins with it
	return hints
}

func (d *form) key(a *app, k tea.KeyMsg) tea.Cmd {
	c := d.chosen()
	if c == nil {
		switch k.Type {
		case tea.KeyEnter, tea.KeyEsc, tea.KeyTab, tea.KeyShiftTab, tea.KeyUp, tea.KeyDown:
		default:
			d.wrong = ""
			d.text.key(k)
			return nil
		}
	}
	switch key := k.String(); find(key, inForm) {
	case actBack:
		return a.close(d)
	case actStart:
		text := ""
		if d.text != nil {
			text = d.text.value()
		}
		cmd, wrong := d.take(a, text)
		if d.wrong = wrong; wrong != "" {
			return nil
		}
		return tea.Batch(cmd, a.close(d))
	case actNext:
		d.at = (d.at + 1) % d.count()
	case actUp:
		d.at = (d.at + d.count() - 1) % d.count()
	case actChange:
		step := 1
		if key == "left" || key == "h" {
			step = len(c.values) - 1
		}
		c.at = (c.at + step) % len(c.values)
	}
	return nil
}
