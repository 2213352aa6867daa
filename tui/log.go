package tui

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// maxLogLines bounds the lines of the log that are kept here, to look back at.
const maxLogLines = 1000

// logScreen shows what nigh doctor finds, and below it the agent's log.
type logScreen struct {
	list    list
	checks  []control.Check
	ranAt   time.Time // of the checks
	running bool
	wrapped bool // long lines are shown whole
	level   int  // index into levels: lines below it are not shown
	begun   bool // both came once, and the selection was put where reading begins
}

// levels are the levels of the log, as the agent writes them.
var levels = []string{"DEBUG", "INFO", "WARN", "ERROR"}

type checksMsg struct {
	list []control.Check
	err  error
}

func newLogScreen() *logScreen { return &logScreen{level: 1} }

func (s *logScreen) title() string { return "Log" }
func (s *logScreen) in() scope     { return onLog }
func (s *logScreen) rows() *list   { return &s.list }

// badge is the number of checks that failed.
func (s *logScreen) badge(*app) int {
	n := 0
	for _, c := range s.checks {
		if c.State == "fail" {
			n++
		}
	}
	return n
}

// putLine takes a line of the log, and before it a word about those that are missing.
func (s *state) putLine(l control.LogLine) {
	if l.Missed > 0 {
		s.log = append(s.log, control.LogLine{Time: l.Time, Level: "WARN", Message: count(l.Missed, "line") + " missing here: they came faster than they were read"})
	}
	s.log = append(s.log, l)
	s.log = s.log[max(0, len(s.log)-maxLogLines):]
}

// refresh asks for the checks once.
func (s *logScreen) refresh(a *app) tea.Cmd {
	if !s.ranAt.IsZero() {
		return nil
	}
	return s.run(a)
}

// run runs the checks.
func (s *logScreen) run(a *app) tea.Cmd {
	if s.running || !a.conn.up {
		return nil
	}
	s.running = true
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		list, err := ctl.Doctor(ctx)
		return checksMsg{list, err}
	}
}

// took takes what the checks found, or what came of a change.
func (s *logScreen) took(a *app, msg tea.Msg) tea.Cmd {
	if m, ok := msg.(fixMsg); ok {
		return s.fixed(a, m)
	}
	m := msg.(checksMsg)
	s.running, s.ranAt = false, a.now
	if m.err != nil {
		return a.done(doneMsg{err: m.err})
	}
	s.checks = m.list
	for i := range s.checks {
		c := &s.checks[i]
		c.ID, c.Cause, c.Fix = printable(c.ID, a.th.ASCIIOnly), printable(c.Cause, a.th.ASCIIOnly), printable(c.Fix, a.th.ASCIIOnly)
	}
	return nil
}

// logRow is a row of the list: a check or a line.
type logRow struct {
	check *control.Check
	line  *control.LogLine
}

// sync takes the rows there are now: checks that found something first. Who is at
// the end of the log stays there.
func (s *logScreen) sync(a *app) []logRow {
	atEnd := len(s.list.keys) > 1 && s.list.at == len(s.list.keys)-1
	first := s.list.at == 0
	var rows []logRow
	var keys []string
	for _, state := range []string{"fail", "warn"} {
		for i := range s.checks {
			if c := &s.checks[i]; c.State == state && s.list.matches(c.ID, c.Cause, c.Fix) {
				rows, keys = append(rows, logRow{check: c}), append(keys, "check "+c.ID)
			}
		}
	}
	same, before := 0, time.Time{}
	for i := range a.st.log {
		l := &a.st.log[i]
		if l.Time.Equal(before) {
			same++
		} else {
			same, before = 0, l.Time
		}
		if levelOf(l.Level) < s.level || !s.list.matches(l.Level, l.Message, l.Attrs) {
			continue
		}
		rows, keys = append(rows, logRow{line: l}), append(keys, fmt.Sprintf("%d.%d", l.Time.UnixNano(), same))
	}
	s.list.set(keys)
	if !s.begun && !s.ranAt.IsZero() && len(a.st.log) > 0 {
		// What the checks found is read first, and if that is nothing, the newest.
		s.begun = true
		atEnd = len(rows) > 0 && rows[0].check == nil
		if first { // the log may be here before the checks are
			s.list.move(actFirst)
		}
	}
	if atEnd && len(keys) > 0 {
		s.list.move(actLast)
	}
	return rows
}

func levelOf(name string) int {
	for i, l := range levels {
		if l == name {
			return i
		}
	}
	return 1
}

