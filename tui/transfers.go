package tui

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// transfersScreen shows what goes on first, and what is over below it.
type transfersScreen struct {
	list    list
	cleared map[string]bool // what is over and hidden, here only
}

func (s *transfersScreen) title() string    { return "Transfers" }
func (s *transfersScreen) badge(a *app) int { return a.st.running() }
func (s *transfersScreen) in() scope        { return onTransfers }
func (s *transfersScreen) rows() *list      { return &s.list }

func (s *transfersScreen) sync(a *app) []*transfer {
	shown := make([]*transfer, 0, len(a.st.transfers))
	keys := make([]string, 0, len(a.st.transfers))
	for _, t := range a.st.transfers {
		if s.cleared[t.ID] && t.over() || !s.list.matches(t.Name, t.PeerName, t.State) {
			continue
		}
		shown = append(shown, t)
		keys = append(keys, t.ID)
	}
	s.list.set(keys)
	return shown
}

func (s *transfersScreen) draw(a *app, w, h int) []string {
	shown := s.sync(a)
	if len(shown) == 0 && s.list.filter == "" {
		return s.empty(a, w, h)
	}
	title := "nothing passes the filter"
	t := a.st.transfer(s.list.key)
	if t != nil {
		title = t.Name
	}
	return a.withDetail(w, h, 0, title,
		func(w, h int) []string { return s.table(a, shown, w, h) },
		func(w, h int) []string { return s.detail(a, t, w, h) })
}

func (s *transfersScreen) empty(a *app, w, h int) []string {
	in := a.st.status.Agent.Inbox
	lines := []string{
		a.th.Bold.Render("No transfers."), "",
		"To send: 1 for the devices, then enter on one of them.",
	}
	if in != "" {
		lines = append(lines, "What you accept goes to:", cutMiddle(in, w-8))
	}
	var out []string
	for range max(0, (h-len(lines))/3) {
		out = append(out, "")
	}
	for _, l := range lines {
		out = append(out, centre(l, w))
	}
	return out[:min(len(out), h)]
}

// barWidth is the number of blocks in a progress bar.
const barWidth = 12

func (s *transfersScreen) table(a *app, shown []*transfer, w, h int) []string {
	const rest = barWidth + 7 + 12 + 6
	peer := 17
	if w < 76 {
		peer = 0
	}
	cols := []column{{"FILE", 0, false}, {"PEER", peer, false}, {"PROGRESS", barWidth + 7, false}, {"RATE", 12, true}, {"ETA", 6, false}}
	if peer == 0 {
		cols = append(cols[:1], cols[2:]...)
	}
	head := newTable(w, cols...)
	cols = []column{{"", 0, false}, {"", peer, false}, {"", rest, false}}
	if peer == 0 {
		cols = append(cols[:1], cols[2:]...)
	}
	t := newTable(w, cols...)
	lines := []string{head.head(a)}
	split := len(shown)
	for i, x := range shown {
		if x.over() {
			split = i
			break
		}
	}
	first, end := s.list.window(h - 1)
	if first < split && split < end {
		first, end = s.list.window(max(1, h-3)) // the line between takes two
	}
	for i := first; i < end; i++ {
		x := shown[i]
		if i == split && i > 0 && i > first {
			lines = append(lines, "", a.th.Dim.Render("   over"))
		}
		s.list.drew(len(lines), i)
		arrow := a.th.Down
		if x.Direction == "send" {
			arrow = a.th.Up
		}
		text, style := s.progress(a, x)
		name := head.cols[0].w - 3
		if a.th.Linear {
			text = strings.Join(strings.Fields(text), " ")
			if x.State == "running" {
				text = "running " + text
			}
			row := table{[]column{{title: "file"}, {title: "device"}, {title: "state"}}, w}
			lines = append(lines, row.row(a, x.ID == s.list.key, cell{x.Direction + " " + x.Name, nil}, cell{x.PeerName, nil}, cell{text, nil}))
			continue
		}
		cells := []cell{{arrow + " " + cutMiddle(x.Name, name), nil}, {x.PeerName, nil}, {text, style}}
		if peer == 0 {
			cells = append(cells[:1], cells[2:]...)
		}
		lines = append(lines, t.row(a, x.ID == s.list.key, cells...))
	}
	return lines
}

