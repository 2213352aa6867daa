package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// maxTrustDocument bounds what is read of an exported trust book; the agent has the same bound.
const maxTrustDocument = 4 << 20

func (a *app) trustExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write whom you trust and block to a file, for another machine",
		Long: `Write whom you trust and block to a file that only you can read, or with - to
standard output: IDs, public keys, names and permissions. The private key of this
device is not in it, so the other machine is another device: those in the file have
to trust it too. To move this device itself, move key.pem in its state folder, and
never let two machines run with it.`,
		Example: `  nigh trust export trust.json
  nigh trust export - | ssh newpi nigh trust import -`,
		Args: takes(1, 1, "a file, or - for standard output"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			d, err := a.agent().ExportTrust(ctx)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return a.raw(d.Text)
			}
			if err := writePrivate(args[0], d.Text); err != nil {
				return err
			}
			a.say("%s, trusted or blocked, written to %s; only you can read it, and no private key is in it", count(d.Devices, "device", "devices"), args[0])
			return nil
		},
	}
	return cmd
}

// writePrivate makes a file that only its owner can read; it never replaces one.
func writePrivate(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &control.Error{Code: control.CodeUsage, Message: path + " is already there", Hint: "give another name, or remove it first"}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (a *app) trustImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Trust and block whom an exported file has",
		Long: `Trust and block whom a file of nigh trust export has, or with - what is on
standard input. What you decided here about a device stays; a device that is blocked
on either side is blocked. Take no such file from anybody else: whoever is in it is
trusted.`,
		Example: `  nigh trust import trust.json`,
		Args:    takes(1, 1, "a file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readDocument(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			done, err := a.agent().ImportTrust(ctx, control.TrustDocument{Text: text})
			if err != nil {
				return err
			}
			if a.json {
				return a.document(done)
			}
			a.say("%s trusted, %d blocked, %d kept as they were", count(done.Trusted, "device is", "devices are"), done.Blocked, done.Kept)
			if done.Refused > 0 {
				a.say("%d left out: the policy of this machine does not let them be trusted", done.Refused)
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "how many, as one JSON object")
	return cmd
}

func (a *app) readDocument(path string) (string, error) {
	in := a.env.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("%s cannot be read: %v", path, errors.Unwrap(err)), Hint: "check the path"}
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxTrustDocument+1))
	if err == nil && len(raw) > maxTrustDocument {
		err = &control.Error{Code: control.CodeUsage, Message: path + " is too large for a list of trusted devices", Hint: "give a file of nigh trust export"}
	}
	return string(raw), err
}
