package tui

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"nigh/agent/control"
)

func (s *sharesScreen) draw(a *app, w, h int) []string {
	s.sync(a)
	if s.place.top() {
		if len(s.list.keys) == 0 && s.list.filter == "" {
			return s.empty(a, w, h)
		}
		title := "nothing passes the filter"
		if m := s.own(); m != nil {
			title = m.Name
		} else if p := s.device(a); p != nil {
			title = nameOf(p.Peer)
		}
		return a.withDetail(w, h, 0, title,
			func(w, h int) []string { return s.home(a, w, h) },
			func(w, h int) []string { return s.homeDetail(a, w, h) })
	}
	title := s.place.title()
	return a.withDetail(w, h, 0, cutMiddle(title, w-8),
		func(w, h int) []string { return s.listing(a, w, h) },
		func(w, h int) []string { return s.entryDetail(a, w, h) })
}

func (s *sharesScreen) empty(a *app, w, h int) []string {
	bw := min(64, w-4)
	lines := append([]string{centre(a.th.Bold.Render("Nothing is shared."), bw), "", "a  share a folder of this device, read-only", "f  search what trusted devices share", ""},
		wrap("Devices that you pair with are listed here, to look into what they share.", bw)...)
	if s.mineAt.IsZero() {
		lines = []string{centre("Asking what is shared...", bw)}
	}
	var out []string
	for range max(0, (h-len(lines))/3) {
		out = append(out, "")
	}
	for _, l := range lines {
		out = append(out, strings.Repeat(" ", (w-bw)/2)+l)
	}
	return out[:min(len(out), h)]
}

// home draws our own shares, and the devices that may share something.
func (s *sharesScreen) home(a *app, w, h int) []string {
	cols := []column{{"SHARED HERE", 18, false}, {"WHO MAY SEE IT", 21, false}, {"FOLDER", 0, false}, {"FILES", 11, true}}
	folder := w >= 76
	if !folder { // the details have it
		cols = []column{{"SHARED HERE", 18, false}, {"WHO MAY SEE IT", 0, false}, {"FILES", 11, true}}
	}
	t := newTable(w, cols...)
	devices := newTable(w, column{"", 24, false}, column{"", 0, false})
	lines := []string{t.head(a)}
	first, end := s.list.window(max(1, h-3))
	said := false
	for i := first; i < end; i++ {
		key := s.list.keys[i]
		if name, ok := strings.CutPrefix(key, ownRow); ok {
			for _, m := range s.mine {
				if m.Name != name {
					continue
				}
				files, style := fmt.Sprint(m.Files), func(x string) string { return x }
				if m.State != "ready" {
					files, style = m.State, a.th.Warn.Render
				}
				cells := []cell{{m.Name, nil}, {audienceText(m.For), nil}, {files, style}}
				if folder {
					cells = slices.Insert(cells, 2, cell{cutMiddle(m.Folder, t.cols[2].w-1), nil})
				}
				s.list.drew(len(lines), i)
				lines = append(lines, t.row(a, key == s.list.key, cells...))
			}
			continue
		}
		if !said {
			said = true
			lines = append(lines, "", a.th.Dim.Render("   ON OTHER DEVICES"))
		}
		p := a.st.peer(strings.TrimPrefix(key, deviceRow))
		if p == nil {
			continue
		}
		state := "near: enter looks"
		if p.State != "ready" {
			state = "away"
		}
		s.list.drew(len(lines), i)
		lines = append(lines, devices.row(a, key == s.list.key, cell{nameOf(p.Peer), nil}, cell{state, nil}))
	}
	return lines[:min(len(lines), h)]
}

