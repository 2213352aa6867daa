package tui

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// Remedy is a change of the system that nigh doctor --fix can make. The functions may block.
type Remedy struct {
	Name    string                                      // after --fix
	Does    string                                      // what it does, one sentence
	Lost    string                                      // what is lost by it, one sentence; "" = nothing
	Path    string                                      // of the file that it writes; "" = none
	Text    string                                      // of the file
	InForce func() (bool, error)                        // whether it is made already
	Plan    func(ctx context.Context) ([]string, error) // the command lines that Apply will run; called before it
	Allowed func() error                                // not nil when this user may not make it
	Apply   func(ctx context.Context) error
}

// fixDialog shows a change of the system, and makes it when a person says yes. Where only root may, it gives the command.
type fixDialog struct {
	scroller
	remedy  *Remedy
	command string // that root may run
	allowed bool
}

type fixMsg struct {
	d    *fixDialog
	text string // said instead of opening it
	err  error
}

// fixName returns the name of the change that a check names, "" for none.
func fixName(fix string) string {
	_, name, _ := strings.Cut(fix, "doctor --fix ")
	name, _, _ = strings.Cut(name, " ")
	return strings.TrimRight(name, ",.;)")
}

// fix shows the change for the check that is selected.
func (s *logScreen) fix(a *app) tea.Cmd {
	rows := s.sync(a)
	if s.list.at >= len(rows) || rows[s.list.at].check == nil {
		return a.fail("Select a check that found something.", "g goes to the first.")
	}
	c := rows[s.list.at].check
	var r *Remedy
	for i := range a.remedies {
		if a.remedies[i].Name == fixName(c.Fix) {
			r = &a.remedies[i]
		}
	}
	if r == nil {
		return a.fail("nigh has no change of its own for this.", "To do: "+c.Fix)
	}
	d := &fixDialog{remedy: r, command: "sudo " + a.program + " doctor --fix " + r.Name}
	d.title, d.full = "Make this change?", true
	ctx := a.ctx
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		there, err := r.InForce()
		if err == nil && there {
			return fixMsg{text: "That change is in force already: d runs the checks again."}
		}
		d.allowed = r.Allowed() == nil
		var commands []string
		if err == nil {
			commands, err = r.Plan(ctx)
		}
		if err != nil && d.allowed {
			return fixMsg{err: err}
		}
		d.lines = func(w int) []string { return d.shown(a, commands, w) }
		return fixMsg{d: d}
	}
}

// shown is the change in lines.
func (d *fixDialog) shown(a *app, commands []string, w int) []string {
	clean := func(text string) string { return printable(text, a.th.ASCIIOnly) }
	lines := append([]string{}, wrap(d.remedy.Does, w)...)
	lines = append(lines, wrap(d.remedy.Lost, w)...)
	if !d.allowed {
		lines = append(append(lines, "", "Only root may do this. In a shell, run:"), wrap(clean(d.command), w)...)
	}
	if d.remedy.Path != "" {
		lines = append(lines, "", "It writes "+d.remedy.Path+":")
		for _, l := range strings.Split(strings.TrimSuffix(d.remedy.Text, "\n"), "\n") {
			lines = append(lines, wrap("  "+clean(l), w)...)
		}
	}
	if len(commands) > 0 {
		lines = append(lines, "", "It runs:")
	}
	for _, c := range commands {
		lines = append(lines, wrap("  # "+clean(c), w)...)
	}
	return lines
}

func (d *fixDialog) draw(a *app, w, h int) panel {
	p := d.scroller.draw(a, w, h)
	p.answers = []string{"", strings.Join(d.hints(a), "   "), a.th.Dim.Render("enter and esc mean no")}
	if over := len(p.content) + len(p.answers) - h; over > 0 && over < len(p.content) {
		p.content = p.content[:len(p.content)-over]
	}
	return p
}

func (d *fixDialog) hints(a *app) []string {
	hints := hintsOf(inFix, func(act action) bool { return act == actDown && d.most == 0 })
	if !d.allowed {
		hints[0] = "y copy the command"
	}
	return hints
}

func (d *fixDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inFix) {
	case actNo:
		return a.close(d)
	case actYes:
		if !d.allowed {
			return tea.Batch(a.copyText("the command", d.command), a.close(d))
		}
		ctx, r, undo := a.ctx, d.remedy, d.command+" --undo"
		return tea.Batch(a.close(d), func() tea.Msg {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if err := r.Apply(ctx); err != nil {
				return fixMsg{err: err}
			}
			return fixMsg{text: "Done. To take it back: " + undo}
		})
	}
	return d.scroller.key(a, k)
}

// fixed takes what came of asking for a change, or of making it.
func (s *logScreen) fixed(a *app, m fixMsg) tea.Cmd {
	switch {
	case m.err != nil:
		return a.done(doneMsg{err: m.err})
	case m.text != "":
		return tea.Batch(a.say(m.text), s.run(a))
	case a.top() != nil || a.screen() != screen(s):
		return nil // the person went elsewhere meanwhile
	}
	return a.open(m.d, true)
}

// report writes a bug report where a person says.
func (s *logScreen) report(a *app) tea.Cmd {
	write := a.report
	if write == nil {
		return a.fail("No bug report can be made here.", "")
	}
	return a.open(&prompt{
		title: "Write a bug report", label: "File", complete: true, in: newField(filepath.Join(a.dir, "nigh-bug-report.txt"), 4096),
		text: "Versions, links, checks and the log go into a new file, without names, addresses and keys. Nothing is sent: read it, then attach it to your report.",
		take: func(a *app, value string) (tea.Cmd, string) {
			path := a.path(value, a.dir)
			if strings.HasSuffix(value, "/") || value == "" {
				return nil, "Type the name of a file."
			}
			said := a.say("Writing the report...")
			return tea.Batch(said, a.call(time.Minute, "Written to "+path+". Read it before you give it away.", func(ctx context.Context) error { return write(ctx, path) })), ""
		},
	}, false)
}
