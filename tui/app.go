package tui

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// minWidth and minHeight are the smallest terminal the screens are made for.
const (
	minWidth  = 60
	minHeight = 16
)

// screen is one tab. Its methods are called on the app's goroutine only.
type screen interface {
	title() string
	badge(a *app) int // what waits there, 0 = nothing
	in() scope
	draw(a *app, w, h int) []string // at most h lines of at most w columns
	act(a *app, act action) tea.Cmd
	idle(a *app, act action) bool // the action makes no sense now: no hint for it
	rows() *list
}

// writer is a screen with a text field of its own.
type writer interface {
	typing() bool
	typed(a *app, k tea.KeyMsg) tea.Cmd
	fieldKeys() scope
}

// app is the one model. Everything in it belongs to bubbletea's event loop.
type app struct {
	ctx      context.Context // ends with the program; calls to the agent run under it
	ctl      Control
	th       *theme.Theme
	embedded bool
	home     string                           // of the user, "" when not known
	dir      string                           // where choosing files begins
	ring     func()                           // the bell
	service  func(ctx context.Context) string // as of Options; nil = not asked
	leaving  func(command string)             // the person leaves to have nigh as a service
	welcomed bool                             // the questions of the first run were opened here
	pace     time.Duration                    // between frames for events
	still    bool                             // the clock goes on in steps of ten seconds

	clipboard  func(ctx context.Context, text string) error // nil: the terminal has none
	openFolder func(dir string) error                       // nil: no display; it may block for long
	remedies   []Remedy
	program    string                                       // how to call nigh
	report     func(ctx context.Context, path string) error // nil: not possible

	w, h  int
	sized bool      // the size was asked for once more
	now   time.Time // of the last tick; the only clock that is drawn

	st      state
	conn    connection
	screens []screen
	tab     int
	stack   []*layer // of dialogs, the top one last
	notice  notice
	serial  int    // numbers notices and graces, so that old timers are known
	tabAt   [9]int // columns where the tabs begin, as drawn last
}

// notice is what the status line says about the last thing done.
type notice struct {
	text   string
	failed bool // stays until esc, in the colour of failures
	id     int
}

type (
	tickMsg      time.Time
	noticeEndMsg int
	// doneMsg is the outcome of a call to the agent.
	doneMsg struct {
		text string // said when err is nil; "" = nothing
		err  error
		then func(a *app) tea.Cmd // run when err is nil; may be nil
	}
)

func newApp(ctx context.Context, ctl Control, th *theme.Theme, now time.Time) *app {
	return &app{
		ctx: ctx, ctl: ctl, th: th, now: now, ring: func() {}, program: "nigh", leaving: func(string) {},
		screens: []screen{&peersScreen{}, &transfersScreen{}, &messagesScreen{}, &sharesScreen{}, &networkScreen{}, newLogScreen()},
	}
}

// Init starts the watch and the clock.
func (a *app) Init() tea.Cmd {
	return tea.Batch(a.connect(), a.tick())
}

func (a *app) tick() tea.Cmd {
	every := time.Second
	if a.still && a.sized {
		every = 10 * time.Second
	}
	return tea.Tick(every, func(t time.Time) tea.Msg { return tickMsg(t) })
}

// Update takes one message.
func (a *app) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m, cmd := a.update(msg)
	if a.st.known {
		switch s := a.screen().(type) {
		case *messagesScreen:
			cmd = tea.Batch(cmd, s.shown(a))
		case *sharesScreen:
			cmd = tea.Batch(cmd, s.refresh(a))
		case *logScreen:
			cmd = tea.Batch(cmd, s.refresh(a))
		}
	}
	return m, cmd
}

