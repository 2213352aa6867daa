package tui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"nigh/agent/control"
)

// View draws the frame: always exactly a.h lines of a.w columns.
func (a *app) View() string {
	if a.w <= 0 || a.h <= 0 {
		return ""
	}
	var lines []string
	switch {
	case a.w < minWidth || a.h < minHeight:
		lines = a.message(fmt.Sprintf("nigh needs %dx%d, this is %dx%d", minWidth, minHeight, a.w, a.h))
	case !a.st.known:
		lines = a.overlay(a.waiting())
	default:
		lines = a.overlay(a.frame())
	}
	frame := strings.Join(lines, "\n")
	if a.th.Console {
		return oneColumn(frame)
	}
	return frame
}

// message draws one sentence in the middle of nothing.
func (a *app) message(text string) []string {
	text = cut(text, a.w*a.h)
	words := wrap(text, a.w)
	words = words[:min(len(words), a.h)]
	lines := make([]string, a.h)
	top := (a.h - len(words)) / 2
	for i := range lines {
		if j := i - top; j >= 0 && j < len(words) {
			lines[i] = centre(strings.TrimSpace(words[j]), a.w)
		} else {
			lines[i] = strings.Repeat(" ", a.w)
		}
	}
	return lines
}

// waiting is the screen before anything is known.
func (a *app) waiting() []string {
	th := a.th
	var body []string
	switch {
	case a.conn.err == nil:
		body = []string{"Asking the agent..."}
	case a.embedded && a.conn.tries < 5:
		body = []string{"Starting the agent in this window..."}
	default:
		text, hint := sentences(a.conn.err)
		body = append(body, th.Bold.Render(printable(text, th.ASCIIOnly)), "")
		body = append(body, wrap(printable(hint, th.ASCIIOnly), a.w-8)...)
		body = append(body, "", a.nextTry())
	}
	lines := []string{fit(" "+th.Bold.Render("nigh"), a.w), a.rule("")}
	top := max(1, (a.h-4-len(body))/2)
	for i := range a.h - 4 {
		s := ""
		if j := i - top; j >= 0 && j < len(body) {
			s = "    " + body[j]
		}
		lines = append(lines, fit(s, a.w))
	}
	return append(lines, a.rule(""), a.hintsLine())
}

// nextTry says when the agent is tried again.
func (a *app) nextTry() string {
	left := a.conn.next.Sub(a.now).Seconds()
	if left <= 1 {
		return "Trying again now."
	}
	return fmt.Sprintf("Trying again in %.0f s.", left)
}

// frame is a screen with everything around it.
func (a *app) frame() []string {
	lines := []string{a.header(), a.tabs(), a.rule("")}
	status := a.statusLines()
	h := a.h - 5 - len(status)
	body := a.screen().draw(a, a.w, h)
	for i := range h {
		s := ""
		if i < len(body) {
			s = body[i]
		}
		s = fit(s, a.w)
		if !a.conn.up {
			s = a.th.Dim.Render(ansi.Strip(s))
		}
		lines = append(lines, s)
	}
	return append(append(append(lines, a.rule("")), status...), a.hintsLine())
}

// rule is a line across, with a title when there is one.
func (a *app) rule(title string) string {
	if a.th.Linear {
		return fit(" "+a.th.Bold.Render(cut(title, a.w-2)), a.w)
	}
	return ruleOf(a.th.Horizontal, a.th.Bold.Render, title, a.w)
}

func ruleOf(line string, style func(string) string, title string, w int) string {
	if title == "" {
		return strings.Repeat(line, w)
	}
	title = cut(title, w-6)
	return strings.Repeat(line, 2) + " " + style(title) + " " + strings.Repeat(line, max(0, w-4-width(title)))
}

