package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) sendCommand() *cobra.Command {
	var r control.SendRequest
	var o waitOptions
	var wait, detach bool
	cmd := &cobra.Command{
		Use:   "send PATH... --to <device>",
		Short: "Send files and folders to devices",
		Long: `Offer files and folders to one or more devices: one transfer for each. A link
named here is followed, links inside folders are left out. On a terminal it shows
the progress and waits until all is done; elsewhere, and with --no-wait, it prints
the ID of each transfer and returns when the offers are made. An interrupt while it
waits cancels what it started.

What is for a trusted device that is away goes into the outbox, and to it when it is
near, also after a restart; nigh outbox lists it. With --later the command does not
look for devices before it returns. Only with --wait or --timeout does it wait for
devices that are away.

With --wait the exit code is 0 when every transfer is done, 3 when it was refused,
1 when it failed, 5 when --timeout is over, and 8 when some are done and others not,
or some files of one failed.`,
		Example: `  nigh send photos/ notes.txt --to "Ana's laptop"
  nigh send film.mkv --to 7Q4K-M2XD --to kitchen-pi --wait
  nigh send backup.tar --to 192.168.1.23 --json --wait | tail -n 1`,
		Args: takes(1, -1, "a path"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(r.To) == 0:
				return usage(cmd, "nigh send needs --to and a device; nigh peers lists them")
			case wait && detach:
				return usage(cmd, "--wait and --no-wait exclude each other")
			case o.timeout < 0:
				return usage(cmd, "--timeout cannot be negative")
			case o.timeout > 0 && detach:
				return usage(cmd, "--timeout says how long to wait, --no-wait not to")
			}
			o.patient = wait || o.timeout > 0
			for _, arg := range args {
				path, err := readable(arg)
				if err != nil {
					return err
				}
				r.Paths = append(r.Paths, path)
			}
			if !detach && (a.terminal(a.env.Stdout) && a.terminal(a.env.Stderr) || o.timeout > 0) {
				wait = true
			}
			return a.send(cmd.Context(), r, wait, o)
		},
	}
	a.jsonFlag(cmd, "one JSON event a line for each transfer; with --wait, also its progress and end")
	f := cmd.Flags()
	f.StringArrayVar(&r.To, "to", nil, "`DEVICE` to send to: a name, an ID or the beginning of one, or HOST[:PORT]; may be given several times")
	f.StringVar(&r.Name, "name", "", "`NAME` that the other side is shown for all of it")
	f.BoolVar(&r.Later, "later", false, "do not wait for devices to be found: what is for those that are away waits in the outbox")
	f.BoolVar(&wait, "wait", false, "wait until every transfer has ended")
	f.BoolVar(&detach, "no-wait", false, "do not wait, also on a terminal")
	f.DurationVar(&o.timeout, "timeout", 0, "wait at most this `DURATION`; the transfers go on")
	// The only error is a flag that does not exist, which the tests would show.
	if err := cmd.RegisterFlagCompletionFunc("to", a.completeDevice); err != nil {
		panic(err)
	}
	return cmd
}

// readable returns the absolute path of what is to be sent, if this user can read
// it. The agent looks again; this is so that a slip is said at once.
func readable(arg string) (string, error) {
	fail := func(why string) (string, error) {
		return "", &control.Error{Code: control.CodeUnreadable, Message: fmt.Sprintf("cannot send %q: %s", arg, why), Hint: "check the path and its permissions"}
	}
	if arg == "-" {
		return "", &control.Error{Code: control.CodeUsage, Message: "nigh send cannot send standard input", Hint: "write it to a file first; for a file of the name - say ./-"}
	}
	if arg == "" {
		return fail("an empty path")
	}
	path, err := filepath.Abs(arg)
	if err != nil {
		return fail(err.Error())
	}
	// A link named here is followed, as scp does; those inside folders are not sent.
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("there is no such file or folder")
	case err != nil:
		return fail(reason(err))
	case !info.Mode().IsRegular() && !info.IsDir():
		return fail("it is neither a file nor a folder")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fail(reason(err))
	}
	f.Close()
	return path, nil
}

// reason returns the system's word for err, without the operation and the path.
func reason(err error) string {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	return err.Error()
}

func (a *app) send(ctx context.Context, r control.SendRequest, wait bool, o waitOptions) error {
	var made []control.Transfer
	// The device may have to be found first, and a group formed with it.
	err := a.withSteps(ctx, func(ctx context.Context) (err error) {
		made, err = a.agent().Send(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	var follow []control.Transfer
	for _, t := range made {
		verb := "offered"
		if t.State == "queued" {
			verb = "queued"
		}
		a.say("%s %s (%s) %s, transfer %s", verb, t.Name, contents(t), direction(t), short(t.ID, 8))
		if t.Outbox {
			a.say("%s is away: it goes when the device is near; nigh outbox lists what waits", orDash(t.PeerName))
		}
		if !t.Outbox || o.patient {
			follow = append(follow, t)
		}
		if a.json {
			err = a.line(control.Event{Type: "transfer", Transfer: &t})
		} else if !wait || !isTerminal(a.env.Stdout) {
			err = a.print("%s", t.ID)
		}
		if err != nil {
			return err
		}
	}
	if !wait || len(follow) == 0 {
		return nil
	}
	o.cancel = true
	return a.wait(ctx, follow, o)
}

// cancelWait bounds the cancelling after an interrupt: the person is leaving.
const cancelWait = 3 * time.Second

// abandon cancels the transfers that an interrupted command had started.
func (a *app) abandon(ctx context.Context, transfers []control.Transfer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
	defer cancel()
	for _, t := range transfers {
		if ended(t) {
			continue
		}
		if err := a.agent().CancelTransfer(ctx, t.ID); err != nil {
			a.say("%s goes on: %s; stop it with: nigh cancel %s", t.Name, err, short(t.ID, 8))
			continue
		}
		a.say("cancelled %s %s", t.Name, direction(t))
	}
}
