package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"nigh/agent/control"
)

// maxPassphraseFile bounds what is read of a passphrase.
const maxPassphraseFile = 1024

// KeyOptions are what `nigh trust export --key` and `import --key` ask for.
type KeyOptions struct {
	State      string // folder of the state, "" = the default
	Book       string // the exported trust book
	Passphrase []byte // that the key is, or is to be, sealed with
	Replace    bool   // also when the machine is another device already
}

// KeyExport is an exported trust book with the sealed key in it.
type KeyExport struct {
	Text  string
	Short string // ID of the device
}

// KeyImport says what an import of a key did.
type KeyImport struct {
	Short string              `json:"short"`          // ID of the device that this machine is now
	Was   string              `json:"was,omitempty"`  // and of the one that it was before
	Kept  string              `json:"kept,omitempty"` // the file that has the key of that one
	Trust control.TrustImport `json:"trust"`
}

// keyFlags are the flags of both commands.
type keyFlags struct {
	key     bool
	state   string
	file    string
	replace bool
}

func (k *keyFlags) add(cmd *cobra.Command, what string) {
	f := cmd.Flags()
	f.BoolVar(&k.key, "key", false, what)
	f.StringVar(&k.state, "state", "", "`DIR` of the state, with --key")
	f.StringVar(&k.file, "passphrase-file", "", "take the passphrase from the first line of `FILE`, - for standard input")
}

func (k *keyFlags) check(cmd *cobra.Command, arg string) error {
	switch {
	case !k.key && (k.state != "" || k.file != "" || k.replace):
		return usage(cmd, "--state, --passphrase-file and --replace-key are for --key")
	case k.file == "-" && arg == "-" && cmd.Name() == "import":
		return usage(cmd, "the passphrase and the file cannot both be on standard input")
	}
	return nil
}

// passphrase takes it from the file, or asks at the terminal; twice when it is a new one.
func (a *app) passphrase(ctx context.Context, k keyFlags, fresh bool) ([]byte, error) {
	if k.file != "" {
		in := a.env.Stdin
		if k.file != "-" {
			f, err := os.Open(k.file)
			if err != nil {
				return nil, &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("%s cannot be read: %v", k.file, errors.Unwrap(err)), Hint: "check the path"}
			}
			defer f.Close()
			in = f
		}
		raw, err := io.ReadAll(io.LimitReader(in, maxPassphraseFile+1))
		line, _, _ := bytes.Cut(raw, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); err == nil && len(line) > maxPassphraseFile {
			err = &control.Error{Code: control.CodeUsage, Message: "the passphrase is too long", Hint: "the first line of the file is taken"}
		}
		return line, err
	}
	if !isTerminal(a.env.Stdin) {
		return nil, &control.Error{Code: control.CodeUsage, Message: "there is no terminal to ask for the passphrase at", Hint: "give it with --passphrase-file FILE, or - for standard input"}
	}
	first, err := a.secretLine(ctx, "Passphrase: ")
	if err != nil || !fresh {
		return []byte(first), err
	}
	again, err := a.secretLine(ctx, "The same again: ")
	if err == nil && first != again {
		err = &control.Error{Code: control.CodeUsage, Message: "the two passphrases are not the same", Hint: "try again; nothing was written"}
	}
	return []byte(first), err
}

// secretLine reads a line from the terminal on standard input, which does not show it.
func (a *app) secretLine(ctx context.Context, prompt string) (string, error) {
	in, ok := a.env.Stdin.(*os.File)
	if !ok {
		return "", errors.New("standard input is no terminal")
	}
	fd := int(in.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("standard input is no terminal: %w", err)
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return "", fmt.Errorf("the terminal would show the passphrase: %w", err)
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, before) // as well as it can
		fmt.Fprintln(a.env.Stderr)
	}()
	fmt.Fprint(a.env.Stderr, prompt)
	line, err := a.lineUnless(ctx, nil)
	return strings.TrimSuffix(line, "\r"), err
}

// exportKey writes the trust book and the sealed key to path.
func (a *app) exportKey(ctx context.Context, k keyFlags, path string) error {
	if a.env.ExportKey == nil {
		return errors.New("this program cannot export a key")
	}
	o := KeyOptions{State: k.state}
	asking, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if st, err := a.agent().Status(asking); err == nil && (k.state == "" || k.state == st.Agent.State) {
		d, err := a.agent().ExportTrust(asking)
		if err != nil {
			return err
		}
		o.State, o.Book = st.Agent.State, d.Text
	}
	var err error
	if o.Passphrase, err = a.passphrase(ctx, k, true); err != nil {
		return err
	}
	x, err := a.env.ExportKey(ctx, o)
	if err != nil {
		return err
	}
	if path == "-" {
		err = a.raw(x.Text)
	} else {
		err = writePrivate(path, x.Text)
	}
	if err != nil {
		return err
	}
	a.say("the key of this device (%s), sealed, and whom it trusts are written; who has both them and the passphrase is this device", x.Short)
	a.say("once another machine took it, delete key.pem in the state folder here and do not start nigh with it again: two machines must never be one device")
	return nil
}

// importKey makes this machine the device of an exported file.
func (a *app) importKey(ctx context.Context, k keyFlags, path string) error {
	if a.env.ImportKey == nil {
		return errors.New("this program cannot import a key")
	}
	text, err := a.readDocument(path)
	if err != nil {
		return err
	}
	o := KeyOptions{State: k.state, Book: text, Replace: k.replace}
	if o.Passphrase, err = a.passphrase(ctx, k, false); err != nil {
		return err
	}
	x, err := a.env.ImportKey(ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(x)
	}
	a.say("this machine is the device %s now", x.Short)
	if x.Was != "" {
		a.say("the key of %s, which it was, is kept in %s", x.Was, x.Kept)
	}
	a.saidImport(x.Trust)
	a.say("the machine that this key is from must not run nigh with it any more: delete key.pem there before you start nigh here")
	return nil
}

// hasKey reports whether an exported file has a sealed key in it.
func hasKey(text string) bool { return strings.Contains(text, "ENCRYPTED PRIVATE KEY") }
