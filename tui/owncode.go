package tui

import (
	"context"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// ownCodeDialog shows this device's own setup code, a secret: it is asked for when the
// dialog opens, and gone with it.
type ownCodeDialog struct {
	quiet
	code control.SetupCode // as the agent answered; empty before
	why  string            // why there is none
}

type ownCodeMsg struct {
	d    *ownCodeDialog
	code control.SetupCode
	err  error
}

func openOwnCode(a *app) tea.Cmd {
	d := &ownCodeDialog{}
	return tea.Batch(a.open(d, false), d.ask(a, false))
}

// ask asks the agent for the code, or for a new one.
func (d *ownCodeDialog) ask(a *app, anew bool) tea.Cmd {
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		code, err := ctl.SetupCode(ctx, control.SetupCodeRequest{New: anew})
		return ownCodeMsg{d, code, err}
	}
}

func (d *ownCodeDialog) update(_ *app, msg tea.Msg) tea.Cmd {
	m, ok := msg.(ownCodeMsg)
	if !ok || m.d != d {
		return nil
	}
	d.code, d.why = m.code, ""
	if m.err != nil {
		text, hint := sentences(m.err)
		d.why = text + " " + hint
	}
	return nil
}

func (d *ownCodeDialog) alive(*app) bool { return true }

func (d *ownCodeDialog) draw(a *app, w, _ int) panel {
	p := panel{title: "The setup code of this device", answers: []string{"", a.th.Dim.Render(strings.Join(d.hints(a), "   "))}}
	if d.code.Code == "" {
		why := d.why
		if why == "" {
			why = "Asking the agent..."
		}
		p.content = append([]string{""}, wrap(printable(why, a.th.ASCIIOnly), w)...)
		return p
	}
	p.content = wrap("Whoever types this code on another device is trusted here without a question: treat it as a password.", w)
	p.content = append(p.content, "", centre(a.th.Bold.Render(d.code.Code), w), "")
	if d.code.Locked > 0 {
		text := "No code is taken for " + clockText(d.code.Locked) + ", after " + count(d.code.Wrong, "wrong one") + ". A new code takes the lock away."
		p.content = append(p.content, wrap(text, w)...)
	}
	return p
}

func (d *ownCodeDialog) hints(*app) []string {
	return hintsOf(inOwnCode, func(act action) bool { return act == actNewCode && d.code.Code == "" })
}

func (d *ownCodeDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inOwnCode) {
	case actBack:
		return a.close(d)
	case actNewCode:
		if d.code.Code == "" {
			return nil
		}
		return a.open(&confirmation{
			title: "Make a new code?",
			text:  []string{"The old one is worth nothing any more."},
			yes:   "make one", no: "keep it",
			do: func(a *app) tea.Cmd { return d.ask(a, true) },
		}, false)
	}
	return nil
}
