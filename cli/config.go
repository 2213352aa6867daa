package cli

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) configCommand() *cobra.Command {
	cmd := onlyCommands(&cobra.Command{
		Use:   "config",
		Short: "Show and choose settings, and read them again",
		Long: `Show the settings that count, choose some, and read them again. They are from the
defaults, what nigh config set chose, the configuration file, NIGH_* variables and
flags, each over the one before; the policy of the machine (/etc/nigh/policy.toml)
is over all of them and can only be stricter.`,
		Example: `  nigh config show --origin
  nigh config set name kitchen-pi
  nigh config reload`,
	})
	var origin bool
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the settings that count",
		Example: `  nigh config show
  nigh config show --origin`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.settings(cmd.Context())
			if err != nil {
				return err
			}
			return a.showSettings(list, origin)
		},
	}
	show.Flags().BoolVar(&origin, "origin", false, "say where each value is from: default, FILE:LINE, environment or flag")
	a.jsonFlag(show, "a JSON array of settings")
	reload := &cobra.Command{
		Use:   "reload",
		Short: "Have the agent read its configuration and the policy again",
		Long: `Have the agent read its configuration and the policy again. Sessions and transfers
that are still allowed go on. When something in them is wrong, nothing changes.`,
		Example: `  nigh config reload`,
		Args:    takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			c, err := a.agent().ReloadConfiguration(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(c)
			}
			a.say("configuration and policy are read")
			if len(c.Later) > 0 {
				a.say("these count when the agent starts again: %s", strings.Join(c.Later, ", "))
			}
			return nil
		},
	}
	a.jsonFlag(reload, "one JSON object: the settings, and which of them count later")
	cmd.AddCommand(show, a.configSet(), reload)
	return cmd
}

func (a *app) configSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set KEY VALUE",
		Short: "Choose a setting, now and for every later start",
		Long: `Choose a setting, now and for every later start: name, what others see; inbox, where
received files go; and most others of nigh config show. An empty VALUE takes the
choice back. It is kept in nigh's state folder: config.toml is yours and is not
written, and what stands there, in a variable or a flag cannot be chosen here.`,
		Example: `  nigh config set name kitchen-pi
  nigh config set inbox ~/incoming
  nigh config set name ""              the default again`,
		Args: takes(2, 2, "a setting and its value"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			switch {
			case len(args) == 0:
				return []string{"accept", "inbox", "name", "visibility"}, cobra.ShellCompDirectiveNoFileComp
			case len(args) == 1 && args[0] == "inbox":
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			r := control.SettingsRequest{Set: map[string]string{args[0]: args[1]}}
			if args[0] == "inbox" && args[1] != "" {
				path, err := filepath.Abs(args[1])
				if err != nil {
					return err
				}
				r.Set["inbox"] = path
			}
			c, err := a.agent().ChangeConfiguration(ctx, r)
			if errors.Is(err, &control.Error{Code: control.CodeNoAgent}) && a.env.Choose != nil {
				err = a.env.Choose(ctx, r)
			}
			if err != nil {
				return err
			}
			list, err := a.settings(ctx)
			if err != nil {
				return err
			}
			for _, s := range list {
				if s.Key != args[0] {
					continue
				}
				if a.json {
					return a.document(s)
				}
				if slices.Contains(c.Later, s.Key) {
					a.say("kept; %s counts when the agent starts again", s.Key)
					continue
				}
				a.say("%s is now %s", s.Key, orDash(s.Value))
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "a JSON object: the setting as it counts now")
	return cmd
}

// settings are those of the agent, or when none runs those that one would have.
func (a *app) settings(ctx context.Context) ([]control.Setting, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	c, err := a.agent().Configuration(ctx)
	if errors.Is(err, &control.Error{Code: control.CodeNoAgent}) && a.env.Settings != nil {
		return a.env.Settings(ctx)
	}
	return c.Settings, err
}

func (a *app) showSettings(list []control.Setting, origin bool) error {
	if a.json {
		return a.document(list)
	}
	t := table{whole: true}
	if origin {
		t.head("KEY", "VALUE", "FROM")
	} else {
		t.head("KEY", "VALUE")
	}
	for _, s := range list {
		from := s.Origin
		if s.Policy {
			from += " (policy)"
		}
		if origin {
			t.add(s.Key, orDash(s.Value), from)
		} else {
			t.add(s.Key, orDash(s.Value))
		}
	}
	return t.write(a)
}
