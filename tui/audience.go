package tui

import (
	"context"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// audienceDialog chooses the devices that may see a share of ours: all that are trusted, or some.
type audienceDialog struct {
	quiet
	share  string
	list   list
	names  map[string]string // by DeviceID
	chosen map[string]bool   // of the rows, with everyone for all
	wrong  string
	// take gets the devices, none for all, and what to call them.
	take func(a *app, ids []string, names string) tea.Cmd
}

// who opens the dialog for the share that is selected.
func (s *sharesScreen) who(a *app) tea.Cmd {
	m := s.own()
	if m == nil {
		return a.fail("Only who may see a share of this device can be chosen.", "")
	}
	name := m.Name
	return a.open(s.audience(a, name, m.For, func(a *app, ids []string, names string) tea.Cmd {
		if ids == nil {
			ids = []string{}
		}
		return s.change(a, name, control.ShareChange{For: &ids}, name+" can now be seen by "+names+".")
	}), false)
}

// audience asks who may see a share, which now those may; none stands for all trusted devices.
func (s *sharesScreen) audience(a *app, share string, now []control.Member, take func(a *app, ids []string, names string) tea.Cmd) *audienceDialog {
	d := &audienceDialog{share: share, names: map[string]string{everyone: allTrusted}, chosen: map[string]bool{everyone: len(now) == 0}, take: take}
	keys := []string{everyone}
	add := func(id, name string) {
		if d.names[id] == "" {
			d.names[id] = name
			keys = append(keys, id)
		}
	}
	for _, x := range now {
		name := x.Name
		if name == "" {
			name = shortID(x.ID)
		}
		add(x.ID, name)
		d.chosen[x.ID] = true
	}
	for _, p := range a.st.peers {
		if p.ID != "" && p.Trust == "trusted" {
			add(p.ID, nameOf(p.Peer))
		}
	}
	d.list.set(keys)
	return d
}

func (d *audienceDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Who may see " + cut(printable(d.share, a.th.ASCIIOnly), 40) + "?"}
	style, said := func(s string) string { return s }, ""
	n := len(d.ids())
	switch {
	case d.wrong != "":
		said, style = d.wrong, a.th.Bad.Render
	case d.chosen[everyone] && len(d.list.keys) == 1:
		said = "No device is trusted yet. Those that you pair with will see it; w changes that."
	case d.chosen[everyone]:
		said = "Every trusted device sees it, also those that you pair with later."
	case n > 0:
		said = count(n, "device") + " chosen; no other one sees it."
	}
	p.answers = []string{""}
	for _, l := range wrap(said, w) {
		p.answers = append(p.answers, style(l))
	}
	p.answers = append(p.answers, answers(inAudience, w, nil)...)
	first, end := d.list.window(max(1, h-len(p.answers)-1))
	for i := first; i < end; i++ {
		key := d.list.keys[i]
		mark, box, id := "   ", "[ ] ", shortID(key)
		if key == everyone {
			id = ""
		}
		if d.chosen[key] {
			box = "[x] "
		}
		if i == d.list.at {
			mark = " " + a.th.Mark + " "
		}
		line := fit(mark+box+fit(d.names[key], w-18)+" "+id, w)
		if i == d.list.at {
			line = a.th.Selected.Render(line)
		}
		p.content = append(p.content, line)
	}
	return p
}

// ids are the devices that are chosen, nil when all are.
func (d *audienceDialog) ids() []string {
	var ids []string
	for _, id := range d.list.keys {
		if id != everyone && d.chosen[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (d *audienceDialog) hints(*app) []string { return hintsOf(inAudience, nil) }

func (d *audienceDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	d.wrong = ""
	switch act := find(k.String(), inAudience, everywhere); act {
	case actChoose:
		key := d.list.key
		d.chosen[key] = !d.chosen[key]
		switch {
		case key != everyone:
			d.chosen[everyone] = false
		case d.chosen[key]:
			d.chosen = map[string]bool{everyone: true}
		}
		d.list.move(actDown)
	case actUp, actDown, actPageUp, actPageDown, actFirst, actLast:
		d.list.move(act)
	case actBack:
		return a.close(d)
	case actStart:
		ids := d.ids()
		if ids == nil && !d.chosen[everyone] {
			d.wrong = "Choose all trusted devices, or at least one."
			return nil
		}
		names := allTrusted
		if ids != nil {
			var called []string
			for _, id := range ids {
				called = append(called, d.names[id])
			}
			names = strings.Join(called, ", ")
		}
		return tea.Batch(d.take(a, ids, names), a.close(d))
	}
	return nil
}

// change has the agent change a share of ours, and asks how it is then.
func (s *sharesScreen) change(a *app, name string, r control.ShareChange, text string) tea.Cmd {
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		now, err := ctl.ChangeShare(ctx, name, r)
		return doneMsg{text: text, err: err, then: func(*app) tea.Cmd {
			s.mineAt = time.Time{}
			if s.list.key == ownRow+name {
				s.list.seek(ownRow + now.Name)
			}
			return nil
		}}
	}
}

// edit changes the name of a share of ours, and whether hidden names are shared.
func (s *sharesScreen) edit(a *app) tea.Cmd {
	m := s.own()
	if m == nil {
		return a.fail("Only a share of this device can be changed.", "")
	}
	name := m.Name
	hidden := &choice{"Hidden names", []string{"left out", "shared too"}, 0}
	if m.Hidden {
		hidden.at = 1
	}
	return a.open(&form{
		title: "Change the share " + cut(name, 30), label: "Name", text: newField(name, 255), lines: []*choice{hidden},
		intro: "Hidden names begin with a dot. Nothing is read anew for a change.",
		take: func(a *app, text string) (tea.Cmd, string) {
			if text == "" {
				return nil, "Type a name."
			}
			r := control.ShareChange{}
			if text != name {
				r.Name = &text
			}
			if show := hidden.at == 1; show != m.Hidden {
				r.Hidden = &show
			}
			if r == (control.ShareChange{}) {
				return a.say("Nothing is changed."), ""
			}
			return s.change(a, name, r, "Changed "+text+"."), ""
		},
		subject: func(*app) bool {
			for i := range s.mine {
				if s.mine[i].Name == name {
					return true
				}
			}
			return false
		},
	}, false)
}
