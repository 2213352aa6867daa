package tui

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// get asks for a file, a folder or a whole share, after a question.
func (s *sharesScreen) get(a *app, e *shared) tea.Cmd {
	r := control.GetRequest{Device: s.place.device, Share: e.share, Path: e.path}
	from := s.place.name
	if s.place.query != "" {
		h := e.holders[0]
		from = printable(h.Device.Name, a.th.ASCIIOnly)
		r.Device = h.Device.ID
		if e.hash != "" && !e.folder {
			// By its content, from whoever has it.
			r = control.GetRequest{Hash: e.hash}
			for _, h := range e.holders {
				r.From = append(r.From, h.Device.ID)
			}
			if len(e.holders) > 1 {
				from = count(len(e.holders), "device")
			}
		}
	}
	what := quoted(e.label)
	switch {
	case e.files > 0:
		what += fmt.Sprintf(" (the whole share: %s, %s)", count(e.files, "file"), bytesText(e.size))
	case e.folder:
		what += " (the folder and all in it)"
	default:
		what += ", " + bytesText(e.size)
	}
	text := []string{"Get " + what + " from " + from + "?"}
	if in := a.st.status.Agent.Inbox; in != "" {
		text = append(text, "It goes to "+in+", where "+bytesText(a.st.status.Agent.Free)+" are free.")
	}
	ctx, ctl, label := a.ctx, a.ctl, e.label
	return a.open(&confirmation{
		title: "Get from a share?", text: text, yes: "get it", no: "leave it",
		do: func(a *app) tea.Cmd {
			return tea.Batch(a.say("Asking for "+label+"..."), func() tea.Msg {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				_, err := ctl.Get(ctx, r)
				return doneMsg{text: "Receiving " + label + "; 2 shows how far it is.", err: err}
			})
		},
	}, false)
}

// find searches all connected trusted devices.
func (s *sharesScreen) find(a *app) tea.Cmd {
	return a.open(&prompt{
		title: "Search", text: "Words of the names of files and folders. All trusted devices that are connected are asked.", label: "Words",
		in: newField(s.place.query, 200),
		take: func(a *app, value string) (tea.Cmd, string) {
			if value = strings.TrimSpace(value); value == "" {
				return nil, "Type a word to look for."
			}
			return s.visit(a, place{query: value}), ""
		},
	}, false)
}

// add shares a folder, for those that are chosen next.
func (s *sharesScreen) add(a *app) tea.Cmd {
	return a.open(&prompt{
		title: "Share a folder", text: "Which of the trusted devices may read what is in it is asked next. Nobody can write into it.", label: "Folder",
		in: newField(a.dir+"/", 4096), complete: true,
		take: func(a *app, value string) (tea.Cmd, string) {
			if strings.TrimSpace(value) == "" {
				return nil, "Type the path of a folder."
			}
			folder := a.path(value, a.dir)
			return a.open(s.audience(a, path.Base(folder), nil, func(a *app, ids []string, names string) tea.Cmd {
				s.mineAt = time.Time{}
				ctl := a.ctl
				return a.call(20*time.Second, "Shared "+path.Base(folder)+" with "+names+"; it is read in the background.", func(ctx context.Context) error {
					_, err := ctl.AddShare(ctx, control.ShareRequest{Folder: folder, For: ids})
					return err
				})
			}), false), ""
		},
	}, false)
}

// stop ends a share of ours, after a question.
func (s *sharesScreen) stop(a *app) tea.Cmd {
	m := s.own()
	if m == nil {
		return a.fail("Only a share of this device can be stopped.", "")
	}
	name, ctl := m.Name, a.ctl
	return a.open(&confirmation{
		title: "Stop sharing?",
		text:  []string{quoted(name) + " can be seen by nobody any more. The folder and what is in it stay as they are."},
		yes:   "stop sharing", no: "keep it",
		do: func(a *app) tea.Cmd {
			s.mineAt = time.Time{}
			return a.call(10*time.Second, "Not shared any more.", func(ctx context.Context) error { return ctl.RemoveShare(ctx, name) })
		},
	}, false)
}
