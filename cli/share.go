package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) shareCommand() *cobra.Command {
	cmd := onlyCommands(&cobra.Command{
		Use:   "share",
		Short: "Share folders with trusted devices",
		Long: `Share folders with trusted devices, which can then browse and search them and get
what is in them, without asking. Nobody can change what is shared. Links, and names
that begin with a dot, are left out.`,
		Example: `  nigh share add ~/Pictures
  nigh share add /srv/plans --name plans --for workshop --for "Ana's laptop"
  nigh share list
  nigh share remove plans`,
	})
	cmd.AddCommand(a.shareAdd(), a.shareList(), a.shareChange(), a.shareRemove())
	return cmd
}

func (a *app) shareAdd() *cobra.Command {
	var r control.ShareRequest
	cmd := &cobra.Command{
		Use:   "add DIR",
		Short: "Share a folder, read-only",
		Long: `Share a folder, read-only, under its own name or another, with all trusted devices
or with those named. What is in it is listed and read in the background; changes are
followed.`,
		Example: `  nigh share add ~/Pictures
  nigh share add /srv/plans --name plans --for workshop`,
		Args: takes(1, 1, "a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			folder, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			r.Folder = folder
			if len(r.For) == 1 && r.For[0] == "trusted" {
				r.For = nil
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			s, err := a.agent().AddShare(ctx, r)
			if err != nil {
				return err
			}
			a.say("shared %s as %s with %s", s.Folder, s.Name, audience(s))
			if s.Notice != "" {
				a.say("note: %s", s.Notice)
			}
			if a.json {
				return a.document(s)
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "the share as one JSON object")
	f := cmd.Flags()
	f.StringVar(&r.Name, "name", "", "`NAME` of the share (default the folder's own)")
	f.StringArrayVar(&r.For, "for", nil, "`WHO` may see it: trusted (all trusted devices, the default), or a device; may be given several times")
	f.BoolVar(&r.Hidden, "hidden", false, "share names that begin with a dot too")
	a.completeFor(cmd)
	return cmd
}

// completeFor completes the devices of --for.
func (a *app) completeFor(cmd *cobra.Command) {
	// The only error is a flag that does not exist, which the tests would show.
	if err := cmd.RegisterFlagCompletionFunc("for", a.completeDevice); err != nil {
		panic(err)
	}
}

func (a *app) shareChange() *cobra.Command {
	var name string
	var who []string
	var hidden bool
	cmd := &cobra.Command{
		Use:   "change NAME",
		Short: "Change a share: its name, who may see it, hidden names",
		Long: `Change a share: its name, who may see it, whether names that begin with a dot are
shared too. What is not given stays, and nothing is read anew. What is being sent to
a device that may not see it any more ends.`,
		Example: `  nigh share change plans --for workshop --for "Ana's laptop"
  nigh share change plans --for trusted --name drawings`,
		Args: takes(1, 1, "the name of a share"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r control.ShareChange
			given := cmd.Flags().Changed
			if given("name") {
				r.Name = &name
			}
			if given("hidden") {
				r.Hidden = &hidden
			}
			if given("for") {
				if len(who) == 1 && who[0] == "trusted" {
					who = []string{}
				}
				r.For = &who
			}
			if r == (control.ShareChange{}) {
				return usage(cmd, "give what to change: --name, --for or --hidden")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			s, err := a.agent().ChangeShare(ctx, args[0], r)
			if err != nil {
				return err
			}
			a.say("%s is shared as %s with %s", s.Folder, s.Name, audience(s))
			if a.json {
				return a.document(s)
			}
			return nil
		},
		ValidArgsFunction: a.completeShare,
	}
	a.jsonFlag(cmd, "the share as one JSON object")
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "new `NAME` of the share")
	f.StringArrayVar(&who, "for", nil, "`WHO` may see it from now on: trusted (all trusted devices), or a device; may be given several times")
	f.BoolVar(&hidden, "hidden", false, "share names that begin with a dot too; --hidden=false does not")
	a.completeFor(cmd)
	return cmd
}

// audience says who may see a share.
func audience(s control.Share) string {
	if len(s.For) == 0 {
		return "all trusted devices"
	}
	var names []string
	for _, m := range s.For {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

func (a *app) shareList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the folders that this device shares",
		Example: `  nigh share list
  nigh share list --json | jq -r '.[] | select(.state != "ready") | .folder'`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			shares, err := a.agent().Shares(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(shares)
			}
			if len(shares) == 0 {
				a.say("nothing is shared; nigh share add shares a folder")
				return nil
			}
			var t table
			t.head("NAME", "FOLDER", "WHO MAY SEE IT", "FILES", "SIZE", "STATE")
			for _, s := range shares {
				t.add(s.Name, s.Folder, audience(s), fmt.Sprint(s.Files), size(s.Bytes), shareState(s))
			}
			if err := t.write(a); err != nil {
				return err
			}
			for _, s := range shares {
				a.shareNotes(s)
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "a JSON array of shares")
	return cmd
}

func shareState(s control.Share) cell {
	c := word(s.State)
	if s.State == "ready" && s.Hashed < s.Files {
		c.text += ", reading " + percent(int64(s.Hashed), int64(s.Files))
	}
	return c
}

// shareNotes says what is left out of a share, and what is wrong with it.
func (a *app) shareNotes(s control.Share) {
	if s.Error != "" {
		a.say("%s: %s; %s", s.Name, s.Error, s.Hint)
	}
	if s.Unreadable > 0 {
		a.say("%s: %s cannot be read by the agent and are left out", s.Name, count(s.Unreadable, "file or folder", "files or folders"))
	}
	if s.Skipped > 0 {
		a.say("%s: %s left out: links, special files, and names that other devices do not take", s.Name, count(s.Skipped, "entry is", "entries are"))
	}
	if s.Notice != "" {
		a.say("%s: %s", s.Name, s.Notice)
	}
}

func (a *app) shareRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME...",
		Short:   "End shares; the folders stay as they are",
		Example: `  nigh share remove plans`,
		Args:    takes(1, -1, "the name of a share"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
				err := a.agent().RemoveShare(ctx, name)
				cancel()
				if err != nil {
					return err
				}
				a.say("%s is not shared any more", name)
			}
			return nil
		},
		ValidArgsFunction: a.completeShare,
	}
}

// completeShare completes a share of this device by its name.
func (a *app) completeShare(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.candidates(cmd, prefix, func(ctx context.Context, c *control.Client) []string {
		shares, err := c.Shares(ctx)
		if err != nil {
			return nil
		}
		var all []string
		for _, s := range shares {
			if oneWord(s.Name) {
				all = append(all, s.Name+"\t"+describe(s.Folder))
			}
		}
		return all
	})
}
