package cli

import (
	"context"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// hashText is a BLAKE3 hash as b3sum prints it.
var hashText = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func (a *app) getCommand() *cobra.Command {
	var r control.GetRequest
	var o waitOptions
	var wait, detach bool
	cmd := &cobra.Command{
		Use:   "get <device>:SHARE[/PATH] | HASH",
		Short: "Get a file or folder that a device shares",
		Long: `Get a file, a folder or a whole share of a trusted device; or a file by the hash of
its content, as nigh search --json and b3sum print it, from any connected trusted
device that shares it. Nobody is asked: to share is to allow. On a terminal it shows
the progress and waits until all is there; elsewhere, and with --no-wait, it prints
the ID of the transfer. An interrupt while it waits cancels the transfer.

With --wait the exit code is 0 when it is there, 1 when it failed, 3 when it was
refused, 5 when --timeout is over, and 8 when some files of it failed.`,
		Example: `  nigh get "Ana's laptop:photos/2026/beach.jpg"
  nigh get workshop:plans --into ~/plans --wait
  nigh get af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262`,
		Args: takes(1, 1, "DEVICE:SHARE/PATH or a hash"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := parseRemote(args[0])
			switch {
			case wait && detach:
				return usage(cmd, "--wait and --no-wait exclude each other")
			case o.timeout < 0:
				return usage(cmd, "--timeout cannot be negative")
			case o.timeout > 0 && detach:
				return usage(cmd, "--timeout says how long to wait, --no-wait not to")
			case hashText.MatchString(args[0]):
				r.Hash = args[0]
			case target.device == "" || target.share == "":
				return usage(cmd, "nigh get needs DEVICE:SHARE, DEVICE:SHARE/PATH or a hash of 64 digits, not %q", args[0])
			case len(r.From) > 0:
				return usage(cmd, "--from is for a hash; %q names its device", args[0])
			default:
				r.Device, r.Share, r.Path = target.device, target.share, target.path
			}
			if r.Into != "" {
				// The agent has another working folder than this command.
				into, err := filepath.Abs(r.Into)
				if err != nil {
					return err
				}
				r.Into = into
			}
			if !detach && (a.terminal(a.env.Stdout) && a.terminal(a.env.Stderr) || o.timeout > 0) {
				wait = true
			}
			return a.get(cmd.Context(), r, wait, o)
		},
		ValidArgsFunction: a.completeRemote,
	}
	a.jsonFlag(cmd, "one JSON event a line for the transfer; with --wait, also its progress and end")
	f := cmd.Flags()
	f.StringVar(&r.Into, "into", "", "receive into the folder `DIR` (default the agent's inbox)")
	f.StringArrayVar(&r.From, "from", nil, "with a hash: get it from this `DEVICE`; may be given several times")
	f.BoolVar(&wait, "wait", false, "wait until it is there")
	f.BoolVar(&detach, "no-wait", false, "do not wait, also on a terminal")
	f.DurationVar(&o.timeout, "timeout", 0, "wait at most this `DURATION`; the transfer goes on")
	// The only error is a flag that does not exist, which the tests would show.
	if err := cmd.RegisterFlagCompletionFunc("from", a.completeDevice); err != nil {
		panic(err)
	}
	return cmd
}

func (a *app) get(ctx context.Context, r control.GetRequest, wait bool, o waitOptions) error {
	var t control.Transfer
	// The device may have to be found first, and a group formed with it.
	err := a.withSteps(ctx, func(ctx context.Context) (err error) {
		t, err = a.agent().Get(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	a.say("getting %s (%s) %s, transfer %s", t.Name, contents(t), direction(t), short(t.ID, 8))
	if a.json {
		err = a.line(control.Event{Type: "transfer", Transfer: &t})
	} else if !wait || !isTerminal(a.env.Stdout) {
		err = a.print("%s", t.ID)
	}
	if err != nil || !wait {
		return err
	}
	o.cancel = true
	return a.wait(ctx, []control.Transfer{t}, o)
}
