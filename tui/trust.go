package tui

import (
	"fmt"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// trustDialog asks a person to compare the whole DeviceID with what the other
// device shows.
type trustDialog struct {
	quiet
	id, name string
}

func (d *trustDialog) alive(a *app) bool { return a.st.peer(d.id) != nil }

func (d *trustDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Trust this device?"}
	p.content = append(p.content, wrap(fmt.Sprintf("Does %s show exactly this ID right now? On it, run: nigh id", quoted(d.name)), w)...)
	p.content = append(p.content, "")
	for _, l := range idLines(d.id, w-4) {
		p.content = append(p.content, "  "+a.th.Bold.Render(l))
	}
	p.content = append(p.content, "")
	p.content = append(p.content, wrap("Press y only if all of it is the same. If it differs, another device uses this name: press n.", w)...)
	p.answers = []string{"", "y the same: trust     n do not trust", a.th.Dim.Render("enter and esc mean no")}
	if own := a.st.status.ID; len(p.content)+len(p.answers)+4 <= h && own != "" {
		p.content = append(p.content, "", "There, trust this device too. Its ID is")
		for _, l := range idLines(own, w-4) {
			p.content = append(p.content, "  "+a.th.Dim.Render(l))
		}
	}
	return p
}

func (d *trustDialog) hints(*app) []string { return []string{"y trust", "n do not trust"} }

func (d *trustDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch find(k.String(), inQuestion) {
	case actYes:
		r := control.TrustRequest{Action: "add", Device: d.id, Name: d.name}
		return tea.Batch(a.changeTrust(r, d.name+" is trusted."), a.close(d))
	case actNo:
		return a.close(d)
	}
	return nil
}
