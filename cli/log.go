package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) logCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the last lines of the agent's log",
		Long: `Show the last lines of the agent's log, oldest first. The agent keeps them in
memory; the service's whole log is: journalctl -u nigh@USER
With --follow, what is logged from then on follows. Lines that come faster than they
are read are left out, and it says how many.`,
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
	if follow {
		return a.followBy(ctx, a.agent().WatchLog, a.logEvent)
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	lines, err := a.agent().Log(ctx)
	if err != nil {
		return err
	}
	return a.logLines(lines)
}

// logEvent prints what an event says of the log.
func (a *app) logEvent(e control.Event) error {
	switch {
	case e.Type == "state" && e.State != nil && e.State.Log == nil:
		return &control.Error{Code: control.CodeFailed, Message: "the agent is older than this command and does not tell what it logs",
			Hint: "restart the agent; nigh log shows what there is now"}
	case e.Type == "state" && e.State != nil:
		return a.logLines(e.State.Log)
	case e.Type == "log" && e.Log != nil:
		return a.logLine(*e.Log)
	}
	return nil
}

func (a *app) logLines(lines []control.LogLine) error {
	for _, l := range lines {
		if err := a.logLine(l); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) logLine(l control.LogLine) error {
	if l.Missed > 0 {
		a.say("%s missing here: they came faster than they were read", count(l.Missed, "line is", "lines are"))
	}
	if a.json {
		return a.line(l)
	}
	text := l.Time.Local().Format(time.TimeOnly) + "  " + l.Level + strings.Repeat(" ", max(0, 5-len(l.Level))) + "  " + l.Message
	if l.Attrs != "" {
		text += "  " + l.Attrs
	}
	return a.print("%s", text)
}
