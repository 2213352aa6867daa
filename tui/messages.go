package tui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// everyone is the key of the row that stands for all trusted devices near. No
// DeviceID has that form.
const everyone = "*"

// messagesScreen shows who there is to talk with on the left, and on the right
// what was said, with a field to write in below it.
type messagesScreen struct {
	list    list
	drafts  map[string]*draft // by row: what was begun and not sent
	writing bool              // the draft of the selected row has the keys
	width   int               // of the list, as drawn last
	off     int               // lines of the talk below the window
	page    int               // lines of the talk in the window
	most    int               // highest off
	asked   uint64            // the number before which older messages were asked for last
	first   uint64            // number of the oldest there is, 0 when not known
	filled  bool              // more than the newest ones were asked for once
	told    uint64            // what the agent was told to be read last
	seen    map[uint64]bool   // messages received that were on the screen
}

// talk is one row of the list.
type talk struct {
	key, name string
	state     string // "ready", "away", ...; "" for everyone
	trusted   bool
	last      uint64 // number of its newest message
	unread    int
}

type olderMsg struct {
	before uint64
	page   control.MessagePage
	err    error
}

func (s *messagesScreen) title() string { return "Messages" }
func (s *messagesScreen) in() scope     { return onMessages }
func (s *messagesScreen) rows() *list   { return &s.list }

func (s *messagesScreen) badge(a *app) int {
	n := a.st.unread.Count
	for _, m := range a.st.messages {
		if s.fresh(a, m) && s.seen[m.Seq] {
			n--
		}
	}
	return max(0, n)
}

// fresh reports whether the agent counts a message as unread.
func (s *messagesScreen) fresh(a *app, m control.Message) bool {
	return m.Direction == "receive" && m.Seq > a.st.unread.Read
}

// with reports whether a message belongs to the talk with a device.
func with(m control.Message, key string) bool {
	if key == everyone {
		return true
	}
	if m.Direction == "receive" {
		return m.Peer == key
	}
	return slices.ContainsFunc(m.To, func(r control.Recipient) bool { return r.Peer == key })
}

// sync finds the rows there are now: everyone, then the devices, the latest talk
// first.
func (s *messagesScreen) sync(a *app) []talk {
	found := map[string]*talk{}
	var order []*talk
	add := func(key, name string) *talk {
		t := found[key]
		if t == nil {
			t = &talk{key: key, name: name, state: "away"}
			found[key] = t
			order = append(order, t)
		}
		return t
	}
	for _, p := range a.st.peers {
		if p.ID != "" && p.Trust == "trusted" {
			t := add(p.ID, nameOf(p.Peer))
			t.state, t.trusted = p.State, true
		}
	}
	for _, m := range a.st.messages {
		if m.Direction == "receive" {
			t := add(m.Peer, cmp.Or(m.PeerName, shortID(m.Peer)))
			t.last = m.Seq
			if s.fresh(a, m) && !s.seen[m.Seq] {
				t.unread++
			}
			continue
		}
		for _, r := range m.To {
			add(r.Peer, cmp.Or(r.PeerName, shortID(r.Peer))).last = m.Seq
		}
	}
	sortTalks(order)
	rows := []talk{{key: everyone, name: "All devices near", trusted: true}}
	for _, t := range order {
		rows = append(rows, *t)
	}
	shown, keys := rows[:0], make([]string, 0, len(rows))
	for _, t := range rows {
		if s.list.matches(t.name) {
			shown = append(shown, t)
			keys = append(keys, t.key)
		}
	}
	if s.list.key == "" && len(keys) > 1 {
		s.list.key = keys[1] // a device, and not everyone, is what is meant unless said
	}
	was := s.list.key
	s.list.set(keys)
	if s.list.key != was {
		s.off, s.writing = 0, false
	}
	return shown
}

func sortTalks(talks []*talk) {
	sort.SliceStable(talks, func(i, j int) bool {
		x, y := talks[i], talks[j]
		return cmp.Or(cmp.Compare(y.last, x.last), cmp.Compare(peerRank(x.state), peerRank(y.state)),
			cmp.Compare(strings.ToLower(x.name), strings.ToLower(y.name)), cmp.Compare(x.key, y.key)) < 0
	})
}