// progress is the right half of a row: bar, percent, rate and time left, or the
// state in words.
func (s *transfersScreen) progress(a *app, t *transfer) (string, func(string) string) {
	switch t.State {
	case "running":
		return s.moving(a, t), nil
	case "verifying":
		return bar(a, t) + fmt.Sprintf(" %3d%%  verifying", percent(t)), nil
	case "waiting":
		if t.Direction == "receive" {
			return "waiting for your answer", a.th.Warn.Render
		}
		return "waiting for the answer", nil
	case "queued":
		return reason("queued", t.Error), nil
	case "paused":
		return reason("paused", t.Error), a.th.Warn.Render
	case "done":
		return fit(bytesText(t.BytesTotal), 7) + " verified  " + endedText(a, t), nil
	case "refused":
		who := "refused here"
		if t.Direction == "send" {
			who = "refused by the device"
		}
		return who + "   " + endedText(a, t), nil
	case "failed":
		return reason("failed", t.Error), a.th.Bad.Render
	}
	return t.State, nil
}

func reason(state, why string) string {
	if why == "" {
		return state
	}
	return state + ": " + why
}

func (s *transfersScreen) moving(a *app, t *transfer) string {
	text := bar(a, t) + fmt.Sprintf(" %3d%%  ", percent(t))
	if d := t.stalled(a.now); d > 0 {
		return text + "stalled " + agoText(d.Seconds())
	}
	eta := "-"
	if t.ETA >= 0 {
		eta = clockText(t.ETA)
	}
	return text + fitRight(rateText(t.Rate), 10) + "  " + eta
}

func percent(t *transfer) int {
	if t.BytesTotal <= 0 {
		if t.State == "verifying" || t.State == "done" {
			return 100
		}
		return 0
	}
	return int(100 * max(0, min(1, float64(t.BytesDone)/float64(t.BytesTotal))))
}

// bar draws how much is done. The last block says that some of it is.
func bar(a *app, t *transfer) string {
	if a.th.Linear {
		return ""
	}
	n := percent(t) * barWidth / 100
	text := strings.Repeat(a.th.Full, n)
	if n < barWidth && percent(t) > 0 {
		text += a.th.Part
		n++
	}
	return text + strings.Repeat(a.th.Empty, barWidth-n)
}

// endedText is when a transfer was over: the time today, else the day.
func endedText(a *app, t *transfer) string {
	if t.ended.IsZero() {
		return ""
	}
	e, n := t.ended.Local(), a.now.Local()
	if e.YearDay() == n.YearDay() && e.Year() == n.Year() {
		return e.Format("15:04")
	}
	return e.Format("2006-01-02")
}

func (s *transfersScreen) detail(a *app, t *transfer, w, h int) []string {
	if t == nil {
		return nil
	}
	return pairs(w, h, s.facts(a, t, w, 3)...)
}

// copied is the path of the transfer, or its ID.
func (s *transfersScreen) copied(a *app) (what, text string) {
	t := a.st.transfer(s.list.key)
	switch {
	case t == nil:
		return "", ""
	case t.Path != "":
		return "the path", t.Path
	}
	return "the ID", t.ID
}

// maxFacts bounds the lines of a list of names that is shown whole.
const maxFacts = 1000

// facts are what is known about a transfer, lists of names in so many lines of w columns.
func (s *transfersScreen) facts(a *app, t *transfer, w, most int) []pair {
	most *= w - 13
	amount := fmt.Sprintf("%s of %s, %d %%", bytesText(t.BytesDone), bytesText(t.BytesTotal), percent(t))
	if t.PathKind != "" {
		amount += ", over " + map[string]string{"direct": "Wi-Fi Direct", "lan": "the LAN", "manual": "a typed address"}[t.PathKind]
	}
	if t.Elapsed > 0 && t.BytesMoved > 0 {
		amount += ", average " + rateText(float64(t.BytesMoved)/t.Elapsed)
	}
	var list []pair
	if t.Error != "" {
		list = append(list, pair{"Problem", sentence(t.Error) + " " + sentence(t.Hint), a.th.Bad.Render})
	}
	where := "To"
	if t.Direction == "send" {
		where = "From"
	}
	path := cutMiddle(t.Path, most*2/3)
	device := t.PeerName + "  " + shortID(t.Peer)
	if t.Direction == "send" {
		device = "to " + device
	} else {
		device = "from " + device
	}
	what := count(t.Files, "file")
	if t.Dirs > 0 {
		what += " in " + count(t.Dirs, "folder")
	}
	if t.Skipped > 0 {
		what += fmt.Sprintf(", %d left out (links and special files)", t.Skipped)
	}
	list = append(list,
		pair{"Amount", amount, nil},
		pair{"Device", device, nil},
		pair{where, path, nil},
		pair{"What", what, nil})
	if len(t.Names) > 1 {
		list = append(list, pair{"Names", cut(strings.Join(t.Names, ", "), most), nil})
	}
	if t.Sources > 1 {
		list = append(list, pair{"Sources", count(t.Sources, "device"), nil})
	}
	if len(t.Holders) > 1 {
		var each []string
		for _, h := range t.Holders {
			text := h.Device.Name + " " + bytesText(h.Bytes)
			if h.Dropped != "" {
				text += " (wrong data, asked no more)"
			}
			each = append(each, text)
		}
		list = append(list, pair{"Holders", cut(strings.Join(each, ", "), most), nil})
	}
	switch {
	case t.State == "done":
		list = append(list, pair{"Checked", "every block against its BLAKE3 hash", nil})
	case !t.over() && t.State != "waiting":
		list = append(list, pair{"Resumes", "by itself after a break, when the device is near", nil})
	}
	return list
}