// header says who we are and what the network does.
func (a *app) header() string {
	s := &a.st.status
	right := a.summary()
	me := "me " + s.Short
	if a.embedded {
		me += ", agent in this window"
	}
	used := width("nigh") + width(me) + 6
	for len(right) > 1 && used+10+width(a.join(right)) > a.w {
		right = right[1:]
	}
	r := a.join(right)
	name := cut(s.Name, max(4, a.w-used-width(r)-2))
	left := " " + a.th.Bold.Render("nigh") + "  " + name + "  " + me
	return fit(fit(left, a.w-width(r)-1)+r, a.w)
}

func (a *app) join(parts []string) string { return strings.Join(parts, " "+a.th.Dot+" ") }

// summary is the right end of the header; the first part is left out first.
func (a *app) summary() []string {
	s := &a.st.status
	var parts []string
	up, down, moving := 0.0, 0.0, false
	for _, t := range a.st.transfers {
		if t.over() {
			break
		}
		if t.State == "running" && t.Rate >= 0 && t.Rate < 1e15 {
			moving = true
			if t.Direction == "send" {
				up += t.Rate
			} else {
				down += t.Rate
			}
		}
	}
	if moving {
		parts = append(parts, fmt.Sprintf("%s %.1f %s %.1f MB/s", a.th.Down, down/1e6, a.th.Up, up/1e6))
	} else {
		parts = append(parts, radioText(s.Radio.State, s.Radio.Ifname))
	}
	switch {
	case len(s.Groups) == 0 && s.Radio.Finding:
		parts = append(parts, "Direct looking")
	case len(s.Groups) == 0 && s.Radio.State == "ready":
		parts = append(parts, "Direct idle")
	case len(s.Groups) == 1 && s.Groups[0].Role == "GO":
		parts = append(parts, "GO, "+count(s.Groups[0].Clients, "client"))
	case len(s.Groups) == 1:
		parts = append(parts, "Direct connected")
	case len(s.Groups) > 1:
		parts = append(parts, count(len(s.Groups), "group"))
	}
	lan := "LAN off"
	for _, l := range s.Links {
		if l.Usable && l.Kind != "direct" {
			lan = "LAN on"
		}
	}
	return append(parts, lan)
}

// radioText says in few words what the radio is doing.
func radioText(state, ifname string) string {
	if ifname == "" {
		ifname = "Wi-Fi"
	}
	switch state {
	case "ready":
		return ifname + " ready"
	case "starting":
		return ifname + " starting"
	case "no_p2p":
		return ifname + " without Wi-Fi Direct"
	case "off":
		return ifname + " switched off"
	case "disabled":
		return "Wi-Fi Direct off"
	}
	return "no Wi-Fi Direct"
}

// radioState is radioText for a place that says "Wi-Fi Direct" before it.
func radioState(r control.Radio) string {
	switch r.State {
	case "disabled":
		return "off"
	case "absent":
		return "not possible here"
	}
	return radioText(r.State, r.Ifname)
}

// tabs names the screens, and what waits for an answer. Where there is little room
// the air between them goes first, then the names of those that are not shown.
func (a *app) tabs() string {
	waits := []string{""}
	if n := len(a.st.inbox); n > 0 {
		waits = []string{fmt.Sprintf("%d waiting for you: i ", n), fmt.Sprintf("%d waiting: i ", n), fmt.Sprintf("%d: i ", n)}
	}
	line, waiting := "", ""
	for _, try := range [][2]int{{0, 0}, {0, 1}, {1, 1}, {0, 2}, {1, 2}, {2, 0}, {2, 1}, {2, 2}} {
		line, waiting = a.tabLine(try[0]), waits[min(try[1], len(waits)-1)]
		if width(line)+width(waiting) <= a.w {
			break
		}
	}
	return fit(line, a.w-width(waiting)) + a.th.Warn.Render(waiting)
}

