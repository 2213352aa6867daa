package cli

import (
	"cmp"
	"context"
	"embed"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// completeWait bounds what a press of the tab key may take.
const completeWait = 300 * time.Millisecond

// scripts tell each shell to ask this program. They are our own: those that cobra
// makes evaluate the words of the line again, in fish without their quotes, so that
// a press of the tab key runs what the name of a file says.
//
//go:embed completions
var scripts embed.FS

func (a *app) completionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Long:  "Print the completion script of a shell.\nIt completes commands, flags, devices, what they share, and IDs.",
		Example: `  source <(nigh completion bash)
  nigh completion zsh > "${fpath[1]}/_nigh"
  nigh completion fish > ~/.config/fish/completions/nigh.fish`,
		Args:      takes(1, 1, "bash, zsh or fish"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			script, err := scripts.ReadFile("completions/nigh." + args[0])
			if err != nil {
				return usage(cmd, "no completion for the shell %q, only for bash, zsh and fish", args[0])
			}
			return a.raw(string(script))
		},
	}
	return cmd
}

// complete gives a flag of cmd fixed values.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a flag that does not exist, which every test would show
	}
}

// candidates asks the agent with fn, for a short time, and keeps what begins with
// prefix. Without an answer there are none: the shell's line must not be disturbed.
func (a *app) candidates(cmd *cobra.Command, prefix string, fn func(context.Context, *control.Client) []string) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.env.patience, completeWait))
	defer cancel()
	a.verbose = false
	var fit []string
	for _, c := range fn(ctx, a.agent()) {
		if strings.HasPrefix(strings.ToLower(c), strings.ToLower(prefix)) {
			fit = append(fit, c)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

// completeDevice completes a device by its name and by its short ID.
func (a *app) completeDevice(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.candidates(cmd, prefix, func(ctx context.Context, c *control.Client) []string {
		peers, err := c.Peers(ctx)
		if err != nil {
			return nil
		}
		var all []string
		for _, p := range peers {
			if oneWord(p.Name) {
				all = append(all, p.Name+"\t"+p.State)
			}
			if oneWord(p.Short) {
				all = append(all, p.Short+"\t"+describe(p.Name)+", "+p.State)
			}
		}
		return all
	})
}

// oneWord reports whether s, which is the other side's text, may be put on a command
// line. The shells quote it there (fish all but a "~" at the beginning); it must not be
// taken for a flag, and what cannot be seen must not be in it.
func oneWord(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '~' && show(s) == s && utf8.ValidString(s)
}

// describe returns text as a completion's description: one line, no tab.
func describe(text string) string { return strings.ReplaceAll(show(text), "\t", " ") }

func (a *app) completeInbox(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.candidates(cmd, prefix, func(ctx context.Context, c *control.Client) []string {
		items, err := c.Inbox(ctx)
		if err != nil {
			return nil
		}
		var all []string
		for _, item := range items {
			text := item.Kind
			if item.Transfer != nil {
				text = item.Transfer.Name
			}
			all = append(all, item.ID+"\t"+describe(text+" from "+item.PeerName))
		}
		return all
	})
}

func (a *app) completeTransfer(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.candidates(cmd, prefix, transferIDs)
}

// transferIDs returns the transfers that are not over, those in the outbox too.
func transferIDs(ctx context.Context, c *control.Client) []string {
	transfers, err := c.Transfers(ctx)
	if err != nil {
		return nil
	}
	var all []string
	for _, t := range transfers {
		if !ended(t) {
			all = append(all, t.ID+"\t"+describe(t.Name+" "+direction(t)))
		}
	}
	return all
}

// completeCancel completes what can be cancelled: transfers that go on, and messages
// that wait.
func (a *app) completeCancel(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.candidates(cmd, prefix, func(ctx context.Context, c *control.Client) []string {
		all := transferIDs(ctx, c)
		page, err := c.Messages(ctx, control.MessageQuery{Waiting: true})
		if err != nil {
			return all
		}
		for _, m := range page.Messages {
			text, _, _ := strings.Cut(m.Text, "\n")
			all = append(all, m.ID+"\t"+describe(ansi.Truncate(text, 40, "…")))
		}
		return all
	})
}

func (a *app) completeGroup(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.candidates(cmd, prefix, func(ctx context.Context, c *control.Client) []string {
		groups, err := c.Groups(ctx)
		if err != nil {
			return nil
		}
		var all []string
		for _, g := range groups {
			all = append(all, g.Ifname)
		}
		return all
	})
}
