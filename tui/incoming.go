package tui

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// offer opens the dialog of the next question that was not shown yet, when no
// dialog is open and nobody types. The bell rings once for each question.
func (a *app) offer() tea.Cmd {
	var cmds []tea.Cmd
	for _, q := range a.st.inbox {
		if !q.rung {
			q.rung = true
			cmds = append(cmds, a.bell)
		}
	}
	if a.conn.up && a.top() == nil && !a.capturing() && a.w >= minWidth && a.h >= minHeight {
		for _, q := range a.st.inbox {
			if !q.shown && q.clear() {
				cmds = append(cmds, a.ask(q, true))
				break
			}
		}
	}
	return tea.Batch(cmds...)
}

// openIncoming opens the oldest question, because a person asked.
func (a *app) openIncoming() tea.Cmd {
	if len(a.st.inbox) == 0 {
		return a.fail("Nothing waits for your answer.", "")
	}
	for _, q := range a.st.inbox {
		if q.clear() {
			return a.ask(q, false)
		}
	}
	return a.fail("The agent asks what this program does not know.", "End nigh and start it again: it is older than the agent.")
}

// clear reports whether the question is one that this program knows. One of a newer
// agent is not answered here.
func (q *question) clear() bool {
	return q.Kind == "group" || q.Kind == "pair" || q.Kind == "transfer" && q.Transfer != nil
}

func (a *app) ask(q *question, byItself bool) tea.Cmd {
	q.shown = true
	switch q.Kind {
	case "group":
		return a.open(&requestDialog{id: q.ID}, byItself)
	case "pair":
		return newPairQuestion(q).begin(a, byItself)
	}
	return a.open(&offerDialog{id: q.ID}, byItself)
}

// accept says yes to a question.
func (a *app) accept(id string, r control.AcceptRequest, limit time.Duration, text string) tea.Cmd {
	ctl := a.ctl
	return a.call(limit, text, func(ctx context.Context) error { return answered(ctl.Accept(ctx, id, r)) })
}

// answered says of an error that the question is not there any more: somebody was faster with another window or command.
func answered(err error) error {
	if errors.Is(err, &control.Error{Code: control.CodeNotFound}) {
		return &control.Error{Code: control.CodeNotFound, Message: answeredElsewhere}
	}
	return err
}

// answeredElsewhere is said of a question that is over before it was answered here.
const answeredElsewhere = "The question was answered elsewhere, or its time is over."

func (a *app) refuse(id, text string) tea.Cmd {
	ctl := a.ctl
	return a.call(10*time.Second, text, func(ctx context.Context) error { return answered(ctl.Refuse(ctx, id)) })
}

// waits says what happens when nobody answers.
func waits(a *app, q *question) string {
	left := q.left(a.now)
	if left < 0 {
		return "waits until you answer"
	}
	return "waits " + clockText(left) + ", then refuses"
}

// offerDialog asks whether to take files.
type offerDialog struct {
	quiet
	id string
}

func (d *offerDialog) alive(a *app) bool { return a.st.question(d.id) != nil }

// never are the answers that make no sense for a question.
func (d *offerDialog) never(q *question) func(action) bool {
	return func(act action) bool {
		switch act {
		case actAlways:
			return q.Trust != "trusted"
		case actList:
			return q.Transfer == nil || len(q.Transfer.Names) < 2
		}
		return false
	}
}

