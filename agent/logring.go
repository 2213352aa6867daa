package agent

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nigh/agent/control"
)

// What of the log is kept in memory, for the faces and for `nigh bug-report`.
const (
	ringLines = 300
	ringBytes = 1 << 10 // of one line's attributes; the rest of a longer one is cut

	// logAgain is when a watcher that was too slow for a line is tried again.
	logAgain = time.Second
)

// logRing keeps the last lines of the log. Lines below the level info are not kept: they are many.
type logRing struct {
	mu    sync.Mutex
	lines []control.LogLine // guarded by mu; oldest at next once it is full
	next  int               // guarded by mu
	total uint64            // lines there ever were; guarded by mu

	more chan struct{} // holds a word after a line was added; nil tells nobody
}

func newLogRing() *logRing { return &logRing{more: make(chan struct{}, 1)} }

// last returns the lines, oldest first, and the number of the newest.
func (r *logRing) last() ([]control.LogLine, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept(), r.total
}

// after returns at most most lines that come after the one with the number seen,
// oldest first, and the number of the last of them. The first says how many there
// were before it that are no longer kept.
func (r *logRing) after(seen uint64, most int) ([]control.LogLine, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.total - seen
	if fresh == 0 {
		return nil, seen
	}
	lines := r.kept()
	missed := uint64(0)
	if kept := uint64(len(lines)); fresh > kept {
		missed = fresh - kept
	} else {
		lines = lines[kept-fresh:]
	}
	lines = lines[:min(len(lines), most)]
	lines[0].Missed = int(missed)
	return lines, seen + missed + uint64(len(lines))
}

// kept returns a copy of the lines, oldest first; r.mu is held.
func (r *logRing) kept() []control.LogLine {
	return slices.Concat(r.lines[r.next:], r.lines[:r.next])
}

// add never blocks and calls nobody: whoever logs may hold any lock.
func (r *logRing) add(l control.LogLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	select {
	case r.more <- struct{}{}:
	default:
	}
	if len(r.lines) < ringLines {
		r.lines = append(r.lines, l)
		return
	}
	r.lines[r.next] = l
	r.next = (r.next + 1) % ringLines
}

// followLog tells the watchers that asked for it what is logged, until ctx ends.
// Neither it nor what it calls logs anything: that would never end.
func (a *Agent) followLog(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if a.watchers.tellLog() {
			again = time.After(logAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.ring.more:
		case <-again:
		}
	}
}

// ringHandler gives every record to the handler of the program, and keeps it.
type ringHandler struct {
	slog.Handler
	ring   *logRing
	prefix string // of the keys: the groups
	attrs  string // those of the logger
}

// Enabled implements [slog.Handler].
func (h ringHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.Handler.Enabled(ctx, l)
}

// Handle implements [slog.Handler].
func (h ringHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		var b strings.Builder
		b.WriteString(h.attrs)
		r.Attrs(func(a slog.Attr) bool {
			appendAttr(&b, h.prefix, a)
			return b.Len() < ringBytes
		})
		attrs := b.String()
		h.ring.add(control.LogLine{Time: r.Time, Level: r.Level.String(), Message: r.Message, Attrs: strings.ToValidUTF8(attrs[:min(len(attrs), ringBytes)], "?")})
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h ringHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		appendAttr(&b, h.prefix, a)
	}
	return ringHandler{h.Handler.WithAttrs(attrs), h.ring, h.prefix, b.String()}
}

// WithGroup implements [slog.Handler].
func (h ringHandler) WithGroup(name string) slog.Handler {
	return ringHandler{h.Handler.WithGroup(name), h.ring, h.prefix + name + ".", h.attrs}
}

// appendAttr writes key=value, quoted where a reader could not find the end.
func appendAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, m := range v.Group() {
			appendAttr(b, prefix+a.Key+".", m)
		}
		return
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	text := v.String()
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r == '\\' || !strconv.IsPrint(r) }) {
		text = strconv.Quote(text)
	}
	b.WriteString(prefix + a.Key + "=" + text)
}
