package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// Findings are what the agent says, for a bug report. What it did not say is nil; Problem is then why.
type Findings struct {
	Status  *control.Status
	Groups  []control.Group
	Peers   []control.Peer
	Trusted []control.Trusted
	Checks  []control.Check
	Log     []control.LogLine
	Problem string
}

// reportLimit bounds what is asked of the agent for a report.
const reportLimit = 40 * time.Second

// defaultReport is where a bug report goes when no file is named.
const defaultReport = "nigh-bug-report.txt"

func (a *app) bugReportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bug-report [FILE]",
		Short: "Write what helps to mend nigh into one file",
		Long: `Write versions, chips, links, the checks of nigh doctor, the agent's state and
the end of its log into one text file, by default ` + defaultReport + ` here
(- is standard output). Passphrases, PINs, names, IDs, MAC and IP addresses, Wi-Fi
networks and paths of files are replaced. Nothing is sent: read the file, then
attach it to your report.`,
		Example: `  nigh bug-report
  nigh bug-report - | less`,
		Args: takes(0, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.env.Report == nil {
				return &control.Error{Code: control.CodeFailed, Message: "this program cannot make reports"}
			}
			path := defaultReport
			if len(args) == 1 {
				path = args[0]
			}
			if path == "-" {
				_, err := a.env.Stdout.Write([]byte(a.env.Report(cmd.Context(), a.findings(cmd.Context()))))
				return err
			}
			if err := a.writeReport(cmd.Context(), path); err != nil {
				return err
			}
			return a.print("Written to %s. Read it before you give it away.", path)
		},
	}
}

// writeReport writes a report into a new file.
func (a *app) writeReport(ctx context.Context, path string) error {
	// Never over another file, and for this user alone: not everything can be known to be harmless.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &control.Error{Code: control.CodeFailed, Message: path + " exists already", Hint: "name another file"}
	}
	if err != nil {
		return &control.Error{Code: control.CodeFailed, Message: "the report cannot be written: " + err.Error(), Hint: "name a file in a folder of yours"}
	}
	_, err = f.WriteString(a.env.Report(ctx, a.findings(ctx)))
	if err = errors.Join(err, f.Close()); err != nil {
		return &control.Error{Code: control.CodeFailed, Message: "the report cannot be written: " + err.Error(), Hint: "free some space, or name another file"}
	}
	return nil
}

// findings asks the agent for all that a report has. An agent that does not answer is part of it.
func (a *app) findings(ctx context.Context) Findings {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	var f Findings
	note := func(err error) {
		if err != nil && f.Problem == "" {
			f.Problem = err.Error()
		}
	}
	status, err := a.agent().Status(ctx)
	note(err)
	if err == nil {
		f.Status = &status
		f.Groups, err = a.agent().Groups(ctx)
		note(err)
		f.Peers, err = a.agent().Peers(ctx)
		note(err)
		f.Trusted, err = a.agent().Trust(ctx)
		note(err)
		f.Log, err = a.agent().Log(ctx)
		note(err)
	}
	f.Checks, err = a.checks(ctx)
	note(err)
	return f
}