func (d *offerDialog) draw(a *app, w, h int) panel {
	q := a.st.question(d.id)
	if q == nil {
		return panel{title: "Incoming files"}
	}
	th, t := a.th, q.Transfer
	if t == nil {
		t = &control.Transfer{}
	}
	p := panel{title: "Incoming files"}
	p.answers = append([]string{""}, answers(inOffer, w, d.never(q))...)
	p.answers = append(p.answers, th.Dim.Render(fit("enter does nothing here", w-width(waits(a, q)))+waits(a, q)))
	room := h - len(p.answers)

	who := th.Bold.Render(cut(askerOf(q.InboxItem), w-24))
	p.content = append(p.content, who+"  ("+a.trustStyle(q.Trust)(q.Trust)+", "+shortID(q.Peer)+")",
		"sends "+contents(t))
	if q.Trust == "new" && room > 10 {
		p.content = append(p.content, th.Warn.Render("Not paired with this device. All of its ID:"))
		p.content = append(p.content, idLines(q.Peer, w)...)
	}
	st := &a.st.status
	var tail []string
	switch {
	case t.Dotfiles && t.Executables:
		tail = append(tail, th.Warn.Render("Has hidden files (with a dot) and programs."))
	case t.Dotfiles:
		tail = append(tail, th.Warn.Render("Has hidden files (their names begin with a dot)."))
	case t.Executables:
		tail = append(tail, th.Warn.Render("Has programs (files that can be run)."))
	}
	free := "free " + bytesText(st.Agent.Free)
	tail = append(tail, fit("Save to  "+cutMiddle(st.Agent.Inbox, w-width(free)-11), w-width(free))+free)
	if t.BytesTotal > st.Agent.Free-st.Limits.MinFree {
		tail = append(tail, th.Bad.Render("That is more than there is room for."))
	}
	p.content = append(append(p.content, nameLines(t.Names, w, room-len(p.content)-len(tail)-2)...), tail...)
	return p
}

// nameLines lists names in at most h lines, with a line of air around them.
func nameLines(names []string, w, h int) []string {
	if h < 1 || len(names) == 0 {
		return nil
	}
	if h == 1 && len(names) > 1 {
		more := fmt.Sprintf(" and %d more", len(names)-1)
		return []string{"", "  " + cutMiddle(names[0], w-2-width(more)) + more, ""}
	}
	lines := []string{""}
	for i, n := range names {
		if i == h-1 && len(names) > h {
			lines = append(lines, fmt.Sprintf("  and %d more", len(names)-i))
			break
		}
		if i >= h {
			break
		}
		lines = append(lines, "  "+cutMiddle(n, w-2))
	}
	return append(lines, "")
}

func (d *offerDialog) hints(a *app) []string {
	q := a.st.question(d.id)
	if q == nil {
		return nil
	}
	return hintsOf(inOffer, d.never(q))
}

func (d *offerDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	q := a.st.question(d.id)
	if q == nil {
		return a.close(d)
	}
	act := find(k.String(), inOffer)
	if d.never(q)(act) {
		if act == actAlways {
			return a.fail("Only a trusted device can be accepted always.", "Pair with it first: p in Peers.")
		}
		return nil
	}
	name := askerOf(q.InboxItem)
	switch act {
	case actYes:
		return tea.Batch(a.accept(d.id, control.AcceptRequest{}, 30*time.Second, "Accepted from "+name+"."), a.close(d))
	case actNo:
		return tea.Batch(a.refuse(d.id, "Refused "+name+"."), a.close(d))
	case actElsewhere:
		return a.open(&prompt{
			title: "Save elsewhere", label: "Folder", complete: true,
			in: newField(a.st.status.Agent.Inbox, 4096),
			take: func(a *app, value string) (tea.Cmd, string) {
				into := a.path(value, a.home)
				if !filepath.IsAbs(into) {
					return nil, "Type the whole path, from / or ~/."
				}
				return tea.Batch(a.accept(d.id, control.AcceptRequest{Into: into}, 30*time.Second, "Accepted into "+into+"."), a.close(d)), ""
			},
			subject: d.alive,
		}, false)
	case actList:
		return a.open(&scroller{title: "Names", lines: func(w int) []string {
			var lines []string
			for _, n := range q.Transfer.Names {
				lines = append(lines, wrap(n, w)...)
			}
			if more := q.Transfer.Files + q.Transfer.Dirs - len(q.Transfer.Names); more > 0 {
				lines = append(lines, "", fmt.Sprintf("and what lies in the folders: %s in all", contents(q.Transfer)))
			}
			return lines
		}}, false)
	case actAlways:
		return a.open(&confirmation{
			title: "Always accept?",
			text:  []string{fmt.Sprintf("From now on everything %s sends is taken without asking, as long as its key stays the same.", quoted(name))},
			yes:   "always accept", no: "ask each time",
			do: func(a *app) tea.Cmd {
				return tea.Batch(a.accept(d.id, control.AcceptRequest{Always: true}, 30*time.Second, "Accepted; "+name+" may send without asking."), a.close(d))
			},
			subject: d.alive,
		}, false)
	case actBack:
		return tea.Batch(a.close(d), a.say("It waits on: i answers it."))
	}
	return nil
}

