package tui

import (
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// dialog is a question or a form above the screen.
type dialog interface {
	// draw returns what to show in a box with w columns and at most h lines
	// inside. Lines may be too long or too many: the content is cut, never the
	// answers.
	draw(a *app, w, h int) panel
	key(a *app, k tea.KeyMsg) tea.Cmd
	update(a *app, msg tea.Msg) tea.Cmd // any message that is not a key
	capturing() bool                    // a text field has the keys
	hints(a *app) []string
	alive(a *app) bool // false when what it asks about is gone
}

// panel is the inside of a dialog.
type panel struct {
	title   string
	content []string
	answers []string // below the content, always whole
}

// quiet is what a dialog that needs nothing else embeds.
type quiet struct{}

func (quiet) update(*app, tea.Msg) tea.Cmd { return nil }
func (quiet) capturing() bool              { return false }
func (quiet) alive(*app) bool              { return true }

// layer is a dialog on the stack.
type layer struct {
	d     dialog
	grace int // number of the timer that ends it; 0 = keys count
}

// grace is how long no key may come before a dialog that opened by itself takes
// keys: what was typed for the screen below must not answer it.
const grace = 400 * time.Millisecond

type graceMsg int

func (a *app) top() *layer {
	if len(a.stack) == 0 {
		return nil
	}
	return a.stack[len(a.stack)-1]
}

// open puts a dialog on top. byItself is for those that nobody asked for.
func (a *app) open(d dialog, byItself bool) tea.Cmd {
	l := &layer{d: d}
	a.stack = append(a.stack, l)
	if byItself {
		return a.extendGrace(l)
	}
	return nil
}

func (a *app) extendGrace(l *layer) tea.Cmd {
	a.serial++
	id := a.serial
	l.grace = id
	return tea.Tick(grace, func(time.Time) tea.Msg { return graceMsg(id) })
}

func (a *app) graceOver(id int) {
	for _, l := range a.stack {
		if l.grace == id {
			l.grace = 0
		}
	}
}

// close takes a dialog away, and opens the next question when none is left.
func (a *app) close(d dialog) tea.Cmd {
	for i, l := range a.stack {
		if l.d == d {
			a.stack = append(a.stack[:i:i], a.stack[i+1:]...)
			break
		}
	}
	return a.offer()
}

// prune closes the dialogs whose matter is gone.
func (a *app) prune() tea.Cmd {
	n := len(a.stack)
	for i := 0; i < len(a.stack); i++ {
		if !a.stack[i].d.alive(a) {
			a.stack = append(a.stack[:i:i], a.stack[i+1:]...)
			i--
		}
	}
	if len(a.stack) == n {
		return nil
	}
	return a.say(answeredElsewhere)
}

// overlay draws the top dialog over the lines of the screen, which become dim.
func (a *app) overlay(lines []string) []string {
	l := a.top()
	if l == nil {
		return lines
	}
	if full, ok := l.d.(interface{ whole(a *app) []string }); ok {
		if whole := full.whole(a); whole != nil {
			return append(whole, lines[len(lines)-1])
		}
	}
	bw := min(a.w-4, 64)
	if full, ok := l.d.(interface{ wide() bool }); ok && full.wide() {
		bw = min(a.w-4, 120)
	}
	p := l.d.draw(a, bw-4, a.h-4)
	box := a.box(p, bw, a.h-2)
	bw += 2 // a column of air on both sides
	left, top := (a.w-bw)/2, max(1, (a.h-len(box))/2)
	if a.th.Linear { // alone, so that nothing else is read out
		for i := range lines[:len(lines)-1] {
			lines[i] = strings.Repeat(" ", a.w)
			if i < len(box) {
				lines[i] = fit(" "+box[i], a.w)
			}
		}
		return lines
	}
	for i, line := range lines {
		if i == len(lines)-1 {
			break // the keys of the dialog
		}
		text := ansi.Strip(line)
		if i < top || i >= top+len(box) {
			lines[i] = a.th.Dim.Render(fit(text, a.w))
			continue
		}
		before := fit(ansi.Truncate(text, left, ""), left)
		room := a.w - left - bw
		after := ansi.TruncateLeft(text, left+bw, "")
		if width(after) > room { // the edge of the box is in the middle of a wide character
			after = ansi.TruncateLeft(text, left+bw+1, "")
		}
		lines[i] = a.th.Dim.Render(before) + " " + box[i-top] + " " + a.th.Dim.Render(fitRight(after, room))
	}
	return lines
}

// box draws a panel with a border, bw columns wide and at most bh lines high.
func (a *app) box(p panel, bw, bh int) []string {
	th := a.th
	room := bh - 2
	answers := p.answers[:min(len(p.answers), room)]
	content := p.content[:min(len(p.content), room-len(answers))]
	if len(content)+len(answers) < room && len(content) > 0 && content[0] != "" {
		content = append([]string{""}, content...) // air, where there is room for it
	}
	title := cut(p.title, bw-6)
	edge := th.TopLeft + th.Horizontal + " " + th.Bold.Render(title) + " " +
		strings.Repeat(th.Horizontal, max(0, bw-5-width(title))) + th.TopRight
	if th.Linear {
		return append(append([]string{th.Bold.Render(title)}, content...), answers...)
	}
	lines := []string{edge}
	for _, s := range append(content[:len(content):len(content)], answers...) {
		lines = append(lines, th.Vertical+" "+fit(s, bw-4)+" "+th.Vertical)
	}
	return append(lines, th.BottomLeft+strings.Repeat(th.Horizontal, bw-2)+th.BottomRight)
}

// answers lays out the keys of a scope in lines of at most w columns.
func answers(in scope, w int, skip func(action) bool) []string {
	return wrapAnswers(hintsOf(in, skip), w)
}

// wrapAnswers lays out keys with what they do in lines of at most w columns.
func wrapAnswers(hints []string, w int) []string {
	var lines []string
	line := ""
	for _, h := range hints {
		if line != "" && width(line)+3+width(h) > w {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += "   "
		}
		line += h
	}
	return append(lines, line)
}

// confirmation is a plain question with yes and no, no being the safe answer.
type confirmation struct {
	quiet
	title   string
	text    []string // paragraphs
	yes, no string   // what the answers do
	do      func(a *app) tea.Cmd
	subject func(a *app) bool // false when it is gone; nil = never
}

func (d *confirmation) draw(a *app, w, h int) panel {
	p := panel{title: d.title}
	for _, t := range d.text {
		p.content = append(p.content, "")
		p.content = append(p.content, wrap(t, w)...)
	}
	p.answers = []string{"", "y " + d.yes + "     n " + d.no, a.th.Dim.Render("enter and esc mean no")}
	return p
}

func (d *confirmation) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inQuestion) {
	case actYes:
		return tea.Batch(d.do(a), a.close(d))
	case actNo:
		return a.close(d)
	}
	return nil
}

func (d *confirmation) hints(*app) []string { return []string{"y " + d.yes, "n " + d.no} }

func (d *confirmation) alive(a *app) bool { return d.subject == nil || d.subject(a) }
