package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// maxFind is the longest search that the agent allows.
const maxFind = 2 * time.Minute

func (a *app) findCommand() *cobra.Command {
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "find",
		Short: "Look for Wi-Fi Direct devices now",
		Long: `Look for Wi-Fi Direct devices for a while and print each one as it is seen. The
radio is busy with it: a group that is up may be slower meanwhile.`,
		Example: `  nigh find
  nigh find --for 10s --json`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if length < time.Second || length > maxFind {
				return usage(cmd, "--for is between 1s and %s, not %s", maxFind, length)
			}
			return a.find(cmd.Context(), length)
		},
	}
	a.jsonFlag(cmd, "one JSON event a line for each device")
	cmd.Flags().DurationVar(&length, "for", 30*time.Second, "how long, as `DURATION`")
	return cmd
}

// errFound ends find's search in good order.
var errFound = errors.New("the search is over")

func (a *app) find(ctx context.Context, length time.Duration) error {
	if err := a.agent().Find(ctx, control.FindRequest{Seconds: length.Seconds()}); err != nil {
		return err
	}
	a.say("looking for Wi-Fi Direct devices for %s", span(length.Seconds()))
	ctx, cancel := context.WithTimeoutCause(ctx, length, errFound)
	defer cancel()
	found, finding := map[string]bool{}, false
	one := func(seq uint64, p control.Peer) error {
		for _, path := range p.Paths {
			// A device gets another key when its identity becomes known; the address stays.
			seen := path.Address + " " + p.ID
			if path.Kind != "direct" || found[seen] {
				continue
			}
			found[seen] = true
			return a.event(control.Event{Seq: seq, Type: "peer", Peer: &p}, func() error {
				return a.print("%s  %s  %s  %s", orDash(p.Name), path.Address, signal(p), p.Trust)
			})
		}
		return nil
	}
	err := a.follow(ctx, func(e control.Event) error {
		switch {
		case e.Type == "state" && e.State != nil:
			finding = e.State.Status.Radio.Finding
			for _, p := range e.State.Peers {
				if err := one(e.Seq, p); err != nil {
					return err
				}
			}
		case e.Type == "peer" && e.Peer != nil:
			return one(e.Seq, *e.Peer)
		case e.Type == "status" && e.Status != nil:
			if finding && !e.Status.Radio.Finding {
				return errFound
			}
			finding = e.Status.Radio.Finding
		}
		return nil
	})
	// The deadline is the normal end. What the stream says then depends on who
	// notices first.
	if errors.Is(err, errFound) || errors.Is(context.Cause(ctx), errFound) {
		a.say("found %s", count(len(found), "device", "devices"))
		return nil
	}
	return err
}
