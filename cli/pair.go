package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"nigh/agent/control"
)

// setupCodeVariable is the environment variable that --code can be given in.
const setupCodeVariable = "NIGH_CODE"

func (a *app) pairCommand() *cobra.Command {
	var code string
	var yes bool
	cmd := &cobra.Command{
		Use:   "pair <device>",
		Short: "Pair with a device: the two trust each other from then on",
		Long: `Pair with a device, so that the two trust each other from then on. Both show a code
of six digits; compare them and say yes on both, within a minute. Trust nothing
when the codes differ: somebody is in between. Where standard input is no terminal
the question waits for nigh accept or nigh refuse; --yes answers yes without
anybody comparing, which trusts whoever is in between too.

A device without a screen takes its setup code instead, which nigh setup-code
prints there: nobody has to answer on it. --code - reads the code from standard
input, and ` + setupCodeVariable + ` is read without --code. A code among the arguments can be seen
by every user of this machine.`,
		Example: `  nigh pair "Ana's laptop"
  ssh pi nigh setup-code | nigh pair pi --code -`,
		Args: takes(1, 1, "a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.PairRequest{Device: args[0]}
			var err error
			if r.Code, err = a.setupCode(cmd, code); err != nil {
				return err
			}
			if r.Code != "" && yes {
				return usage(cmd, "--yes is for a compared code; a setup code needs no answer")
			}
			return a.pair(cmd.Context(), r, yes)
		},
		ValidArgsFunction: a.completeDevice,
	}
	a.jsonFlag(cmd, "one JSON object a line: the code to compare, then the outcome")
	cmd.Flags().StringVar(&code, "code", "", "setup `CODE` of the device; - reads it from standard input")
	cmd.Flags().BoolVar(&yes, "yes", false, "say yes without comparing the codes")
	complete(cmd, "code", "-")
	return cmd
}

// setupCode returns the setup code to use, "" for none.
func (a *app) setupCode(cmd *cobra.Command, flag string) (string, error) {
	switch {
	case !cmd.Flags().Changed("code"):
		return strings.TrimSpace(os.Getenv(setupCodeVariable)), nil
	case flag != "-" && strings.TrimSpace(flag) != "":
		return flag, nil
	case flag != "-":
		return "", usage(cmd, "--code needs a setup code, or - to read it from standard input")
	}
	if isTerminal(a.env.Stdin) {
		fmt.Fprint(a.env.Stderr, "Setup code of the other device: ")
	}
	line, err := readLine(a.env.Stdin)
	if err != nil || strings.TrimSpace(line) == "" {
		return "", usage(cmd, "no setup code on standard input")
	}
	return line, nil
}

// pairingLine is a line of nigh pair --json.
type pairingLine struct {
	Type    string          `json:"type"` // "pairing"
	Pairing control.Pairing `json:"pairing"`
}

