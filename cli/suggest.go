package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nigh/agent/control"
)

// unknownFlag is the error of a flag that cmd does not have, with the one that was
// probably meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	e := &control.Error{Code: control.CodeUsage, Message: err.Error(), Hint: "see: " + cmd.CommandPath() + " --help"}
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) || len(missing.GetSpecifiedName()) < 2 {
		return e
	}
	best := 3 // a mistake more is another word
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := mistakes(missing.GetSpecifiedName(), f.Name); d < best && d < len(f.Name) && !f.Hidden {
			best = d
			e.Hint = fmt.Sprintf("did you mean: %s --%s", cmd.CommandPath(), f.Name)
		}
	})
	return e
}

// mistakes is the least number of letters to add, leave out or change that makes b of
// a (the Levenshtein distance).
func mistakes(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
