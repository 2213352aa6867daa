package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Report is what a person may give to who mends nigh: one text in which nothing is left that tells who and where they are, nor a
// secret. Make it with [NewReport]; it is for one goroutine.
type Report struct {
	mask *Mask
	text strings.Builder
}

// LogLine is one line of the agent's log.
type LogLine struct {
	Time                  time.Time
	Level, Message, Attrs string // Attrs as key=value pairs
}

// NewReport begins a report of this machine with what needs no agent. version is that of the program. It blocks for some
// seconds at most.
func NewReport(ctx context.Context, c Config, version string, mask *Mask) *Report {
	c.complete()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	mask.names()
	r := &Report{mask: mask}
	r.text.WriteString(`nigh bug report

Names, addresses, IDs, files and secrets are replaced: device1 is the same device
everywhere in this file. Read it before you give it away all the same.
`)
	r.Section("Program", "version          "+version+"\n"+facts(ctx, c))
	networks := links(ctx)
	r.Section("Links", interfaces(c, networks))
	r.Section("Modules", modules(readFile(c.proc+"/modules")))
	r.Section("Kernel log", kernelLog())
	return r
}

// Section adds running text.
func (r *Report) Section(title, text string) {
	fmt.Fprintf(&r.text, "\n== %s\n", title)
	for line := range strings.Lines(text) {
		r.text.WriteString(printable(r.mask.Text(strings.TrimRight(line, "\n"))) + "\n")
	}
}

// Checks adds the results of checks.
func (r *Report) Checks(checks []Check) {
	fmt.Fprintf(&r.text, "\n== Checks\n")
	for _, c := range checks {
		fmt.Fprintf(&r.text, "%-4s %-17s %s\n", printable(string(c.State)), printable(c.ID), printable(r.mask.Text(c.Cause)))
	}
}

// JSON adds something of the local API. Fields that are not known to be harmless are struck out.
func (r *Report) JSON(title string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("doctor: report: %w", err)
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return fmt.Errorf("doctor: report: %w", err)
	}
	raw, err = json.MarshalIndent(r.mask.JSON(plain), "", "  ")
	if err != nil {
		return fmt.Errorf("doctor: report: %w", err)
	}
	fmt.Fprintf(&r.text, "\n== %s\n%s\n", title, raw)
	return nil
}

// Log adds lines of the agent's log.
func (r *Report) Log(lines []LogLine) {
	fmt.Fprintf(&r.text, "\n== Log\n")
	for _, l := range lines {
		line := l.Time.UTC().Format("15:04:05.000") + " " + l.Level + " " + r.mask.Text(l.Message) + " " + r.mask.Attrs(l.Attrs)
		r.text.WriteString(printable(strings.TrimSpace(line)) + "\n")
	}
}

// Text is the report.
func (r *Report) Text() string { return r.text.String() }

// printable keeps what others wrote from driving a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