func (s *sharesScreen) homeDetail(a *app, w, h int) []string {
	m := s.own()
	if m == nil {
		if p := s.device(a); p != nil && p.State == "ready" {
			return pairs(w, h, pair{"", "enter lists what this device shares with you", nil})
		}
		return pairs(w, h, pair{"", "enter looks for the device, and lists what it shares with you", nil})
	}
	problem := strings.TrimSpace(sentence(m.Error) + " " + sentence(m.Hint))
	amount := fmt.Sprintf("%s in %s, %s; %d hashed", count(m.Files, "file"), count(m.Dirs, "folder"), bytesText(m.Bytes), m.Hashed)
	var left []string
	if m.Skipped > 0 {
		left = append(left, fmt.Sprintf("%d (links, special files, names)", m.Skipped))
	}
	if m.Unreadable > 0 {
		left = append(left, fmt.Sprintf("%d that cannot be read", m.Unreadable))
	}
	watched := "changes are seen at once"
	if m.Watched == "periodic" {
		watched = "looked at every ten minutes"
	}
	return pairs(w, h, pair{"Problem", problem, a.th.Bad.Render}, pair{"Seen by", audienceText(m.For), nil}, pair{"Folder", m.Folder, nil},
		pair{"Amount", amount, nil}, pair{"Left out", strings.Join(left, ", "), nil}, pair{"Watched", watched, nil}, pair{"Note", sentence(m.Notice), nil})
}

// listing draws what is at a place of another device.
func (s *sharesScreen) listing(a *app, w, h int) []string {
	where := 0
	cols := []column{{"NAME", 0, false}, {"SIZE", 10, true}, {"CHANGED", 12, false}}
	if s.place.query != "" {
		where = w * 3 / 5
		cols = []column{{"NAME", 0, false}, {"SIZE", 10, true}, {"WHERE", where - 6, false}}
	}
	t := newTable(w, cols...)
	lines := []string{t.head(a)}
	first, end := s.list.window(h - 2)
	for i := first; i < end; i++ {
		key := s.list.keys[i]
		n := 0
		if _, err := fmt.Sscan(key, &n); err != nil || n >= len(s.shown) {
			continue
		}
		e := s.shown[n]
		name, size, last := e.label, bytesText(e.size), e.modified
		switch {
		case e.path == "" && s.place.query == "":
			last = count(e.files, "file")
			name += "/"
		case e.folder:
			name, size = name+"/", "folder"
		}
		if where > 0 {
			last = e.detail
		}
		s.list.drew(len(lines), i)
		lines = append(lines, t.row(a, key == s.list.key, cell{cutMiddle(name, t.cols[0].w-1), nil}, cell{size, nil}, cell{last, nil}))
	}
	note := s.note
	switch {
	case s.err != "":
		return append(lines, wrapAll(a.th.Bad.Render, s.err, w)...)
	case s.loading:
		note = "asking..."
	case len(s.shown) == 0 && s.place.query != "":
		note = "nothing found; " + note
	case len(s.shown) == 0:
		note = "nothing is shared with you here"
	case note == "":
		return lines
	}
	return append(lines, a.th.Dim.Render(cut("   "+note, w)))
}

// allTrusted is who may see a share that is for no one in particular.
const allTrusted = "all trusted devices"

// audienceText says who may see a share.
func audienceText(list []control.Member) string {
	if len(list) == 0 {
		return allTrusted
	}
	var names []string
	for _, m := range list {
		name := m.Name
		if name == "" {
			name = shortID(m.ID)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// wrapAll lays out a sentence below a list, a column from its edge.
func wrapAll(style func(string) string, text string, w int) []string {
	lines := wrap(text, w-2)
	for i := range lines {
		lines[i] = style(" " + lines[i])
	}
	return lines
}

func (s *sharesScreen) entryDetail(a *app, w, h int) []string {
	e := s.entry()
	if e == nil {
		return nil
	}
	var holders []string
	for _, x := range e.holders {
		holders = append(holders, printable(x.Device.Name+": "+path.Join(x.Share, x.Path), a.th.ASCIIOnly))
	}
	size := bytesText(e.size)
	if e.folder && e.files == 0 {
		size = ""
	}
	return pairs(w, h, pair{"Name", e.label, nil}, pair{"Size", size, nil}, pair{"Changed", e.modified, nil},
		pair{"BLAKE3", printable(e.hash, true), nil}, pair{"On", cut(strings.Join(holders, ", "), 3*(w-13)), nil})
}