// selected is the row that is selected.
func (s *messagesScreen) selected(a *app) (talk, bool) {
	for _, t := range s.sync(a) {
		if t.key == s.list.key {
			return t, true
		}
	}
	return talk{}, false
}

// typing reports whether a text is being written.
func (s *messagesScreen) typing() bool { return s.writing }

func (s *messagesScreen) fieldKeys() scope { return inMessage }

// draft is what was written for the selected row.
func (s *messagesScreen) draft() *draft {
	if s.drafts == nil {
		s.drafts = map[string]*draft{}
	}
	d := s.drafts[s.list.key]
	if d == nil {
		d = newDraft()
		s.drafts[s.list.key] = d
	}
	return d
}

// write begins to write to a device, on this screen, from anywhere.
func (a *app) write(id string) tea.Cmd {
	for i, other := range a.screens {
		if s, ok := other.(*messagesScreen); ok {
			a.tab = i
			s.list.clearFilter()
			s.list.key, s.off = id, 0
			if t, ok := s.selected(a); ok && t.key == id {
				s.writing = true
			}
		}
	}
	return nil
}

func (s *messagesScreen) idle(a *app, act action) bool {
	t, ok := s.selected(a)
	switch act {
	case actWrite:
		return !ok || !t.trusted || len(s.list.keys) == 1 && t.key == everyone
	case actEarlier:
		return s.most == 0
	case actTakeBack:
		return s.waiting(a) == nil
	}
	return false
}

