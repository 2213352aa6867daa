package cli

import "github.com/spf13/cobra"

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