func (a *app) update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		a.w, a.h = msg.Width, msg.Height
		return a, tea.Batch(a.welcome(), a.offer()) // what waited for room
	case tea.KeyMsg:
		return a, a.keys(msg)
	case tea.MouseMsg:
		return a, a.mouse(msg)
	case tea.ResumeMsg:
		return a, tea.ClearScreen
	case tickMsg:
		a.now = time.Time(msg)
		if !a.sized {
			// A resize in the program's first moments is lost: bubbletea draws
			// before it listens for the signal.
			a.sized = true
			return a, tea.Batch(a.tick(), tea.WindowSize())
		}
		return a, a.tick()
	case noticeEndMsg:
		if int(msg) == a.notice.id {
			a.notice = notice{}
		}
		return a, nil
	case graceMsg:
		a.graceOver(int(msg))
		return a, nil
	case doneMsg:
		return a, a.done(msg)
	case olderMsg:
		for _, s := range a.screens {
			if s, ok := s.(*messagesScreen); ok {
				return a, s.came(a, msg)
			}
		}
	case mineMsg, listedMsg:
		for _, s := range a.screens {
			if s, ok := s.(*sharesScreen); ok {
				return a, s.took(a, msg)
			}
		}
	case checksMsg, fixMsg:
		for _, s := range a.screens {
			if s, ok := s.(*logScreen); ok {
				return a, s.took(a, msg)
			}
		}
	case sentMsg:
		return a, a.sent(msg)
	case serviceMsg:
		return a, a.askService(string(msg))
	case openedMsg, eventsMsg, endedMsg, retryMsg:
		return a, a.watched(msg)
	}
	var cmds []tea.Cmd
	for _, l := range a.stack {
		cmds = append(cmds, l.d.update(a, msg))
	}
	return a, tea.Batch(cmds...)
}

// keys takes a key message, which holds several keys when they came at once.
func (a *app) keys(k tea.KeyMsg) tea.Cmd {
	if k.Alt && !a.edits(k) {
		// Esc and another key that came at once, as over a slow link: no key here
		// needs alt.
		k.Alt = false
		return tea.Batch(a.key(tea.KeyMsg{Type: tea.KeyEsc}), a.keys(k))
	}
	if k.Type != tea.KeyRunes || len(k.Runes) < 2 || a.capturing() {
		return a.key(k)
	}
	if k.Paste {
		return nil
	}
	var cmds []tea.Cmd
	for _, r := range k.Runes {
		cmds = append(cmds, a.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}, Alt: k.Alt}))
	}
	return tea.Batch(cmds...)
}

// edits reports whether a key with alt is one that a text field knows: those that
// go over and delete words.
func (a *app) edits(k tea.KeyMsg) bool {
	if !a.capturing() {
		return false
	}
	if k.Type == tea.KeyRunes {
		return len(k.Runes) == 1 && strings.ContainsRune("bfd", k.Runes[0])
	}
	return k.Type == tea.KeyLeft || k.Type == tea.KeyRight || k.Type == tea.KeyBackspace || k.Type == tea.KeyDelete
}

// capturing reports whether a text field has the keys.
func (a *app) capturing() bool {
	if l := a.top(); l != nil {
		return l.d.capturing()
	}
	return a.screen().rows().editing() || a.writer() != nil
}

// writer is a screen on which a text is written now, or nil.
func (a *app) writer() writer {
	if s, ok := a.screen().(writer); ok && s.typing() {
		return s
	}
	return nil
}

func (a *app) screen() screen { return a.screens[a.tab] }

// number is the key that goes to a screen.
func (a *app) number(in scope) int {
	for i, s := range a.screens {
		if s.in() == in {
			return i + 1
		}
	}
	return 0
}

func (a *app) key(k tea.KeyMsg) tea.Cmd {
	key := k.String()
	switch {
	case key == "ctrl+c":
		return tea.Quit
	case key == "ctrl+z":
		return tea.Suspend
	case key == "ctrl+l":
		return tea.ClearScreen
	case a.w < minWidth || a.h < minHeight:
		if key == "q" {
			return tea.Quit
		}
		return nil
	}
	if l := a.top(); l != nil {
		if l.grace != 0 {
			return a.extendGrace(l)
		}
		return l.d.key(a, k)
	}
	rows := a.screen().rows()
	if rows.editing() {
		rows.edit(k)
		return nil
	}
	if s := a.writer(); s != nil {
		return s.typed(a, k)
	}
	if a.conn.up {
		return a.act(find(key, a.screen().in(), everywhere), key)
	}
	return a.act(find(key, noAgent, a.screen().in(), everywhere), key)
}

