package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// nearWait is how long nigh msg waits for devices that are near to take a message;
// they answer within milliseconds, or something is wrong that the agent sees to.
const nearWait = 10 * time.Second

// agentAgain is how long an agent that went away is left alone.
const agentAgain = 200 * time.Millisecond

func (a *app) msgCommand() *cobra.Command {
	var r control.MessageRequest
	var o waitOptions
	var wait, detach bool
	cmd := &cobra.Command{
		Use:   "msg TEXT --to <device>",
		Short: "Send a text message to devices",
		Long: `Send a text, at most 32 KiB, to one or more trusted devices, or with --all to every
one that is near. With - the text is read from standard input. Each device gets it
once. It waits for devices that are away and goes out when they are near, also after
a restart; nigh messages --waiting shows what waits, nigh cancel takes it back.

The command ends when every device that is near has the message, and says for whom
it waits. The exit code is 0 when it is delivered or waits, 3 when it was refused, 1
when it failed, 8 when some devices have it or wait for it and others not, and with
--wait 5 when --timeout is over. An interrupt takes nothing back.`,
		Example: `  nigh msg "Dinner is ready" --to "Ana's laptop"
  nigh msg "The printer works again" --all
  journalctl -n 20 | nigh msg - --to kitchen-pi --wait`,
		Args: takes(1, 1, "one text, in quotes, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			switch {
			case len(r.To) == 0 && !r.All:
				return usage(cmd, "nigh msg needs --to and a device, or --all; nigh peers lists them")
			case len(r.To) > 0 && r.All:
				return usage(cmd, "--to and --all exclude each other")
			case wait && detach:
				return usage(cmd, "--wait and --no-wait exclude each other")
			case o.timeout < 0:
				return usage(cmd, "--timeout cannot be negative")
			case o.timeout > 0 && detach:
				return usage(cmd, "--timeout says how long to wait, --no-wait not to")
			}
			if r.Text, err = a.text(args[0]); err != nil {
				return err
			}
			return a.msg(cmd.Context(), r, wait || o.timeout > 0, detach, o.timeout)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	a.jsonFlag(cmd, "one JSON event a line: the message as it was sent, and each change of it")
	f := cmd.Flags()
	f.StringArrayVar(&r.To, "to", nil, "`DEVICE` to send to: a name, an ID or the beginning of one, or HOST[:PORT]; may be given several times")
	f.BoolVar(&r.All, "all", false, "send to every trusted device that is near")
	f.BoolVar(&wait, "wait", false, "wait until every device has it, also those that are away")
	f.BoolVar(&detach, "no-wait", false, "do not wait, not for devices that are near either")
	f.DurationVar(&o.timeout, "timeout", 0, "wait at most this `DURATION`; the message goes on waiting")
	// The only error is a flag that does not exist, which the tests would show.
	if err := cmd.RegisterFlagCompletionFunc("to", a.completeDevice); err != nil {
		panic(err)
	}
	return cmd
}

// text returns the text of a message: the argument, or standard input without the
// line break at its end. The agent looks again; this is so that a slip is said at
// once and nothing without an end is read.
func (a *app) text(arg string) (string, error) {
	text := arg
	if arg == "-" {
		if a.env.Stdin == nil {
			return "", &control.Error{Code: control.CodeUsage, Message: "there is no standard input"}
		}
		if isTerminal(a.env.Stdin) {
			a.say("write the message; Ctrl-D on a line of its own ends it")
		}
		raw, err := io.ReadAll(io.LimitReader(a.env.Stdin, control.MaxMessage+3)) // with a line break, and one too many
		if err != nil {
			return "", &control.Error{Code: control.CodeUnreadable, Message: "standard input cannot be read: " + reason(err)}
		}
		text = strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	}
	if len(text) > control.MaxMessage {
		return "", &control.Error{Code: control.CodeUsage, Message: "the message is longer than 32 KiB", Hint: "send it as a file: nigh send"}
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return "", &control.Error{Code: control.CodeUsage, Message: "the message is not UTF-8 text", Hint: "send it as a file: nigh send"}
	}
	if strings.TrimSpace(text) == "" {
		return "", &control.Error{Code: control.CodeUsage, Message: "the message is empty", Hint: "write something"}
	}
	return text, nil
}

func (a *app) msg(ctx context.Context, r control.MessageRequest, wait, detach bool, timeout time.Duration) error {
	m, err := a.agent().SendMessage(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		err = a.line(control.Event{Type: "message", Message: &m})
	} else if !isTerminal(a.env.Stdout) {
		err = a.print("%s", m.ID)
	}
	if err != nil {
		return err
	}
	pending := func(to control.Recipient) bool { return to.State == "waiting" && (wait || to.Near) }
	if !detach && slices.ContainsFunc(m.To, pending) {
		limit := nearWait
		if wait {
			limit = timeout
		}
		waiting := ctx
		if limit > 0 {
			var cancel context.CancelFunc
			waiting, cancel = context.WithTimeoutCause(ctx, limit, errTimeout)
			defer cancel()
		}
		m, err = a.awaitMessage(waiting, m, pending)
		if err != nil && !errors.Is(context.Cause(waiting), errTimeout) {
			if ctx.Err() != nil {
				a.say("it goes on waiting; nigh cancel %s takes it back", short(m.ID, 8))
			}
			return err
		}
	}
	for _, to := range m.To {
		switch {
		case to.State == "delivered":
			a.say("delivered to %s", to.PeerName)
		case to.State == "waiting" && to.Near:
			a.say("it waits for %s, which does not answer yet; message %s", to.PeerName, short(m.ID, 8))
		case to.State == "waiting":
			a.say("%s is away: it waits and goes when %s is near; message %s", to.PeerName, to.PeerName, short(m.ID, 8))
		case len(m.To) > 1:
			a.say("not to %s: %s", to.PeerName, orDash(to.Error))
		}
	}
	if wait && slices.ContainsFunc(m.To, pending) {
		return &control.Error{Code: control.CodeTimeout, Message: "not everybody has the message after " + span(timeout.Seconds()), Hint: "it goes on waiting; nigh cancel " + short(m.ID, 8) + " takes it back"}
	}
	return messageOutcome(m)
}

// awaitMessage is followMessage over restarts of the agent, which keeps the message.
func (a *app) awaitMessage(ctx context.Context, m control.Message, pending func(control.Recipient) bool) (control.Message, error) {
	noAgent := &control.Error{Code: control.CodeNoAgent}
	for since := time.Now(); ; {
		began := time.Now()
		var err error
		m, err = a.followMessage(ctx, m, pending)
		if time.Since(began) > time.Second {
			since = time.Now() // it was there
		}
		if !errors.Is(err, noAgent) || ctx.Err() != nil {
			return m, err
		}
		if time.Since(since) > agentWait {
			return m, &control.Error{Code: control.CodeNoAgent, Message: "the agent no longer answers", Hint: "do not send it again: the agent keeps the message; see: nigh messages"}
		}
		select {
		case <-ctx.Done():
			return m, context.Cause(ctx)
		case <-time.After(agentAgain):
		}
	}
}

// followMessage follows a message until no device is pending. It returns the last
// that is known of it, also with an error.
func (a *app) followMessage(ctx context.Context, m control.Message, pending func(control.Recipient) bool) (control.Message, error) {
	done := errors.New("done")
	err := a.follow(ctx, func(e control.Event) error {
		switch {
		case e.Type == "state":
			// It may be older than those that come with the state.
			page, err := a.agent().Messages(ctx, control.MessageQuery{Before: m.Seq + 1, Limit: 1})
			if err != nil {
				return err
			}
			if len(page.Messages) == 0 || page.Messages[0].ID != m.ID {
				return &control.Error{Code: control.CodeFailed, Message: "the agent no longer knows the message", Hint: "nigh messages shows those that it knows"}
			}
			m = page.Messages[0]
		case e.Type == "message" && e.Message != nil && e.Message.ID == m.ID:
			m = *e.Message
		case e.Type == "peer", e.Type == "peer_gone":
			// A device went away: nobody changes the message for that.
			for i, to := range m.To {
				if to.State == "waiting" && (e.Key == to.Peer || e.Peer != nil && e.Peer.ID == to.Peer && e.Peer.State == "away") {
					m.To[i].Near = false
				}
			}
		default:
			return nil
		}
		if a.json && e.Type != "peer" && e.Type != "peer_gone" {
			if err := a.line(control.Event{Seq: e.Seq, Type: "message", Message: &m}); err != nil {
				return err
			}
		}
		if !slices.ContainsFunc(m.To, pending) {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		return m, nil
	}
	return m, err
}

// messageOutcome returns nil when every device has the message or will get it, the
// error of those that do not when they agree and nobody has it, else CodePartial.
func messageOutcome(m control.Message) error {
	var first *control.Error
	well, same := 0, true
	for _, to := range m.To {
		e := &control.Error{Code: control.CodeFailed, Message: to.PeerName + ": " + orDash(to.Error), Hint: to.Hint}
		switch to.State {
		case "delivered", "waiting":
			well++
			continue
		case "refused":
			e.Code = control.CodeRefused
		}
		if first == nil {
			first = e
		}
		same = same && e.Code == first.Code
	}
	switch {
	case first == nil:
		return nil
	case len(m.To) == 1:
		return first
	}
	e := &control.Error{Code: control.CodePartial,
		Message: fmt.Sprintf("%d of %d devices do not get the message", len(m.To)-well, len(m.To)), Hint: first.Hint}
	if well == 0 && same {
		e.Code = first.Code
	}
	return e
}