func (a *app) pair(ctx context.Context, r control.PairRequest, yes bool) error {
	var p control.Pairing
	err := a.withSteps(ctx, func(ctx context.Context) (err error) {
		p, err = a.agent().Pair(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	if p.State == "paired" {
		return a.paired(p)
	}
	if a.json {
		if err := a.line(pairingLine{"pairing", p}); err != nil {
			return err
		}
	}
	if p.Warning != "" {
		a.say("WARNING: %s", p.Warning)
	}
	a.say("%s (%s) should show the same code now:\n\n    %s\n", orDash(p.PeerName), p.Short, spaced(p.Code))
	switch {
	case p.State != "comparing": // answered already, elsewhere
	case yes:
		a.say("saying yes without comparing: whoever is in between is trusted too")
		if err := a.agent().Accept(ctx, p.ID, control.AcceptRequest{}); err != nil && !notFound(err) {
			return err
		}
	case !isTerminal(a.env.Stdin):
		a.say("answer with: nigh accept %s, or: nigh refuse %s", p.ID, p.ID)
	default:
		return a.outcomeOf(ctx, p.ID, func(over <-chan struct{}) error { return a.compare(ctx, p, over) })
	}
	return a.outcomeOf(ctx, p.ID, nil)
}

// outcomeOf runs ask, which may be nil, and waits until the pairing is over. An
// interrupt cancels it.
func (a *app) outcomeOf(ctx context.Context, id string, ask func(over <-chan struct{}) error) error {
	over := make(chan struct{})
	var p control.Pairing
	var err error
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(over)
		p, err = a.agent().WaitPairing(waiting, id)
	}()
	if ask != nil {
		if askErr := ask(over); askErr != nil {
			cancel()
			<-over
			if ctx.Err() != nil {
				a.cancelPairing(ctx, id)
			}
			return askErr
		}
	}
	<-over
	if ctx.Err() != nil {
		a.cancelPairing(ctx, id)
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return a.paired(p)
}

// cancelPairing ends a pairing that nobody waits for any more.
func (a *app) cancelPairing(ctx context.Context, id string) {
	if hungUp(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWait)
	defer cancel()
	if a.agent().Refuse(ctx, id) == nil {
		a.say("pairing cancelled")
	}
}

func (a *app) paired(p control.Pairing) error {
	if a.json {
		return a.line(pairingLine{"pairing", p})
	}
	a.say("paired with %s (%s): the two trust each other now", orDash(p.PeerName), p.Short)
	return nil
}

// compare asks the person at the terminal and carries out the answer, unless the
// pairing is over before.
func (a *app) compare(ctx context.Context, p control.Pairing, over <-chan struct{}) error {
	fmt.Fprint(a.env.Stderr, "Are the two codes the same? [y/N] ")
	line, err := a.lineUnless(ctx, over)
	if err != nil {
		fmt.Fprintln(a.env.Stderr)
	}
	switch {
	case errors.Is(err, errOver):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		if err := a.agent().Refuse(ctx, p.ID); err != nil && !notFound(err) {
			return err
		}
		return nil
	}
	if err := a.agent().Accept(ctx, p.ID, control.AcceptRequest{}); err != nil && !notFound(err) {
		return err
	}
	a.say("waiting for the answer of %s", orDash(p.PeerName))
	return nil
}

// notFound reports whether err says that a question is answered already, elsewhere or
// by its end; what became of it is told by the one who waits for it.
func notFound(err error) bool { return errors.Is(err, &control.Error{Code: control.CodeNotFound}) }

// errOver says that a question needs no answer any more.
var errOver = errors.New("the question is over")

// lineUnless reads a line from the terminal on standard input, unless over is closed
// or ctx ends before it comes.
func (a *app) lineUnless(ctx context.Context, over <-chan struct{}) (string, error) {
	in, ok := a.env.Stdin.(*os.File)
	if !ok {
		return "", errors.New("standard input is no terminal")
	}
	// A read cannot be taken back, so none is begun before there is a line.
	const look = 100 * time.Millisecond
	for {
		select {
		case <-over:
			return "", errOver
		case <-ctx.Done():
			return "", ctx.Err()
		default:
		}
		fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(look.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return "", err
		}
		if err == nil && n > 0 {
			return readLine(in)
		}
	}
}

// spaced writes six digits in two groups.
func spaced(code string) string {
	if len(code) != 6 {
		return code
	}
	return code[:3] + " " + code[3:]
}

func (a *app) setupCodeCommand() *cobra.Command {
	var r control.SetupCodeRequest
	cmd := &cobra.Command{
		Use:   "setup-code",
		Short: "Print the code that lets another device pair with this one",
		Long: `Print this device's setup code, which is made at the first call. Whoever types it on
another device (nigh pair <device> --code CODE) is trusted here without a question,
so treat it as a password. Three wrong codes lock it, for longer with each further
one; --new makes another code and takes the lock away.`,
		Example: `  nigh setup-code
  nigh setup-code --new`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			c, err := a.agent().SetupCode(ctx, r)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(c)
			}
			if c.Locked > 0 {
				a.say("no setup code is taken for %s, after %s; nigh setup-code --new takes the lock away", span(c.Locked), count(c.Wrong, "wrong one", "wrong ones"))
			}
			return a.print("%s", c.Code)
		},
	}
	a.jsonFlag(cmd, "the code as one JSON object")
	cmd.Flags().BoolVar(&r.New, "new", false, "make a new code; the old one is worth nothing any more")
	return cmd
}
