package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/charmbracelet/x/ansi"

	"nigh/agent/control"
)

// stallAfter is how long no byte may arrive before the line says so.
const stallAfter = 3 * time.Second

// progress tells people how transfers go. On a terminal it keeps one line up to
// date and leaves one for each end; elsewhere there is only a line for each end.
type progress struct {
	a       *app
	live    bool
	painted bool
	bytes   int64     // done when they last grew
	grown   time.Time // monotonic
}

func newProgress(a *app) progress {
	live := a.terminal(a.env.Stderr) && !a.quiet && a.width(a.env.Stderr) > 0
	if a.json && isTerminal(a.env.Stdout) {
		live = false // the lines of JSON show it
	}
	return progress{a: a, live: live, grown: time.Now()}
}

// clear removes the line.
func (p *progress) clear() {
	if p.painted {
		p.painted = false
		// Best effort, like all talk on standard error.
		_, _ = io.WriteString(p.a.env.Stderr, "\r\x1b[K")
	}
}

// note says a sentence above the line.
func (p *progress) note(text string) {
	p.clear()
	p.a.say("%s", text)
}

// end says how a transfer ended.
func (p *progress) end(t control.Transfer) { p.note(transferLine(t)) }

// paint brings the line up to date.
func (p *progress) paint(transfers []control.Transfer) {
	if !p.live {
		return
	}
	text := show(p.text(transfers, time.Now()))
	// One column stays free: some terminals wrap a line that is full.
	text = ansi.Truncate(text, p.a.width(p.a.env.Stderr)-1, "…")
	p.painted = true
	_, _ = io.WriteString(p.a.env.Stderr, "\r"+text+"\x1b[K")
}

// text returns the line for transfers at the time now.
func (p *progress) text(transfers []control.Transfer, now time.Time) string {
	var done, total int64
	var rate float64
	var running, waiting, over int
	for _, t := range transfers {
		done += t.BytesDone
		total += t.BytesTotal
		switch {
		case ended(t):
			over++
		case t.State == "running":
			running++
			rate += t.Rate
		default:
			waiting++
		}
	}
	if done != p.bytes || running == 0 {
		p.bytes, p.grown = done, now
	}
	stalled := ""
	if idle := now.Sub(p.grown); running > 0 && idle > stallAfter {
		stalled = "stalled " + span(idle.Seconds())
	}
	if len(transfers) == 1 {
		if stalled == "" {
			return transferLine(transfers[0])
		}
		return fmt.Sprintf("%s %s: %s, %s", transfers[0].Name, direction(transfers[0]), percent(done, total), stalled)
	}
	text := fmt.Sprintf("%d transfers: %s, %s of %s", len(transfers), percent(done, total), size(done), size(total))
	switch {
	case stalled != "":
		text += ", " + stalled
	case running > 0:
		text += ", " + size(int64(rate)) + "/s"
		if rate > 0 {
			text += ", " + span(float64(total-done)/rate) + " left"
		}
	}
	return text + fmt.Sprintf(" (%d running, %d waiting, %d ended)", running, waiting, over)
}
