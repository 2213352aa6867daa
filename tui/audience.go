package tui

import (
	"context"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// audienceDialog chooses the devices that may see a share of ours.
type audienceDialog struct {
	quiet
	screen *sharesScreen
	share  string
	list   list
	names  map[string]string // by DeviceID
	chosen map[string]bool
}

// who opens the dialog for the share that is selected.
func (s *sharesScreen) who(a *app) tea.Cmd {
	m := s.own()
	if m == nil {
		return a.fail("Only who may see a share of this device can be chosen.", "")
	}
	d := &audienceDialog{screen: s, share: m.Name, names: map[string]string{}, chosen: map[string]bool{}}
	var keys []string
	add := func(id, name string) {
		if d.names[id] == "" {
			d.names[id] = name
			keys = append(keys, id)
		}
	}
	for _, x := range m.For {
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
	if len(keys) == 0 {
		return a.fail("No device is trusted yet.", "Pair with one first: 1, then p.")
	}
	d.list.set(keys)
	return a.open(d, false)
}

func (d *audienceDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Who may see " + cut(d.share, 40) + "?"}
	first, end := d.list.window(max(1, h-5))
	for i := first; i < end; i++ {
		id := d.list.keys[i]
		mark, box := "   ", "[ ] "
		if d.chosen[id] {
			box = "[x] "
		}
		if i == d.list.at {
			mark = " " + a.th.Mark + " "
		}
		line := fit(mark+box+fit(d.names[id], w-18)+" "+shortID(id), w)
		if i == d.list.at {
			line = a.th.Selected.Render(line)
		}
		p.content = append(p.content, line)
	}
	said := "None is chosen: all trusted devices see it."
	if n := len(d.ids()); n > 0 {
		said = count(n, "device") + " chosen; no other one sees it."
	}
	p.answers = append([]string{"", fit(said, w)}, answers(inAudience, w, nil)...)
	return p
}

// ids are the devices that are chosen.
func (d *audienceDialog) ids() []string {
	ids := []string{}
	for _, id := range d.list.keys {
		if d.chosen[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (d *audienceDialog) hints(*app) []string { return hintsOf(inAudience, nil) }

func (d *audienceDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	switch act := find(k.String(), inAudience, everywhere); act {
	case actChoose:
		d.chosen[d.list.key] = !d.chosen[d.list.key]
		d.list.move(actDown)
	case actUp, actDown, actPageUp, actPageDown, actFirst, actLast:
		d.list.move(act)
	case actBack:
		return a.close(d)
	case actStart:
		ids := d.ids()
		return tea.Batch(d.screen.change(a, d.share, control.ShareChange{For: &ids}, "Changed who may see "+d.share+"."), a.close(d))
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
