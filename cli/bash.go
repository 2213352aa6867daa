package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The bits of cobra's completion directive that the shells are told.
const (
	directiveNoSpace = 2
	directiveNoFiles = 4
)

// listing is bash's COMP_TYPE when it only lists what there is and puts nothing on
// the line.
const listing = "63"

// bashLine is a command line up to the cursor, as bash and readline split it.
type bashLine struct {
	words   []string // before the one at the cursor, without their quotes
	current string   // likewise the one at the cursor
	quote   byte     // that is open at the cursor, or 0
	from    int      // bytes of current before what readline replaces
	closed  bool     // current has a quote that was closed: readline takes it for an open one
}

// parseBash splits line without evaluating anything in it. breaks are the characters
// of COMP_WORDBREAKS.
func parseBash(line, breaks string) bashLine {
	var l bashLine
	var word strings.Builder
	begun := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case l.quote != 0 && c == l.quote:
			l.quote, l.closed = 0, true
			continue
		case l.quote == '\'':
		case c == '\\' && i+1 < len(line) && (l.quote == 0 || strings.IndexByte("$`\"\\", line[i+1]) >= 0):
			i++
			c = line[i]
		case l.quote != 0:
		case c == '\'', c == '"':
			l.quote, begun, l.from = c, true, word.Len()
			continue
		case c == ' ', c == '\t', c == '\n':
			if begun {
				l.words = append(l.words, word.String())
			}
			word.Reset()
			begun, l.closed, l.from = false, false, 0
			continue
		case strings.IndexByte(breaks, c) >= 0:
			word.WriteByte(c)
			begun, l.from = true, word.Len()
			continue
		}
		word.WriteByte(c)
		begun = true
	}
	l.current = word.String()
	return l
}

// quoted returns text as it is typed where l ends, and false where that cannot be.
func (l bashLine) quoted(text string) (string, bool) {
	switch l.quote {
	case '\'':
		return text, !strings.Contains(text, "'")
	case '"':
		// History expansion takes the "!" there, and nothing keeps it from that.
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(text), !strings.Contains(text, "!")
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		plain := c >= 0x80 || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-./:,+%@=", c) >= 0
		if !plain {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String(), true
}

// completeBash prints what bash is to offer for a line: "nospace" and "nofiles" as far
// as they hold, then one candidate a line, quoted. compType is COMP_TYPE.
func (a *app) completeBash(ctx context.Context, breaks, compType, line string) {
	l := parseBash(line, breaks)
	if len(l.words) == 0 {
		return
	}
	var out bytes.Buffer
	env := a.env
	env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), &out, io.Discard
	Main(ctx, append(append([]string{"__complete"}, l.words[1:]...), l.current), env)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last, ok := strings.CutPrefix(lines[len(lines)-1], ":")
	directive, err := strconv.Atoi(last)
	if !ok || err != nil {
		return
	}
	// The values of --flag=VALUE come without the flag.
	flag := ""
	if i := strings.IndexByte(l.current, '='); i > 0 && l.current[0] == '-' {
		flag = l.current[:i+1]
	}
	var all []string
	for _, candidate := range lines[:len(lines)-1] {
		name, text, _ := strings.Cut(candidate, "\t")
		name = flag + name
		if l.closed || len(name) < l.from || !strings.EqualFold(name[:l.from], l.current[:l.from]) {
			continue
		}
		if name = name[l.from:]; compType == listing {
			if text != "" {
				name += "  (" + text + ")"
			}
		} else if name, ok = l.quoted(name); !ok {
			continue
		}
		all = append(all, name)
	}
	if directive&directiveNoSpace != 0 && l.quote != 0 && len(all) == 1 {
		// Readline would close the quotes behind the only one, though more is to come.
		all = append(all, all[0]+".")
	}
	words := "-"
	if directive&directiveNoSpace != 0 {
		words += "nospace"
	}
	if directive&directiveNoFiles != 0 || len(all) > 0 {
		words += "nofiles"
	}
	fmt.Fprintln(a.env.Stdout, words)
	for _, name := range all {
		fmt.Fprintln(a.env.Stdout, name)
	}
}