func (s *transfersScreen) idle(a *app, act action) bool {
	t := a.st.transfer(s.list.key)
	switch {
	case act == actClear:
		return len(a.st.transfers) == a.st.running()
	case t == nil:
		return true
	case act == actFolder:
		return t.Path == ""
	case act == actOpen:
		return t.State != "waiting" || t.Direction != "receive"
	case act == actCancel:
		return t.over()
	case act == actPause:
		return !pausable(t)
	case act == actResume:
		return !resumable(t)
	}
	return false
}

func pausable(t *transfer) bool {
	return t.State == "running" || t.State == "queued" || t.State == "verifying"
}

func resumable(t *transfer) bool {
	return t.State == "paused" || t.State == "failed" || t.State == "queued"
}

func (s *transfersScreen) act(a *app, act action) tea.Cmd {
	s.sync(a)
	if act == actClear {
		return s.clear(a)
	}
	t := a.st.transfer(s.list.key)
	if t == nil {
		return a.fail("No transfer is selected.", "")
	}
	id, name, ctl := t.ID, cut(t.Name, 40), a.ctl
	switch act {
	case actFolder:
		return s.folder(a, t)
	case actDetails:
		return a.open(&scroller{title: cut(t.Name, 40), full: true, subject: func(a *app) bool { return a.st.transfer(id) != nil }, lines: func(w int) []string {
			t := a.st.transfer(id)
			if t == nil {
				return nil
			}
			return pairs(w, maxEntries, append(s.facts(a, t, w, maxFacts), pair{"ID", t.ID, nil})...)
		}}, false)
	case actOpen:
		for _, q := range a.st.inbox {
			if q.Transfer != nil && q.Transfer.ID == id {
				return a.ask(q, false)
			}
		}
		return a.fail("This transfer does not wait for your answer.", "")
	case actCancel:
		if t.over() {
			return a.fail("It is over: there is nothing to cancel.", "")
		}
		return a.open(&confirmation{
			title: "Cancel the transfer?",
			text: []string{
				fmt.Sprintf("%s, %d %% done, %s. It ends on both devices and does not go on by itself.", quoted(name), percent(t), t.PeerName),
				"To stop it for a while only, press n and then p.",
			},
			yes: "cancel it", no: "let it go on",
			do: func(a *app) tea.Cmd {
				return a.call(10*time.Second, "Cancelled "+name+".", func(ctx context.Context) error { return ctl.CancelTransfer(ctx, id) })
			},
			subject: func(a *app) bool { t := a.st.transfer(id); return t != nil && !t.over() },
		}, false)
	case actPause:
		if !pausable(t) {
			return a.fail("Only a transfer that goes on can be paused; this one is "+t.State+".", "")
		}
		return a.call(10*time.Second, "Paused "+name+".", func(ctx context.Context) error { return ctl.PauseTransfer(ctx, id) })
	case actResume:
		if !resumable(t) {
			return a.fail("Only a paused or failed transfer can be resumed; this one is "+t.State+".", "")
		}
		return a.call(10*time.Second, "Resumed "+name+".", func(ctx context.Context) error { return ctl.ResumeTransfer(ctx, id) })
	}
	return nil
}

// clear hides what is over, in this window.
func (s *transfersScreen) clear(a *app) tea.Cmd {
	if s.cleared == nil {
		s.cleared = map[string]bool{}
	}
	n := 0
	for _, t := range a.st.transfers {
		if t.over() && !s.cleared[t.ID] {
			s.cleared[t.ID] = true
			n++
		}
	}
	if n == 0 {
		return a.fail("No transfer is over.", "")
	}
	return a.say(fmt.Sprintf("%s hidden here; nigh transfers lists them still.", count(n, "transfer")))
}
