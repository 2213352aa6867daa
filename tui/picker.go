package tui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// maxEntries bounds the names of one folder that are shown.
const maxEntries = 10000

// entry is a name in a folder.
type entry struct {
	name string // raw, as the file system has it
	dir  bool
	size int64
	day  string
}

// picker chooses files and folders to send to one device.
type picker struct {
	to, peer string // DeviceID and name
	dir      string
	entries  []entry
	why      string // why the folder cannot be read
	more     bool   // it has more than maxEntries names
	hidden   bool
	list     list
	chosen   map[string]entry // by path
}

type dirMsg struct {
	d       *picker
	dir     string
	entries []entry
	more    bool
	err     error
	at      string // name to select
}

func newPicker(a *app, to, peer string) *picker {
	return &picker{to: to, peer: peer, dir: a.dir, chosen: map[string]entry{}}
}

// read reads the folder the picker is in.
func (d *picker) read() tea.Cmd { return d.readDir(d.dir, "") }

func (d *picker) readDir(dir, at string) tea.Cmd {
	return func() tea.Msg {
		m := dirMsg{d: d, dir: dir, at: at}
		f, err := os.Open(dir)
		if err != nil {
			m.err = err
			return m
		}
		defer f.Close()
		list, err := f.ReadDir(maxEntries + 1)
		if err != nil && len(list) == 0 && !errors.Is(err, os.ErrClosed) && err.Error() != "EOF" {
			m.err = err
			return m
		}
		if len(list) > maxEntries {
			list, m.more = list[:maxEntries], true
		}
		for _, e := range list {
			// Stat follows links, so that a link to a folder opens.
			info, err := os.Stat(filepath.Join(dir, e.Name()))
			if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
				continue // what cannot be sent is not offered
			}
			m.entries = append(m.entries, entry{e.Name(), info.IsDir(), info.Size(), info.ModTime().Format("2006-01-02")})
		}
		sort.Slice(m.entries, func(i, j int) bool {
			a, b := m.entries[i], m.entries[j]
			if a.dir != b.dir {
				return a.dir
			}
			return strings.ToLower(a.name) < strings.ToLower(b.name)
		})
		return m
	}
}

func (d *picker) update(a *app, msg tea.Msg) tea.Cmd {
	m, ok := msg.(dirMsg)
	if !ok || m.d != d {
		return nil
	}
	if m.err != nil {
		d.why = "Cannot read " + m.dir + ": " + reasonOf(m.err) + "."
		return nil
	}
	d.dir, d.entries, d.more, d.why = m.dir, m.entries, m.more, ""
	d.list = list{key: m.at}
	d.shown()
	return nil
}

