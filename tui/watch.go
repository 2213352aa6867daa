package tui

import (
	"context"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// connection is the watch on the agent.
type connection struct {
	up     bool
	gen    int // of the watch; messages of older ones are dropped
	cancel context.CancelFunc
	err    error     // why it is not up
	tries  int       // in a row that failed
	since  time.Time // when it was lost
	next   time.Time // when it is tried again
}

type (
	openedMsg struct {
		gen    int
		events <-chan control.Event
	}
	eventsMsg struct {
		gen    int
		at     time.Time
		list   []control.Event
		events <-chan control.Event
		ended  bool
	}
	endedMsg struct {
		gen int
		at  time.Time
		err error
	}
	retryMsg int
)

// framePace is the least time between two frames that only the agent's events ask
// for: what hundreds of devices tell is not drawn each by each. Keys do not wait.
const framePace = 200 * time.Millisecond

// stillPace is framePace where little is to move.
const stillPace = time.Second

// maxEvents bounds the events that are taken between two frames.
const maxEvents = 256

// connect starts a new watch; an older one is given up.
func (a *app) connect() tea.Cmd {
	if a.conn.cancel != nil {
		a.conn.cancel()
	}
	ctx, cancel := context.WithCancel(a.ctx)
	a.conn.gen++
	a.conn.cancel = cancel
	gen, ctl := a.conn.gen, a.ctl
	return func() tea.Msg {
		events, err := ctl.WatchLog(ctx)
		if err != nil {
			return endedMsg{gen: gen, at: time.Now(), err: err}
		}
		return openedMsg{gen: gen, events: events}
	}
}

// next waits for an event and takes what else comes until the time due, or what is
// there already when that is over.
func next(gen int, events <-chan control.Event, due time.Time) tea.Cmd {
	return func() tea.Msg {
		m := eventsMsg{gen: gen, events: events}
		e, ok := <-events
		var over <-chan time.Time
		if wait := time.Until(due); wait > 0 {
			over = time.After(wait)
		} else {
			now := make(chan time.Time)
			close(now)
			over = now
		}
		for waiting := true; ok && waiting; {
			m.list = append(m.list, e)
			if len(m.list) == maxEvents {
				break
			}
			select {
			case e, ok = <-events:
			default:
				select {
				case e, ok = <-events:
				case <-over:
					waiting = false
				}
			}
		}
		m.at, m.ended = time.Now(), !ok
		return m
	}
}

// watched takes the messages of the watch.
func (a *app) watched(msg tea.Msg) tea.Cmd {
	switch m := msg.(type) {
	case openedMsg:
		if m.gen == a.conn.gen {
			return next(m.gen, m.events, time.Time{})
		}
	case eventsMsg:
		if m.gen == a.conn.gen {
			return a.take(m)
		}
	case endedMsg:
		if m.gen == a.conn.gen {
			return a.lost(m.at, m.err)
		}
	case retryMsg:
		if int(m) == a.conn.gen && !a.conn.up {
			return a.connect()
		}
	}
	return nil
}

// take applies events.
func (a *app) take(m eventsMsg) tea.Cmd {
	if m.at.After(a.now) {
		a.now = m.at
	}
	var cmds []tea.Cmd
	for _, e := range m.list {
		if !a.st.apply(e, m.at, a.th.ASCIIOnly) {
			// Cut for being slow, or a line is missing: the snapshot of a new
			// watch sets it right.
			return a.lost(m.at, &control.Error{Code: control.CodeFailed, Message: "the agent ended the event stream", Hint: e.Reason})
		}
		a.conn.up, a.conn.tries, a.conn.err = true, 0, nil
		if e.Type == "step" && e.Step != nil {
			cmds = append(cmds, a.stepped(*e.Step))
		}
		if e.Type == "message" && e.Message != nil {
			cmds = append(cmds, a.messageCame(*e.Message))
		}
	}
	cmds = append(cmds, a.prune(), a.welcome())
	if m.ended {
		return tea.Batch(append(cmds, a.lost(m.at, control.NoAgent()))...)
	}
	return tea.Batch(append(cmds, next(m.gen, m.events, m.at.Add(a.pace)), a.offer())...)
}

// messageCame tells in the status line of a message that was received, unless that
// says what went wrong.
func (a *app) messageCame(m control.Message) tea.Cmd {
	if s, ok := a.screen().(*messagesScreen); m.Direction != "receive" || a.notice.failed || ok && with(m, s.list.key) {
		return nil
	}
	// One line: the screen must not move for what somebody else writes.
	first, _, more := strings.Cut(m.Text, "\n")
	if more {
		first += " ..."
	}
	return a.say(cut(printable("Message from "+nameFor(m)+": "+first, a.th.ASCIIOnly), a.w-2))
}

// lost plans the next try.
func (a *app) lost(at time.Time, err error) tea.Cmd {
	if a.conn.up {
		a.conn.since = at
	}
	if a.conn.cancel != nil {
		a.conn.cancel()
	}
	a.conn.up, a.conn.err = false, err
	wait := min(500*time.Millisecond<<min(a.conn.tries, 3), 4*time.Second)
	a.conn.tries++
	a.conn.next = at.Add(wait)
	gen := a.conn.gen
	return tea.Tick(wait, func(time.Time) tea.Msg { return retryMsg(gen) })
}

// retry tries now, because a person asked.
func (a *app) retry() tea.Cmd {
	if a.conn.up {
		return nil
	}
	a.conn.tries = 0
	return a.connect()
}
