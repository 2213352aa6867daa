package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// show returns s with everything that could act on a terminal written out. The
// agent has done so already for what came from a peer; this is the second lock on
// the same door, and the first for arguments of our own.
func show(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsGraphic(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// shown makes the texts among args safe to print.
func shown(args []any) []any {
	safe := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			safe[i] = show(v)
		case error:
			safe[i] = show(v.Error())
		default:
			safe[i] = arg
		}
	}
	return safe
}

// say tells people something, on standard error.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.env.Stderr, format+"\n", shown(args)...)
	}
}

// print writes one line of data.
func (a *app) print(format string, args ...any) error {
	_, err := fmt.Fprintf(a.env.Stdout, format+"\n", shown(args)...)
	return err
}

// raw writes text that is safe to print already.
func (a *app) raw(text string) error {
	_, err := io.WriteString(a.env.Stdout, text)
	return err
}

// document prints the one JSON document of a command, indented for a person.
func (a *app) document(v any) error {
	return a.writeJSON(v, isTerminal(a.env.Stdout))
}

// line prints one JSON object of a stream.
func (a *app) line(v any) error { return a.writeJSON(v, false) }

func (a *app) writeJSON(v any, indent bool) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := a.env.Stdout.Write(escapeJSON(buf.Bytes()))
	return err
}

// escapeJSON writes the characters of raw that could act on a terminal (C1
// controls, bidirectional overrides ...) as \u escapes. They can only be inside
// JSON strings, where that is the same text.
func escapeJSON(raw []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(raw) {
		switch {
		case r == '\n' || unicode.IsGraphic(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return b.Bytes()
}

// terminal reports whether w is a terminal that understands escape sequences.
func (a *app) terminal(w io.Writer) bool { return isTerminal(w) && placesText() }

// placesText reports whether TERM names a terminal that understands escape
// sequences.
func placesText() bool {
	switch os.Getenv("TERM") {
	case "", "dumb", "unknown":
		return false
	default:
		return true
	}
}

// colors reports whether to colour what is written to w: the flag decides, then
// NO_COLOR (no-color.org: any value that is not empty), then CLICOLOR_FORCE, then
// whether it is a terminal.
func (a *app) colors(w io.Writer) bool {
	switch {
	case a.color == "always":
		return true
	case a.color == "never", os.Getenv("NO_COLOR") != "":
		return false
	case os.Getenv("CLICOLOR_FORCE") != "" && os.Getenv("CLICOLOR_FORCE") != "0":
		return true
	default:
		return a.terminal(w)
	}
}

// width returns the columns of the terminal w, 0 when it is none.
func (a *app) width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	cols, _, err := term.GetSize(int(f.Fd()))
	if err != nil || cols < 0 {
		return 0
	}
	return cols
}

// style is a set of SGR parameters; only what is readable on dark and light
// grounds. The word itself always says it too.
type style string

const (
	normal style = ""
	good   style = "32"
	bad    style = "31"
	strong style = "1"
	faint  style = "2"
)

// styleOf returns how a word of state is painted.
func styleOf(word string) style {
	switch word {
	case "trusted", "ready", "ok", "done", "running":
		return good
	case "blocked", "failed", "fail", "refused", "absent", "off", "no_p2p":
		return bad
	case "warn", "waiting", "new", "paused":
		return strong
	case "away", "disabled", "queued":
		return faint
	default:
		return normal
	}
}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

func word(s string) cell { return cell{s, styleOf(s)} }

// table is rows of cells, aligned by what they take on a screen.
type table struct {
	rows  [][]cell
	whole bool // lines are never cut: they hold commands to copy

	widths []int // of the columns at least; write sets them
}

// head adds a heading row.
func (t *table) head(names ...string) {
	row := make([]cell, len(names))
	for i, name := range names {
		row[i] = cell{name, strong}
	}
	t.rows = append(t.rows, row)
}

// add adds a row; each field is a string or a cell.
func (t *table) add(fields ...any) {
	row := make([]cell, len(fields))
	for i, field := range fields {
		switch v := field.(type) {
		case cell:
			row[i] = cell{show(v.text), v.style}
		case string:
			row[i] = cell{text: show(v)}
		}
	}
	t.rows = append(t.rows, row)
}

// write prints t to standard output; each line is cut to the terminal's width.
func (t *table) write(a *app) error {
	widths := t.widths
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], ansi.StringWidth(c.text))
		}
	}
	t.widths = widths
	color, cols := a.colors(a.env.Stdout), a.width(a.env.Stdout)
	var b strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, c := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			text := c.text
			if color && c.style != normal && text != "" {
				text = "\x1b[" + string(c.style) + "m" + text + "\x1b[0m"
			}
			line.WriteString(text)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-ansi.StringWidth(c.text)))
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if cols > 0 && !t.whole {
			text = ansi.Truncate(text, cols, "…")
		}
		b.WriteString(text + "\n")
	}
	_, err := io.WriteString(a.env.Stdout, b.String())
	return err
}

// pipeClosed returns EPIPE when standard output is a pipe that nobody reads any
// more. A command that follows something asks it once a second, since it may have
// nothing to write for hours.
func (a *app) pipeClosed() error {
	f, ok := a.env.Stdout.(*os.File)
	if !ok {
		return nil
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0 {
		return unix.EPIPE
	}
	return nil
}