// act does what is the same on every screen and gives the rest to the screen.
func (a *app) act(act action, key string) tea.Cmd {
	if n, err := strconv.Atoi(key); err == nil && n >= 1 && n <= len(a.screens) {
		a.tab = n - 1
		return nil
	}
	switch act {
	case none:
		return nil
	case actQuit:
		return a.quit()
	case actHelp:
		return a.open(newHelp(a), false)
	case actRetry:
		return a.retry()
	}
	if !a.st.known {
		return nil
	}
	switch act {
	case actNextTab:
		a.tab = (a.tab + 1) % len(a.screens)
	case actPrevTab:
		a.tab = (a.tab + len(a.screens) - 1) % len(a.screens)
	case actUp, actDown, actPageUp, actPageDown, actFirst, actLast:
		a.screen().rows().move(act)
	case actFilter:
		a.screen().rows().startFilter()
	case actBack:
		filtered := a.screen().rows().filter != ""
		failed := a.notice.failed
		a.notice = notice{}
		if !failed {
			a.screen().rows().clearFilter()
			if s, ok := a.screen().(*sharesScreen); ok && !filtered {
				return s.up(a)
			}
		}
	case actCopy:
		return a.copy()
	case actIncoming:
		return a.openIncoming()
	default:
		if !a.conn.up {
			return a.fail("Nothing can be done while no agent answers.", "")
		}
		return a.screen().act(a, act)
	}
	return nil
}

// quit ends the program, after a question when transfers would stop with it.
func (a *app) quit() tea.Cmd {
	n := a.st.running()
	if !a.embedded || n == 0 {
		return tea.Quit
	}
	return a.open(&confirmation{
		title: "Quit?",
		text: []string{
			"The agent runs inside this window, and " + count(n, "transfer") + " would stop with it. What stops goes on when nigh runs again.",
		},
		yes: "quit", no: "stay",
		do: func(*app) tea.Cmd { return tea.Quit },
	}, false)
}

// bell is the command that rings.
func (a *app) bell() tea.Msg {
	a.ring()
	return nil
}

// say shows a success in the status line for a few seconds.
func (a *app) say(text string) tea.Cmd {
	a.serial++
	id := a.serial
	a.notice = notice{text: printable(text, a.th.ASCIIOnly), id: id}
	return tea.Tick(4*time.Second, func(time.Time) tea.Msg { return noticeEndMsg(id) })
}

// fail shows a failure and one thing to do about it, until esc.
func (a *app) fail(text, hint string) tea.Cmd {
	a.serial++
	if hint != "" {
		text += " " + hint
	}
	a.notice = notice{text: printable(text, a.th.ASCIIOnly), failed: true, id: a.serial}
	return nil
}

// sentences returns what to tell about an error, and what to do.
func sentences(err error) (message, hint string) {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return sentence(e.Message), sentence(e.Hint)
	}
	return sentence(err.Error()), ""
}

// done takes the outcome of a call.
func (a *app) done(m doneMsg) tea.Cmd {
	if errors.Is(m.err, context.Canceled) {
		return nil
	}
	if m.err != nil {
		text, hint := sentences(m.err)
		return a.fail(text, hint)
	}
	var cmds []tea.Cmd
	if m.text != "" {
		cmds = append(cmds, a.say(m.text))
	}
	if m.then != nil {
		cmds = append(cmds, m.then(a))
	}
	return tea.Batch(cmds...)
}

// call makes a command of a call to the agent that must be over within limit.
func (a *app) call(limit time.Duration, text string, fn func(ctx context.Context) error) tea.Cmd {
	ctx := a.ctx
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return doneMsg{text: text, err: fn(ctx)}
	}
}
