package tui

import (
	"strings"
	"time"

	"nigh/agent/control"
)

func (s *messagesScreen) draw(a *app, w, h int) []string {
	rows := s.sync(a)
	if len(rows) <= 1 && s.list.filter == "" && len(a.st.messages) == 0 {
		return s.empty(a, w, h)
	}
	lw := min(26, max(16, w/4))
	s.width = lw
	if a.th.Linear {
		lh := max(2, min(len(rows), h/3))
		names := s.names(a, rows, w, lh)
		return append(append(names, ""), s.talk(a, w, h-len(names)-1)...)
	}
	left := s.names(a, rows, lw, h)
	right := s.talk(a, w-lw-2, h)
	lines := make([]string, h)
	for i := range lines {
		l, r := "", ""
		if i < len(left) {
			l = left[i]
		}
		if i < len(right) {
			r = right[i]
		}
		lines[i] = fit(l, lw) + a.th.Vertical + " " + fit(r, w-lw-2)
	}
	return lines
}

func (s *messagesScreen) empty(a *app, w, h int) []string {
	lines := []string{
		a.th.Bold.Render("No messages."), "",
		"Messages go between devices that trust each other.",
		"To pair with one: 1 for the devices, then p on it.",
	}
	var out []string
	for range max(0, (h-len(lines))/3) {
		out = append(out, "")
	}
	for _, l := range lines {
		out = append(out, centre(l, w))
	}
	return out[:min(len(out), h)]
}

// names draws who there is to talk with.
func (s *messagesScreen) names(a *app, rows []talk, w, h int) []string {
	var lines []string
	first, end := s.list.window(h)
	for i := first; i < end && i < len(rows); i++ {
		t := rows[i]
		mark := "  "
		if t.key == s.list.key {
			mark = a.th.Mark + " "
		}
		unread := ""
		if t.unread > 0 {
			unread = " " + count(t.unread, "new")
			unread = strings.TrimSuffix(unread, "s")
		}
		s.list.drew(len(lines), i)
		line := " " + mark + fit(t.name, w-4-width(unread)) + unread + " "
		switch {
		case t.key == s.list.key:
			line = a.th.Selected.Render(line)
		case t.unread > 0:
			line = a.th.Bold.Render(line)
		case t.key != everyone && t.state != "ready":
			line = a.th.Dim.Render(line)
		}
		lines = append(lines, line)
	}
	return lines
}

// talk draws what was said with the selected device, and the field below it.
func (s *messagesScreen) talk(a *app, w, h int) []string {
	t, ok := s.selected(a)
	if !ok {
		return []string{"nothing passes the filter"}
	}
	head := t.name
	switch {
	case t.key == everyone:
		head += " " + a.th.Dot + " trusted ones only"
	case !t.trusted:
		head += " " + a.th.Dot + " not trusted: nothing can be sent to it"
	case t.state == "ready":
		head += " " + a.th.Dot + " near"
	default:
		head += " " + a.th.Dot + " away: messages wait for it"
	}
	var below []string
	if t.trusted {
		edge := strings.Repeat(a.th.Horizontal, w)
		if a.th.Linear {
			edge = "Write:"
		}
		below = append([]string{edge}, s.draft().draw(a.th, w, s.writing)...)
	}
	room := max(1, h-2-len(below))
	lines := s.said(a, t, w)
	s.page, s.most = room, max(0, len(lines)-room)
	s.off = max(0, min(s.off, s.most))
	end := len(lines) - s.off
	out := []string{a.th.Bold.Render(cut(head, w)), ""}
	if s.off > 0 {
		out[1] = a.th.Dim.Render(cut("newer ones below: pgdown", w))
	}
	out = append(out, lines[max(0, end-room):end]...)
	for len(out) < h-len(below) {
		out = append(out, "")
	}
	return append(out, below...)
}

// said is a talk in lines of w columns. Each text is indented below its own
// heading, so that no line of another device looks like one of nigh's.
func (s *messagesScreen) said(a *app, t talk, w int) []string {
	var lines []string
	day := ""
	last := uint64(0) // our newest message, whose state is always said
	for _, m := range a.st.messages {
		if m.Direction == "send" && with(m, t.key) {
			last = m.Seq
		}
	}
	for _, m := range a.st.messages {
		if !with(m, t.key) {
			continue
		}
		clock := "     "
		if at, err := time.Parse(time.RFC3339, m.Time); err == nil {
			if d := dayText(at.Local(), a.now.Local()); d != day {
				if day = d; len(lines) > 0 {
					lines = append(lines, "")
				}
				lines = append(lines, a.th.Dim.Render(d))
			}
			clock = at.Local().Format("15:04")
		}
		who := "me"
		if m.Direction == "receive" {
			who = nameFor(m)
		} else if t.key == everyone {
			who = "me to " + recipients(m)
		}
		head := " " + clock + " " + a.th.Bold.Render(cut(who, w-8))
		body := lineTexts(m.Text, w-7)
		if t.key != everyone && len(body) == 1 && width(who)+width(body[0])+9 <= w {
			lines = append(lines, head+"  "+body[0])
		} else {
			lines = append(lines, head)
			for _, b := range body {
				lines = append(lines, "       "+b)
			}
		}
		if m.Direction == "send" {
			if word, style := s.fate(a, m, t.key, m.Seq == last); word != "" {
				for _, l := range wrap(word, w-7) {
					lines = append(lines, style(fitRight(l, w)))
				}
			}
		}
	}
	if len(lines) == 0 {
		lines = append(lines, a.th.Dim.Render("Nothing said yet."))
	}
	return lines
}

// fate is what became of a message of ours; "" when that needs no word.
func (s *messagesScreen) fate(a *app, m control.Message, key string, last bool) (string, func(string) string) {
	state, why, near := m.State, "", false
	delivered := 0
	for _, r := range m.To {
		if r.State == "delivered" {
			delivered++
		}
		if r.Peer == key || key == everyone && r.State == m.State {
			state, why, near = r.State, r.Error, r.Near
		}
	}
	some := ""
	if key == everyone && len(m.To) > 1 && delivered < len(m.To) {
		some = count(delivered, "device") + " of " + count(len(m.To), "device") + " got it; "
		some = strings.Replace(some, " devices of", " of", 1)
	}
	switch state {
	case "delivered":
		if last {
			return "delivered", a.th.Dim.Render
		}
	case "waiting":
		if near {
			return some + "being sent", a.th.Dim.Render
		}
		return some + "waiting, away", a.th.Warn.Render
	case "refused", "failed":
		return some + reason(state, why), a.th.Bad.Render
	}
	return "", nil
}

func nameFor(m control.Message) string {
	if m.PeerName != "" {
		return m.PeerName
	}
	return shortID(m.Peer)
}

// recipients names who a message of ours is for.
func recipients(m control.Message) string {
	var names []string
	for _, r := range m.To {
		name := r.PeerName
		if name == "" {
			name = shortID(r.Peer)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// lineTexts breaks a text into lines of at most w columns, keeping its own.
func lineTexts(text string, w int) []string {
	var lines []string
	for _, l := range strings.Split(text, "\n") {
		if l == "" {
			lines = append(lines, "")
		} else {
			lines = append(lines, wrap(l, w)...)
		}
	}
	return lines
}

// dayText names a day, as seen from now.
func dayText(at, now time.Time) string {
	switch day := at.Format("2006-01-02"); day {
	case now.Format("2006-01-02"):
		return "Today"
	case now.AddDate(0, 0, -1).Format("2006-01-02"):
		return "Yesterday"
	default:
		return day
	}
}