// requestDialog asks whether to form a Wi-Fi Direct group with a device.
type requestDialog struct {
	quiet
	id string
}

func (d *requestDialog) alive(a *app) bool { return a.st.question(d.id) != nil }

func (d *requestDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Connect over Wi-Fi Direct?"}
	q := a.st.question(d.id)
	if q == nil {
		return p
	}
	who := askerOf(q.InboxItem)
	p.content = []string{a.th.Bold.Render(cut(quoted(who), w)) + " wants to connect."}
	if q.Peer == "" {
		p.content = append(p.content, wrap("It has not proved who it is: the name is only what it says. Its address is "+q.Address+".", w)...)
	} else {
		p.content = append(p.content, a.trustStyle(q.Trust)(q.Trust)+", "+shortID(q.Peer))
	}
	switch q.Method {
	case "show_pin":
		p.content = append(p.content, "", "Type this PIN on the other device:", "", centre(a.th.Bold.Render(spaced(q.PIN)), w), "")
	case "enter_pin":
		p.content = append(p.content, "", "The other device shows a PIN. Press y to type it.", "")
	default:
		p.content = append(append(p.content, ""), wrap("Press y only if you started this on that device just now.", w)...)
		p.content = append(p.content, "")
	}
	p.content = append(p.content, wrap("A connection gives it nothing else: files still ask.", w)...)
	p.answers = append([]string{""}, answers(inRequest, w, nil)...)
	p.answers = append(p.answers, a.th.Dim.Render(fit("enter does nothing here", w-width(waits(a, q)))+waits(a, q)))
	return p
}

// spaced writes a PIN so that people can read it aloud.
func spaced(pin string) string {
	var b strings.Builder
	for i, r := range pin {
		if i > 0 {
			b.WriteByte(' ')
			if i%4 == 0 {
				b.WriteString("  ")
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (d *requestDialog) hints(*app) []string { return hintsOf(inRequest, nil) }

func (d *requestDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	q := a.st.question(d.id)
	if q == nil {
		return a.close(d)
	}
	name := askerOf(q.InboxItem)
	switch find(k.String(), inRequest) {
	case actYes:
		if q.Method != "enter_pin" {
			return d.connect(a, q, "")
		}
		return a.open(&prompt{
			title: "PIN", label: "PIN", in: newField("", 16),
			text: "Type the PIN that " + quoted(name) + " shows.",
			take: func(a *app, value string) (tea.Cmd, string) {
				pin, ok := pinOf(value)
				if !ok {
					return nil, "A PIN has 4 or 8 digits."
				}
				return d.connect(a, q, pin), ""
			},
			subject: d.alive,
		}, false)
	case actNo:
		return tea.Batch(a.refuse(d.id, "Refused "+name+"."), a.close(d))
	case actBack:
		return tea.Batch(a.close(d), a.say("It waits on: i answers it."))
	}
	return nil
}

// connect says yes, and shows what follows.
func (d *requestDialog) connect(a *app, q *question, pin string) tea.Cmd {
	shown := ""
	if q.Method == "show_pin" {
		shown = q.PIN
	}
	steps := newFollow(a, askerOf(q.InboxItem), shown)
	ctx, ctl, id := a.ctx, a.ctl, d.id
	accept := func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, groupTime)
		defer cancel()
		return groupMsg{steps, answered(ctl.Accept(ctx, id, control.AcceptRequest{PIN: pin}))}
	}
	opened := a.open(steps, false)
	return tea.Batch(accept, opened, a.close(d))
}

// pinOf returns the digits of a typed PIN, and whether there are 4 or 8.
func pinOf(s string) (string, bool) {
	s = strings.NewReplacer(" ", "", "-", "").Replace(s)
	for _, r := range s {
		if r < '0' || r > '9' {
			return "", false
		}
	}
	return s, len(s) == 4 || len(s) == 8
}
