package tui

import (
	"os"
	"path/filepath"
	"strings"

	tea "github.com/charmbracelet/bubbletea"
)

// prompt is a dialog with one text field.
type prompt struct {
	title, text, label string
	in                 *field
	complete           bool // tab completes a path
	wrong              string
	// take gets the text. It returns what to do, or a sentence saying why the
	// text does not do and nothing happens.
	take    func(a *app, value string) (tea.Cmd, string)
	subject func(a *app) bool // false when it is gone; nil = never
}

type completedMsg struct {
	d     *prompt
	typed string // what it was made from
	value string
	names []string // when several fit
}

func (d *prompt) draw(a *app, w, h int) panel {
	p := panel{title: d.title}
	if d.text != "" {
		p.content = append(p.content, "")
		p.content = append(p.content, wrap(d.text, w)...)
	}
	label := d.label + "  "
	p.content = append(p.content, "", label+d.in.draw(a.th, w-width(label)), "")
	if d.wrong != "" {
		for _, l := range wrap(printable(d.wrong, a.th.ASCIIOnly), w) {
			p.content = append(p.content, a.th.Bad.Render(l))
		}
	}
	p.answers = []string{"", strings.Join(d.hints(a), "   ")}
	return p
}

func (d *prompt) capturing() bool { return true }

func (d *prompt) alive(a *app) bool { return d.subject == nil || d.subject(a) }

func (d *prompt) hints(*app) []string {
	return hintsOf(inText, func(act action) bool { return act == actNext && !d.complete })
}

func (d *prompt) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inText) {
	case actStart:
		cmd, wrong := d.take(a, d.in.value())
		if d.wrong = wrong; wrong != "" {
			return nil
		}
		return tea.Batch(cmd, a.close(d))
	case actBack:
		return a.close(d)
	case actNext:
		if d.complete {
			typed, home, dir := d.in.value(), a.home, a.dir
			return func() tea.Msg {
				value, names := completePath(typed, home, dir)
				return completedMsg{d, typed, value, names}
			}
		}
		return nil
	}
	d.wrong = ""
	d.in.key(k)
	return nil
}

func (d *prompt) update(a *app, msg tea.Msg) tea.Cmd {
	m, ok := msg.(completedMsg)
	if !ok || m.d != d || m.typed != d.in.value() {
		return nil
	}
	d.in.set(m.value)
	d.wrong = ""
	if len(m.names) > 1 {
		d.wrong = "Fits: " + cut(strings.Join(m.names, "  "), 200)
	}
	return nil
}

// path makes an absolute path of a typed one.
func (a *app) path(typed, base string) string { return absPath(typed, a.home, base) }

func absPath(typed, home, base string) string {
	switch {
	case typed == "~":
		return home
	case strings.HasPrefix(typed, "~/"):
		return filepath.Join(home, typed[2:])
	case filepath.IsAbs(typed):
		return filepath.Clean(typed)
	}
	return filepath.Join(base, typed)
}

// completePath adds to a typed path what all names that fit begin with.
func completePath(typed, home, base string) (value string, names []string) {
	dir, part := filepath.Split(typed)
	if typed == "~" {
		return "~/", nil
	}
	entries, err := os.ReadDir(absPath(dir, home, base))
	if err != nil {
		return typed, nil
	}
	common := ""
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, part) || part == "" && strings.HasPrefix(name, ".") {
			continue
		}
		if info, err := os.Stat(filepath.Join(absPath(dir, home, base), name)); err == nil && info.IsDir() {
			name += "/"
		}
		if len(names) == 0 {
			common = name
		}
		for !strings.HasPrefix(name, common) {
			r := []rune(common)
			common = string(r[:len(r)-1])
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return typed, nil
	}
	return dir + common, names
}

// scroller is a dialog that shows lines, more than fit.
type scroller struct {
	quiet
	title string
	lines func(w int) []string
	full  bool // as wide as the screen
	// subject is false when what it shows is gone; nil = never
	subject func(a *app) bool
	off     int
	page    int
	most    int // the last line that may be at the top
}

func (d *scroller) draw(a *app, w, h int) panel {
	lines := d.lines(w)
	room := max(1, h-2)
	d.page = room
	d.most = max(0, len(lines)-room)
	d.off = max(0, min(d.off, d.most))
	end := min(len(lines), d.off+room)
	p := panel{title: d.title, content: append([]string(nil), lines[d.off:end]...)}
	where := ""
	if d.most > 0 {
		where = "   more: " + map[bool]string{true: "below", false: "above"}[d.off < d.most]
	}
	p.answers = []string{"", a.th.Dim.Render(strings.Join(d.hints(a), "   ") + where)}
	return p
}

func (d *scroller) alive(a *app) bool { return d.subject == nil || d.subject(a) }

func (d *scroller) wide() bool { return d.full }

func (d *scroller) hints(*app) []string {
	return hintsOf(inHelp, func(act action) bool { return act == actDown && d.most == 0 })
}

func (d *scroller) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inHelp) {
	case actDown:
		d.off++
	case actUp:
		d.off--
	case actPageDown:
		d.off += d.page
	case actPageUp:
		d.off -= d.page
	case actFirst:
		d.off = 0
	case actLast:
		d.off = d.most
	case actBack:
		return a.close(d)
	}
	d.off = max(0, min(d.off, d.most))
	return nil
}
