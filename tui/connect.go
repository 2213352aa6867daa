package tui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// groupTime is how long forming a group may take before it is given up here. The
// agent has shorter limits of its own; this one is for an agent that hangs.
const groupTime = 3 * time.Minute

// choice is one line of a form: one of several values.
type choice struct {
	label  string
	values []string // what people read
	at     int
}

// groupDialog forms a Wi-Fi Direct group: first a form, then the steps as they
// happen, then why it did not work. After a yes to a request of another device
// it has only the steps, because the agent goes on by itself.
type groupDialog struct {
	title  string
	intro  string
	lines  []*choice
	pin    *field // below the lines while the PIN is typed; nil = not asked
	at     int    // selected line; len(lines) = the PIN
	make   func(d *groupDialog) (control.GroupRequest, string)
	names  []string // steps that are expected
	done   string
	follow bool               // the steps decide, not a call
	cancel context.CancelFunc // while it runs
	err    error
	wrong  string
}

type groupMsg struct {
	d   *groupDialog
	err error
}

// methods are the ways to agree on a connection, as in control.GroupRequest.
var methods = []string{"pbc", "show_pin", "enter_pin"}

// newConnect joins the group of a device, or forms one with it.
func newConnect(device, name string) *groupDialog {
	return &groupDialog{
		title: "Connect to " + cut(name, 40),
		intro: "Over Wi-Fi Direct, without a router. Your Wi-Fi connection stays.",
		lines: []*choice{{"Confirm by", []string{"yes on both devices", "a PIN shown here", "the PIN it shows"}, 0}},
		make: func(d *groupDialog) (control.GroupRequest, string) {
			r := control.GroupRequest{Action: "join", Device: device, Method: methods[d.lines[0].at]}
			if r.Method != "enter_pin" {
				return r, ""
			}
			pin, ok := pinOf(d.pin.value())
			if !ok {
				return r, "A PIN has 4 or 8 digits."
			}
			r.PIN = pin
			return r, ""
		},
		names: []string{"find", "negotiate", "group", "address", "session"},
		done:  "Connected to " + name + ".",
	}
}

// newCreate starts a group of our own.
func newCreate() *groupDialog {
	return &groupDialog{
		title: "Create a Wi-Fi Direct group",
		intro: "This device becomes the group owner, and others join. Your Wi-Fi connection stays.",
		lines: []*choice{
			{"Band", []string{"automatic", "2.4 GHz", "5 GHz"}, 0},
			{"Keep it", []string{"yes: same name and key next time", "no"}, 0},
		},
		make: func(d *groupDialog) (control.GroupRequest, string) {
			return control.GroupRequest{
				Action: "create", Band: []string{"", "2", "5"}[d.lines[0].at], Persistent: d.lines[1].at == 0,
			}, ""
		},
		names: []string{"group", "address"},
		done:  "The group is up.",
	}
}

// newFollow shows the steps after a yes to a request. The PIN stays on the
// screen, because the other side types it now.
func newFollow(a *app, name, pin string) *groupDialog {
	a.st.steps = nil
	if pin != "" {
		a.st.steps = []control.Step{{What: "group", Name: "pin", State: "running", Text: pin}}
	}
	return &groupDialog{
		title: "Connecting to " + cut(name, 40), follow: true, cancel: func() {},
		names: []string{"negotiate", "group", "address"},
		done:  "Connected to " + name + ".",
	}
}

// stepped takes a step that the agent reports, when no call waits for the end.
func (d *groupDialog) stepped(a *app, s control.Step) tea.Cmd {
	switch {
	case !d.follow || !d.running():
		return nil
	case s.State == "failed":
		d.cancel = nil
		d.err = &control.Error{Code: control.CodeFailed, Message: s.Text}
		return nil
	case s.Name == "address" && s.State == "ok":
		return tea.Batch(a.close(d), a.say(d.done))
	}
	return nil
}

// stepped gives a step to the dialog that shows it. A failure that no dialog
// shows goes to the status line.
func (a *app) stepped(s control.Step) tea.Cmd {
	for _, l := range a.stack {
		if d, ok := l.d.(*groupDialog); ok {
			return d.stepped(a, s)
		}
	}
	if s.State == "failed" {
		const what = "Wi-Fi Direct: " // as errors of the agent begin
		return a.fail(what+sentence(strings.TrimPrefix(s.Text, what)), "")
	}
	return nil
}

// stepTexts is what people read for the name of a step.
var stepTexts = map[string]string{
	"find":      "find the device",
	"negotiate": "agree on the group owner",
	"group":     "form the group",
	"address":   "get an address",
	"session":   "prove the keys",
	"pin":       "PIN for the other device",
}

func (d *groupDialog) running() bool { return d.cancel != nil }

func (d *groupDialog) draw(a *app, w, h int) panel {
	p := panel{title: d.title}
	if !d.running() && d.err == nil {
		p.content = append(p.content, "")
		p.content = append(p.content, wrap(d.intro, w)...)
		p.content = append(p.content, "")
		for i, l := range d.lines {
			text := fit(l.label, 12) + "< " + fit(l.values[l.at], min(34, w-20)) + " >"
			p.content = append(p.content, d.line(a, i, text))
		}
		if d.pin != nil {
			p.content = append(p.content, d.line(a, len(d.lines), fit("PIN", 12))+d.pin.draw(a.th, 16))
		}
		if d.wrong != "" {
			p.content = append(p.content, "", a.th.Bad.Render(d.wrong))
		}
		p.answers = []string{"", strings.Join(d.hints(a), "   ")}
		return p
	}
	p.content = append(p.content, "")
	p.content = append(p.content, d.steps(a, w)...)
	p.content = append(p.content, "")
	if d.err != nil {
		text, hint := sentences(d.err)
		for _, l := range wrap(printable(text, a.th.ASCIIOnly), w) {
			p.content = append(p.content, a.th.Bad.Render(l))
		}
		p.content = append(p.content, wrap(printable(hint, a.th.ASCIIOnly), w)...)
	}
	p.answers = []string{"", strings.Join(d.hints(a), "   ")}
	return p
}

