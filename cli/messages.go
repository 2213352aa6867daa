package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// messagePage is how many messages are asked for at once.
const messagePage = 200

func (a *app) messagesCommand() *cobra.Command {
	var q control.MessageQuery
	var last int
	var watch bool
	cmd := &cobra.Command{
		Use:   "messages",
		Short: "List the messages received and sent",
		Long: `List the messages that were received and sent, the newest last, and for those sent
who has them. The texts of others are shown with every character that could act on
the terminal written out, and indented, so that no line of theirs looks like one of
nigh's. What is shown to you counts as read; with --json, or when only some are
listed, nothing does. With --watch, show those that are unread, then each one as it
comes.`,
		Example: `  nigh messages
  nigh messages --from kitchen-pi --search printer
  nigh messages --waiting
  nigh messages --watch --json | jq -r 'select(.message.direction == "receive") | .message.text'`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			some := q.Search != "" || q.From != "" || q.Waiting
			switch {
			case watch && (some || cmd.Flags().Changed("last")):
				return usage(cmd, "--watch shows every message: it goes with none of --search, --from, --waiting and --last")
			case last < 1:
				return usage(cmd, "--last is at least 1")
			case watch:
				return a.watchMessages(cmd.Context())
			}
			return a.listMessages(cmd.Context(), q, last, !some)
		},
	}
	a.jsonFlag(cmd, "a JSON array of messages; with --watch, one event a line")
	f := cmd.Flags()
	f.BoolVar(&watch, "watch", false, "follow them until interrupted")
	f.StringVar(&q.Search, "search", "", "only those with this `TEXT` in them, whatever its case")
	f.StringVar(&q.From, "from", "", "only those that this `DEVICE` sent here")
	f.BoolVar(&q.Waiting, "waiting", false, "only those that wait for a device")
	f.IntVar(&last, "last", 20, "only the newest `N` of them")
	// The only error is a flag that does not exist, which the tests would show.
	if err := cmd.RegisterFlagCompletionFunc("from", a.completeDevice); err != nil {
		panic(err)
	}
	return cmd
}

// listMessages prints the newest messages that fit q.
func (a *app) listMessages(ctx context.Context, q control.MessageQuery, last int, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	list := []control.Message{}
	var unread control.Unread
	for len(list) < last {
		q.Limit = min(last-len(list), messagePage)
		page, err := a.agent().Messages(ctx, q)
		if err != nil {
			return err
		}
		list, unread = append(slices.Clone(page.Messages), list...), page.Unread
		if !page.More || len(page.Messages) == 0 {
			break
		}
		q.Before = page.Messages[0].Seq
	}
	if a.json {
		return a.document(list)
	}
	if len(list) == 0 {
		a.say("no messages")
	}
	hidden := unread.Count
	for _, m := range list {
		if err := a.printMessage(m, unread.Read); err != nil {
			return err
		}
		if m.Direction == "receive" && m.Seq > unread.Read {
			hidden--
		}
	}
	switch {
	case !all || unread.Count == 0:
		return nil
	case hidden > 0:
		// None of them is called read before it was shown.
		a.say("%s; see: nigh messages --last %d", count(hidden, "older message is unread", "older messages are unread"), 2*len(list)+hidden)
		return nil
	}
	_, err := a.agent().ReadMessages(ctx, control.ReadRequest{Seq: list[len(list)-1].Seq})
	return err
}

// watchMessages shows what is unread, then each message as it comes and each change
// of those sent.
func (a *app) watchMessages(ctx context.Context) error {
	said := map[string]string{} // by ID, the heading
	var read uint64
	show := func(m control.Message) error {
		head := messageHead(m)
		if said[m.ID] == head {
			return nil
		}
		if said[m.ID] != "" && m.Direction == "send" {
			said[m.ID] = head
			return a.print("%s  %s", clock(), head) // its text was shown
		}
		said[m.ID] = head
		if err := a.printMessage(m, read); err != nil || m.Direction == "send" {
			return err
		}
		asking, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		_, err := a.agent().ReadMessages(asking, control.ReadRequest{Seq: m.Seq})
		return err
	}
	begin := func(seq uint64, u control.Unread) error {
		read = u.Read
		for since := u.Read; u.Count > 0; {
			page, err := a.agent().Messages(ctx, control.MessageQuery{Since: since, Oldest: true, Limit: messagePage})
			if err != nil {
				return err
			}
			for _, m := range page.Messages {
				since = m.Seq
				if m.Direction != "receive" {
					continue
				}
				if err := a.event(control.Event{Seq: seq, Type: "message", Message: &m}, func() error { return show(m) }); err != nil {
					return err
				}
			}
			if !page.More {
				break
			}
		}
		return nil
	}
	return a.follow(ctx, func(e control.Event) error {
		switch {
		case e.Type == "state" && e.State != nil:
			for _, m := range e.State.Messages {
				if m.Direction == "send" {
					said[m.ID] = messageHead(m) // no news, but what becomes of it is
				}
			}
			return begin(e.Seq, e.State.Unread)
		case e.Type == "message" && e.Message != nil:
			return a.event(e, func() error { return show(*e.Message) })
		case e.Type == "message_gone":
			delete(said, e.Key)
			return a.event(e, func() error { return nil })
		}
		return nil
	})
}

// messageHead says on one line whose message it is, and who has it.
func messageHead(m control.Message) string {
	head := short(m.ID, 8) + "  "
	if m.Direction == "receive" {
		return head + "from " + orDash(m.PeerName)
	}
	var to []string
	for _, r := range m.To {
		text := r.PeerName + ": "
		switch {
		case r.State == "waiting" && r.Near:
			text += "being sent"
		case r.State == "waiting":
			text += "waits until it is near"
		case r.Error != "":
			text += r.State + ", " + r.Error
		default:
			text += r.State
		}
		to = append(to, text)
	}
	return head + "to " + strings.Join(to, "; ")
}

// printMessage prints a heading and under it the text, each line of which is
// indented, also where the terminal is too narrow for it.
func (a *app) printMessage(m control.Message, read uint64) error {
	at := m.Time
	if t, err := time.Parse(time.RFC3339, m.Time); err == nil {
		at = t.Local().Format(time.DateTime)
	}
	head := at + "  " + messageHead(m)
	if m.Direction == "receive" && m.Seq > read {
		head += " (unread)"
	}
	if err := a.print("%s", head); err != nil {
		return err
	}
	const indent = "    "
	cols := a.width(a.env.Stdout) - len(indent)
	for line := range strings.SplitSeq(m.Text, "\n") {
		fields := strings.Split(line, "\t")
		for i, field := range fields {
			fields[i] = show(field)
		}
		line = strings.Join(fields, "\t")
		if cols > 0 {
			line = ansi.Hardwrap(strings.ReplaceAll(line, "\t", indent), cols, true)
		}
		for part := range strings.SplitSeq(line, "\n") {
			if err := a.raw(indent + part + "\n"); err != nil {
				return err
			}
		}
	}
	return nil
}
