package tui

import (
	"context"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// welcomeDialog asks, at the first run of a device, what it is called and where received files go.
type welcomeDialog struct {
	lines []*welcomeLine
	fixed string // where it stands what the device is called, when nobody here decides that
	at    int    // the line that is typed in
	busy  bool   // the agent was told
	wrong string // why it does not do
}

// welcomeLine is one question.
type welcomeLine struct {
	key, label string
	was        string
	in         *field
}

type (
	welcomeMsg struct {
		d     *welcomeDialog
		err   error
		taken bool // a name and a folder were given, not put off
	}
	// serviceMsg has the command that makes nigh a service, "" when there is nothing to ask.
	serviceMsg string
)

func newWelcome(a *app) *welcomeDialog {
	st := &a.st.status
	d := &welcomeDialog{fixed: st.NameFixed}
	ask := func(key, label, value string, limit int) {
		d.lines = append(d.lines, &welcomeLine{key, label, value, newField(value, limit)})
	}
	if d.fixed == "" {
		ask("name", "Name", st.Name, 40)
	}
	ask("inbox", "Inbox", st.Agent.Inbox, 400)
	return d
}

// welcome opens the questions of the first run, once, when nothing else is going on.
func (a *app) welcome() tea.Cmd {
	if !a.st.status.FirstRun || a.welcomed || !a.conn.up || a.top() != nil || a.capturing() || a.w < minWidth || a.h < minHeight {
		return nil
	}
	a.welcomed = true
	return a.open(newWelcome(a), true)
}

func (d *welcomeDialog) draw(a *app, w, _ int) panel {
	p := panel{title: "Welcome to nigh"}
	p.content = wrap("The name others see, and the inbox: where files go.\nnigh config set changes both later.", w)
	if d.fixed != "" {
		p.content = wrap("The policy of this machine ("+d.fixed+") calls this device "+quoted(a.st.status.Name)+".", w)
	}
	p.content = append(p.content, "")
	const label = 14
	for i, l := range d.lines {
		mark, text := "  ", cutMiddle(printable(l.in.value(), a.th.ASCIIOnly), w-label)
		if i == d.at {
			mark, text = a.th.Bold.Render("> "), l.in.draw(a.th, w-label)
		}
		p.content = append(p.content, mark+fit(l.label, label-2)+text)
	}
	p.content = append(p.content, "")
	switch {
	case d.busy:
		p.content = append(p.content, "Telling the agent...")
	case d.wrong != "":
		for _, l := range wrap(printable(d.wrong, a.th.ASCIIOnly), w) {
			p.content = append(p.content, a.th.Bad.Render(l))
		}
	}
	p.answers = append([]string{""}, answers(inWelcome, w, d.never)...)
	return p
}

// never are the keys that make no sense: with one line there is no next one.
func (d *welcomeDialog) never(act action) bool { return act == actNext && len(d.lines) < 2 }

func (d *welcomeDialog) capturing() bool { return true }

func (d *welcomeDialog) alive(a *app) bool { return d.busy || a.st.status.FirstRun }

func (d *welcomeDialog) hints(*app) []string { return hintsOf(inWelcome, d.never) }

func (d *welcomeDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	if d.busy {
		return nil
	}
	d.wrong = ""
	switch find(k.String(), inWelcome) {
	case actStart:
		r := control.SettingsRequest{Set: map[string]string{}, Asked: true}
		for _, l := range d.lines {
			value := l.in.value()
			if value == l.was {
				continue
			}
			if l.key == "inbox" && value != "" {
				value = a.path(value, a.home)
			}
			r.Set[l.key] = value
		}
		return d.tell(a, r, true)
	case actBack:
		return d.tell(a, control.SettingsRequest{Asked: true}, false)
	case actNext:
		d.at = (d.at + 1) % len(d.lines)
	case actUp:
		d.at = (d.at + len(d.lines) - 1) % len(d.lines)
	default:
		d.lines[d.at].in.key(k)
	}
	return nil
}

// tell has the agent keep what was chosen.
func (d *welcomeDialog) tell(a *app, r control.SettingsRequest, taken bool) tea.Cmd {
	d.busy = true
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err := ctl.ChangeConfiguration(ctx, r)
		return welcomeMsg{d, err, taken}
	}
}

func (d *welcomeDialog) update(a *app, msg tea.Msg) tea.Cmd {
	m, ok := msg.(welcomeMsg)
	if !ok || m.d != d {
		return nil
	}
	d.busy = false
	if m.err != nil && m.taken {
		text, hint := sentences(m.err)
		d.wrong = text + " " + hint
		return nil
	}
	cmds := []tea.Cmd{a.close(d)}
	if m.err != nil {
		text, hint := sentences(m.err)
		cmds = append(cmds, a.fail(text, hint))
	}
	if service := a.service; service != nil {
		ctx := a.ctx
		cmds = append(cmds, func() tea.Msg {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			return serviceMsg(service(ctx))
		})
	}
	return tea.Batch(cmds...)
}

// askService asks whether nigh should run as a service, which the command makes it.
func (a *app) askService(command string) tea.Cmd {
	if command == "" || a.top() != nil || a.capturing() {
		return nil
	}
	return a.open(&confirmation{
		title: "Run nigh all the time?",
		text: []string{
			"The agent runs in this window now: without Wi-Fi Direct, and until you quit. As a service it runs all the time, with Wi-Fi Direct. The command for it:",
			printable(command, a.th.ASCIIOnly),
		},
		yes: "leave nigh, to run it", no: "not now",
		do: func(a *app) tea.Cmd {
			a.leaving(command)
			return tea.Quit
		},
	}, true)
}
