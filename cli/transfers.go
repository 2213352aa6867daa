package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// progressEvery is how often --watch says how far a running transfer is, to
// people; its states are said at once.
const progressEvery = 5 * time.Second

func (a *app) transfersCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "transfers",
		Short: "List the transfers, running, waiting and ended",
		Long: `List the transfers to and from this device. With --watch, follow them: a line for
each change of state, and for running ones every few seconds how far they are.`,
		Example: `  nigh transfers
  nigh transfers --json | jq -r '.[] | select(.state == "failed") | .error'
  nigh transfers --watch`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchTransfers(cmd.Context())
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			transfers, err := a.agent().Transfers(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(transfers)
			}
			if len(transfers) == 0 {
				a.say("no transfers")
				return nil
			}
			var t table
			t.head("ID", "WHAT", "DEVICE", "SIZE", "DONE", "RATE", "LEFT", "STATE")
			for _, x := range transfers {
				rate, left := "-", "-"
				if x.State == "running" {
					rate, left = size(int64(x.Rate))+"/s", span(x.ETA)
				}
				state := word(x.State)
				if x.Error != "" {
					state.text += ": " + x.Error
				}
				t.add(short(x.ID, 8), x.Name, direction(x), size(x.BytesTotal), percent(x.BytesDone, x.BytesTotal), rate, left, state)
			}
			return t.write(a)
		},
	}
	a.jsonFlag(cmd, "a JSON array of transfers; with --watch, one event a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow the changes until interrupted")
	return cmd
}

// direction returns "to NAME" or "from NAME".
func direction(t control.Transfer) string {
	name := t.PeerName
	if name == "" {
		name = short(t.Peer, 9)
	}
	if t.Direction == "receive" {
		return "from " + name
	}
	return "to " + name
}

func (a *app) watchTransfers(ctx context.Context) error {
	type last struct {
		state string
		at    time.Time
	}
	said := map[string]last{}
	say := func(t control.Transfer) error {
		before, now := said[t.ID], time.Now()
		if before.state == t.State && (t.State != "running" || now.Sub(before.at) < progressEvery) {
			return nil
		}
		said[t.ID] = last{t.State, now}
		return a.print("%s  %s  %s", clock(), short(t.ID, 8), transferLine(t))
	}
	return a.follow(ctx, func(e control.Event) error {
		switch {
		case e.Type == "state" && e.State != nil:
			for _, t := range e.State.Transfers {
				if ended(t) && !a.json {
					said[t.ID] = last{state: t.State} // what is over is no news to people
					continue
				}
				if err := a.event(control.Event{Seq: e.Seq, Type: "transfer", Transfer: &t}, func() error { return say(t) }); err != nil {
					return err
				}
			}
		case e.Type == "transfer" && e.Transfer != nil:
			return a.event(e, func() error { return say(*e.Transfer) })
		case e.Type == "transfer_gone":
			delete(said, e.Key)
			return a.event(e, func() error { return nil })
		}
		return nil
	})
}

// transferLine says on one line how a transfer is.
func transferLine(t control.Transfer) string {
	head := t.Name + " " + direction(t) + ": "
	switch t.State {
	case "running":
		left := ""
		if t.ETA >= 0 {
			left = ", " + span(t.ETA) + " left"
		}
		if from := holders(t); from != "" {
			left += " (" + from + ")"
		}
		return head + fmt.Sprintf("%s, %s of %s, %s/s%s", percent(t.BytesDone, t.BytesTotal), size(t.BytesDone), size(t.BytesTotal), size(int64(t.Rate)), left)
	case "waiting":
		if t.Direction == "receive" {
			return head + "waits for your answer"
		}
		return head + "waits for the other side's yes"
	case "queued":
		if t.Outbox || t.Error != "" {
			return head + "waits until the device is near"
		}
		return head + "waits for its turn"
	case "done":
		text := head + "done, " + size(t.BytesTotal) + " in " + took(t.Elapsed)
		if t.Skipped > 0 {
			text += ", " + count(t.Skipped, "link or special file", "links and special files") + " left out"
		}
		if from := holders(t); from != "" {
			text += " (" + from + ")"
		}
		return text
	case "refused":
		switch {
		case t.Error != "" && t.ErrorCode != "" && t.ErrorCode != "refused":
			return head + "refused: " + t.Error // by a rule, not by a person
		case t.Direction == "receive":
			return head + "refused"
		}
		return head + "the other side refused"
	case "failed":
		return head + "failed: " + orDash(t.Error)
	default:
		return head + t.State
	}
}

func (a *app) cancelCommand() *cobra.Command {
	cmd := a.transferVerb("cancel", "Cancel transfers and waiting messages for good", "cancelled", func(c *control.Client, ctx context.Context, id string) error {
		// The IDs of messages begin with an m, which is no hexadecimal digit.
		if strings.HasPrefix(id, "m") {
			return c.CancelMessage(ctx, id)
		}
		return c.CancelTransfer(ctx, id)
	})
	cmd.Long = `Cancel transfers for good, by their IDs in nigh transfers, or take back messages
from the devices that do not have them yet, by their IDs in nigh messages, which
begin with m. The beginning of an ID is enough.`
	cmd.Example = "  nigh cancel 3f2a\n  nigh cancel m81c"
	cmd.Args = takes(1, -1, "the ID of a transfer or a message")
	cmd.ValidArgsFunction = a.completeCancel
	return cmd
}

func (a *app) pauseCommand() *cobra.Command {
	return a.transferVerb("pause", "Pause transfers", "paused", (*control.Client).PauseTransfer)
}

func (a *app) resumeCommand() *cobra.Command {
	return a.transferVerb("resume", "Go on with paused transfers", "resumed", (*control.Client).ResumeTransfer)
}

// transferVerb is a command that does one thing to transfers.
func (a *app) transferVerb(name, what, done string, do func(*control.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:     name + " ID...",
		Short:   what,
		Long:    what + ", by their IDs in nigh transfers.\nThe beginning of an ID is enough.",
		Example: "  nigh " + name + " 3f2a",
		Args:    takes(1, -1, "the ID of a transfer"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if err := do(a.agent(), cmd.Context(), id); err != nil {
					return err
				}
				a.say("%s %s", done, id)
			}
			return nil
		},
		ValidArgsFunction: a.completeTransfer,
	}
}
