package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// Patient gives completion all the time that it needs: on a loaded machine an answer takes
// longer than a person would wait.
func Patient(env Env) Env {
	env.patience = time.Minute
	return env
}

// Leaf is a command that does something itself.
type Leaf struct {
	Path string // such as "trust add"
	JSON bool   // has --json
}

// Leaves returns the commands of the tree.
func Leaves() []Leaf {
	var all []Leaf
	root := (&app{}).root()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if !cmd.HasParent() || cmd.HasSubCommands() && cmd.Flags().Lookup("json") == nil {
			return
		}
		all = append(all, Leaf{cmd.CommandPath()[len(root.Name())+1:], cmd.Flags().Lookup("json") != nil})
	}
	visit(root)
	return all
}