// tabLine is tabs with air (0), without (1), and with numbers for the others (2).
func (a *app) tabLine(form int) string {
	line := ""
	for i, s := range a.screens {
		label := fmt.Sprintf("%d %s", i+1, s.title())
		if form == 2 && i != a.tab {
			label = fmt.Sprint(i + 1)
		}
		if n := s.badge(a); n > 0 {
			label += fmt.Sprintf(" %d", n)
			if form == 2 && i != a.tab {
				label = fmt.Sprintf("%d(%d)", i+1, n)
			}
		}
		a.tabAt[i] = width(line)
		switch {
		case i == a.tab:
			line += " " + a.th.Bold.Render("["+label+"]")
		case form == 0:
			line += "  " + label + " "
		default:
			line += " " + label
		}
	}
	return line
}

// maxStatus bounds the lines of the status: what is to be done about a failure must not be cut off in a narrow window.
const maxStatus = 4

// statusLines are the lines for what just happened, or what waits; there is always one.
func (a *app) statusLines() []string {
	rows := a.screen().rows()
	text, style := "", func(s string) string { return s }
	switch {
	case a.top() != nil && a.notice.text == "":
	case rows.editing():
		label := " filter: "
		return []string{label + rows.input.draw(a.th, a.w-width(label)-1) + " "}
	case a.notice.failed:
		text, style = a.notice.text, a.th.Bad.Render
	case a.notice.text != "" && (a.conn.up || a.top() != nil):
		text = a.notice.text
	case !a.conn.up: // what was done before matters less
		text, style = "No answer from the agent.", a.th.Bad.Render
		if a.conn.err != nil {
			said, hint := sentences(a.conn.err)
			text = printable(strings.TrimSpace(said+" "+hint), a.th.ASCIIOnly)
		}
		text = fmt.Sprintf("%s As of %s. %s", text, a.conn.since.Local().Format("15:04"), a.nextTry())
	case rows.filter != "":
		text = fmt.Sprintf("filter %q: %d shown, esc clears it", printable(rows.filter, a.th.ASCIIOnly), len(rows.keys))
	case len(a.st.inbox) > 0:
		text, style = a.st.inbox[0].summary()+": i to answer", a.th.Warn.Render
	case len(a.st.status.Notices) > 0:
		text = sentence(a.st.status.Notices[0])
	}
	lines := wrap(text, a.w-2)
	if len(lines) == 0 {
		lines = []string{""}
	}
	if len(lines) > maxStatus {
		lines = append(lines[:maxStatus-1], lines[maxStatus-1]+" ...")
	}
	for i, l := range lines {
		lines[i] = fit(" "+l, a.w)
		if text != "" {
			lines[i] = style(lines[i])
		}
	}
	return lines
}

// hintsLine names the keys that mean something now.
func (a *app) hintsLine() string {
	if l := a.top(); l != nil {
		return fit(hintLine(l.d.hints(a), 1, a.w), a.w)
	}
	if a.st.known && a.screen().rows().editing() {
		return fit(hintLine([]string{"type to filter", "enter keep it", "esc clear it"}, 1, a.w), a.w)
	}
	if s := a.writer(); s != nil && a.st.known {
		return fit(hintLine(hintsOf(s.fieldKeys(), nil), 1, a.w), a.w)
	}
	var hints []string
	if a.conn.err != nil && !a.conn.up {
		hints = hintsOf(noAgent, nil)
	}
	if a.st.known {
		hints = append(hints, hintsOf(a.screen().in(), func(act action) bool { return !a.conn.up || a.screen().idle(a, act) })...)
	}
	hints = append(hints, hintsOf(everywhere, func(act action) bool {
		return !a.st.known && act != actHelp && act != actQuit || act == actIncoming && len(a.st.inbox) == 0 ||
			act == actFilter && len(a.screen().rows().keys) == 0
	})...)
	return fit(hintLine(hints, 2, a.w), a.w)
}

// sentence writes an error text of the agent as a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	if !strings.HasPrefix(s, "nigh ") { // a command is written as it is typed
		r, n := utf8.DecodeRuneInString(s)
		s = string(unicode.ToUpper(r)) + s[n:]
	}
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "!") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return s
}
