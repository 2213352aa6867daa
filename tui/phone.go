package tui

import (
	"context"
	"fmt"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
	"nigh/tui/wificode"
)

// phoneDialog shows the code with which a phone joins a group of ours as a plain
// Wi-Fi device. What it shows is a secret: it is asked for when the dialog opens
// and gone with it.
type phoneDialog struct {
	quiet
	ifname string
	group  control.Group // with its passphrase, once the agent has answered
	shown  bool          // the passphrase is shown in letters
	dark   bool          // dark modules are drawn, for a light terminal without colours
	why    string        // why there is no code
}

type phoneMsg struct {
	d      *phoneDialog
	groups []control.Group
	err    error
}

// phones opens the dialog for the group that is selected, or the only one.
func (s *networkScreen) phones(a *app) tea.Cmd {
	ifname := ""
	for _, g := range a.st.status.Groups {
		if g.Role == "GO" && (ifname == "" || "group:"+g.Ifname == s.list.key) {
			ifname = g.Ifname
		}
	}
	if ifname == "" {
		return a.fail("This device owns no group that a phone could join.", "Press c to create one.")
	}
	d := &phoneDialog{ifname: ifname}
	ctx, ctl := a.ctx, a.ctl
	return tea.Batch(a.open(d, false), func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		groups, err := ctl.Groups(ctx)
		return phoneMsg{d, groups, err}
	})
}

func (d *phoneDialog) update(a *app, msg tea.Msg) tea.Cmd {
	m, ok := msg.(phoneMsg)
	if !ok || m.d != d {
		return nil
	}
	if m.err != nil {
		text, hint := sentences(m.err)
		d.why = text + " " + hint
		return nil
	}
	for _, g := range m.groups {
		if g.Ifname == d.ifname {
			d.group = g
		}
	}
	if d.group.Passphrase == "" {
		d.why = "The passphrase of this group is not known here."
	}
	return nil
}

func (d *phoneDialog) wide() bool { return true }

func (d *phoneDialog) alive(a *app) bool {
	for _, g := range a.st.status.Groups {
		if g.Ifname == d.ifname {
			return true
		}
	}
	return false
}

func (d *phoneDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Let a phone join"}
	clean := func(s string) string { return printable(s, a.th.ASCIIOnly) }
	if d.group.Passphrase == "" {
		why := d.why
		if why == "" {
			why = "Asking the agent..."
		}
		p.content = append([]string{""}, wrap(clean(why), w)...)
		p.answers = []string{"", a.th.Dim.Render(hintsOf(inPhone, nil)[2])}
		return p
	}
	key := "hidden: v shows it"
	if d.shown {
		key = clean(d.group.Passphrase)
	}
	words := func(w int) []string {
		lines := []string{a.th.Bold.Render("Wi-Fi network"), clean(d.group.SSID), "", a.th.Bold.Render("passphrase"), key, ""}
		return append(lines, wrap("Who sees the code can join until the group ends.", w)...)
	}
	rows, err := wificode.Rows(wificode.URI(d.group.SSID, d.group.Passphrase), d.dark && !a.th.Coloured())
	side := 0
	if len(rows) > 0 {
		side = w - len([]rune(rows[0])) - 2
	}
	switch {
	case err != nil || !a.th.HalfBlocks:
		p.content = append(wrap("This terminal cannot draw the code: type the passphrase on the phone.", w), "")
		p.content = append(p.content, words(w)...)
	case len(rows)+1 > h || side < 20:
		p.content = append(wrap(fmt.Sprintf("The code needs %d lines and %d columns: make the window larger, or type the passphrase on the phone.", len(rows)+5, len([]rune(rows[0]))+28), w), "")
		p.content = append(p.content, words(w)...)
	default:
		beside := append(wrap("Point the phone's camera at it.", side), "")
		beside = append(beside, words(side)...)
		for i, row := range rows {
			text := ""
			if i < len(beside) {
				text = beside[i]
			}
			p.content = append(p.content, a.th.QR.Render(row)+"  "+fit(text, side))
		}
	}
	hints := hintsOf(inPhone, func(act action) bool { return act == actInvert && (a.th.Coloured() || !a.th.HalfBlocks) })
	p.answers = []string{a.th.Dim.Render(cut(hintLine(hints, 1, w), w))}
	return p
}

func (d *phoneDialog) hints(a *app) []string {
	return hintsOf(inPhone, func(act action) bool { return act == actInvert && (a.th.Coloured() || !a.th.HalfBlocks) })
}

func (d *phoneDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inPhone) {
	case actReveal:
		d.shown = !d.shown
	case actInvert:
		d.dark = !d.dark
	case actBack:
		return a.close(d)
	}
	return nil
}