func (s *logScreen) draw(a *app, w, h int) []string {
	rows := s.sync(a)
	title := "nothing passes the filter"
	if s.list.filter == "" {
		title = ""
	}
	var detail []pair
	if s.list.at < len(rows) {
		switch r := rows[s.list.at]; {
		case r.check != nil:
			title = "check " + r.check.ID
			detail = []pair{{"Found", sentence(r.check.Cause), s.style(a, r.check.State)}, {"To do", r.check.Fix, nil}}
		default:
			title = r.line.Message
			detail = []pair{{"When", r.line.Time.Local().Format("2006-01-02 15:04:05.000"), nil}, {"Level", r.line.Level, nil}, {"With", r.line.Attrs, nil}}
		}
	}
	return a.withDetail(w, h, 4, title,
		func(w, h int) []string { return s.table(a, rows, w, h) },
		func(w, h int) []string { return pairs(w, h, detail...) })
}

// style is how a state or level is shown.
func (s *logScreen) style(a *app, state string) func(string) string {
	switch state {
	case "fail", "ERROR":
		return a.th.Bad.Render
	case "warn", "WARN":
		return a.th.Warn.Render
	}
	return nil
}

func (s *logScreen) table(a *app, rows []logRow, w, h int) []string {
	lines := []string{a.th.Dim.Render(fit("   "+s.summary(a, w-3), w))}
	t := newTable(w, column{"", 10, false}, column{"", 7, false}, column{"", 0, false})
	first, end := s.window(rows, h-1, t.cols[2].w-1)
	for i := first; i < end; i++ {
		selected := s.list.keys[i] == s.list.key
		one, two, text := rows[i].texts()
		for _, part := range s.parts(text, t.cols[2].w-1) {
			if len(lines) == h {
				break
			}
			s.list.drew(len(lines), i)
			lines = append(lines, t.row(a, selected, cell{one, nil}, cell{two, s.style(a, two)}, cell{part, nil}))
			one, two = "", ""
		}
	}
	return lines
}

// texts are the three columns of a row.
func (r logRow) texts() (one, two, text string) {
	if c := r.check; c != nil {
		return "check", c.State, c.Cause
	}
	text = r.line.Message
	if r.line.Attrs != "" {
		text += "  " + r.line.Attrs
	}
	return r.line.Time.Local().Format("15:04:05"), r.line.Level, text
}

// parts is a text in the lines that it is shown in.
func (s *logScreen) parts(text string, w int) []string {
	if s.wrapped && text != "" {
		return wrap(text, w)
	}
	return []string{text}
}

// window returns the rows to draw in h lines, of which the selected one is whole if it can be.
func (s *logScreen) window(rows []logRow, h, w int) (first, end int) {
	first, end = s.list.window(h)
	if !s.wrapped {
		return first, end
	}
	height := func(i int) int {
		_, _, text := rows[i].texts()
		return len(s.parts(text, w))
	}
	used := 0
	for i := min(s.list.at, len(rows)-1); i >= first; i-- {
		if used += height(i); used > h && i < s.list.at {
			first = i + 1
			break
		}
	}
	return first, end
}

// copied is the line that is selected, or what to do about a check.
func (s *logScreen) copied(a *app) (what, text string) {
	rows := s.sync(a)
	if s.list.at >= len(rows) {
		return "", ""
	}
	if c := rows[s.list.at].check; c != nil && c.Fix != "" {
		return "what to do", c.Fix
	}
	one, two, text := rows[s.list.at].texts()
	return "the line", one + " " + two + " " + text
}

// summary says in w columns what the checks came to, and what is shown of the log.
func (s *logScreen) summary(a *app, w int) string {
	bad := map[string]int{}
	for _, c := range s.checks {
		bad[c.State]++
	}
	text := "CHECKS  "
	switch {
	case s.running:
		text += "running..."
	case s.ranAt.IsZero():
		text += "not run yet: d"
	case bad["fail"]+bad["warn"] == 0:
		text += fmt.Sprintf("all %d found nothing", len(s.checks))
	default:
		text += fmt.Sprintf("%d fail, %d warn, %d ok", bad["fail"], bad["warn"], bad["ok"])
	}
	tail := "   LOG  from " + levels[s.level] + " on"
	if !s.ranAt.IsZero() && !s.running {
		ago := ", " + strings.Replace(agoText(a.now.Sub(s.ranAt).Seconds())+" ago", "now ago", "just now", 1)
		if width(text+ago+tail) <= w {
			text += ago
		}
	}
	if a.st.logless {
		return text + "   LOG  not told: the agent is older than this program, restart it"
	}
	return text + tail
}

func (s *logScreen) idle(a *app, act action) bool {
	switch act {
	case actCheck:
		return s.running
	case actFix:
		rows := s.sync(a)
		return s.list.at >= len(rows) || rows[s.list.at].check == nil || fixName(rows[s.list.at].check.Fix) == ""
	case actReport:
		return a.report == nil
	}
	return false
}

func (s *logScreen) act(a *app, act action) tea.Cmd {
	switch act {
	case actCheck:
		return s.run(a)
	case actLevel:
		s.level = (s.level + 1) % len(levels)
	case actWrap:
		s.wrapped = !s.wrapped
	case actFix:
		return s.fix(a)
	case actReport:
		return s.report(a)
	}
	return nil
}
