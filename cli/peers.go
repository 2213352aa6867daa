package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) peersCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the devices near and known",
		Long: `List the devices that are near, over Wi-Fi Direct or the LAN, and those that are
known and away. With --watch, follow them: a line for each change. Where multicast
does not get through, an address can be typed: nigh peers add.`,
		Example: `  nigh peers
  nigh peers --json | jq -r '.[] | select(.state == "ready") | .name'
  nigh peers --watch`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchPeers(cmd.Context())
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			peers, err := a.agent().Peers(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(peers)
			}
			if len(peers) == 0 {
				a.say("no device is near or known; nigh find looks for Wi-Fi Direct devices")
				return nil
			}
			var t table
			t.head("NAME", "ID", "TRUST", "PATH", "SIGNAL", "SEEN", "STATE")
			for _, p := range peers {
				t.add(orDash(p.Name), orDash(p.Short), word(p.Trust), pathKinds(p), signal(p), ago(p.Age), peerState(p))
			}
			if err := t.write(a); err != nil {
				return err
			}
			for _, p := range peers {
				if p.Warning != "" {
					a.say("WARNING: %s", p.Warning)
				}
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "a JSON array of devices; with --watch, one event a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow the changes until interrupted")
	cmd.AddCommand(a.peersAdd(), a.peersRemove(), a.peersAddresses())
	return cmd
}

func peerState(p control.Peer) cell {
	c := word(p.State)
	if p.Error != "" {
		c.text += ": " + p.Error
	}
	return c
}

// pathKinds returns the ways to p, best first, such as "Direct + LAN".
func pathKinds(p control.Peer) string {
	var kinds []string
	for _, path := range p.Paths {
		kind := path.Kind
		switch kind {
		case "direct":
			kind = "Direct"
		case "lan":
			kind = "LAN"
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return orDash(strings.Join(kinds, " + "))
}

// signal returns the round trip of the path in use, or the radio's signal.
func signal(p control.Peer) string {
	for _, path := range p.Paths {
		if path.RTT > 0 {
			return fmt.Sprintf("%.1f ms", path.RTT)
		}
	}
	for _, path := range p.Paths {
		if path.Signal != 0 {
			return fmt.Sprintf("%d dBm", path.Signal)
		}
	}
	return "-"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// peerLine is what a line of --watch says; two states with the same line are no
// change to people.
func peerLine(p control.Peer) string {
	line := fmt.Sprintf("%s  %s  %s  %s  %s", orDash(p.Name), orDash(p.Short), p.Trust, pathKinds(p), p.State)
	if p.Error != "" {
		line += ": " + p.Error
	}
	return line
}

func (a *app) watchPeers(ctx context.Context) error {
	said := map[string]string{}
	say := func(p control.Peer) error {
		line := peerLine(p)
		if said[p.Key()] == line {
			return nil
		}
		said[p.Key()] = line
		return a.print("%s  %s", clock(), line)
	}
	return a.follow(ctx, func(e control.Event) error {
		switch {
		case e.Type == "state" && e.State != nil:
			for _, p := range e.State.Peers {
				if err := a.event(control.Event{Seq: e.Seq, Type: "peer", Peer: &p}, func() error { return say(p) }); err != nil {
					return err
				}
			}
		case e.Type == "peer" && e.Peer != nil:
			return a.event(e, func() error { return say(*e.Peer) })
		case e.Type == "peer_gone":
			return a.event(e, func() error {
				line, known := said[e.Key]
				delete(said, e.Key)
				if !known {
					return nil
				}
				name, _, _ := strings.Cut(line, "  ")
				return a.print("%s  %s  gone", clock(), name)
			})
		}
		return nil
	})
}

// event prints e as JSON, or calls plain when --json was not given.
func (a *app) event(e control.Event, plain func() error) error {
	if a.json {
		return a.line(e)
	}
	return plain()
}

func clock() string { return time.Now().Format(time.TimeOnly) }

// follow calls fn with each event of the agent until ctx ends, fn fails, nobody
// reads standard output any more, or the stream ends, which is an error.
func (a *app) follow(ctx context.Context, fn func(control.Event) error) error {
	return a.followBy(ctx, a.agent().Watch, fn)
}

func (a *app) followBy(ctx context.Context, watch func(context.Context) (<-chan control.Event, error), fn func(control.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := watch(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return context.Cause(ctx)
			}
			if e.Type == "end" {
				return streamEnd(e)
			}
			if err := fn(e); err != nil {
				return err
			}
		case <-tick.C:
			if err := a.pipeClosed(); err != nil {
				return err
			}
		}
	}
}

func streamEnd(e control.Event) error {
	return &control.Error{Code: control.CodeNoAgent, Message: "the agent no longer answers: " + e.Reason,
		Hint: "run the command again"}
}