// waiting are the IDs of our messages of the selected talk that wait.
func (s *messagesScreen) waiting(a *app) []string {
	var ids []string
	for _, m := range a.st.messages {
		if m.Direction == "send" && slices.ContainsFunc(m.To, func(r control.Recipient) bool {
			return r.State == "waiting" && (s.list.key == everyone || s.list.key == r.Peer)
		}) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func (s *messagesScreen) act(a *app, act action) tea.Cmd {
	t, ok := s.selected(a)
	if !ok {
		return a.fail("There is nobody to write to.", "")
	}
	switch act {
	case actWrite:
		switch {
		case len(s.list.keys) == 1 && t.key == everyone:
			return a.fail("There is nobody to write to yet.", "Pair with a device first: 1, then p.")
		case !t.trusted:
			return a.fail(t.name+" is not trusted here, and messages are for trusted devices.", "Pair with it first: 1, then p.")
		}
		s.writing = true
	case actEarlier:
		return s.scroll(a, max(1, s.page-1))
	case actLater:
		return s.scroll(a, -max(1, s.page-1))
	case actTakeBack:
		return s.takeBack(a, t)
	}
	return nil
}

// scroll moves the talk by lines, and asks for older messages at its top.
func (s *messagesScreen) scroll(a *app, lines int) tea.Cmd {
	s.off = max(0, s.off+lines)
	if s.off < s.most {
		return nil
	}
	s.off = s.most
	return s.older(a)
}

// older asks for the messages before those that are here.
func (s *messagesScreen) older(a *app) tea.Cmd {
	if len(a.st.messages) == 0 || a.st.messages[0].Seq == s.first || len(a.st.messages) >= maxMessages || !a.conn.up {
		return nil
	}
	before := a.st.messages[0].Seq
	if s.asked == before {
		return nil
	}
	s.asked = before
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		page, err := ctl.Messages(ctx, control.MessageQuery{Before: before, Limit: 200})
		return olderMsg{before, page, err}
	}
}

// came takes older messages.
func (s *messagesScreen) came(a *app, m olderMsg) tea.Cmd {
	s.asked = 0
	if m.err != nil {
		return a.done(doneMsg{err: m.err})
	}
	a.st.addOlder(m.page.Messages, m.before, a.th.ASCIIOnly)
	if !m.page.More && len(a.st.messages) > 0 {
		s.first = a.st.messages[0].Seq
	}
	return nil
}

func (s *messagesScreen) takeBack(a *app, t talk) tea.Cmd {
	ids := s.waiting(a)
	if len(ids) == 0 {
		return a.fail("No message of this talk waits.", "")
	}
	ctl := a.ctl
	return a.open(&confirmation{
		title: "Take back what waits?",
		text:  []string{fmt.Sprintf("%s to %s that no device has yet will not be sent.", count(len(ids), "message"), t.name)},
		yes:   "take back", no: "let it wait",
		do: func(a *app) tea.Cmd {
			return a.call(10*time.Second, "Taken back.", func(ctx context.Context) error {
				for _, id := range ids {
					if err := ctl.CancelMessage(ctx, id); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}, false)
}

// typed takes a key while a text is written.
func (s *messagesScreen) typed(a *app, k tea.KeyMsg) tea.Cmd {
	d := s.draft()
	switch act := find(k.String(), inMessage); {
	case k.Paste:
		d.paste(string(k.Runes))
	case act == actStart:
		return s.send(a, d)
	case act == actNewLine:
		d.newLine()
	case act == actAttach:
		return s.attach(a)
	case act == actBack, act == actNext:
		s.writing = false
	case act == actEarlier:
		return s.scroll(a, max(1, s.page-1))
	case act == actLater:
		return s.scroll(a, -max(1, s.page-1))
	default:
		d.key(k)
	}
	return nil
}

// attach chooses files to send to the device that is written to.
func (s *messagesScreen) attach(a *app) tea.Cmd {
	t, ok := s.selected(a)
	switch {
	case !ok || !t.trusted || t.key == everyone:
		return a.fail("Files go to one device.", "Choose it in the list: esc.")
	case !a.conn.up:
		return a.fail("Nothing can be sent while no agent answers.", "")
	}
	pick := newPicker(a, t.key, t.name)
	return tea.Batch(a.open(pick, false), pick.read())
}

// copied is the ID of the device.
func (s *messagesScreen) copied(a *app) (what, text string) {
	if t, ok := s.selected(a); ok && t.key != everyone {
		return "the ID", t.key
	}
	return "", ""
}

// send sends the draft. It is kept until the agent has the message.
func (s *messagesScreen) send(a *app, d *draft) tea.Cmd {
	text := strings.TrimRight(d.text(), " \n")
	t, ok := s.selected(a)
	switch {
	case strings.TrimSpace(text) == "":
		return nil
	case !ok || !t.trusted:
		return a.fail("Messages are for trusted devices.", "")
	case !a.conn.up:
		return a.fail("Nothing can be sent while no agent answers.", "")
	case len(text) > control.MaxMessage:
		return a.fail(fmt.Sprintf("That is %s, and a message has at most %s.", bytesText(int64(len(text))), bytesText(control.MaxMessage)), "Send it as a file.")
	case d.sending:
		return nil
	}
	r := control.MessageRequest{Text: text, To: []string{t.key}}
	if t.key == everyone {
		r.To, r.All = nil, true
	}
	d.sending, s.off = true, 0
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err := ctl.SendMessage(ctx, r)
		return sentMsg{d, err}
	}
}

type sentMsg struct {
	d   *draft
	err error
}

// sent empties the draft whose message the agent has.
func (a *app) sent(m sentMsg) tea.Cmd {
	m.d.sending = false
	if m.err != nil {
		return a.done(doneMsg{err: m.err})
	}
	m.d.clear()
	if a.notice.failed {
		a.notice = notice{}
	}
	return nil
}

// shown notes what is on the screen as seen, and tells the agent up to where all
// was. The agent has one mark for all talks, so a message that was not looked at
// holds it back.
func (s *messagesScreen) shown(a *app) tea.Cmd {
	if !a.conn.up || a.top() != nil || a.w < minWidth || a.h < minHeight {
		return nil
	}
	s.sync(a)
	var cmd tea.Cmd
	if !s.filled {
		s.filled = true
		cmd = s.older(a) // talks whose last word is further back
	}
	if s.seen == nil {
		s.seen = map[uint64]bool{}
	}
	mark := a.st.unread.Read
	whole := true
	missing := a.st.unread.Count
	for _, m := range a.st.messages {
		if !s.fresh(a, m) {
			continue
		}
		missing--
		if with(m, s.list.key) && s.off == 0 {
			s.seen[m.Seq] = true
		}
		whole = whole && s.seen[m.Seq]
		if whole {
			mark = m.Seq
		}
	}
	// Unread ones that are older than what is here were not seen.
	if missing > 0 || mark <= a.st.unread.Read || mark == s.told {
		return cmd
	}
	s.told = mark
	ctl := a.ctl
	return tea.Batch(cmd, a.call(10*time.Second, "", func(ctx context.Context) error {
		_, err := ctl.ReadMessages(ctx, control.ReadRequest{Seq: mark})
		return err
	}))
}
