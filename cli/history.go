package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) outboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "List what waits for devices that are away",
		Long: `List the files and folders that wait for devices that are away. Each goes when its
device is near, as it is then: what changed meanwhile is sent as it is now, and what
is gone is left out. nigh cancel takes one back. nigh messages --waiting lists the
messages that wait.`,
		Example: "  nigh outbox\n  nigh cancel 3f2a",
		Args:    takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.transfersThat(cmd.Context(), func(t control.Transfer) bool { return t.Outbox })
			if err != nil || a.json {
				return a.documentOr(list, err)
			}
			if len(list) == 0 {
				a.say("the outbox is empty")
				return nil
			}
			var t table
			t.head("ID", "WHAT", "DEVICE", "SIZE", "WAITS FOR")
			for _, x := range list {
				t.add(short(x.ID, 8), x.Name, direction(x), size(x.BytesTotal), span(x.Age))
			}
			return t.write(a)
		},
	}
	a.jsonFlag(cmd, "a JSON array of transfers")
	return cmd
}

func (a *app) historyCommand() *cobra.Command {
	var last int
	cmd := &cobra.Command{
		Use:   "history [TEXT]",
		Short: "List the transfers that have ended, and where files went",
		Long: `List the transfers that have ended, the newest first: what, to or from which device,
how it ended and where it lies. With TEXT, only those with it in a name, the device,
the place or the error, whatever its case. The newest thousand are kept.`,
		Example: `  nigh history
  nigh history plan.pdf
  nigh history kitchen-pi --json | jq -r '.[].path'`,
		Args: takes(0, 1, "a text"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 0 {
				return usage(cmd, "--last cannot be negative")
			}
			text := strings.ToLower(strings.Join(args, ""))
			list, err := a.transfersThat(cmd.Context(), func(t control.Transfer) bool { return ended(t) && mentions(t, text) })
			if last > 0 {
				list = list[:min(last, len(list))]
			}
			if err != nil || a.json {
				return a.documentOr(list, err)
			}
			if len(list) == 0 {
				a.say("no such transfers")
				return nil
			}
			var t table
			t.head("ENDED", "WHAT", "DEVICE", "SIZE", "RESULT", "WHERE")
			for _, x := range list {
				result := word(x.State)
				if x.Error != "" {
					result.text += ": " + x.Error
				}
				t.add(endedAt(x), x.Name, direction(x), size(x.BytesTotal), result, orDash(x.Path))
			}
			return t.write(a)
		},
	}
	a.jsonFlag(cmd, "a JSON array of transfers")
	cmd.Flags().IntVar(&last, "last", 0, "only the newest `N`")
	return cmd
}

// transfersThat returns the agent's transfers that fit, the newest first.
func (a *app) transfersThat(ctx context.Context, fits func(control.Transfer) bool) ([]control.Transfer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	list, err := a.agent().Transfers(ctx)
	return slices.DeleteFunc(list, func(t control.Transfer) bool { return !fits(t) }), err
}

// documentOr prints a list as JSON, unless there is an error.
func (a *app) documentOr(list []control.Transfer, err error) error {
	if err != nil {
		return err
	}
	return a.document(list)
}

// mentions reports whether a text, in lower case, is in what people know of t.
func mentions(t control.Transfer, text string) bool {
	for _, s := range append([]string{t.Name, t.PeerName, t.Path, t.Error}, t.Names...) {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return false
}

// endedAt is when t ended, by this device's clock.
func endedAt(t control.Transfer) string {
	at, err := time.Parse(time.RFC3339, t.Ended)
	if err != nil {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04")
}