// reasonOf is the last part of a file system error, which people understand.
func reasonOf(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// shown returns the entries that pass the filter, the folder above first.
func (d *picker) shown() []entry {
	var out []entry
	var keys []string
	if d.dir != "/" {
		out, keys = append(out, entry{name: "..", dir: true}), append(keys, "..")
	}
	for _, e := range d.entries {
		if !d.hidden && strings.HasPrefix(e.name, ".") || !d.list.matches(e.name) {
			continue
		}
		out, keys = append(out, e), append(keys, e.name)
	}
	if d.list.filter != "" && d.list.key == ".." && len(keys) > 1 {
		d.list.key = keys[1]
	}
	d.list.set(keys)
	return out
}

func (d *picker) draw(a *app, w, h int) panel {
	p := panel{title: "Send to " + cut(d.peer, 40)}
	filter := ""
	switch {
	case d.list.editing():
		filter = "filter: " + d.list.input.draw(a.th, 14)
	case d.list.filter != "":
		filter = "filter: " + printable(cut(d.list.filter, 14), a.th.ASCIIOnly)
	case d.hidden:
		filter = "hidden too"
	}
	dir := cutMiddle(printable(d.dir, a.th.ASCIIOnly), w-width(filter)-2)
	p.content = append(p.content, fit(a.th.Bold.Render(dir), w-width(filter))+filter, "")
	p.answers = append([]string{"", fit(d.summary(), w)}, answers(inPicker, w, nil)...)
	if d.why != "" {
		p.answers[1] = a.th.Bad.Render(fit(printable(d.why, a.th.ASCIIOnly), w))
	}
	shown := d.shown()
	// The box keeps its height while the filter is typed.
	room := max(1, min(12, h-len(p.content)-len(p.answers)))
	first, end := d.list.window(room)
	for i := first; i < end; i++ {
		p.content = append(p.content, d.row(a, shown[i], w))
	}
	for i := end - first; i < room; i++ {
		p.content = append(p.content, "")
	}
	return p
}

func (d *picker) row(a *app, e entry, w int) string {
	mark := "   "
	if e.name == d.list.key {
		mark = " " + a.th.Mark + " "
	}
	box := "[ ] "
	if _, ok := d.chosen[filepath.Join(d.dir, e.name)]; ok {
		box = "[x] "
	}
	name, size, day := printable(e.name, a.th.ASCIIOnly), bytesText(e.size), e.day
	if e.dir {
		name, size, day = name+"/", "folder", ""
	}
	if e.name == ".." {
		box, name, size = "    ", "..", ""
	}
	line := fit(mark+box+fit(cutMiddle(name, w-29), w-28)+fitRight(size, 8)+"  "+day, w)
	if e.name == d.list.key {
		return a.th.Selected.Render(line)
	}
	return line
}

// summary says what enter or s would send.
func (d *picker) summary() string {
	if len(d.chosen) == 0 {
		if d.more {
			return fmt.Sprintf("The folder has more than %d names: filter, or type a path.", maxEntries)
		}
		return "Nothing chosen: space chooses, enter sends a file."
	}
	files, folders, size := 0, 0, int64(0)
	for _, e := range d.chosen {
		if e.dir {
			folders++
		} else {
			files++
			size += e.size
		}
	}
	var parts []string
	if files > 0 {
		parts = append(parts, count(files, "file")+", "+bytesText(size))
	}
	if folders > 0 {
		parts = append(parts, count(folders, "folder"))
	}
	return "Chosen: " + strings.Join(parts, " and ") + ". s sends it."
}

func (d *picker) capturing() bool { return d.list.editing() }

func (d *picker) alive(*app) bool { return true }

func (d *picker) hints(*app) []string {
	if d.list.editing() {
		return []string{"type to filter", "enter keep it", "esc clear it"}
	}
	return hintsOf(inPicker, nil)
}

func (d *picker) key(a *app, k tea.KeyMsg) tea.Cmd {
	if d.list.editing() {
		d.list.edit(k)
		return nil
	}
	act := find(k.String(), inPicker, everywhere)
	shown := d.shown()
	var sel entry
	if d.list.at < len(shown) {
		sel = shown[d.list.at]
	}
	path := filepath.Join(d.dir, sel.name)
	switch act {
	case actUp, actDown, actPageUp, actPageDown, actFirst, actLast:
		d.list.move(act)
	case actFilter:
		d.list.startFilter()
	case actHidden:
		d.hidden = !d.hidden
	case actChoose:
		if sel.name == "" || sel.name == ".." {
			return nil
		}
		if _, ok := d.chosen[path]; ok {
			delete(d.chosen, path)
		} else {
			d.chosen[path] = sel
		}
		d.list.move(actDown)
	case actOut:
		return d.up()
	case actInto:
		return d.into(sel)
	case actStart:
		switch {
		case sel.dir:
			return d.into(sel)
		case len(d.chosen) == 0 && sel.name != "":
			d.chosen[path] = sel
		}
		return d.send(a)
	case actDone:
		return d.send(a)
	case actPath:
		return d.typePath(a, k.String())
	case actBack:
		if d.list.filter != "" {
			d.list.clearFilter()
			return nil
		}
		return a.close(d)
	}
	return nil
}

func (d *picker) up() tea.Cmd { return d.readDir(filepath.Dir(d.dir), filepath.Base(d.dir)) }

func (d *picker) into(e entry) tea.Cmd {
	switch {
	case e.name == "..":
		return d.up()
	case e.dir:
		return d.readDir(filepath.Join(d.dir, e.name), "")
	}
	return nil
}

// typePath asks for a path: a folder is opened, a file is chosen.
func (d *picker) typePath(a *app, key string) tea.Cmd {
	start := strings.TrimSuffix(d.dir, "/") + "/"
	if key == "~" {
		start = "~/"
	}
	return a.open(&prompt{
		title: "Type a path", label: "Path", complete: true, in: newField(start, 4096),
		take: func(a *app, value string) (tea.Cmd, string) {
			path := a.path(value, d.dir)
			at := ""
			if !strings.HasSuffix(value, "/") && value != "~" {
				// A file is found by opening its folder and selecting it there.
				return d.readTyped(path), ""
			}
			return d.readDir(path, at), ""
		},
	}, false)
}

// readTyped opens a folder, or the folder of a file with the file selected.
func (d *picker) readTyped(path string) tea.Cmd {
	return func() tea.Msg {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return d.readDir(path, "")()
		} else if err != nil {
			return dirMsg{d: d, dir: path, err: err}
		}
		return d.readDir(filepath.Dir(path), filepath.Base(path))()
	}
}

// send offers what is chosen, and shows the transfer.
func (d *picker) send(a *app) tea.Cmd {
	if len(d.chosen) == 0 {
		return a.fail("Nothing is chosen.", "space chooses the selected file or folder.")
	}
	var paths []string
	for p := range d.chosen {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	a.dir = d.dir
	ctx, ctl, to, peer := a.ctx, a.ctl, d.to, d.peer
	offer := func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		made, err := ctl.Send(ctx, control.SendRequest{Paths: paths, To: []string{to}})
		m := doneMsg{err: err, text: "Offered to " + peer + "."}
		if err == nil && len(made) > 0 {
			id := made[0].ID
			m.then = func(a *app) tea.Cmd {
				a.showTransfer(id)
				return nil
			}
		}
		return m
	}
	return tea.Batch(offer, a.close(d))
}

// showTransfer goes to a transfer.
func (a *app) showTransfer(id string) {
	for i, s := range a.screens {
		if t, ok := s.(*transfersScreen); ok {
			a.tab = i
			t.list.clearFilter()
			t.list.seek(printable(id, a.th.ASCIIOnly)) // the agent may tell of it later than it answers
		}
	}
}
