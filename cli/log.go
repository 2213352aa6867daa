package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// logEvery is how often nigh log -f asks the agent for its log.
const logEvery = time.Second

func (a *app) logCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the last lines of the agent's log",
		Long: `Show the last lines of the agent's log, oldest first. The agent keeps them in
memory; the service's whole log is: journalctl -u nigh@USER`,
		Example: `  nigh log
  nigh log --follow
  nigh log --json | jq -r 'select(.level == "ERROR") | .message'`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.log(cmd.Context(), follow)
		},
	}
	a.jsonFlag(cmd, "one JSON object a line")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is new, until interrupted")
	return cmd
}

func (a *app) log(ctx context.Context, follow bool) error {
	ticker := time.NewTicker(logEvery)
	defer ticker.Stop()
	var seen []control.LogLine
	for {
		asking, cancel := context.WithTimeout(ctx, answerWait)
		lines, err := a.agent().Log(asking)
		cancel()
		if err != nil {
			return err
		}
		for _, l := range newLines(seen, lines) {
			if err := a.logLine(l); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		seen = lines
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := a.pipeClosed(); err != nil {
			return err
		}
	}
}

func (a *app) logLine(l control.LogLine) error {
	if a.json {
		return a.line(l)
	}
	text := l.Time.Local().Format(time.TimeOnly) + "  " + l.Level + strings.Repeat(" ", max(0, 5-len(l.Level))) + "  " + l.Message
	if l.Attrs != "" {
		text += "  " + l.Attrs
	}
	return a.print("%s", text)
}

// newLines returns what lines has after the last of seen: all of them when that one is no longer kept.
func newLines(seen, lines []control.LogLine) []control.LogLine {
	if len(seen) == 0 {
		return lines
	}
	last := seen[len(seen)-1]
	for i := len(lines) - 1; i >= 0; i-- {
		if l := lines[i]; l.Time.Equal(last.Time) && l.Message == last.Message && l.Attrs == last.Attrs {
			return lines[i+1:]
		}
	}
	return lines
}
