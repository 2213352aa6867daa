package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// Remedy is a change of the system that a person may have made: a file, commands, or both. It can be taken back.
type Remedy struct {
	Name    string                                                 // after --fix
	Does    string                                                 // what it does, one sentence
	Lost    string                                                 // what is lost by it, one sentence; "" = nothing
	Path    string                                                 // of the file; "" = none
	Text    string                                                 // of the file
	Plan    func(ctx context.Context, undo bool) ([]string, error) // the command lines that Apply or Undo will run; called before them
	InForce func() (bool, error)                                   // whether it is made already
	Allowed func() error                                           // not nil when this user may not make it
	Apply   func(context.Context) error                            // makes it
	Undo    func(context.Context) error                            // takes it back
}

func (a *app) remedyNames() []string {
	var names []string
	for _, r := range a.env.Remedies {
		names = append(names, r.Name)
	}
	return names
}

// fix makes a change of the system, or takes it back, once a person has seen it and said yes.
func (a *app) fix(cmd *cobra.Command, name string, undo, yes bool) error {
	ctx := cmd.Context()
	var r *Remedy
	for i := range a.env.Remedies {
		if a.env.Remedies[i].Name == name {
			r = &a.env.Remedies[i]
		}
	}
	if r == nil {
		return usage(cmd, "there is no change called %q, only: %s", name, strings.Join(a.remedyNames(), ", "))
	}
	there, err := r.InForce()
	if err != nil {
		hint := "look at the journal of changes, which only root may read: sudo " + ownPath() + " doctor --fix " + name
		if r.Path != "" {
			hint = "look at " + r.Path + ", and remove it if it is not needed"
		}
		return &control.Error{Code: control.CodeFailed, Message: err.Error(), Hint: hint}
	}
	if there != undo {
		state := "is in force already: there is nothing to do"
		if undo {
			state = "is not there: there is nothing to take back"
		}
		return a.print("%s %s", cmp.Or(r.Path, "The change "+r.Name), state)
	}
	command := "sudo " + ownPath() + " doctor --fix " + name
	if undo {
		command += " --undo"
	}
	onlyRoot := &control.Error{Code: control.CodePermission, Message: "only root may do this", Hint: "run: " + command}
	lines, err := r.Plan(ctx, undo)
	if err != nil {
		if r.Allowed() != nil {
			return onlyRoot
		}
		return &control.Error{Code: control.CodeFailed, Message: err.Error(), Hint: "see what is wrong with: nigh doctor"}
	}
	if err := a.showRemedy(r, lines, undo); err != nil {
		return err
	}
	if err := r.Allowed(); err != nil {
		return onlyRoot
	}
	if !yes {
		if ok, err := a.confirm(cmd); err != nil || !ok {
			return err
		}
	}
	do := r.Apply
	if undo {
		do = r.Undo
	}
	if err := do(ctx); err != nil {
		return &control.Error{Code: control.CodeFailed, Message: err.Error(), Hint: "nothing else was changed; run the command again when the cause is mended"}
	}
	a.tellAgent(ctx)
	if undo {
		return a.print("Done: %s is removed.", cmp.Or(r.Path, "the change "+r.Name))
	}
	return a.print("Done. To take it back: %s --undo", command)
}

// refreshLimit bounds how long an agent may take to look again.
const refreshLimit = 20 * time.Second

// tellAgent has a running agent look again, so that its status does not go on saying what was mended. Without an agent there is
// nobody to tell.
func (a *app) tellAgent(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	_, _ = a.agent().Doctor(ctx)
}

// showRemedy prints what will be done, so that nobody agrees to something unseen.
func (a *app) showRemedy(r *Remedy, commands []string, undo bool) error {
	err := a.print("%s", r.Does)
	switch {
	case undo && r.Path != "":
		err = errors.Join(err, a.print("\nThis is taken back: what it wrote to %s is removed.", r.Path))
	case undo:
		err = errors.Join(err, a.print("\nThis is taken back."))
	default:
		if r.Lost != "" {
			err = errors.Join(err, a.print("%s", r.Lost))
		}
		if r.Path != "" {
			err = errors.Join(err, a.print("\nIt writes %s:", r.Path))
			for line := range strings.Lines(r.Text) {
				err = errors.Join(err, a.print("  | %s", strings.TrimSuffix(line, "\n")))
			}
		}
	}
	if len(commands) > 0 {
		err = errors.Join(err, a.print("\nIt runs:"))
	}
	for _, c := range commands {
		err = errors.Join(err, a.print("  # %s", c))
	}
	return err
}

// confirm asks the person at the terminal; the answer without one is no.
func (a *app) confirm(cmd *cobra.Command) (bool, error) {
	if !isTerminal(a.env.Stdin) {
		return false, usage(cmd, "there is no terminal to ask on: give --yes")
	}
	fmt.Fprint(a.env.Stderr, "Do it? [y/N] ")
	answer, err := bufio.NewReader(a.env.Stdin).ReadString('\n')
	if err != nil {
		return false, &control.Error{Code: control.CodeFailed, Message: "no answer"}
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, a.print("Nothing was changed.")
}

// ownPath is how to call this program from anywhere: root's PATH may not have it.
func ownPath() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "nigh"
}