func (d *groupDialog) line(a *app, i int, text string) string {
	if i == d.at {
		return " " + a.th.Mark + " " + a.th.Bold.Render(text)
	}
	return "   " + text
}

// steps shows the expected steps, and those that came unexpected.
func (d *groupDialog) steps(a *app, w int) []string {
	names := append([]string(nil), d.names...)
	by := map[string]control.Step{}
	last := -1 // the furthest expected step that is done
	for _, s := range a.st.steps {
		by[s.Name] = s
		if i := slices.Index(names, s.Name); s.State == "ok" {
			last = max(last, i)
		}
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	var lines []string
	for i, n := range names {
		s, came := by[n]
		if came && s.State == "running" && i < last {
			s.State = "ok" // what comes after it is done
		}
		state, style := "-", a.th.Dim.Render
		if came {
			switch s.State {
			case "ok":
				state, style = "ok", a.th.Good.Render
			case "failed":
				state, style = "failed", a.th.Bad.Render
			case "running":
				state, style = "...", a.th.Bold.Render
			default:
				state = s.State
			}
			if d.err != nil && s.State == "running" {
				state, style = "failed", a.th.Bad.Render
			}
		}
		text := stepTexts[n]
		if text == "" {
			text = n
		}
		tail := ""
		if came && s.State == "ok" && s.After > 0 {
			tail = fmt.Sprintf("%.1f s", s.After)
		}
		if came && s.Text != "" {
			tail = strings.TrimSpace(tail + "  " + s.Text)
		}
		if n == "pin" {
			state, style, tail = ">>", a.th.Bold.Render, spaced(s.Text)
			text, tail = a.th.Bold.Render(text), a.th.Bold.Render(tail)
		}
		room := w - 34
		if came && width(tail) > room && s.Text != "" && n != "pin" {
			tail = s.Text // rather than how long it took
		}
		lines = append(lines, " "+style(fit(state, 8))+fit(text, 25)+cut(tail, room))
	}
	return lines
}

func (d *groupDialog) hints(*app) []string {
	switch {
	case d.follow:
		return []string{"esc close"}
	case d.running():
		return hintsOf(inSteps, nil)
	case d.err != nil:
		return []string{"enter try again", "esc close"}
	}
	return hintsOf(inForm, func(act action) bool { return act == actNext && len(d.lines) == 1 && d.pin == nil })
}

func (d *groupDialog) capturing() bool {
	return !d.running() && d.err == nil && d.pin != nil && d.at == len(d.lines)
}

func (d *groupDialog) alive(*app) bool { return true }

func (d *groupDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	key := k.String()
	if d.follow {
		if find(key, inSteps) == actBack {
			return a.close(d)
		}
		return nil
	}
	if d.running() {
		if find(key, inSteps) == actBack {
			d.cancel()
			return tea.Batch(a.close(d), a.say("Given up."))
		}
		return nil
	}
	act := find(key, inForm)
	if d.capturing() {
		switch k.Type {
		case tea.KeyEnter, tea.KeyEsc, tea.KeyTab, tea.KeyShiftTab, tea.KeyUp, tea.KeyDown:
		default:
			d.wrong = ""
			d.pin.key(k)
			return nil
		}
	}
	switch act {
	case actBack:
		return a.close(d)
	case actStart:
		return d.start(a)
	}
	if d.err != nil {
		return nil
	}
	n := len(d.lines)
	if d.pin != nil {
		n++
	}
	switch act {
	case actNext:
		d.at = (d.at + 1) % n
	case actUp:
		d.at = (d.at + n - 1) % n
	case actChange:
		if d.at < len(d.lines) {
			d.change(key)
		}
	}
	return nil
}

func (d *groupDialog) change(key string) {
	l := d.lines[d.at]
	step := 1
	if key == "left" || key == "h" {
		step = len(l.values) - 1
	}
	l.at = (l.at + step) % len(l.values)
	d.wrong = ""
	if d.lines[0].label == "Confirm by" {
		d.pin = nil
		if methods[d.lines[0].at] == "enter_pin" {
			d.pin = newField("", 16)
		}
	}
}

// start sends the request, or goes to what is missing in the form.
func (d *groupDialog) start(a *app) tea.Cmd {
	r, wrong := d.make(d)
	if d.wrong = wrong; wrong != "" {
		if d.pin != nil {
			d.at = len(d.lines)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(a.ctx, groupTime)
	d.cancel, d.err = cancel, nil
	a.st.steps = nil
	ctl := a.ctl
	return func() tea.Msg {
		defer cancel()
		_, err := ctl.Group(ctx, r)
		return groupMsg{d, err}
	}
}

func (d *groupDialog) update(a *app, msg tea.Msg) tea.Cmd {
	m, ok := msg.(groupMsg)
	if !ok || m.d != d {
		return nil
	}
	if d.follow && m.err == nil {
		return nil // it is begun; the steps follow
	}
	d.cancel = nil
	if m.err != nil && !errors.Is(m.err, context.Canceled) {
		d.err = m.err
		return nil
	}
	return tea.Batch(a.close(d), a.say(d.done))
}
