package tui

import (
	"context"
	"fmt"
	"strings"
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
	large  bool          // a module is two cells, not half a one
	text   bool          // no code
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

// words are what is said beside the code, in w columns.
func (d *phoneDialog) words(a *app, w int) []string {
	clean := func(s string) string { return printable(s, a.th.ASCIIOnly) }
	key := "hidden: v shows it"
	if d.shown {
		key = clean(d.group.Passphrase)
	}
	lines := []string{a.th.Bold.Render("Wi-Fi network"), clean(d.group.SSID), "", a.th.Bold.Render("Passphrase"), key, ""}
	return append(lines, wrap("Who sees the code can join until the group ends.", w)...)
}

// cells is the code in whole cells, nil when it is not to be drawn so or the window is too small for it.
func (d *phoneDialog) cells(a *app) []string {
	if d.group.Passphrase == "" || d.text || a.th.HalfBlocks && !d.large {
		return nil
	}
	rows, err := wificode.Cells(wificode.URI(d.group.SSID, d.group.Passphrase))
	if err != nil || len(rows) > a.h-1 || len(rows[0]) > a.w {
		return nil
	}
	return rows
}

// whole draws the code in whole cells on all of the window: it needs that much.
func (d *phoneDialog) whole(a *app) []string {
	rows := d.cells(a)
	if rows == nil {
		return nil
	}
	side := a.w - len(rows[0]) - 2
	var beside []string
	if side >= 20 {
		beside = append(append(wrap("Point the phone's camera at it.", side), ""), d.words(a, side)...)
	}
	lines := make([]string, a.h-1)
	for y := range lines {
		line, text := "", ""
		if y < len(rows) {
			for rest := rows[y]; rest != ""; {
				n := len(rest) - len(strings.TrimLeft(rest, rest[:1]))
				line += a.th.Cells((rest[0] == 'X') != (d.dark && !a.th.Coloured())).Render(strings.Repeat(" ", n))
				rest = rest[n:]
			}
		} else {
			line = strings.Repeat(" ", len(rows[0]))
		}
		if y < len(beside) {
			text = beside[y]
		}
		lines[y] = line + fit("  "+text, a.w-len(rows[0]))
	}
	return lines
}

func (d *phoneDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Let a phone join"}
	if d.group.Passphrase == "" {
		why := d.why
		if why == "" {
			why = "Asking the agent..."
		}
		p.content = append([]string{""}, wrap(printable(why, a.th.ASCIIOnly), w)...)
		p.answers = []string{"", a.th.Dim.Render(strings.Join(d.hints(a), "   "))}
		return p
	}
	keys := wrapAnswers(d.hints(a), w)
	for i := range keys {
		keys[i] = a.th.Dim.Render(keys[i])
	}
	rows, err := wificode.Rows(wificode.URI(d.group.SSID, d.group.Passphrase), d.dark && !a.th.Coloured())
	side, full := 0, 0
	if len(rows) > 0 {
		full = len([]rune(rows[0]))
		side = w - full - 2
	}
	instead := ""
	switch {
	case d.text:
		instead = "Type the passphrase on the phone."
	case err != nil:
		instead = "There is no code for this name and passphrase: type the passphrase on the phone."
	case d.large || !a.th.HalfBlocks: // in whole cells; where they fit they are drawn elsewhere
		instead = fmt.Sprintf("In whole cells the code needs %d lines and %d columns: make the window larger, or type the passphrase on the phone.", full+1, 2*full)
	case len(rows)+len(keys) > h || side < 20:
		instead = fmt.Sprintf("The code needs %d lines and %d columns: make the window larger, or type the passphrase on the phone.", len(rows)+5, full+28)
	}
	if instead != "" {
		p.content = append(append(wrap(instead, w), ""), d.words(a, w)...)
	} else {
		beside := append(append(wrap("Point the phone's camera at it.", side), ""), d.words(a, side)...)
		for i, row := range rows {
			text := ""
			if i < len(beside) {
				text = beside[i]
			}
			p.content = append(p.content, a.th.QR.Render(row)+"  "+fit(text, side))
		}
	}
	p.answers = keys
	return p
}

func (d *phoneDialog) hints(a *app) []string {
	return hintsOf(inPhone, func(act action) bool {
		switch act {
		case actLarge:
			return d.text || !a.th.HalfBlocks
		case actInvert:
			return d.text || a.th.Coloured()
		}
		return act != actBack && d.group.Passphrase == ""
	})
}

func (d *phoneDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inPhone) {
	case actReveal:
		d.shown = !d.shown
	case actInvert:
		d.dark = !d.dark
	case actLarge:
		if a.th.HalfBlocks { // else there are only whole cells
			d.large = !d.large
		}
	case actTextOnly:
		d.text = !d.text
	case actBack:
		return a.close(d)
	}
	return nil
}
