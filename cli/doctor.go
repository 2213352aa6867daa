package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) doctorCommand() *cobra.Command {
	var fix string
	var undo, yes bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong, why, and what to do",
		Long: `Check the radio, the links, the permissions and the agent, and say for each what
is wrong, why, and one thing to do. It also works without an agent. The exit code
is 1 only when nothing can work here at all.

With --fix it makes one change of the system, after it has shown it and asked; with
--undo too it takes that change back. Both need root.`,
		Example: `  nigh doctor
  sudo nigh doctor --fix networkmanager
  nigh doctor --json | jq -r '.[] | select(.state != "ok") | .fix'`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fix != "" && a.json {
				return usage(cmd, "--fix does not go with --json")
			}
			if fix != "" {
				return a.fix(cmd, fix, undo, yes)
			}
			if undo || yes {
				return usage(cmd, "--undo and --yes go with --fix")
			}
			checks, err := a.checks(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				err = a.document(checks)
			} else {
				err = a.printChecks(checks)
			}
			if err != nil {
				return err
			}
			for _, c := range checks {
				if c.State == "fail" {
					return &control.Error{Code: control.CodeFailed, Message: c.Cause, Hint: c.Fix}
				}
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "a JSON array of checks")
	f := cmd.Flags()
	f.StringVar(&fix, "fix", "", "make the change called `NAME`: "+strings.Join(a.remedyNames(), ", "))
	f.BoolVar(&undo, "undo", false, "with --fix: take the change back")
	f.BoolVar(&yes, "yes", false, "with --fix: do not ask")
	complete(cmd, "fix", a.remedyNames()...)
	return cmd
}

// checks asks the agent, and where none answers makes the checks that need none.
func (a *app) checks(ctx context.Context) ([]control.Check, error) {
	checks, err := a.agent().Doctor(ctx)
	if err == nil {
		if a.env.Beside != nil {
			checks = a.env.Beside(ctx, checks)
		}
		return a.sameVersion(ctx, checks), nil
	}
	e, ok := errors.AsType[*control.Error](err)
	if !ok || e.Code != control.CodeNoAgent && e.Code != control.CodePermission || a.env.Diagnose == nil {
		return nil, err
	}
	checks = a.env.Diagnose(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(checks, func(c control.Check) bool { return c.ID == "agent" || c.ID == "socket" && c.State != "ok" }) {
		checks = append([]control.Check{{ID: "agent", State: "warn", Cause: e.Message, Fix: e.Hint}}, checks...)
	}
	return checks, nil
}

// sameVersion says so when the agent is of another version than this program, as it is after an update until it is started
// again.
func (a *app) sameVersion(ctx context.Context, checks []control.Check) []control.Check {
	status, err := a.agent().Status(ctx)
	if err != nil || status.Version == a.env.Version {
		return checks
	}
	for i, c := range checks {
		if c.ID == "agent" && c.State == "ok" {
			checks[i].State = "warn"
			checks[i].Cause = "The agent that runs is version " + status.Version + ", this program is " + a.env.Version + "."
			checks[i].Fix = "Start it again: sudo systemctl restart nigh@$USER"
		}
	}
	return checks
}

func (a *app) printChecks(checks []control.Check) error {
	t := table{whole: true}
	for _, c := range checks {
		t.add(word(c.State), c.ID, c.Cause)
		if c.Fix != "" {
			t.add("", "", "fix: "+c.Fix)
		}
	}
	return t.write(a)
}
