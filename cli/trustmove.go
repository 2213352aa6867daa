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
	var k keyFlags
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write whom you trust and block to a file, for another machine",
		Long: `Write whom you trust and block to a file that only you can read, or with - to
standard output: IDs, public keys, names and permissions. The private key of this
device is not in it, so the other machine is another device: those in the file have
to trust it too.

With --key the private key is in it too, sealed with a passphrase that is asked for:
the other machine becomes this device, and this one must not run nigh with that key
again. Settings, shares, messages and transfers are not in it. It works without an
agent.`,
		Example: `  nigh trust export trust.json
  nigh trust export - | ssh newpi nigh trust import -
  nigh trust export --key laptop.json`,
		Args: takes(1, 1, "a file, or - for standard output"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := k.check(cmd, args[0]); err != nil {
				return err
			}
			if k.key {
				return a.exportKey(cmd.Context(), k, args[0])
			}
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
	k.add(cmd, "with the private key of this device, sealed with a passphrase")
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
	var k keyFlags
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Trust and block whom an exported file has",
		Long: `Trust and block whom a file of nigh trust export has, or with - what is on
standard input. What you decided here about a device stays; a device that is blocked
on either side is blocked. Take no such file from anybody else: whoever is in it is
trusted.

With --key this machine becomes the device whose sealed key is in the file, while
no agent runs. When it is a device already that is refused unless you say
--replace-key; the old key is kept beside the new one. The machine that the key is
from must not run nigh with it any more.`,
		Example: `  nigh trust import trust.json
  nigh trust import --key laptop.json`,
		Args: takes(1, 1, "a file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := k.check(cmd, args[0]); err != nil {
				return err
			}
			if k.key {
				return a.importKey(cmd.Context(), k, args[0])
			}
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
			a.saidImport(done)
			if hasKey(text) {
				a.say("the file has a sealed device key too, which was left: --key takes it")
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "how many, as one JSON object")
	k.add(cmd, "take the sealed private key too: this machine becomes that device")
	cmd.Flags().BoolVar(&k.replace, "replace-key", false, "although this machine is another device already, whose key is kept")
	return cmd
}

// saidImport says what became of the devices of an exported trust book.
func (a *app) saidImport(done control.TrustImport) {
	a.say("%s trusted, %d blocked, %d kept as they were", count(done.Trusted, "device is", "devices are"), done.Blocked, done.Kept)
	if done.Refused > 0 {
		a.say("%d left out: the policy of this machine does not let them be trusted", done.Refused)
	}
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
