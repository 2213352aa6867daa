package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// printHelp prints the help of cmd, its examples first. It is plain code instead
// of cobra's templates: those keep the linker from dropping what is not used.
func printHelp(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintln(w, text)
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		line = cmd.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(w, "\nUsage:\n  %s\n", line)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-12s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	for _, part := range []struct{ title, flags string }{
		{"Flags", cmd.LocalNonPersistentFlags().FlagUsages()},
		{"Flags of every command", cmd.Root().PersistentFlags().FlagUsages()},
	} {
		if part.flags != "" {
			fmt.Fprintf(w, "\n%s:\n%s\n", part.title, strings.TrimRight(part.flags, "\n"))
		}
	}
	if !cmd.HasParent() {
		fmt.Fprint(w, `
Exit codes:
  0 done, 1 failed, 2 usage, 3 refused by the other side, 4 device not found or
  away, 5 timed out, 6 agent not running, 7 not allowed, 8 some failed,
  130 interrupted
`)
	}
}
